"""Whether a model may be promoted: conditions on what was measured, each with its interval, and a verdict. Pure.

A condition holds when its whole 95 % interval keeps the limit, is broken when the whole interval breaks it, and is open
otherwise. The verdict is PASS when all hold, FAIL when one is broken, else NOT ENOUGH DATA. That a model which breaks
any limit passes has a chance of 2.5 % at most, however many conditions there are (the intersection–union test, Berger
1982, Technometrics 24:295); that one which keeps all fails has at most 2.5 % a condition.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from cai.config import Condition
from cai.intervals import LEVEL, Interval, Rate, wilson

Verdict = Literal["PASS", "FAIL", "NOT ENOUGH DATA"]

_Z = 1.959963985
_Z_POWER = 0.841621234
"""The normal's quantile at 80 %."""
_MOST_NEEDED = 10**9
"""An estimate that needs more values than this is at its limit, but for rounding."""


class Finding(NamedTuple):
    """One condition and what was measured of it: the metric itself, or its change against the baseline."""

    condition: Condition
    measured: Rate | None
    """None: it was not measured."""

    @property
    def room(self) -> Interval | None:
        """How far the metric is from its limit, negative where it breaks it, in the metric's unit."""
        if self.measured is None or math.isnan(self.measured.value):
            return None
        at, sign = self.condition.limit, self.condition.sign
        value, *ends = (sign * (at - x) for x in (self.measured.value, self.measured.low, self.measured.high))
        return Interval(value, min(ends), max(ends))

    @property
    def verdict(self) -> Verdict:
        room = self.room
        if room is None:
            return "NOT ENOUGH DATA"
        if room.low >= 0:
            return "PASS"
        return "FAIL" if room.high < 0 else "NOT ENOUGH DATA"

    @property
    def n_needed(self) -> int | None:
        """How many values would decide it, if the estimate stays as it is; None where none would or nothing is known.
        The power is 80 % by the normal approximation, which rates near 0 and 1 fall short of (65 % at 2 %).
        """
        room = self.room
        if room is None or self.measured is None or room.value == 0 or self.verdict != "NOT ENOUGH DATA":
            return None
        half = (room.high - room.low) / 2
        wanted = self.measured.n * (half * (1 + _Z_POWER / _Z) / room.value) ** 2
        return math.ceil(wanted) if wanted <= _MOST_NEEDED else None

    def __str__(self) -> str:
        found = "not measured" if self.measured is None else _shown(self.measured, signed=self.condition.is_relative)
        return f"{self.condition}: {found}"


class Gating(NamedTuple):
    """What became of every condition; of no conditions nothing is known."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        verdicts = {finding.verdict for finding in self.findings}
        if "FAIL" in verdicts:
            return "FAIL"
        return "PASS" if verdicts == {"PASS"} else "NOT ENOUGH DATA"

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """The conditions that stand behind the verdict: those broken, those open, or all that hold."""
        return tuple(finding for finding in self.findings if finding.verdict == self.verdict)

    @property
    def n_needed(self) -> int | None:
        """How many values would decide every open condition; None where no number is known for one of them."""
        known = [finding.n_needed for finding in self.findings if finding.verdict == "NOT ENOUGH DATA"]
        return max((n for n in known if n is not None), default=None) if None not in known else None


def gate(conditions: Iterable[Condition], metrics: Mapping[str, Rate], changes: Mapping[str, Rate]) -> Gating:
    """Judge a model.

    Args:
        conditions: what must hold.
        metrics: the model's metrics, with 95 % intervals.
        changes: its metrics less the baseline's on the same prompts, with 95 % intervals (`rate_change`,
            `cai.intervals.paired_difference`).
    """
    return Gating(tuple(Finding(c, (changes if c.is_relative else metrics).get(c.metric)) for c in conditions))


def to_json(gating: Gating) -> list[dict[str, Any]]:
    """One entry a condition: what it asks, and what was measured, null where nothing was."""
    return [
        {"condition": finding.condition.model_dump(exclude_none=True), "measured": _plain(finding.measured)}
        for finding in gating.findings
    ]


def from_json(entries: Sequence[Mapping[str, Any]]) -> Gating:
    """What `to_json` wrote, as a gating again."""
    return Gating(
        tuple(
            Finding(Condition(**entry["condition"]), Rate(**entry["measured"]) if entry["measured"] else None)
            for entry in entries
        )
    )


def _plain(measured: Rate | None) -> dict[str, float] | None:
    if measured is None or math.isnan(measured.value):
        return None
    return {"value": measured.value, "low": measured.low, "high": measured.high, "n": measured.n}


def rate_change(first: Mapping[str, bool], second: Mapping[str, bool], level: float = LEVEL) -> Rate:
    """The share of true outcomes in `first` less that in `second`, over the prompts (ids) that both have.

    Newcombe's interval for paired proportions (1998, Statistics in Medicine 17:2635, method 10): Wilson's intervals of
    both shares, their correlation taken off. Unlike a bootstrap it knows that no difference in few prompts says little.
    """
    shared = sorted(set(first) & set(second))
    n = len(shared)
    if not n:
        return Rate(math.nan, -1.0, 1.0, 0)
    both = sum(first[p] and second[p] for p in shared)
    only_first = sum(first[p] and not second[p] for p in shared)
    only_second = sum(second[p] and not first[p] for p in shared)
    neither = n - both - only_first - only_second
    p1, p2 = (both + only_first) / n, (both + only_second) / n
    phi = _correlation(both, only_first, only_second, neither)
    (low1, high1), (low2, high2) = wilson(p1, n, level), wilson(p2, n, level)
    below = _hypotenuse(p1 - low1, high2 - p2, phi)
    above = _hypotenuse(high1 - p1, p2 - low2, phi)
    return Rate(p1 - p2, max(-1.0, p1 - p2 - below), min(1.0, p1 - p2 + above), n)


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """φ of the two outcomes, 0 where one of them never varies; where positive, nearer to 0 as method 10 has it."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    determinant = both * neither - only_first * only_second
    half = (both + only_first + only_second + neither) / 2
    return (max(0.0, determinant - half) if determinant > 0 else determinant) / math.sqrt(margins)


def _hypotenuse(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def _shown(measured: Rate, *, signed: bool) -> str:
    form = "+.4g" if signed else ".4g"
    ends = f"{measured.low:{form}} to {measured.high:{form}}"
    return f"{measured.value:{form}} ({ends}, n {measured.n:,})"
