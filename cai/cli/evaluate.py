"""`cai evaluate`: any models on any prompts. Rates by the oracle where the truth is known, win rates by the judge."""

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai.cli.run import PROFILES, home_option
from cai.cli.tables import OutFile
from cai.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cai.asks import OnProgress, Progress
    from cai.config import EngineConfig, Profile
    from cai.constitution import Constitution
    from cai.evaluation import Rates, Sets, Setup
    from cai.evaluation.pairs import Preferred
    from cai.probes.limits import Finding
    from cai.records import EvaluationItem
    from flows.probing import Probed, Subject
    from storage.store import Store

STAGES = ("sl_cai", "rl_cai")
Models = dict[str, Path | str]


@click.command()
@click.option("--model", "named", multiple=True, metavar="NAME=MODEL", help="A model to measure; may be repeated.")
@click.option(
    "--profile", type=click.Path(path_type=Path), help="Engine, judge, constitution, prompts; else the demo's."
)
@home_option
@click.option("--prompts", "files", multiple=True, metavar="FILE", help="In place of the profile's; may be repeated.")
@click.option("--n", type=click.IntRange(min=1), help="Take so many prompts of each source.")
@click.option(
    "--win-rate-prompts",
    type=click.IntRange(min=0),
    metavar="N",
    help="Have the judge compare on so many prompts; 0: it is not asked at all. The profile's number otherwise.",
)
@click.option(
    "--reward-model", type=click.Path(path_type=Path), help="Also have this one tell the better response of each pair."
)
@click.option("--json", "json_file", type=OutFile(), help="Also write what was measured here.")
@click.option("--engine", "kind", type=click.Choice(["vllm", "transformers"]), help="In place of the profile's engine.")
def evaluate(
    named: tuple[str, ...],
    profile: Path | None,
    home: Path,
    files: tuple[str, ...],
    n: int | None,
    win_rate_prompts: int | None,
    reward_model: Path | None,
    json_file: Path | None,
    kind: str | None,
) -> None:
    """Measure models on held-out prompts.

    On prompts of the small world: rates per kind of harm, by its oracle. On any prompts: refusals, right and wrong ones
    where it is known what the prompts are, right answers, and sycophancy; and how often the profile's judge prefers
    each model to every one before it, under the profile's constitution, as it is and if responses were as long; of
    three models or more their Elo ratings. Of pairs: how often the judge prefers the better response. All with 95 %
    intervals.

    The probes, as after a run, of `rl_cai`, or else of the last model, beside SL-CAI, the seed model, or the model
    before it. Those of its reward need the samples of RL that its folder keeps.

    Without --model: the profile's own model as `seed`, and the latest `sl_cai` and `rl_cai` under --home. Without
    --prompts: those under `evaluation` in the profile. Prompts that a model's run trained on are left out.
    Responses and comparisons are stored, and not asked for again.

    \b
    cai evaluate
    cai evaluate --model mine=cai-home/models/mine --n 1000 --win-rate-prompts 0 --json rates.json
    cai evaluate --profile my.yaml --model old=models/old --model new=models/new --prompts held-out.jsonl
    """
    from cai.constitution import load_constitution
    from cai.evaluation import pairs_of
    from cai.report.text import results_text
    from cai.turns import accelerator_of, taken
    from flows.probing import subject_of_models
    from flows.report_measured import measurements
    from storage.store import Store

    settings = _settings(profile or PROFILES / "demo.yaml", files, n, win_rate_prompts, kind)
    constitution = load_constitution(settings.constitution)
    store = Store(home)
    models = _named(named, settings.engine) or _latest(store, settings)
    sets = _sets(models, store, settings)
    if reward_model is not None and not pairs_of(sets.items):
        raise ConfigError("--reward-model tells the better response of pairs, and there are none; see `format: hhh`")
    for name, model in models.items():
        click.echo(f"{name}: {model}", err=True)
    with taken(accelerator_of((settings.engine, *settings.judges), "`cai evaluate`")):
        subject = subject_of_models(models) if sets.asked() else None
        probed, told = asyncio.run(_measure(models, sets, store, settings, constitution, subject))
        if reward_model is not None:
            told |= _scored(reward_model, sets, store)
    measured, probes = probed.measured, measurements(probed.to_json()).probes
    click.echo(results_text({**measured.rates, **told}, measured.win_rates, elo=measured.elo, probes=probes))
    if probed.harm.why and settings.evaluation.harm_scale_prompts:
        click.echo(f"no marks of harm: {probed.harm.why}", err=True)
    if json_file is not None:
        found = _to_json(measured.metrics() | told, subject, probed.findings)
        json_file.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _to_json(
    results: "dict[str, Rates]", subject: "Subject | None", findings: "list[Finding]"
) -> dict[str, dict[str, Any]]:
    """`{model: {metric: …}}`; `probe/NAME` of the model that the probes are of, as in the result of a run."""
    from cai.config.evaluation import PROBE
    from cai.evaluation import to_json
    from cai.probes import limits

    found: dict[str, dict[str, Any]] = dict(to_json(results))
    if subject is not None:
        rows = limits.to_json(findings)
        found[subject.policy] = found[subject.policy] | {f"{PROBE}{name}": row for name, row in rows.items()}
    return found


