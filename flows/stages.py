"""One flow a stage: what it needs, the child that does it, what it leaves in the UI. No rows pass through here.

Every stage looks first whether its result is there (`runs/ID/steps/NAME.json`, written last) and then does nothing.
"""

import time
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.logging import get_run_logger

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
from flows import artifacts
from flows.generation import generation, release
from flows.runs import RunFolder, open_run
from flows.supervise import StepFailed
from flows.training import MOST_HALVINGS, run_training

LAST_STEP = {
    "prompts": "prompts",
    "revisions": "sft_set",
    "sl_cai": "sft",
    "preferences": "preferences",
    "reward_model": "reward_model",
    "rl_cai": "rl",
    "report": "evaluate",
}


def is_finished(run: RunFolder, until: str) -> bool:
    return run.result(LAST_STEP[until]) is not None


def _is_transient(_task: object, _task_run: object, state: Any) -> bool:
    """Retry what may pass by itself (a dead engine, an unreachable server), never what a person must mend."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StepFailed) and error.is_transient


@task(task_run_name="{name}", retries=2, retry_delay_seconds=5, retry_condition_fn=_is_transient)
def generate(home: str, run_id: str, name: str, step: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One step of the generation child; its result is kept, so that a finished step is never run again."""
    run = open_run(Path(home), run_id)
    done = run.result(name)
    if done is not None:
        get_run_logger().info("%s is finished already: %s", name, artifacts.in_words(done))
        return done
    with generation(run) as host, artifacts.Progress(name) as progress:
        result = host.ask(step, log=artifacts.child_log(), on_progress=progress.update, **arguments)
    run.finish(name, result)
    get_run_logger().info("%s: done; %s", name, artifacts.in_words(result))
    return result


def _may_fit_or_pass(_task: object, task_run: Any, state: Any) -> bool:
    """Retry with fewer rows at once as long as that may help, and whatever may pass by itself once."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StepFailed) and (
        error.is_out_of_memory or (error.is_transient and task_run.run_count <= 1)
    )


@task(task_run_name="{name}", retries=MOST_HALVINGS, retry_delay_seconds=5, retry_condition_fn=_may_fit_or_pass)
def train(home: str, run_id: str, name: str, model: str, job: AnyJob) -> dict[str, Any]:
    """One training command in a child of its own; what comes of it is the row `model` of the `models` table.

    Where it ran out of memory, the retry has half as many rows in memory at once, and as many in a batch.
    """
    run = open_run(Path(home), run_id)
    done = run.result(name)
    if done is not None:
        get_run_logger().info("%s is finished already: %s", name, done["path"])
        return done
    release(run)
    started = time.monotonic()
    with artifacts.Progress(name) as progress:
        run_training(run, name, job, log=artifacts.child_log(), on_progress=progress.update)
    meta = read_meta(job.out)
    assert meta is not None, "a training command that ends well has written meta.json"
    result = {"path": str(job.out), "model_digest": meta["model_digest"], **meta["metrics"]}
    result["seconds"] = round(time.monotonic() - started, 2)
    with generation(run) as host:
        host.ask("register", log=artifacts.child_log(), on_progress=lambda _: None, name=model, path=str(job.out))
    run.finish(name, result)
    get_run_logger().info("%s: done; %s", name, artifacts.in_words(result))
    return result


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
    """Let the seed model answer, critique and revise, and derive the SFT set.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    for shard in _shards(home, run_id):
        generate(home, run_id, f"chains-{shard}", "chains", {"shard": shard})
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


@flow(name="label", flow_run_name="label-{run_id}")
def label(home: str, run_id: str) -> None:
    """Sample responses of the SL-CAI model, have the feedback model compare them, and derive preference pairs.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    for shard in _shards(home, run_id):
        arguments = {"shard": shard, "model": policy_start(run)}
        generate(home, run_id, f"candidates-{shard}", "candidates", arguments)
    for shard in _shards(home, run_id):
        generate(home, run_id, f"labels-{shard}", "labels", {"shard": shard})
    generate(home, run_id, "preferences", "preferences", {})


@flow(name="train-reward-model", flow_run_name="reward-model-{run_id}")
def train_reward_model(home: str, run_id: str) -> None:
    """Train the reward model on soft labels.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    job = RewardModelJob(
        model=resolve_model(policy_start(run)),
        data=run.path / "preferences.parquet",
        out=Path(),
        config=run.profile.reward_model,
        seed=run.profile.seed,
    )
    train(home, run_id, "reward_model", "reward_model", _placed(run, "reward_model", job))


@flow(name="train-rl", flow_run_name="rl-{run_id}")
def train_rl(home: str, run_id: str) -> None:
    """Train the RL-CAI policy against the reward model.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    train(home, run_id, "rl", "rl_cai", _placed(run, "rl_cai", rl_job(run)))


def rl_job(run: RunFolder) -> AnyJob:
    """The job of the profile's algorithm: DPO learns from the pairs, the others from prompts and the reward model."""
    reward_model = run.result("reward_model")
    start: dict[str, Any] = {"model": resolve_model(policy_start(run)), "out": Path(), "seed": run.profile.seed}
    prompts: dict[str, Any] = {
        "data": run.path / "rl_prompts.parquet",
        "reward_models": () if reward_model is None else (Path(reward_model["path"]),),
    }
    match run.profile.rl:
        case GRPOConfig() as config:
            return GRPOJob(config=config, **start, **prompts)
        case RLOOConfig() as config:
            return RLOOJob(config=config, **start, **prompts)
        case PPOConfig() as config:
            return PPOJob(config=config, **start, **prompts)
        case DPOConfig() as config:
            return DPOJob(config=config, data=run.path / "preferences.parquet", **start)


@flow(name="evaluate", flow_run_name="evaluate-{run_id}")
def evaluate(home: str, run_id: str) -> None:
    """Measure seed, SL-CAI and RL-CAI models on held-out prompts.

    Args:
        home: folder of the tables, models and runs
        run_id: the run, as `cai run` printed it
    """
    run = open_run(Path(home), run_id)
    models = {"seed": run.profile.engine.model}
    for name, step in (("sl_cai", "sft"), ("rl_cai", "rl")):
        if result := run.result(step):
            models[name] = result["path"]
    generate(home, run_id, "evaluate", "evaluate", {"models": models})


def policy_start(run: RunFolder) -> str:
    """The SL-CAI model, or the seed model where the profile trains none."""
    sft = run.result("sft")
    return str(sft["path"]) if sft is not None else run.profile.engine.model


def _placed(run: RunFolder, kind: str, job: AnyJob) -> AnyJob:
    """Where the model goes is decided by what it is made from, so another run with the same inputs finds it trained."""
    return job.model_copy(
        update={"out": (run.home / "models" / f"{kind}-{job_digest(job, input_digests(job))[:12]}").resolve()}
    )


def _shards(home: str, run_id: str) -> range:
    prompts = open_run(Path(home), run_id).result("prompts")
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
    artifacts.markdown("funnel", artifacts.table(("step", "in", "out", "rejected"), made["funnel"]), "Data funnel")
    results = run.path / "results.txt"
    text = f"```\n{results.read_text(encoding='utf-8')}```\n" if results.is_file() else "Nothing was measured yet.\n"
    artifacts.markdown("result", f"{text}\nReport: `{made['path']}`\n", "Before and after")
