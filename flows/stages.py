"""One flow a stage: what it needs, the child that does it, what it leaves in the UI. No rows pass through here.

Every stage looks first whether its result is there (`runs/ID/steps/NAME.json`, written last) and then does nothing.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import State, flow, task
from prefect.runtime import flow_run

from cai.config import DPOConfig, GRPOConfig, PPOConfig, RLOOConfig
from cai.models import read_meta, resolve_model
from cai.training.jobs import (
    AnyJob,
    DPOJob,
    GRPOJob,
    PPOJob,
    RewardModelJob,
    RLOOJob,
    SFTJob,
    input_digests,
    job_digest,
)
from cai.until import Until
from flows import artifacts
from flows.drawing import rl_prompts_name
from flows.events import announce
from flows.generation import generation, release
from flows.rounds import at_round, job_seed, member_name
from flows.runs import RunFolder, open_run
from flows.shards import Ask, generate, generate_all, once
from flows.supervise import StepFailed
from flows.training import MOST_HALVINGS, run_training
from flows.waiting import waiting

OTHER_TRIES = 3
"""The kinds that are tried again once: NotFinite, EngineDied, signal."""


def last_step(run: RunFolder, until: Until) -> str:
    """The step that a run until this stage ends with."""
    match until:
        case "prompts" | "preferences":
            return until
        case "revisions":
            return "sft_set"
        case "sl_cai":
            return "sft"
        case "reward_model":
            return reward_model_names(run.profile.ensemble)[-1]
        case "rl_cai":
            return at_round("rl", run.profile.rounds - 1)
        case "report":
            return "evaluate"


def is_finished(run: RunFolder, until: Until) -> bool:
    return run.result(last_step(run, until)) is not None


def _in_round(stage: str) -> Callable[[], str]:
    """What a flow run is called in the UI: its stage, the run, and the round where it is not the first."""

    def name() -> str:
        asked: dict[str, Any] = flow_run.parameters
        return at_round(f"{stage}-{asked['run_id']}", asked.get("round", 0))

    return name


def tried_again() -> Callable[[object, object, State[Any]], bool]:
    """Whether one training step is tried again after it failed: with fewer rows at once as long as that may help; once
    after a NaN, from an earlier checkpoint; and once after what may pass by itself. No cause uses up another's tries.
    """
    seen: Counter[str] = Counter()

    # A function: Prefect takes any other callable for a plain yes or no.
    def condition(_task: object, _task_run: object, state: State[Any]) -> bool:
        error = state.result(raise_on_failure=False)
        if not isinstance(error, StepFailed):
            return False
        if error.is_out_of_memory:
            return True  # until no half is left: then the kind is another
        seen[error.kind] += 1
        return (error.is_transient or error.is_not_finite) and seen[error.kind] <= 1

    return condition


def train(home: str, run_id: str, name: str, model: str, job: AnyJob) -> dict[str, Any]:
    """See `training`."""
    return training.with_options(retry_condition_fn=tried_again())(home, run_id, name, model, job)


@task(name="train", task_run_name="{name}", retries=MOST_HALVINGS + OTHER_TRIES, retry_delay_seconds=5)
def training(home: str, run_id: str, name: str, model: str, job: AnyJob) -> dict[str, Any]:
    """One training command in a child of its own; what comes of it is the row `model` of the `models` table.

    Where it ran out of memory, the retry has half as many rows in memory at once, and as many in a batch.
    """
    run = open_run(Path(home), run_id)
    with generation(run) as host:

        def prepare() -> None:
            release(run)
            host.accelerator.take(waiting(host.accelerator))

        def work() -> dict[str, Any]:
            result = _trained(run, name, job, host.accelerator.files())
            host.rest()
            row = {"name": model, "made_by": name, "path": str(job.out)}
            registered = host.ask("register", log=artifacts.child_log(), on_progress=lambda _: None, **row)
            return result | {"shown": registered["shown"]}

        return once(run, name, prepare, work)


def _trained(run: RunFolder, name: str, job: AnyJob, holds: Sequence[int]) -> dict[str, Any]:
    started = time.monotonic()
    with artifacts.Progress(name) as progress:
        run_training(run, name, job, log=artifacts.child_log(), on_progress=progress.update, holds=holds)
    meta = read_meta(job.out)
    assert meta is not None, "a training command that ends well has written meta.json"
    counts = {name: count for name, count in meta.items() if name.startswith("n_")}
    result = {"path": str(job.out), "model_digest": meta["model_digest"], **counts, **meta["metrics"]}
    return result | {"seconds": round(time.monotonic() - started, 2)}


@flow(name="import-prompts", flow_run_name="prompts-{run_id}")
def import_prompts(home: str, run_id: str) -> None:
    """Read the profile's prompts into the `prompts` table.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    generate(home, run_id, "prompts", "prompts", {})


