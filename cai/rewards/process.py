"""A process reward: the check runs on each step of a response, and the steps' values become one."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from cai.config import ProcessTerm
from cai.rewards.base import RewardInput
from cai.rewards.verify import Worker
from cai.verdict import Unscored

COMBINE: Mapping[Literal["mean", "min", "product"], Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "min": min,
    "product": math.prod,
}


class Process:
    """A response without steps is unscored, and so is one with a step that the check says nothing about."""

    def __init__(self, term: ProcessTerm) -> None:
        """Raises ConfigError: see `Worker`."""
        self._separator = term.separator
        self._combine = COMBINE[term.combine]
        self._worker = Worker(term.name, term.check, term.timeout_s)

    def score(self, inputs: Sequence[RewardInput]) -> list[float | Unscored]:
        return [self._score(each) for each in inputs]

    def close(self) -> None:
        self._worker.close()

    def _score(self, each: RewardInput) -> float | Unscored:
        values = []
        for number, step in enumerate(steps_of(each.response, self._separator), start=1):
            value = self._worker.ask(each.prompt, step, each.expected)
            if isinstance(value, Unscored):
                return Unscored(value.reason, f"step {number}: {value.detail}")
            values.append(value)
        return self._combine(values) if values else Unscored("no_steps", f"nothing beside {self._separator!r}")


def steps_of(response: str, separator: str) -> list[str]:
    """The parts of a response between separators, without the blank ones and without white space around them."""
    return [step for part in response.split(separator) if (step := part.strip())]