def _settings(
    path: Path, files: tuple[str, ...], n: int | None, win_rate_prompts: int | None, kind: str | None
) -> "Profile":
    """The profile with what the command line overrides."""
    from cai.config import EvaluationSource, load_profile, replace_sources

    profile = load_profile(path)
    sources = replace_sources(profile.evaluation.prompts, files, n, EvaluationSource)
    if not sources:
        raise ConfigError(f"profile {path} names no prompts under `evaluation`; give some with --prompts FILE")
    change: dict[str, Any] = {"prompts": sources}
    if win_rate_prompts is not None:
        change["win_rate_prompts"] = win_rate_prompts
        if not win_rate_prompts:
            change["harm_scale_prompts"] = 0
    evaluation = profile.evaluation.model_copy(update=change)
    engine = profile.engine if kind is None else profile.engine.model_copy(update={"kind": kind})
    return profile.model_copy(update={"engine": engine, "evaluation": evaluation})


def _named(named: tuple[str, ...], engine: "EngineConfig") -> Models:
    models: Models = {}
    for entry in named:
        name, separator, model = entry.partition("=")
        if not separator or not name or not model:
            raise ConfigError(f"--model {entry!r}: expected NAME=MODEL, such as mine=cai-home/models/mine")
        if name in models:
            raise ConfigError(f"--model {name!r} is given twice; give each model a name of its own")
        models[name] = _found(model, engine)
    return models


def _found(model: str, engine: "EngineConfig") -> Path | str:
    """Where a model's weights are; for a server, what it calls the model."""
    from cai.models import resolve_model

    return model if engine.kind == "openai" else resolve_model(model)


def _latest(store: "Store", profile: "Profile") -> Models:
    """The seed model, and of each stage the finished model that is newest on the disk."""
    from cai.models import META
    from cai.records import Model

    models: Models = {"seed": _found(profile.engine.model, profile.engine)}
    if profile.engine.kind == "openai":
        click.echo("only the seed model: name others that the server serves with --model", err=True)
        return models
    stored = store.read(Model)
    for stage in STAGES:
        paths = [Path(model.path) for model in stored if model.name == stage]
        finished = [path for path in paths if (path / META).is_file()]
        if finished:
            models[stage] = max(finished, key=lambda path: (path / META).stat().st_mtime_ns)
        else:
            click.echo(f"{stage}: none under {store.home}; `cai demo` makes one", err=True)
    return models


def _sets(models: Models, store: "Store", profile: "Profile") -> "Sets":
    """What to measure with, stored with what was rejected.

    Raises:
        DataError: there is nothing.
    """
    from cai.privacy import Guard
    from flows.held_out import untrained
    from storage.evaluation_sets import read_sets

    named = read_sets(profile.evaluation.prompts, profile.seed, Guard(profile.privacy))
    sets = untrained(named, _trained_on(models, store), store)
    store.append([*sets.prompts, *sets.items, *sets.rejects])
    if sets.rejects:
        click.echo(f"{len(sets.rejects)} prompts rejected; `cai sql rejects --home {store.home}` says why", err=True)
    if not sets.prompts:
        paths = [source.path for source in profile.evaluation.prompts]
        raise DataError(f"none of the rows in {paths} can be measured with")
    return sets


