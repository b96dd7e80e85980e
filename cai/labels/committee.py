"""Several judges that vote on the same pairs, and what each one's vote weighs. Pure: comparisons and gold come in.

A judge that is right with probability p weighs ln(p / (1 - p)), which decides best between judges that err
independently (Nitzan and Paroush 1982, "Optimal decision rules in uncertain dichotomous choice situations"). It is
estimated from r of n gold pairs as ln((r + 1/2) / (n - r + 1/2)) (Anscombe 1956), so that it stays finite.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cai.errors import DataError
from cai.feedback import Ask, Labelling, ResponsePair
from cai.records import Annotation, PreferencePair, digest


class GoldCount(NamedTuple):
    """How often a judge was right on gold pairs. Its ties are half right; `n_unscored` pairs are not in `n`."""

    n_right: float
    n: int
    n_unscored: int


class Committee:
    """The labelling of each judge, and its weight; weights are taken to sum to 1.

    Raises:
        DataError: two judges are one model, so that one vote would count twice; or a weight is missing.
    """

    def __init__(self, labellings: Sequence[Labelling], weights: Sequence[float]) -> None:
        digests = [labelling.judge_digest for labelling in labellings]
        if len(set(digests)) < len(digests):
            raise DataError(f"two of the {len(digests)} judges are the same model ({digests}); give each its own")
        if len(weights) != len(labellings) or min(weights) <= 0:
            raise DataError(f"expected one weight above 0 for each of {len(labellings)} judges, got {list(weights)}")
        total = math.fsum(weights)
        self.labellings = tuple(labellings)
        self.weights = tuple(weight / total for weight in weights)

    @staticmethod
    def of(labelling: Labelling) -> "Committee":
        return Committee([labelling], [1.0])

    def asks(self, pair: ResponsePair) -> list[Ask]:
        """Those of all judges."""
        return [ask for labelling in self.labellings for ask in labelling.asks(pair)]

    @property
    def judge_digest(self) -> str:
        """The judge's own, or one of all judges together with what they weigh."""
        if len(self.labellings) == 1:
            return self.labellings[0].judge_digest
        members = zip(self.labellings, self.weights, strict=True)
        return digest("committee", sorted([labelling.judge_digest, weight] for labelling, weight in members))


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """`fsum`: the mean must not depend on the order in which judges or principles come."""
    return math.fsum(w * v for v, w in zip(values, weights, strict=True)) / math.fsum(weights)


def disagreement(values: Sequence[float], weights: Sequence[float]) -> float:
    """Weighted standard deviation, over the judges that are there; one alone never disagrees."""
    if len(values) == 1:
        return 0.0
    mean = weighted_mean(values, weights)
    return math.sqrt(weighted_mean([(value - mean) ** 2 for value in values], weights))


def gold_sides(annotations: Iterable[Annotation]) -> dict[tuple[str, str], float]:
    """Of each pair with gold that takes a side: the mean P(a better) that its gold annotations say."""
    said: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in annotations:
        if row.is_gold:
            said[row.response_a, row.response_b].append(row.p_a)
    means = {pair: math.fsum(values) / len(values) for pair, values in said.items()}
    return {pair: mean for pair, mean in means.items() if mean != 0.5}


def count_right(labels: Iterable[PreferencePair], gold: dict[tuple[str, str], float]) -> GoldCount:
    """One judge's labels of gold pairs against their gold; other labels are left out."""
    n_right, n = 0.0, 0
    for label in labels:
        a, b = sorted((label.chosen_id, label.rejected_id))
        if (a, b) in gold:
            n += 1
            n_right += 0.5 if label.is_tie else float((label.chosen_id == a) == (gold[a, b] > 0.5))
    return GoldCount(n_right, n, len(gold) - n)


def gold_weight(count: GoldCount, judge_digest: str) -> float:
    """The log-odds of a judge's accuracy.

    Raises:
        DataError: the judge is no better than a coin on gold, so it has no weight above 0.
    """
    weight = math.log((count.n_right + 0.5) / (count.n - count.n_right + 0.5))
    if weight <= 0:
        raise DataError(
            f"judge {judge_digest} is right on {count.n_right:g} of {count.n} gold pairs ({count.n_unscored} more "
            "unscored), no better than a coin; drop it from `feedback.judges`, or state `feedback.weights`"
        )
    return weight
