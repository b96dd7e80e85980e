"""Everything that is compared, as findings with one rate of false alarms for all of them. Pure.

Of `k` measures each is tested at `ALPHA / k` (Bonferroni): a window in which nothing has changed raises an alarm at
most so often, whatever the measures have to do with each other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cai.labels.drift import Values, difference
from cai.monitoring.exchanges import Exchange, requests_of
from cai.monitoring.rules import RULES
from cai.monitoring.shift import Moved, shift
from cai.records import Evaluation, digest

ALPHA = 0.05
N_RESAMPLES = 4_000
FEWEST = 50
"""Prompts on a side below which nothing is compared: with 20, bootstrap intervals so far out are too narrow, and 7 % of
windows in which nothing has changed raise an alarm (`benchmarks/monitor_alarms.py`).
"""
MOST_TAGS = 5

Scores = Mapping[str, Mapping[str, float]]
"""By scorer: exchange id → score. What could not be scored is not in it."""


class Side(NamedTuple):
    """One side of the comparison."""

    exchanges: Sequence[Exchange]
    scores: Scores


class Finding(NamedTuple):
    """One measure. `value` is after less before, with an interval that leaves out 0 in an alarm; of `shift/prompts` it
    is MMD², and an alarm where it is above `high`, what chance reaches.
    """

    metric: str
    before: float
    after: float
    value: float
    low: float
    high: float
    n: int
    is_alarm: bool


class Compared(NamedTuple):
    findings: list[Finding]
    moved: tuple[Moved, ...]
    why_not: str = ""
    """Why nothing could be compared."""

    @property
    def alarms(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_alarm]


def compare(before: Side, after: Side, *, seed: int = 0) -> Compared:
    """The evaluation (`before`) and production (`after`)."""
    prompts = [dict(requests_of(side.exchanges)) for side in (before, after)]
    if min(map(len, prompts)) < FEWEST:
        counts = " and ".join(str(len(side)) for side in prompts)
        return Compared([], (), f"{counts} different prompts are too few; {FEWEST} on each side are needed")
    measures = {**_of_prompts(before, after), **_of_responses(before, after)}
    measures = {name: sides for name, sides in measures.items() if all(_n_prompts(side) >= FEWEST for side in sides)}
    alpha = ALPHA / (len(measures) + 1)
    shifted = shift(list(prompts[0].values()), list(prompts[1].values()), alpha=alpha, seed=seed)
    n = len(prompts[1])
    findings = [Finding("shift/prompts", 0.0, shifted.mmd2, shifted.mmd2, 0.0, shifted.most, n, shifted.p <= alpha)]
    for name, (old, new) in measures.items():
        found = difference("production", name, old, new, seed=seed, level=1 - alpha, n_resamples=N_RESAMPLES)
        interval = found.difference
        findings.append(
            Finding(
                name, found.before, found.after, interval.value, interval.low, interval.high, len(new.values),
                found.is_drift,
            )
        )  # fmt: skip
    return Compared(findings, shifted.moved)


def to_rows(compared: Compared, model: str, model_digest: str, set: str, after: Sequence[Exchange]) -> list[Evaluation]:
    """A row of the table `evaluations` for each finding; its id covers the model, the set and the sample."""
    ids = sorted(exchange.exchange_id for exchange in after)
    return [
        Evaluation(
            digest("evaluation", model_digest, set, f.metric, ids), model, model_digest, set, f.metric,
            f.value, f.low, f.high, f.n,
        )
        for f in compared.findings
    ]  # fmt: skip


def _of_prompts(before: Side, after: Side) -> dict[str, tuple[Values, Values]]:
    """Length, and the shares of the commonest tags where both sides have any; each prompt once."""
    firsts = [list({e.prompt_id: e for e in reversed(side.exchanges)}.values()) for side in (before, after)]
    measures = {"prompt/words": [[float(len(e.request.split())) for e in side] for side in firsts]}
    if all(any(e.tags for e in side) for side in firsts):
        counts = Counter(tag for side in firsts for e in side for tag in set(e.tags))
        for tag, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_TAGS]:
            measures[f"prompt/tag/{tag}"] = [[float(tag in e.tags) for e in side] for side in firsts]
    return {name: _values([firsts[0], firsts[1]], columns) for name, columns in measures.items()}


def _of_responses(before: Side, after: Side) -> dict[str, tuple[Values, Values]]:
    """Rules and scores, those of scorers that both sides have."""
    sides = [before.exchanges, after.exchanges]
    measures = {
        f"response/{name}": [[rule(e.request, e.response) for e in side] for side in sides]
        for name, rule in RULES.items()
    }
    for name in sorted(before.scores.keys() & after.scores.keys()):
        measures[f"score/{name}"] = [
            [side.scores[name].get(e.exchange_id, np.nan) for e in side.exchanges] for side in (before, after)
        ]
    return {name: _values(sides, columns) for name, columns in measures.items()}


def _values(sides: Sequence[Sequence[Exchange]], columns: Sequence[Sequence[float]]) -> tuple[Values, Values]:
    made = [
        Values(np.array(column, dtype=np.float64), np.array([e.prompt_id for e in side], dtype=np.str_))
        for side, column in zip(sides, columns, strict=True)
    ]
    return made[0], made[1]


def _n_prompts(side: Values) -> int:
    return int(np.unique(side.prompts[~np.isnan(side.values)]).size)
