"""Where reward comes from, term by term, and the guard that stops RL when it no longer means anything."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cai.config.base import Config, Positive, Share
from cai.config.engine import EngineConfig


class RewardTerm(Config):
    """One source of reward, and its weight in the sum. Each is logged apart, under its name."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    weight: float = 1.0


class RewardModelTerm(RewardTerm):
    """Reward models' scores: of one, or of an ensemble, each less its `mean_score`, mean − `conservatism` · standard
    deviation.
    """

    kind: Literal["reward_model"] = "reward_model"
    name: str = "reward_model"
    models: tuple[Path, ...] = ()
    """Directories; none: the reward models that were trained in this run."""
    conservatism: Annotated[float, Field(ge=0)] = 0.0


class VerifierTerm(RewardTerm):
    """A check with a known answer: `expected` here for all prompts or, without it, the prompt's own. 1 or 0."""

    kind: Literal["verifier"] = "verifier"
    check: str
    """`exact`, `numeric`, `regex`, `json_schema`, `unit_test`, or your own function as `package.module:function`."""
    expected: str | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 5.0


class JudgeTerm(RewardTerm):
    """The feedback model's own score of a response, 1 to 10, weighted by likelihood and moved to -1 … 1 (d-RLAIF, Lee
    et al. 2023).
    """

    kind: Literal["judge"] = "judge"
    engine: EngineConfig
    question: str
    best: Annotated[int, Field(ge=2, le=10)] = 10
    """The highest score; 9 for a judge whose tokenizer writes 10 as two tokens."""


class ProcessTerm(RewardTerm):
    """A verifier of each step of a response; the mean, the least or the product over its steps."""

    kind: Literal["process"] = "process"
    check: str
    separator: str = "\n"
    combine: Literal["mean", "min", "product"] = "mean"
    timeout_s: Annotated[float, Field(gt=0)] = 5.0


class LengthTerm(RewardTerm):
    """0 up to `free_tokens`, then −1 for every `scale_tokens` more; −`unfinished` where the reply was cut off."""

    kind: Literal["length"] = "length"
    free_tokens: Annotated[int, Field(ge=0)]
    scale_tokens: Positive
    unfinished: Annotated[float, Field(ge=0)] = 0.0


class RepetitionTerm(RewardTerm):
    """−(share of a response's n-grams of words that it has said already)."""

    kind: Literal["repetition"] = "repetition"
    n: Positive = 3


AnyRewardTerm = Annotated[
    RewardModelTerm | VerifierTerm | JudgeTerm | ProcessTerm | LengthTerm | RepetitionTerm, Field(discriminator="kind")
]


class GuardConfig(Config):
    """When RL stops by itself, and which checkpoint it then keeps: the best by gold, or the last that was sound.

    Everything is measured on replies to the same held-aside prompts, at step 0, every `every` steps, and at the end.
    """

    gold: tuple[AnyRewardTerm, ...] = ()
    """Rewards that are measured and never trained on; none: no gold score."""
    every: Positive = 5
    """Steps between two scores."""
    gold_prompts: Annotated[int, Field(ge=2)] = 64
    """Prompts held aside: never trained on, one reply each."""
    patience: Positive = 3
    """Gold scores in a row below the best, beyond their noise, before it stops."""
    stall: Positive | None = 5
    """Gold scores in a row, none above the best, while the proxy has risen beyond its noise, before it stops: the two
    have parted, though gold has not fallen yet. None: it goes on until gold falls.
    """
    kl_budget: Annotated[float, Field(gt=0)] | None = None
    """Nats per response, from the model it started from."""
    min_entropy: Annotated[float, Field(ge=0)] | None = None
    """Nats per token, mean over the replies."""
    max_repetition: Share | None = None
    """Share of trigrams said before, mean over the replies."""

    @model_validator(mode="after")
    def _gold_is_not_the_proxy(self) -> "GuardConfig":
        for term in self.gold:
            if isinstance(term, RewardModelTerm) and not term.models:
                raise ValueError(f"gold {term.name!r} names no `models`, so it would be the proxy itself; name others")
        return self
