"""Reinforcement learning from AI feedback with RLOO (Ahmadian et al. 2024), on TRL: REINFORCE on whole replies, each
against the mean of the others; the KL to the SL-CAI model is taken from the reward.

Alone: `python -m cai.training.rloo --job job.json`
"""

from pathlib import Path
from typing import Any

from cai.training import trl_policy
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import RLOOJob
from cai.training.libraries import without_vllm
from cai.training.progress import Progress
from cai.training.prompts import Prepared
from cai.training.trl_policy import Library
from cai.training.workspace import Workspace

HELP = """Train a policy with RLOO: for each prompt a few replies, each scored, each compared with the mean of the rest
(leave one out). `beta` times the KL to the model it started from is taken from each reply's reward.

\b
job.json:
  {"model": "models/sl-cai", "reward_models": ["models/reward"], "data": "prompts.parquet", "out": "models/rl-cai",
   "seed": 0, "config": {"steps": 20, "prompts_per_step": 24, "samples_per_prompt": 4, "learning_rate": 3e-4,
                         "beta": 0.05, "max_tokens": 48, "max_prompt_tokens": 128}}

prompts.parquet has the columns `prompt` (a list of {role, content}) and `prompt_id`. Prompts longer than
max_prompt_tokens are left out and listed in out/rejects.jsonl. A reply that could not be scored counts in no baseline
and moves nothing, and where fewer than two replies to a prompt were scored, none of them does.

`out` appears once it is complete, with meta.json, rollouts.parquet (every reply, its reward without the KL, its KL) and
metrics.jsonl (reward, KL, length, entropy, loss, clip rate of every step). Run the same command again after a kill: it
goes on from the last whole checkpoint and ends with the same weights.

The KL is that of the whole reply, in nats: `beta` weighs it against the reward's own scale, so a longer reply has more
of it, and a `beta` for GRPO, which is per token, means something else.

\b
  python -m cai.training.rloo --job job.json --dry-run     prompts, samples and steps, without training
  python -m cai.training.rloo --job job.json
"""


SETTINGS = {
    "num_iterations": 1,
    "epsilon": 0.2,
    "normalize_advantages": False,
    "reward_clip_range": None,
    "mask_truncated_completions": False,
}
"""What decides the algorithm beside the config: Ahmadian et al.'s, with neither rewards nor advantages scaled. A step's
replies are learnt from once, so the ratio π/π_old is 1 and nothing is clipped. A reply that was cut off counts.
"""


def build_trainer(job: RLOOJob, prepared: Prepared, folder: Path) -> Any:
    with without_vllm(unless=job.config.use_vllm):
        from trl.trainer.rloo_config import RLOOConfig
        from trl.trainer.rloo_trainer import RLOOTrainer
    return trl_policy.build_trainer(job, prepared, folder, Library(RLOOTrainer, RLOOConfig, SETTINGS))


def train(job: RLOOJob, workspace: Workspace, progress: Progress) -> Trained:
    return trl_policy.train(job, workspace, progress, build_trainer)


STAGE = Stage(RLOOJob, trl_policy.plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
