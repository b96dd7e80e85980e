"""What GRPO and RLOO share: both are trainers of TRL that sample, score and step alike, and differ in their advantages
and in where the KL goes. What a run leaves behind is the same too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cai.chat_template import VARIABLES
from cai.errors import ConfigError
from cai.training import processes, prompts
from cai.training.chat import end_tokens
from cai.training.checkpoints import checkpoint_step, disk_errors
from cai.training.command import Trained
from cai.training.jobs import GRPOJob, RLOOJob
from cai.training.libraries import vllm_missing
from cai.training.progress import Progress
from cai.training.prompts import Prepared, as_dataset, prepare_prompts
from cai.training.rollouts import METRICS, ROLLOUTS, append, as_row, read, rewind, step_metrics, summary, write_parquet
from cai.training.rows import write_rejects
from cai.training.workspace import Workspace

J = TypeVar("J", GRPOJob, RLOOJob)


class Library(NamedTuple):
    """TRL's trainer of an algorithm, its arguments, and the values of those that decide the algorithm: TRL changes its
    defaults.
    """

    trainer: type[Any]
    arguments: type[Any]
    settings: dict[str, Any]


def plan(job: GRPOJob | RLOOJob) -> dict[str, Any]:
    check_vllm(job)
    return prompts.plan(job)


def check_vllm(job: GRPOJob | RLOOJob) -> None:
    """Refuse `use_vllm` where it cannot work: it would fail late and without saying why.

    Raises:
        ConfigError: no GPU, or no vLLM.
    """
    if job.config.use_vllm and (missing := vllm_missing()):
        raise ConfigError(
            f"use_vllm samples with a vLLM that shares the GPU with training, but there is {missing}; "
            "set use_vllm to false to sample with transformers, or run where both are"
        )


def build_trainer(job: GRPOJob | RLOOJob, prepared: Prepared, folder: Path, library: Library) -> Any:
    """`library`'s trainer of the job's policy against its rewards; `trainer.samples` are the replies of its step."""
    from cai.rewards.build import build_rewards
    from cai.training.policy_trainer import Reward, recording
    from cai.training.trainer import arguments, batching, load_policy, sealed

    config = job.config
    samples: list[Any] = []
    rewards = build_rewards(config.rewards, job.reward_models)
    trainer = sealed(recording(library.trainer))(
        model=load_policy(job.model),
        reward_funcs=Reward(rewards, end_tokens(prepared.tokenizer, job.model), samples),
        args=library.arguments(
            **arguments(folder, job.seed, config.learning_rate, config.save_steps),
            max_steps=config.steps,
            **batching(job),
            **library.settings,
            num_generations=config.samples_per_prompt,
            max_completion_length=config.max_tokens,
            temperature=config.temperature,
            top_p=1.0,
            top_k=0,
            chat_template_kwargs=VARIABLES,
            beta=config.beta,
            disable_dropout=True,
            shuffle_dataset=False,
            lr_scheduler_type="constant",
            use_vllm=config.use_vllm,
            vllm_mode="colocate",
            vllm_max_model_length=config.max_prompt_tokens + config.max_tokens,
        ),
        train_dataset=as_dataset(job, prepared.prompts),
        processing_class=prepared.tokenizer,
    )
    trainer.samples, trainer.rewards, trainer.settings = samples, rewards, library.settings
    return trainer


def train(job: J, workspace: Workspace, progress: Progress, build: Callable[[J, Prepared, Path], Any]) -> Trained:
    """The run from its last whole checkpoint to its end; `build` makes the algorithm's trainer."""
    check_vllm(job)
    prepared = prepare_prompts(job)
    if prepared.rejects:
        progress.note("prompts too long", n_rejected=len(prepared.rejects))
    from cai.training.gold import open_guard
    from cai.training.trainer import Watch, gathered_weights, load_policy, run, save_policy

    checkpoint = workspace.open(progress)
    done = 0 if checkpoint is None else checkpoint_step(checkpoint)
    rollouts, metrics = workspace.folder / ROLLOUTS, workspace.folder / METRICS
    if processes.is_main():
        rewind(rollouts, done)
        rewind(metrics, done)
    processes.wait()
    trainer = build(job, prepared, workspace.folder)
    guard = open_guard(
        job, prepared.tokenizer, prepared.held_aside, trainer.rewards, trainer.ref_model, workspace.folder
    )

    def record(step: int, numbers: dict[str, float]) -> dict[str, float]:
        seen = guard.look(step, trainer.model, numbers["loss"], numbers.get("grad_norm", 0.0))
        samples = processes.gathered(trainer.samples)
        kept = {**step_metrics(numbers, samples), **seen}
        if processes.is_main():
            with disk_errors(f"write the rollouts of step {step}"):
                append(rollouts, map(as_row, samples))
                append(metrics, [{"step": step, **kept}])
        trainer.best_step = guard.best_step()
        return kept

    try:
        guard.start(trainer.model)
        trainer.add_callback(Watch(workspace.folder, progress, record, guard))
        steps = done if guard.decision().must_stop else run(trainer, checkpoint)
    finally:
        guard.close()
        trainer.rewards.close()
    weights = gathered_weights(trainer)
    kept = guard.kept(job.model)
    model = trainer.accelerator.unwrap_model(trainer.model) if kept is None else load_policy(kept)
    samples, numbers = read(rollouts), read(metrics)

    def fill(out: Path) -> None:
        save_policy(model, prepared.tokenizer, job.model, out, weights)
        write_rejects(out / "rejects.jsonl", prepared.rejects)
        write_parquet(samples, out / "rollouts.parquet")
        append(out / METRICS, numbers)

    facts = {"n_steps": steps, "n_unscored": sum(row["reward"] is None for row in samples), **guard.facts()}
    facts["trl"] = trainer.settings
    return Trained(fill, {**prepared.facts, **facts, "metrics": summary(numbers)})
