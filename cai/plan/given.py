"""What a plan starts from: the prompts, and what is known of the models."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cai.plan.sources import Replies
from cai.plan.stages import JUDGE
from cai.plan.tokens import Counting
from cai.records import Prompt


class Sampled(NamedTuple):
    """Some of `n` prompts."""

    rows: Sequence[Prompt]
    n: int

    @property
    def scale(self) -> float:
        return self.n / len(self.rows) if self.rows else 0.0


class Work(NamedTuple):
    """The prompts of a profile. Of the helpful ones only those that have no answer of their own."""

    prompts: Sampled
    helpful: Sampled
    held_out: Sampled


class Known(NamedTuple):
    """What is known of the model: replies, tokens a second by stage, bytes a row by table; each with its source."""

    replies: Replies
    replies_from: str
    speeds: Mapping[str, float]
    speeds_from: str
    bytes_a_row: Mapping[str, float]
    bytes_from: str
    model_bytes: int


class Counters(NamedTuple):
    seed: Counting
    judges: tuple[Counting, ...]

    def of(self, model: str) -> Counting:
        """By the name that a stage calls the model by: a judge's, or one that has the seed model's tokenizer."""
        if not model.startswith(JUDGE):
            return self.seed
        return self.judges[int(model.removeprefix(JUDGE).removeprefix("-") or 0)]
