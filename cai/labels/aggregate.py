"""What several people say of a pair, as one probability by a stated rule. The table keeps them apart; this only reads.

`majority`: whoever has more votes; equal votes are a tie. `dawid_skene`: votes weighted by what each annotator turns
out to be worth (Dawid & Skene 1979). `groups`: the mean within each group, then over groups by stated weights, so
that a large group does not outvote a small one, and what the groups disagree about stays visible.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cai.errors import ConfigError, DataError
from cai.records import Annotation

RuleName = Literal["majority", "dawid_skene", "groups"]
PairKey = tuple[str, str]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TOLERANCE = 1e-8
MAX_ITERATIONS = 10_000


class Aggregate(NamedTuple):
    """`p_a` is P(response a is better). `agreement` is the share of annotators who are on the side it comes out on.

    `by_group` is the mean within each group, and `disagreement` the standard deviation of these means, by weight where
    groups are weighted: 0 for one group, at most 0.5.
    """

    p_a: float
    n_annotators: int
    agreement: float
    by_group: Mapping[str, float]
    disagreement: float


def aggregate(
    annotations: Sequence[Annotation], rule: RuleName = "majority", group_weights: Mapping[str, float] | None = None
) -> dict[PairKey, Aggregate]:
    """One probability for each pair, in the order of the pairs' ids, whatever the order of the annotations.

    Args:
        annotations: of one objective. Each counts once, so one annotator has one vote on a pair and source.
        rule: how several become one.
        group_weights: `groups` only: of every group that occurs. Of a pair, only the groups that spoke count.

    Raises:
        ConfigError: `groups` without weights, or a group without one.
    """
    of_pair: dict[PairKey, list[Annotation]] = defaultdict(list)
    for row in sorted(annotations, key=lambda row: (row.response_a, row.response_b, row.annotation_id)):
        of_pair[row.response_a, row.response_b].append(row)
    weights: Mapping[str, float] | None = None
    if rule == "dawid_skene":
        p_a = _by_dawid_skene(of_pair)
    elif rule == "groups":
        weights = _checked_weights(annotations, group_weights or {})
        p_a = {pair: _weighted(_by_group(rows), weights) for pair, rows in of_pair.items()}
    else:
        p_a = {pair: _majority([row.p_a for row in rows]) for pair, rows in of_pair.items()}
    return {pair: _summed_up(p_a[pair], rows, weights) for pair, rows in of_pair.items()}


def _summed_up(p_a: float, rows: Sequence[Annotation], weights: Mapping[str, float] | None) -> Aggregate:
    groups = _by_group(rows)
    weights = weights or dict.fromkeys(groups, 1.0)
    mean = _weighted(groups, weights)
    spread = math.sqrt(_weighted({group: (p - mean) ** 2 for group, p in groups.items()}, weights))
    agreement = sum(_side(row.p_a) == _side(p_a) for row in rows) / len(rows)
    return Aggregate(p_a, len(rows), agreement, groups, spread)


def _side(p_a: float) -> int:
    """1 for a, -1 for b, 0 for a tie."""
    return (p_a > 0.5) - (p_a < 0.5)


def _majority(votes: Sequence[float]) -> float:
    return 0.5 + 0.5 * _side(0.5 + sum(map(_side, votes)))


def _by_group(rows: Sequence[Annotation]) -> dict[str, float]:
    votes: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        votes[row.group].append(row.p_a)
    return {group: sum(votes[group]) / len(votes[group]) for group in sorted(votes)}


def _weighted(groups: Mapping[str, float], weights: Mapping[str, float]) -> float:
    total = sum(weights[group] for group in groups)
    return sum(weights[group] * value for group, value in groups.items()) / total


def _checked_weights(annotations: Sequence[Annotation], weights: Mapping[str, float]) -> Mapping[str, float]:
    if missing := sorted({row.group for row in annotations} - set(weights)):
        raise ConfigError(f"group {missing[0]!r} has no weight in {dict(weights)}; state one for each of {missing}")
    if wrong := sorted(group for group, weight in weights.items() if not 0 < weight < float("inf")):
        raise ConfigError(f"the weight of group {wrong[0]!r} is {weights[wrong[0]]}; expected one above 0")
    return weights


# Dawid & Skene 1979


class DawidSkene(NamedTuple):
    """`posterior` is (item, class), `confusion` (annotator, true class, said class), `prior` (class,)."""

    posterior: Floats
    confusion: Floats
    prior: Floats
    n_iterations: int


def dawid_skene(items: Ints, annotators: Ints, said: Ints, n_classes: int) -> DawidSkene:
    """Maximum likelihood by EM, begun at the shares of the votes; the same votes, the same numbers.

    Args:
        items: (votes,) which item each vote is about, 0 … without a gap.
        annotators: (votes,) whose it is, likewise.
        said: (votes,) the class it names.
        n_classes: how many there are.

    Raises:
        DataError: it does not settle.
    """
    n_items, n_annotators = int(items.max()) + 1, int(annotators.max()) + 1
    posterior = np.zeros((n_items, n_classes))
    np.add.at(posterior, (items, said), 1.0)
    posterior /= posterior.sum(axis=1, keepdims=True)
    for iteration in range(1, MAX_ITERATIONS + 1):
        confusion = _confusion(items, annotators, said, posterior, n_annotators)
        prior = posterior.mean(axis=0)  # eq. 2.4
        before, posterior = posterior, _posterior(items, annotators, said, confusion, prior)
        if np.abs(posterior - before).max() < TOLERANCE:
            return DawidSkene(posterior, confusion, prior, iteration)
    raise DataError(f"Dawid-Skene did not settle in {MAX_ITERATIONS} iterations; take the rule `majority`")


def _confusion(items: Ints, annotators: Ints, said: Ints, posterior: Floats, n_annotators: int) -> Floats:
    """P(says l | true class k) of each annotator: eq. 2.3."""
    n_classes = posterior.shape[1]
    cells, n_cells = annotators * n_classes + said, n_annotators * n_classes
    columns = [np.bincount(cells, posterior[items, k], n_cells).reshape(-1, n_classes) for k in range(n_classes)]
    counts = np.stack(columns, axis=1)
    totals = counts.sum(axis=2, keepdims=True)
    # Nothing this annotator saw can be of class k: any row is as likely, and none is ever used.
    confusion: Floats = np.divide(counts, totals, out=np.full_like(counts, 1.0 / n_classes), where=totals > 0)
    return confusion


def _posterior(items: Ints, annotators: Ints, said: Ints, confusion: Floats, prior: Floats) -> Floats:
    """P(true class | votes) of each item: eq. 2.5, in logarithms. A class that one vote rules out has 0."""
    with np.errstate(divide="ignore"):
        log_prior, log_confusion = np.log(prior), np.log(confusion)
    votes = log_confusion[annotators, :, said]
    log_p = np.stack([np.bincount(items, votes[:, k]) for k in range(len(prior))], axis=1) + log_prior
    p: Floats = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def _by_dawid_skene(of_pair: Mapping[PairKey, Sequence[Annotation]]) -> dict[PairKey, float]:
    """Two classes, or three where somebody said tie. A tie counts half for a. The unnamed of a source are one."""
    if not of_pair:
        return {}
    votes = [(place, row) for place, rows in enumerate(of_pair.values()) for row in rows]
    names = sorted({_voter(row) for _, row in votes})
    number = {name: place for place, name in enumerate(names)}
    sides = np.array([_side(row.p_a) for _, row in votes])
    n_classes = 3 if (sides == 0).any() else 2
    said = np.select([sides == 1, sides == -1], [0, 1], 2)
    items = np.array([place for place, _ in votes])
    fitted = dawid_skene(items, np.array([number[_voter(row)] for _, row in votes]), said, n_classes)
    p_a = fitted.posterior[:, 0] + (0.5 * fitted.posterior[:, 2] if n_classes == 3 else 0.0)
    return {pair: float(p) for pair, p in zip(of_pair, p_a, strict=True)}


def _voter(row: Annotation) -> tuple[str, str]:
    """Ids such as "1" mean somebody else in each source, and their hashes are equal."""
    return row.source, row.annotator
