"""Intervals for rates, means and paired differences, with the prompt as the unit that varies. Pure; numpy only.

Several responses to one prompt are not independent: every function takes the cluster (the prompt id) of each value.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
N_RESAMPLES = 2_000
_CHUNK = 2_000_000  # random indices drawn at once: 16 MB


@dataclass(frozen=True, slots=True)
class Rate:
    """An estimate with its 95 % interval over `n` values. With `n` 0 the value is NaN: unknown, and not 0."""

    value: float
    low: float
    high: float
    n: int


class WinRate(NamedTuple):
    """How often one model is preferred to another, ties as one half. The unscored are left out, and counted."""

    rate: Rate
    n_ties: int
    n_unscored: int
    n_unmatched: int = 0


WinRates = Mapping[tuple[str, str], WinRate]
"""(model, other) → how often `model` is preferred to `other`."""


def wilson(rate: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a binomial proportion (Wilson 1927, eq. 4). `n` may be an effective, fractional count.

    With nothing observed (`n` 0) it is (0, 1): everything is possible.
    """
    if n <= 0:
        return 0.0, 1.0
    z = _z(level)
    middle = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and 1 the ends are exact in theory; rounding must not leave 1e-17 there.
    low = 0.0 if rate == 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if rate == 1 else min(1.0, (middle + half) / scale)
    return low, high


def rate(outcomes: Sequence[bool], clusters: Sequence[Hashable], level: float = LEVEL) -> Rate:
    """Share of true outcomes with Wilson's interval, over the effective number of independent outcomes.

    One outcome a cluster: Wilson's interval as it is. More: `n` is divided by the design effect (Kish 1965), the
    cluster-robust variance over the binomial one; where all outcomes agree it cannot be seen, and each cluster
    counts once. `Rate.n` is always the number of outcomes.
    """
    n = len(outcomes)
    if n == 0:
        return Rate(math.nan, 0.0, 1.0, 0)
    totals = _totals([float(outcome) for outcome in outcomes], clusters)
    share = sum(outcomes) / n
    low, high = wilson(share, _effective_n(share, totals), level)
    return Rate(share, low, high, n)


def bootstrap_mean(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
) -> Rate:
    """Mean of `values`, with a bootstrap interval that resamples whole clusters.

    Percentiles are widened for few clusters (Hesterberg 2015, section 5.3): plain ones are too narrow by
    sqrt((G-1)/G) and by the normal's tails against Student's. One cluster says nothing about spread: the interval is
    infinite then.
    """
    if not values:
        return Rate(math.nan, -math.inf, math.inf, 0)
    totals = _totals(values, clusters)
    mean = float(totals[:, 0].sum() / totals[:, 1].sum())
    n_clusters = len(totals)
    if n_clusters == 1:
        return Rate(mean, -math.inf, math.inf, len(values))
    means = _resampled_means(totals, seed, n_resamples)
    z = math.sqrt(n_clusters / (n_clusters - 1)) * _student(_z(level), n_clusters - 1)
    tail = NormalDist().cdf(-z)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Rate(mean, float(low), float(high), len(values))


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
) -> Rate:
    """Mean of `first - second`, measured on the same prompts, item by item: what both share cancels."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return bootstrap_mean(differences, clusters, seed=seed, n_resamples=n_resamples, level=level)


def _totals(values: Sequence[float], clusters: Sequence[Hashable]) -> NDArray[np.float64]:
    """Sum and count of each cluster, `(n_clusters, 2)`, in order of first appearance."""
    totals: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        entry = totals.setdefault(cluster, [0.0, 0.0])
        entry[0] += value
        entry[1] += 1.0
    return np.array(list(totals.values()), dtype=np.float64)


def _effective_n(share: float, totals: NDArray[np.float64]) -> float:
    sums, counts = totals[:, 0], totals[:, 1]
    n, n_clusters = float(counts.sum()), len(totals)
    if n_clusters == n:
        return n
    if share in (0.0, 1.0) or n_clusters == 1:
        return float(n_clusters)
    robust = n_clusters / (n_clusters - 1) * float(((sums - counts * share) ** 2).sum()) / n**2
    design_effect = robust / (share * (1 - share) / n)
    return n / max(design_effect, 1.0)


def _resampled_means(totals: NDArray[np.float64], seed: int, n_resamples: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    n_clusters = len(totals)
    rows = max(1, _CHUNK // n_clusters)
    means = []
    for start in range(0, n_resamples, rows):
        drawn = rng.integers(0, n_clusters, size=(min(rows, n_resamples - start), n_clusters))
        sums = totals[:, 0][drawn].sum(axis=1)
        means.append(sums / totals[:, 1][drawn].sum(axis=1))
    return np.concatenate(means)


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _student(z: float, degrees: int) -> float:
    """Student's quantile from the normal's, to order 1/degrees³ (Abramowitz and Stegun 26.7.5)."""
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3
