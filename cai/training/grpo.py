"""Reinforcement learning from AI feedback with GRPO (Shao et al. 2024), on TRL: the policy against the reward model,
held to the SL-CAI model by a KL term.

Alone: `python -m cai.training.grpo --job job.json`
"""

from pathlib import Path
from typing import Any

from cai.training import trl_policy
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import GRPOJob
from cai.training.libraries import without_vllm
from cai.training.progress import Progress
from cai.training.prompts import Prepared
from cai.training.trl_policy import Library
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


def build_trainer(job: GRPOJob, prepared: Prepared, folder: Path) -> Any:
    with without_vllm(unless=job.config.use_vllm):
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.grpo_trainer import GRPOTrainer
    return trl_policy.build_trainer(job, prepared, folder, Library(GRPOTrainer, GRPOConfig))


def train(job: GRPOJob, workspace: Workspace, progress: Progress) -> Trained:
    return trl_policy.train(job, workspace, progress, build_trainer)


STAGE = Stage(GRPOJob, trl_policy.plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
