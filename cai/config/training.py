"""Supervised training: SFT and the reward model."""

from typing import Annotated, Literal

from pydantic import Field

from cai.config.base import Config, Positive, Share


class SFTConfig(Config):
    rounds: Literal["all", "last"] = "last"
    """Which revisions are trained on (the paper: all)."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    batch_size: Positive = 32
    max_length: Positive = 1024
    packing: bool = False
    lora_rank: Positive | None = None
    save_steps: Positive = 100


class RewardModelConfig(Config):
    epochs: Annotated[float, Field(gt=0)] = 2.0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    batch_size: Positive = 32
    max_length: Positive = 1024
    held_out: Share = 0.1
    """Share of prompts (not pairs) kept for measuring."""
    labels: Literal["soft", "hard"] = "soft"
    """hard: each label is rounded to 0 or 1 and ties are left out, for comparison; the paper found soft better."""
    shared_prefix: bool = True
    """Compute once what the two conversations of a pair share. Wants a model whose every layer attends causally."""
    save_steps: Positive = 100