@flow(name="sl-cai-data", flow_run_name="revisions-{run_id}")
def revisions(home: str, run_id: str) -> None:
    """Let the seed model answer, critique and revise, and derive the SFT set, helpful replies mixed in.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    with generation(run):  # one engine for all shards
        asks = [Ask(f"chains-{shard}", "chains", {"shard": shard}) for shard in _shards(run)]
        generate_all(run, [*asks, *([] if run.profile.helpful is None else [Ask("helpful", "helpful")])])
        generate(home, run_id, "sft_set", "sft_set", {})


@flow(name="train-sft", flow_run_name="sft-{run_id}")
def train_sft(home: str, run_id: str) -> None:
    """Train the SL-CAI model on the revisions.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    config = run.profile.sft
    assert config is not None, "the pipeline leaves this stage out where the profile has no `sft`"
    data = run.path / "sft.parquet"
    job = SFTJob(
        model=resolve_model(run.profile.engine.model), data=data, out=Path(), config=config, seed=run.profile.seed
    )
    train(home, run_id, "sft", "sl_cai", _placed(run, "sl_cai", job))


@flow(name="sl-cai", flow_run_name="sl-cai-{run_id}")
def sl_cai(home: str, run_id: str) -> None:
    """The supervised stage: critique and revise the prompts of a run, and train the SL-CAI model on the revisions.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    with generation(run):
        revisions(home, run_id)
        if run.profile.sft is not None:
            train_sft(home, run_id)


@flow(name="label", flow_run_name=_in_round("label"))
def label(home: str, run_id: str, round: int = 0) -> None:
    """Sample responses of the policy, have the feedback model compare them, and derive preference pairs.

    The feedback model is tried first, with pairs whose winner is known, and labels nothing where it does not follow.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
        round: which of the profile's rounds; the first, 0, samples the SL-CAI model
    """
    run = open_run(Path(home), run_id)
    steps = {step: at_round(step, round) for step in ("candidates", "labels", "preferences")}
    with generation(run):
        where = {"round": round}
        start = where | {"model": policy_start(run, round)}
        generate_all(run, [Ask(f"{steps['candidates']}-{i}", "candidates", start | {"shard": i}) for i in _shards(run)])
        if run.profile.feedback.self_test:
            generate_all(run, [Ask("self_test", "self_test")])  # the judge is the same in every round
        generate_all(run, [Ask(f"{steps['labels']}-{i}", "labels", where | {"shard": i}) for i in _shards(run)])
        generate(home, run_id, steps["preferences"], "preferences", {"round": round})
    announce(run, "preferences", round)


@flow(name="train-reward-model", flow_run_name=_in_round("reward-model"))
def train_reward_model(home: str, run_id: str, round: int = 0) -> None:
    """Train the reward model on soft labels, or several of them, one after the other.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
        round: which of the profile's rounds
    """
    run = open_run(Path(home), run_id)
    for member, name in enumerate(reward_model_names(run.profile.ensemble, round)):
        train(home, run_id, name, name, _placed(run, "reward_model", reward_model_job(run, round, member)))
    announce(run, "reward_model", round)


def reward_model_names(ensemble: int, round: int = 0) -> list[str]:
    """The steps that train the reward models of a round."""
    return [member_name(at_round("reward_model", round), member) for member in range(ensemble)]


def reward_model_job(run: RunFolder, round: int = 0, member: int = 0) -> RewardModelJob:
    """Members of an ensemble differ by their seed: the order of the pairs and the random head."""
    return RewardModelJob(
        model=resolve_model(policy_start(run, round)),
        data=run.path / f"{at_round('preferences', round)}.parquet",
        out=Path(),
        config=run.profile.reward_model,
        seed=job_seed(run.profile.seed, round, member),
    )


@flow(name="train-rl", flow_run_name=_in_round("rl"))
def train_rl(home: str, run_id: str, round: int = 0) -> None:
    """Train the RL-CAI policy against the reward model.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
        round: which of the profile's rounds; a later one goes on from the policy of the one before
    """
    run = open_run(Path(home), run_id)
    train(home, run_id, at_round("rl", round), at_round("rl_cai", round), _placed(run, "rl_cai", rl_job(run, round)))
    announce(run, "rl_cai", round)


def rl_job(run: RunFolder, round: int = 0) -> AnyJob:
    """The job of the profile's algorithm: DPO learns from the pairs, the others from prompts and the reward models.

    A round starts from `policy_start`, which is its reference too: the KL is taken to the round before.
    """
    scorers = [run.result(name) for name in reward_model_names(run.profile.ensemble, round)]
    start: dict[str, Any] = {
        "model": resolve_model(policy_start(run, round)),
        "out": Path(),
        "seed": job_seed(run.profile.seed, round),
    }
    prompts: dict[str, Any] = {
        "data": run.path / f"{rl_prompts_name(run, round)}.parquet",
        "reward_models": tuple(Path(scorer["path"]) for scorer in scorers if scorer is not None),
    }
    match run.profile.rl:
        case GRPOConfig() as config:
            return GRPOJob(config=config, **start, **prompts)
        case RLOOConfig() as config:
            return RLOOJob(config=config, **start, **prompts)
        case PPOConfig() as config:
            return PPOJob(config=config, **start, **prompts)
        case DPOConfig() as config:
            return DPOJob(config=config, data=run.path / f"{at_round('preferences', round)}.parquet", **start)


@flow(name="evaluate", flow_run_name="evaluate-{run_id}")
def evaluate(home: str, run_id: str) -> None:
    """Measure seed, SL-CAI and RL-CAI models on held-out prompts; `rl_cai` is the last round's policy.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    models = {"seed": run.profile.engine.model}
    rounds = run.profile.rounds
    earlier = [(f"rl_cai_{number}", at_round("rl", number)) for number in range(rounds - 1)]
    for name, step in (("sl_cai", "sft"), *earlier, ("rl_cai", at_round("rl", rounds - 1))):
        if result := run.result(step):
            models[name] = result["path"]
    generate_all(run, [Ask("evaluate", "evaluate", {"models": models})])


