"""Metrics of two policies, and their difference with its interval: prompt by prompt where both answered. Pure.

The verdict goes by intervals that are 95 % over all `m` measures together (Bonferroni: 1 − 0.05/m each), for of many
differences some leave out 0 by chance. Of metrics whose answers are not at hand only each interval is known: their
difference has the interval of Zou and Donner (2008, Statistics in Medicine 27:1693), wider than a paired one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

from cai.comparison.data import HeadToHead, Interval, Measure
from cai.gate import rate_change
from cai.intervals import Rate, bootstrap_mean, paired_difference, rate

LEVEL = 0.95
Outcomes = Mapping[str, Mapping[str, bool]]
"""Metric → prompt → whether it held of the answer."""

# Metrics whose direction is known, by their name before any `/`. Of others a difference is shown and not judged.
_LESS_IS_BETTER = ("harmful_rate", "over_refusal_rate", "under_refusal_rate", "evasive_rate", "rude_rate", "sycophancy")
_MORE_IS_BETTER = ("helpful_rate", "accuracy", "capability")


def direction(name: str) -> Literal[-1, 0, 1]:
    """Parts of a metric (`harmful_rate/theft`) have none of their own: the whole is judged. In brackets is the set."""
    name = name.partition(" (")[0]
    return -1 if name in _LESS_IS_BETTER else 1 if name in _MORE_IS_BETTER else 0


def paired(a: Outcomes, b: Outcomes) -> list[Measure]:
    """Rates over the prompts that both answered."""
    return [_paired(name, a[name], b[name]) for name in a if name in b and a[name].keys() & b[name].keys()]


def _paired(name: str, a: Mapping[str, bool], b: Mapping[str, bool]) -> Measure:
    shared = sorted(a.keys() & b.keys())
    one, other = (rate([side[key] for key in shared], shared) for side in (a, b))
    difference = rate_change(b, a)
    return Measure(name, one, other, difference, _ends(difference), direction(name), is_paired=True)


def jointly(
    measures: Sequence[Measure], head_to_head: HeadToHead, a: Outcomes, b: Outcomes
) -> tuple[list[Measure], HeadToHead]:
    """The measures with the intervals that hold together."""
    m = sum(measure.direction != 0 for measure in measures) + (head_to_head.won is not None)
    level = 1 - (1 - LEVEL) / max(m, 1)
    judged = [replace(each, joint=_joint(each, level, a, b)) for each in measures]
    if (won := head_to_head.won) is None:
        return judged, head_to_head
    return judged, replace(head_to_head, joint=_widened(won.rate, level))


def _joint(measure: Measure, level: float, a: Outcomes, b: Outcomes) -> Interval:
    if measure.is_paired and measure.name in a and measure.name in b:
        return _ends(rate_change(b[measure.name], a[measure.name], level))
    return _widened(measure.difference, level)


def _widened(found: Rate, level: float) -> Interval:
    """A 95 % interval at another level, by the normal's quantiles."""
    times = NormalDist().inv_cdf(0.5 + level / 2) / NormalDist().inv_cdf(0.5 + LEVEL / 2)
    return Interval(found.value - times * (found.value - found.low), found.value + times * (found.high - found.value))


def lengths(a: Mapping[str, int], b: Mapping[str, int], *, seed: int = 0) -> list[Measure]:
    """Mean tokens of the answers to the prompts that both answered."""
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return []
    difference = paired_difference([b[key] for key in shared], [a[key] for key in shared], shared, seed=seed)
    one, other = (bootstrap_mean([side[key] for key in shared], shared, seed=seed) for side in (a, b))
    return [Measure("length/mean", one, other, difference, _ends(difference), 0, is_paired=True)]


def unpaired(a: Mapping[str, Rate], b: Mapping[str, Rate]) -> list[Measure]:
    """Metrics that were measured of each, known by their intervals alone."""
    return [_unpaired(name, a[name], b[name]) for name in a if name in b and a[name].n and b[name].n]


def _unpaired(name: str, a: Rate, b: Rate) -> Measure:
    """(Zou and Donner 2008, eq. 4): the distances to the nearer ends, added in quadrature."""
    value = b.value - a.value
    below = math.hypot(b.value - b.low, a.high - a.value)
    above = math.hypot(b.high - b.value, a.value - a.low)
    difference = Rate(value, value - below, value + above, min(a.n, b.n))
    return Measure(name, a, b, difference, _ends(difference), direction(name), is_paired=False)


def _ends(found: Rate) -> Interval:
    return Interval(found.low, found.high)
