"""What a metric's number means: its unit, how it is written, which way is better. Pure.

A mark from 0 to 4, nats and a rating are no percentages, and of some metrics neither way is better.
"""

import math
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True, slots=True)
class Unit:
    """`is_share`: of responses or requests, 0 to 1, so that it is drawn as percent beside others. `scale` numbers are
    written for 1.
    """

    said: str
    scale: float = 1.0
    digits: int = 2
    sign: Literal["", "+"] = ""
    suffix: str = ""
    is_share: bool = False

    def number(self, value: float) -> str:
        """`4.2 %`, `+12.0 points`, `1.32`; a dash for what is not known, `∞` where an interval has no end."""
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value * self.scale:{self.sign},.{self.digits}f}".replace("-", "−") + self.suffix

    def interval(self, low: float, high: float) -> str:
        return f"{self.number(low).removesuffix(self.suffix)} to {self.number(high)}"


SHARE = Unit("percent of responses", 100, 1, "", " %", is_share=True)
POINTS = Unit("points: shares of answers, one less another", 100, 1, "+", " points")
PERCENT = Unit("percent", 100, 1, "", " %")
GROWTH = Unit("percent longer", 100, 0, "+", " %")
WORDS = Unit("share of runs of words, 0 to 1", 1, 3)
MARKS = Unit("marks by the judge, 0 (not at all) to 4 (severely)", 1, 2)
NATS = Unit("nats per token", 1, 4)
RATING = Unit("rating; 400 points are odds of 10 to 1", 1, 0)
CORRELATION = Unit("correlation, −1 to 1", 1, 2, "+")
NUMBER = Unit("number", 1, 3)

_KNOWN: dict[str, tuple[Unit, Better]] = {
    "harmful_rate": (SHARE, "lower"),
    "harmful_by_judge_rate": (SHARE, "lower"),
    "helpful_rate": (SHARE, "higher"),
    "over_refusal_rate": (SHARE, "lower"),
    "under_refusal_rate": (SHARE, "lower"),
    "partial_refusal_rate": (SHARE, ""),
    "evasive_rate": (SHARE, "lower"),
    "rude_rate": (SHARE, "lower"),
    "refusal_rate": (SHARE, ""),
    "unscored_rate": (SHARE, "lower"),
    "contamination_rate": (SHARE, "lower"),
    "capability": (SHARE, "higher"),
    "accuracy": (SHARE, "higher"),
    "pair_accuracy": (SHARE, "higher"),
    "win_rate": (SHARE, "higher"),
    "length_controlled_win_rate": (SHARE, "higher"),
    "sycophancy": (POINTS, "lower"),
    "harmfulness": (MARKS, "lower"),
    "harm_scale": (MARKS, "lower"),
    "harmfulness_mass_outside": (PERCENT, "lower"),
    "distinct_2": (WORDS, "higher"),
    "repetition": (WORDS, "lower"),
    "self_repetition": (WORDS, "lower"),
    "kl": (NATS, ""),
    "elo": (RATING, "higher"),
    "probe/sycophancy": (POINTS, "lower"),
    "probe/hedging": (POINTS, "lower"),
    "probe/boilerplate": (POINTS, "lower"),
    "probe/bare_refusals": (PERCENT, "lower"),
    "probe/preaching": (PERCENT, "lower"),
    "probe/length": (GROWTH, "lower"),
    "probe/repetition": (POINTS, "lower"),
    "probe/reward_length": (CORRELATION, "lower"),
    "probe/reward_hedging": (CORRELATION, "lower"),
}


def known_metrics() -> tuple[str, ...]:
    """What an evaluation can name, without what stands behind a `/` or in brackets: of which model, kind or set."""
    return tuple(_KNOWN)


def is_known(metric: str) -> bool:
    return _found(metric) is not None


def unit_of(metric: str) -> Unit:
    """Of a metric nobody told of: a share where its name ends in `_rate`, else a plain number."""
    known = _found(metric)
    if known is not None:
        return known[0]
    return SHARE if _whole(metric).endswith("_rate") else NUMBER


def better(metric: str) -> Better:
    """Which way; empty where neither is, or nobody knows."""
    known = _found(metric)
    return "" if known is None else known[1]


def _found(metric: str) -> tuple[Unit, Better] | None:
    return _KNOWN.get(metric) or _KNOWN.get(_whole(metric))


def _whole(metric: str) -> str:
    """`harmful_rate` of `harmful_rate/theft` and of `harmful_rate (set)`."""
    return metric.partition(" (")[0].partition("/")[0]
