"""The ways of RL; `algorithm` says which one a profile means."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from cai.config.base import Config, Positive, Share
from cai.config.rewards import AnyRewardTerm, GuardConfig, RewardModelTerm


class PolicyConfig(Config):
    """What every way of RL has: sampled replies, a reward, a guard."""

    steps: Positive = 30
    prompts_per_step: Positive = 12
    samples_per_prompt: Positive = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    temperature: Annotated[float, Field(gt=0)] = 1.0
    max_tokens: Positive = 256
    max_prompt_tokens: Positive = 1024
    save_steps: Positive = 10
    rewards: tuple[AnyRewardTerm, ...] = (RewardModelTerm(),)
    guard: GuardConfig | None = None


class GroupConfig(PolicyConfig):
    """What the ways have that compare the replies to one prompt."""

    use_vllm: bool = False
    """Sample with a vLLM on the GPU that trains. Its samples do not follow `seed`: a resumed run goes on from
    the same weights, but not with the samples that it would have had.
    """


class GRPOConfig(GroupConfig):
    """Shao et al. 2024, but for the loss: one mean over all tokens of the step, as in DAPO (Yu et al. 2025, arXiv
    2503.14476), not a mean of each reply's own.
    """

    algorithm: Literal["grpo"] = "grpo"
    samples_per_prompt: Annotated[int, Field(ge=2)] = 8
    beta: Annotated[float, Field(ge=0)] = 0.1
    """Strength of the KL to the SL-CAI model."""


class RLOOConfig(GroupConfig):
    """REINFORCE, leave one out (Ahmadian et al. 2024)."""

    algorithm: Literal["rloo"] = "rloo"
    samples_per_prompt: Annotated[int, Field(ge=2)] = 4
    beta: Annotated[float, Field(ge=0)] = 0.05
    """Strength of the KL to the SL-CAI model, in the reward of the whole response."""


class PPOConfig(PolicyConfig):
    """Schulman et al. 2017, with the per-token KL of Ziegler et al. 2019."""

    algorithm: Literal["ppo"] = "ppo"
    samples_per_prompt: Positive = 1
    epochs: Positive = 2
    """Passes over the rollouts of a step."""
    minibatch_size: Positive = 32
    clip: Annotated[float, Field(gt=0)] = 0.2
    value_clip: Annotated[float, Field(gt=0)] = 0.2
    """How far a value may move in one step's passes, in units of reward."""
    value_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of the value model, which shares no weights with the policy; None: as the policy's."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.0
    gamma: Share = 1.0
    gae_lambda: Share = 0.95
    kl_coef: Annotated[float, Field(ge=0)] = 0.05
    target_kl: Annotated[float, Field(gt=0)] | None = None
    """Nats per response that an adaptive `kl_coef` steers to; None keeps it fixed."""
    kl_horizon: Positive = 10_000
    """Samples over which an adaptive `kl_coef` may change by its own size, times 0.2 (Ziegler et al. 2019, §2.2)."""
    max_update_kl: Annotated[float, Field(gt=0)] | None = 0.1
    """The passes over one step's rollouts end early where the policy moved further than this, nats per token."""
    whiten_rewards: bool = False


class DPOConfig(Config):
    """Direct preference optimisation (Rafailov et al. 2023) on soft labels: needs no reward model."""

    algorithm: Literal["dpo"] = "dpo"
    epochs: Annotated[float, Field(gt=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    batch_size: Positive = 32
    max_length: Positive = 1024
    beta: Annotated[float, Field(gt=0)] = 0.1
    save_steps: Positive = 100


def _algorithm(config: object) -> object:
    return config.get("algorithm", "grpo") if isinstance(config, dict) else getattr(config, "algorithm", None)


RLConfig = Annotated[
    Annotated[GRPOConfig, Tag("grpo")]
    | Annotated[RLOOConfig, Tag("rloo")]
    | Annotated[PPOConfig, Tag("ppo")]
    | Annotated[DPOConfig, Tag("dpo")],
    Discriminator(_algorithm),
]
