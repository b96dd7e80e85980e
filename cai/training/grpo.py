"""Reinforcement learning from AI feedback with GRPO (Shao et al. 2024), on TRL: the policy against the reward model,
held to the SL-CAI model by a KL term.

Alone: `python -m cai.training.grpo --job job.json`
"""

from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import TrainingError
from cai.models import resolve_model
from cai.records import Reject
from cai.training import processes
from cai.training.batches import prompt_order
from cai.training.chat import as_dicts, context_length, end_tokens, load_tokenizer, render
from cai.training.checkpoints import checkpoint_step, disk_errors
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import GRPOJob
from cai.training.libraries import without_vllm
from cai.training.progress import Progress
from cai.training.rollouts import METRICS, ROLLOUTS, append, as_row, read, rewind, step_metrics, write_parquet
from cai.training.rows import PromptRow, read_prompts, write_rejects
from cai.training.workspace import Workspace

HELP = """Train a policy with GRPO: for each prompt a group of replies, each scored by the reward model, each compared
with its group; `beta` times the KL to the model it started from is held against it.

\b
job.json:
  {"model": "models/sl-cai", "reward_models": ["models/reward"], "data": "prompts.parquet", "out": "models/rl-cai",
   "seed": 0, "config": {"steps": 20, "prompts_per_step": 12, "samples_per_prompt": 8, "learning_rate": 1e-4,
                         "beta": 0.1, "max_tokens": 32, "max_prompt_tokens": 128}}

prompts.parquet has the columns `prompt` (a list of {role, content}) and `prompt_id`. Prompts longer than
max_prompt_tokens are left out and listed in out/rejects.jsonl.

`out` appears once it is complete, with meta.json, rollouts.parquet (every reply, its reward and KL) and metrics.jsonl
(reward, KL, length, entropy, loss, clip rate of every step). Run the same command again after a kill: it goes on from
the last whole checkpoint and ends with the same weights.

More steps are not better: the policy learns to please the reward model, and past some point only that. Look at
metrics.jsonl, and measure with something else than the reward model.

\b
  python -m cai.training.grpo --job job.json --dry-run     prompts, samples and steps, without training
  python -m cai.training.grpo --job job.json
"""


class Prepared(NamedTuple):
    tokenizer: Any
    prompts: list[PromptRow]
    rejects: list[Reject]
    facts: dict[str, Any]


def prepare_rows(job: GRPOJob) -> Prepared:
    """Read the prompts; those that are too long become rejects.

    Raises:
        DataError: no rows or wrong columns.
        TrainingError: no prompt is left.
    """
    rows = read_prompts(job.data)
    limit = min(job.config.max_prompt_tokens, context_length(job.model) - job.config.max_tokens)
    tokenizer = load_tokenizer(job.model)
    texts = render(tokenizer, [row.prompt for row in rows], ask=True)
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    prompts = [row for row, length in zip(rows, lengths, strict=True) if length <= limit]
    rejects = [
        Reject.make(
            "grpo",
            "prompt_too_long",
            prompt_id=row.prompt_id,
            parents=[row.prompt_id],
            detail=f"{length} tokens, at most {limit} fit",
        )
        for row, length in zip(rows, lengths, strict=True)
        if length > limit
    ]
    if not prompts:
        raise TrainingError(
            f"all {len(rows)} prompts of {job.data} are longer than {limit} tokens, the lesser of "
            "max_prompt_tokens and the model's context without max_tokens; raise one or lower the other"
        )
    facts = {
        "n_rows": len(prompts),
        "n_rejected": len(rejects),
        "n_truncated": 0,
        "n_prompt_tokens": sum(length for length in lengths if length <= limit),
        "n_samples": job.config.steps * job.config.prompts_per_step * job.config.samples_per_prompt,
    }
    return Prepared(tokenizer, prompts, rejects, facts)


def plan(job: GRPOJob) -> dict[str, Any]:
    for path in job.models().values():
        resolve_model(path)
    return {**prepare_rows(job).facts, "n_steps": job.config.steps}