def _trained_on(models: Models, store: "Store") -> dict[str, str]:
    """Prompt id → run, for the prompts of every run that made one of the models and still has its folder."""
    from cai.models import read_meta
    from cai.records import Model
    from flows.runs import open_run

    made = [read_meta(model) for model in models.values() if isinstance(model, Path)]
    digests = {meta["model_digest"] for meta in made if meta}
    run_ids = sorted({model.run_id for model in store.read(Model) if model.model_digest in digests})
    runs = [open_run(store.home, i) for i in run_ids if (store.home / "runs" / i / "run.json").is_file()]
    return {prompt_id: run.run_id for run in runs for prompt_id in run.trained_on()}


async def _measure(
    models: Models,
    sets: "Sets",
    store: "Store",
    profile: "Profile",
    constitution: "Constitution",
    subject: "Subject | None",
) -> "tuple[Probed, dict[str, Rates]]":
    """Sample, judge, probe and store; and what the judge says of pairs whose better response is known."""
    from cai.engines.slot import EngineSlot
    from cai.evaluation import Setup, name_of, to_rows
    from cai.records import Comparison, Rating, Reject, Response, digest
    from flows.probing import measure
    from storage.ledger import TableLedger

    engines, prompt_ids = EngineSlot(), [prompt.prompt_id for prompt in sets.prompts]
    told: dict[str, Rates] = {}
    try:
        with TableLedger(store, prompt_ids, (Response, Comparison, Rating, Reject)) as ledger:
            setup = Setup(profile, constitution, engines, ledger, _on_stderr())
            probed = await measure(models if sets.asked() else {}, sets, subject, setup, store)
            if profile.evaluation.win_rate_prompts:
                told = await _judged(sets, setup, store)
    finally:
        await engines.close()
    over, judged_in = name_of(sets.asked(), sets.items), digest("judged", profile.judge.model, constitution.digest())
    store.append(to_rows(probed.measured.rates, probed.measured.answers, set=over, judged_in=judged_in))
    return probed, told


async def _judged(sets: "Sets", setup: "Setup", store: "Store") -> "dict[str, Rates]":
    """What the judge says of the pairs, where there are any."""
    from cai.evaluation import judge_pairs, pairs_of

    if not (pairs := pairs_of(sets.items)):
        return {}
    judge = await setup.judge()
    preferred = await judge_pairs(
        pairs,
        {prompt.prompt_id: prompt for prompt in sets.prompts},
        profile=setup.profile,
        constitution=setup.constitution,
        engine=judge,
        ledger=setup.ledger,
        progress=setup.progress,
    )
    return {"judge": _told("judge", judge.model_digest, pairs, preferred, store)}


def _scored(path: Path, sets: "Sets", store: "Store") -> "dict[str, Rates]":
    """What a reward model says of the pairs; its scores are stored with the responses."""
    from cai.evaluation import pairs_of, score_pairs
    from cai.models import model_digest, resolve_model
    from cai.training.scoring import RewardModel

    pairs, prompts = pairs_of(sets.items), {prompt.prompt_id: prompt for prompt in sets.prompts}
    by = model_digest(resolve_model(path))
    found = score_pairs(pairs, prompts, RewardModel.load(path).score, by)
    store.append([*found.given, *found.scores])
    return {"reward_model": _told("reward_model", by, pairs, found.preferred, store)}


def _told(
    name: str, model_digest: str, pairs: "list[EvaluationItem]", preferred: "Preferred", store: "Store"
) -> "Rates":
    """How often the better response was preferred; stored."""
    from cai.evaluation import name_of, pair_rates, rows_of

    found = pair_rates(pairs, preferred)
    measured = sorted(item.item_id for item in pairs)
    store.append(rows_of(name, model_digest, found, set=name_of([], pairs), measured=measured))
    return found


def _on_stderr() -> "OnProgress":
    """A line every few seconds, and one at the end of each model and each comparison of two."""
    shown_s = time.monotonic()

    def show(progress: "Progress") -> None:
        nonlocal shown_s
        is_done = progress.n_done + progress.n_rejected == progress.n_total
        if is_done or time.monotonic() - shown_s > 5:
            shown_s = time.monotonic()
            what = {"labels": "comparisons", "ratings": "marks"}.get(progress.stage, "responses")
            found, rejected = f"{progress.n_reused} found", f"{progress.n_rejected} rejected"
            click.echo(f"  {progress.n_done}/{progress.n_total} {what}, {found}, {rejected}", err=True)

    return show
