"""What can be wrong with a request, found before an engine, a GPU, a child or a server is taken."""

import tempfile
from pathlib import Path

from cai.config import (
    EngineConfig,
    GateConfig,
    PolicyConfig,
    ProcessTerm,
    Profile,
    RewardModelTerm,
    RewardTerm,
    VerifierTerm,
)
from cai.config.evaluation import PROBE
from cai.config.prompts import GENERATED
from cai.errors import ConfigError, ModelNotFound
from cai.models import look_up
from cai.privacy import Guard
from cai.report.units import is_known, known_metrics
from cai.rewards.process import Process
from cai.rewards.verify import Verifier
from cai.smallworld import world
from cai.yaml_files import near
from flows.runs import RunFolder
from flows.training import processes_of
from storage.evaluation_sets import check_source
from storage.hub import HUB
from storage.imports import parse


def check(run: RunFolder, until: str = "report") -> None:
    """The profile against what is there, as far as a run that ends with the stage `until` needs it. `plan_run` has read
    the constitution, the prompts and the models already.

    Raises:
        CAIError: something is missing; says what to do.
    """
    profile = run.profile
    _check_home(run.home)
    _check_sources(profile)
    for engine in (profile.engine, *profile.judges):
        _check_engine(engine)
    if profile.accelerate is not None:
        processes_of(profile.accelerate)
    if isinstance(profile.rl, PolicyConfig) and until in ("rl_cai", "report"):
        for term in (*profile.rl.rewards, *(profile.rl.guard.gold if profile.rl.guard else ())):
            _check_term(term)
    if profile.gate is not None:
        _check_gate(profile.gate)
    if profile.preferences.recalibration is not None:
        from flows.label_quality import stored_recalibration
        from storage.store import Store

        stored_recalibration(Store(run.home), profile.preferences.recalibration)
    if _trains(profile, until):
        _check_weights(profile)


def _check_home(home: Path) -> None:
    """Home, or where it is to be made."""
    try:
        folder = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"nothing can be written to --home {home}: {error.strerror}; name another") from error


def _check_sources(profile: Profile) -> None:
    """The first row of each; a dataset of the hub would be fetched as a whole, and is left to the run."""
    if not profile.prompts:
        raise ConfigError("`prompts` is empty; name a source, such as `prompts: [{path: prompts.jsonl}]`")
    for source in (*profile.prompts, *(profile.helpful.prompts if profile.helpful else ())):
        if source.path not in (world.SOURCE, GENERATED) and not source.path.startswith(HUB):
            next(parse(source.model_copy(update={"limit": None}), profile.seed, Guard()), None)
    for measured in profile.evaluation.prompts:
        if measured.path != world.SOURCE:
            check_source(measured, profile.seed)


def _trains(profile: Profile, until: str) -> bool:
    """Whether a stage up to `until` starts from the weights of `engine.model`."""
    untrained = ["prompts", "revisions"]
    if profile.sft is None:
        untrained += ["sl_cai", "preferences", *(["reward_model"] if profile.rl.algorithm == "dpo" else [])]
    return until not in untrained


def _check_weights(profile: Profile) -> None:
    engine = profile.engine
    try:
        look_up(engine.model)
    except ModelNotFound as error:
        if engine.has_weights:
            raise
        stage = "`sft`" if profile.sft is not None else "the reward model"
        instead = "`sft: null` or an earlier --until" if profile.sft is not None else "--until preferences"
        raise ModelNotFound(
            f"{stage} trains from weights on this machine, whatever the engine ({engine.kind}) is: {error}; for a "
            f"model that is only asked, give {instead}"
        ) from error


def _check_gate(gate: GateConfig) -> None:
    for condition in gate.conditions:
        if not condition.metric.startswith(PROBE) and not is_known(condition.metric):
            raise ConfigError(
                f"the gate asks for the metric {condition.metric!r}, which no evaluation gives; "
                f"{near(condition.metric, known_metrics())}"
            )


def _check_engine(engine: EngineConfig) -> None:
    for url in (engine.base_url, *engine.replicas) if engine.kind == "openai" else ():
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"the openai engine needs `base_url`, such as http://127.0.0.1:8000/v1; the profile has {url!r}"
            )
    if engine.kind == "scripted" and engine.script is not None and not engine.script.is_file():
        raise ConfigError(f"the scripted engine's `script` is {str(engine.script)!r}, and there is no such file")


def _check_term(term: RewardTerm) -> None:
    if isinstance(term, VerifierTerm):
        Verifier(term).close()
    elif isinstance(term, ProcessTerm):
        Process(term).close()
    for path in term.models if isinstance(term, RewardModelTerm) else ():
        if not path.is_dir():
            raise ModelNotFound(f"the reward {term.name!r} names the model {str(path)!r}, and there is no such folder")
