"""Reinforcement learning from AI feedback with GRPO (Shao et al. 2024) and DAPO's mean over tokens (Yu et al. 2025), on
TRL: the policy against the reward model, held to the SL-CAI model by a KL term.

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


SETTINGS = {
    "loss_type": "dapo",
    "scale_rewards": "group",
    "num_iterations": 1,
    "epsilon": 0.2,
    "importance_sampling_level": "token",
    "mask_truncated_completions": False,
    "use_bias_correction_kl": True,
    "vllm_importance_sampling_correction": True,
    "vllm_importance_sampling_mode": "sequence_mask",
    "vllm_importance_sampling_clip_max": 3.0,
}
"""What decides the algorithm beside the config. Advantages are Shao et al.'s: less the group's mean, over its standard
deviation. Their loss is a mean over each reply's tokens and then over replies, in which a token of a long reply weighs
less; this one is one mean over all tokens of the step (DAPO: Yu et al. 2025, arXiv 2503.14476, section 3.3), and the
rest of DAPO is not in it. A step's replies are learnt from once, so the ratio π/π_old is 1 and nothing is clipped; the
KL is multiplied by it, for its gradient's sake (DeepSeek-V3.2, arXiv 2512.02556). A reply that was cut off counts. With
`use_vllm` a reply that the policy finds over three times likelier than vLLM did is not learnt from.
"""


def build_trainer(job: GRPOJob, prepared: Prepared, folder: Path) -> Any:
    with without_vllm(unless=job.config.use_vllm):
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.grpo_trainer import GRPOTrainer
    return trl_policy.build_trainer(job, prepared, folder, Library(GRPOTrainer, GRPOConfig, SETTINGS))


def train(job: GRPOJob, workspace: Workspace, progress: Progress) -> Trained:
    return trl_policy.train(job, workspace, progress, build_trainer)


STAGE = Stage(GRPOJob, trl_policy.plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