def policy_start(run: RunFolder, round: int = 0) -> str:
    """What a round samples and trains further: the policy of the round before. The first starts from the SL-CAI model,
    or from the seed model where the profile trains none.
    """
    if round > 0:
        before = run.result(at_round("rl", round - 1))
        assert before is not None, "a round begins when the one before has trained its policy"
        return str(before["path"])
    sft = run.result("sft")
    return str(sft["path"]) if sft is not None else run.profile.engine.model


def _placed(run: RunFolder, kind: str, job: AnyJob) -> AnyJob:
    """Where the model goes is decided by what it is made from, so another run with the same inputs finds it trained."""
    return job.model_copy(
        update={"out": (run.home / "models" / f"{kind}-{job_digest(job, input_digests(job))[:12]}").resolve()}
    )


def _shards(run: RunFolder) -> range:
    prompts = run.result("prompts")
    assert prompts is not None, "prompts are imported before anything else"
    return range(int(prompts["n_shards"]))


@flow(name="report", flow_run_name="report-{run_id}")
def report(home: str, run_id: str) -> None:
    """Write the run's report and show its funnel and verdict in the UI.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    with generation(run) as host:
        made = host.ask("report", log=artifacts.child_log(), on_progress=lambda _: None)
    artifacts.show(made["shown"])
    results = run.path / "results.txt"
    text = f"```\n{results.read_text(encoding='utf-8')}```\n" if results.is_file() else "Nothing was measured yet.\n"
    artifacts.markdown("result", text, "Before and after")
    artifacts.link("report", Path(made["path"]), "The whole report: data, labels, curves, samples")
