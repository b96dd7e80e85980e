"""A response in, its reward out: the weighted sum of named terms, each kept apart. What one term could not score has
no reward at all, and a reason; it is never 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cai.records import Message
from cai.verdict import Unscored


@dataclass(frozen=True, slots=True)
class RewardInput:
    """One response to be scored. `expected` is what the prompt's row says the answer is, for verifiers."""

    prompt_id: str
    prompt: tuple[Message, ...]
    response: str
    n_tokens: int
    is_cut_off: bool
    expected: str | None = None

    @property
    def conversation(self) -> tuple[Message, ...]:
        return (*self.prompt, Message("assistant", self.response))


class RewardSource(Protocol):
    """One term's scorer. Answers in the order asked, one value for each input; a number that is not finite becomes
    unscored.
    """

    def score(self, inputs: Sequence[RewardInput]) -> Sequence[float | Unscored]: ...

    def close(self) -> None:
        """End what it started (processes, an engine). Safe to call twice."""


class Term(NamedTuple):
    name: str
    weight: float
    source: RewardSource


class Rewarded(NamedTuple):
    """What one response earned. `total` is None where a term could not score it; `parts` are before weighting."""

    total: float | None
    parts: Mapping[str, float | None]
    reason: str = ""


class Rewards:
    """All terms of a run."""

    def __init__(self, terms: Sequence[Term]) -> None:
        assert terms and len({term.name for term in terms}) == len(terms), "the config has checked the names"
        self.terms = tuple(terms)

    def score(self, inputs: Sequence[RewardInput]) -> list[Rewarded]:
        """One `Rewarded` for each input: total = Σ weight · part."""
        columns = [_checked(term, inputs) for term in self.terms]
        return [self._add(row) for row in zip(*columns, strict=True)] if inputs else []

    def close(self) -> None:
        for term in self.terms:
            term.source.close()

    def _add(self, row: Sequence[float | Unscored]) -> Rewarded:
        parts = {
            term.name: None if isinstance(value, Unscored) else value
            for term, value in zip(self.terms, row, strict=True)
        }
        failed = [
            f"{term.name}: {_told(value)}"
            for term, value in zip(self.terms, row, strict=True)
            if isinstance(value, Unscored)
        ]
        if failed:
            return Rewarded(None, parts, "; ".join(failed))
        total = math.fsum(term.weight * value for term, value in zip(self.terms, row, strict=True))  # type: ignore[operator]
        return Rewarded(total, parts)


def _checked(term: Term, inputs: Sequence[RewardInput]) -> list[float | Unscored]:
    values = term.source.score(inputs)
    assert len(values) == len(inputs), f"the reward {term.name!r} answered {len(values)} of {len(inputs)} inputs"
    return [
        value if isinstance(value, Unscored) or math.isfinite(value) else Unscored("not_finite") for value in values
    ]


def _told(value: Unscored) -> str:
    return f"{value.reason} ({value.detail[:200]})" if value.detail else value.reason
