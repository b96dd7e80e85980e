"""Reinforcement learning from AI feedback with PPO (Schulman et al. 2017; Ziegler et al. 2019), ours on torch and
accelerate: TRL has no PPO that can be resumed. Numbers beside their equations are in `losses`.

Alone: `python -m cai.training.ppo --job job.json`
"""

from pathlib import Path

from cai.training import processes
from cai.training.checkpoints import checkpoint_step, disk_errors
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import PPOJob
from cai.training.progress import Progress
from cai.training.prompts import plan, prepare_prompts
from cai.training.rollouts import METRICS, ROLLOUTS, Sample, append, as_row, read, rewind, summary, write_parquet
from cai.training.rows import write_rejects
from cai.training.workspace import Workspace

HELP = """Train a policy with PPO: replies are scored, every token pays `kl_coef` times its KL to the model it started
from, a value model of its own says what was to be expected, and the policy moves towards what was better, no further
than `clip` a step.

\b
job.json:
  {"model": "models/sl-cai", "reward_models": ["models/reward"], "data": "prompts.parquet", "out": "models/rl-cai",
   "seed": 0, "config": {"steps": 20, "prompts_per_step": 24, "samples_per_prompt": 4, "learning_rate": 2e-4,
                         "value_learning_rate": 1e-3, "epochs": 2, "minibatch_size": 32, "kl_coef": 0.1,
                         "max_tokens": 48, "max_prompt_tokens": 256}}

prompts.parquet has the columns `prompt` (a list of {role, content}) and `prompt_id`. Prompts longer than
max_prompt_tokens are left out and listed in out/rejects.jsonl. More settings: target_kl (nats per response; kl_coef
then adapts), max_update_kl (the passes over a step's replies end early), whiten_rewards, entropy_coef. What a cut-off
reply pays is said by a `length` term among the rewards (`unfinished`).

`out` appears once it is complete, with meta.json, rollouts.parquet (every reply, its reward and KL) and metrics.jsonl
(reward, KL, length, entropy, losses, clip rates, explained variance of every step); the value model is not part of it.
Run the same command again after a kill: it goes on from the last whole checkpoint and ends with the same weights.

More steps are not better: the policy learns to please the reward model, and past some point only that. Look at
metrics.jsonl, and measure with something else than the reward model.

\b
  python -m cai.training.ppo --job job.json --dry-run     prompts, samples and steps, without training
  python -m cai.training.ppo --job job.json
"""


def train(job: PPOJob, workspace: Workspace, progress: Progress) -> Trained:
    prepared = prepare_prompts(job)
    if prepared.rejects:
        progress.note("prompts too long", n_rejected=len(prepared.rejects))
    from cai.rewards.build import build_rewards
    from cai.training.gold import open_guard
    from cai.training.ppo_trainer import Run
    from cai.training.trainer import load_policy, save_policy

    checkpoint = workspace.open(progress)
    rollouts, metrics = workspace.folder / ROLLOUTS, workspace.folder / METRICS
    if processes.is_main():
        for path in (rollouts, metrics):
            rewind(path, 0 if checkpoint is None else checkpoint_step(checkpoint))
    processes.wait()

    def record(step: int, numbers: dict[str, float], samples: list[Sample]) -> None:
        if not processes.is_main():
            return
        with disk_errors(f"write the rollouts of step {step}"):
            append(rollouts, map(as_row, samples))
            append(metrics, [{"step": step, **numbers}])

    rewards = build_rewards(job.config.rewards, job.reward_models)
    run = Run(job, prepared, rewards, workspace.folder, progress)
    if checkpoint is not None:
        run.resume(checkpoint)
    reference = run.learner.reference
    guard = open_guard(job, prepared.tokenizer, prepared.held_aside, rewards, reference, workspace.folder)
    try:
        guard.start(run.learner.unwrapped())
        run.to_the_end(record, guard)
    finally:
        guard.close()
        rewards.close()
    processes.wait()  # the last step is written
    kept = guard.kept(job.model)
    model = run.learner.unwrapped() if kept is None else load_policy(kept)
    samples, numbers = read(rollouts), read(metrics)

    def fill(out: Path) -> None:
        save_policy(model, prepared.tokenizer, job.model, out)
        write_rejects(out / "rejects.jsonl", prepared.rejects)
        write_parquet(samples, out / "rollouts.parquet")
        append(out / METRICS, numbers)

    facts = {"n_steps": run.n_done, "n_unscored": sum(row["reward"] is None for row in samples), **guard.facts()}
    return Trained(fill, {**prepared.facts, **facts, "metrics": summary(numbers)})


STAGE = Stage(PPOJob, plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