def as_dataset(job: GRPOJob, prompts: list[PromptRow]) -> Any:
    """The prompts of the whole run in the order they are used: one pass, so that a resumed run finds its place.

    (TRL's own shuffling restarts from the first permutation when it resumes in a later epoch.)
    """
    from datasets import Dataset

    order = prompt_order(len(prompts), job.config.prompts_per_step, job.config.steps, job.seed)
    rows = Dataset.from_dict(
        {
            "prompt": [as_dicts(p.prompt) for p in prompts],
            "prompt_id": [p.prompt_id for p in prompts],
            "expected": [p.expected for p in prompts],
        }
    )
    return rows.select(order)


def build_trainer(job: GRPOJob, prepared: Prepared, folder: Path) -> Any:
    with without_vllm():
        from trl.trainer.grpo_config import GRPOConfig as TrainerConfig

        from cai.training.policy_trainer import RecordingTrainer, Reward
    from cai.rewards.build import build_rewards
    from cai.training.trainer import arguments, batching, load_policy, sealed

    config = job.config
    samples: list[Any] = []
    trainer = sealed(RecordingTrainer)(
        model=load_policy(job.model),
        reward_funcs=Reward(
            build_rewards(config.rewards, job.reward_models), end_tokens(prepared.tokenizer, job.model), samples
        ),
        args=TrainerConfig(
            **arguments(folder, job.seed, config.learning_rate, config.save_steps),
            max_steps=config.steps,
            **batching(job),
            num_generations=config.samples_per_prompt,
            max_completion_length=config.max_tokens,
            temperature=config.temperature,
            beta=config.beta,
            disable_dropout=True,
            shuffle_dataset=False,
            lr_scheduler_type="constant",
        ),
        train_dataset=as_dataset(job, prepared.prompts),
        processing_class=prepared.tokenizer,
    )
    trainer.samples = samples
    return trainer


def train(job: GRPOJob, workspace: Workspace, progress: Progress) -> Trained:
    prepared = prepare_rows(job)
    if prepared.rejects:
        progress.note("prompts too long", n_rejected=len(prepared.rejects))
    from cai.training.trainer import Watch, gathered_weights, run, save_policy

    checkpoint = workspace.open(progress)
    done = 0 if checkpoint is None else checkpoint_step(checkpoint)
    rollouts, metrics = workspace.folder / ROLLOUTS, workspace.folder / METRICS
    if processes.is_main():
        rewind(rollouts, done)
        rewind(metrics, done)
    trainer = build_trainer(job, prepared, workspace.folder)

    def record(step: int, numbers: dict[str, float]) -> dict[str, float]:
        samples = processes.gathered(trainer.samples)
        kept = step_metrics(numbers, samples)
        if processes.is_main():
            with disk_errors(f"write the rollouts of step {step}"):
                append(rollouts, map(as_row, samples))
                append(metrics, [{"step": step, **kept}])
        return kept

    trainer.add_callback(Watch(workspace.folder, progress, record))
    steps = run(trainer, checkpoint)
    weights = gathered_weights(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    samples, numbers = read(rollouts), read(metrics)

    def fill(out: Path) -> None:
        save_policy(model, prepared.tokenizer, job.model, out, weights)
        write_rejects(out / "rejects.jsonl", prepared.rejects)
        write_parquet(samples, out / "rollouts.parquet")
        append(out / METRICS, numbers)

    facts = {"n_steps": steps, "n_unscored": sum(row["reward"] is None for row in samples)}
    return Trained(fill, {**prepared.facts, **facts, "metrics": summary(numbers)})


def summary(numbers: list[dict[str, Any]]) -> dict[str, float]:
    """The first and last value of every number that a run is judged by."""
    named = ("reward/mean", "kl/k3", "length/mean", "entropy", "loss")
    ends = {"first": numbers[0], "last": numbers[-1]}
    return {f"{name}/{end}": row[name] for name in named for end, row in ends.items() if name in row}


STAGE = Stage(GRPOJob, plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
