"""Intervals for rates, means and paired differences, with the prompt as the unit that varies. Pure; numpy only.

Several responses to one prompt are not independent: every function takes the cluster (the prompt id) of each value.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
N_RESAMPLES = 2_000
MOST_CLUSTERS = 1_000
"""More clusters than this are dealt at random into so many groups, and groups are resampled: as wide, and quick."""
_CHUNK = 2_000_000  # numbers held at once: 16 MB
_SAME = 1e-9  # means of clusters that differ by a smaller share of the whole mean differ by rounding: 0.1 + 0.1 + 0.1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """An estimate with its 95 % interval over `n` values. With `n` 0 the value is NaN: unknown, and not 0."""

    value: float
    low: float
    high: float
    n: int


class WinRate(NamedTuple):
    """How often one model is preferred to another, ties as one half. The unscored are left out, and counted.

    `length_controlled` is what it would be if responses were as long; see `cai/metrics/length_controlled.py`.
    """

    rate: Rate
    n_ties: int
    n_unscored: int
    n_unmatched: int = 0
    length_controlled: Rate = Rate(math.nan, 0.0, 1.0, 0)


WinRates = Mapping[tuple[str, str], WinRate]
"""(model, other) → how often `model` is preferred to `other`."""


def wilson(rate: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a binomial proportion (Wilson 1927, eq. 4). `n` may be an effective, fractional count.

    With nothing observed (`n` 0) it is (0, 1): everything is possible.
    """
    return (0.0, 1.0) if n <= 0 else _wilson(rate, n, _z(level))


def _wilson(rate: float, n: float, z: float) -> tuple[float, float]:
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
    return rate_of(_totals([float(outcome) for outcome in outcomes], clusters), level)


def rate_of(totals: Floats, level: float = LEVEL) -> Rate:
    """`rate` of outcomes added up by cluster: `(n_clusters, 2)`, how many were true, of how many. Half a true outcome
    (a tie) may be added; the interval is then a little too wide.
    """
    if not totals.size or not totals[:, 1].any():
        return Rate(math.nan, 0.0, 1.0, 0)
    totals = totals[totals[:, 1] > 0]
    n = float(totals[:, 1].sum())
    share = float(totals[:, 0].sum()) / n
    low, high = wilson(share, _effective_n(share, totals), level)
    return Rate(share, low, high, round(n))


def share(values: Sequence[float], clusters: Sequence[Hashable], level: float = LEVEL) -> Rate:
    """Mean of values in [0, 1], such as wins with ties as one half, or probabilities; `rate` is for what is 0 or 1.

    Wilson's interval with Student's quantile over the clusters, where `n` is what gives a proportion the mean's
    cluster-robust variance: values that hold less noise than 0 and 1 do get a narrower interval. Where all clusters
    say the same no noise can be seen, and each counts as one 0 or 1.
    """
    return share_of(_totals(values, clusters), level)


def share_of(totals: Floats, level: float = LEVEL) -> Rate:
    """`share` of values added up by cluster: `(n_clusters, 2)`, their sum and their number."""
    totals = totals[totals[:, 1] > 0] if totals.size else totals
    if not totals.size:
        return Rate(math.nan, 0.0, 1.0, 0)
    sums, counts = totals[:, 0], totals[:, 1]
    n, n_clusters = float(counts.sum()), len(totals)
    mean = min(max(float(sums.sum()) / n, 0.0), 1.0)
    if n_clusters == 1 or mean in (0.0, 1.0) or np.ptp(sums / counts) <= _SAME * mean:
        return Rate(mean, *wilson(mean, n_clusters, level), round(n))
    variance = n_clusters / (n_clusters - 1) * float(((sums - counts * mean) ** 2).sum()) / n**2
    low, high = _wilson(mean, mean * (1 - mean) / variance, t_quantile(n_clusters - 1, level))
    return Rate(mean, low, high, round(n))


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
    (measured,) = bootstrap(_totals(values, clusters), ratios, seed=seed, n_resamples=n_resamples, level=level)
    return Rate(*measured, len(values))


class Interval(NamedTuple):
    """An estimate with its 95 % interval, where what it counts is stated elsewhere."""

    value: float
    low: float
    high: float


def bootstrap(
    totals: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
) -> list[Interval]:
    """Any estimates that are functions of sums over clusters, each with its bootstrap interval from the same draws.

    `totals` is `(n_clusters, k)`: what each cluster adds to each sum. `statistic` takes sums `(n, k)` and returns the
    estimates `(n, m)`; a resample in which one cannot be computed (NaN) does not count for it. Widened for few
    clusters as `bootstrap_mean` says.
    """
    values = statistic(totals.sum(axis=0)[None])[0]
    if len(totals) < 2:
        return [Interval(float(value), -math.inf, math.inf) for value in values]
    n_drawn = min(len(totals), MOST_CLUSTERS)
    z = math.sqrt(n_drawn / (n_drawn - 1)) * _student(_z(level), n_drawn - 1)
    tail = NormalDist().cdf(-z)
    drawn = resampled(totals, statistic, seed=seed, n_resamples=n_resamples)
    return [Interval(float(v), *_quantiles(column, tail)) for v, column in zip(values, drawn.T, strict=True)]


def resampled(
    totals: Floats, statistic: Callable[[Floats], Floats], *, seed: int, n_resamples: int = N_RESAMPLES
) -> Floats:
    """The statistic of each resample of whole clusters, `(n_resamples, m)`; see `bootstrap`."""
    if len(totals) > MOST_CLUSTERS:
        group = dealt(len(totals), np.random.default_rng(seed))
        totals = np.stack([np.bincount(group, column) for column in totals.T], axis=1)
    times = _times(len(totals), seed, n_resamples)
    rows = max(1, _CHUNK // totals.shape[1])
    return np.concatenate([statistic(times[start : start + rows] @ totals) for start in range(0, n_resamples, rows)])


def dealt(n_clusters: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """The group of each cluster, at most `MOST_CLUSTERS`, by chance: the order of clusters may mean something."""
    return rng.permutation(n_clusters) % MOST_CLUSTERS if n_clusters > MOST_CLUSTERS else np.arange(n_clusters)


def ratios(sums: Floats) -> Floats:
    """The statistic of columns that come in twos, a sum and its count: their quotients, NaN where nothing counts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[:, 0::2] / sums[:, 1::2], dtype=np.float64)


def cluster_sums(columns: Floats, clusters: Sequence[Hashable] | NDArray[Any]) -> Floats:
    """The rows of `columns` `(n, k)` added up by cluster, `(n_clusters, k)`, in the order of the clusters' names."""
    which = np.unique(np.asarray(clusters), return_inverse=True)[1]
    return np.stack([np.bincount(which, column) for column in columns.T], axis=1)


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


def _totals(values: Sequence[float], clusters: Sequence[Hashable]) -> Floats:
    """Sum and count of each cluster, `(n_clusters, 2)`, in order of first appearance."""
    totals: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        entry = totals.setdefault(cluster, [0.0, 0.0])
        entry[0] += value
        entry[1] += 1.0
    return np.array(list(totals.values()), dtype=np.float64)


def _effective_n(share: float, totals: Floats) -> float:
    sums, counts = totals[:, 0], totals[:, 1]
    n, n_clusters = float(counts.sum()), len(totals)
    if n_clusters == n:
        return n
    if share in (0.0, 1.0) or n_clusters == 1:
        return float(n_clusters)
    robust = n_clusters / (n_clusters - 1) * float(((sums - counts * share) ** 2).sum()) / n**2
    design_effect = robust / (share * (1 - share) / n)
    return n / max(design_effect, 1.0)


@lru_cache(maxsize=8)
def _times(n_clusters: int, seed: int, n_resamples: int) -> Floats:
    """How often each cluster is drawn, `(n_resamples, n_clusters)`, 16 MB at most. Kept: estimates share draws."""
    drawn = np.random.default_rng(seed).integers(0, n_clusters, size=(n_resamples, n_clusters))
    cells = (drawn + np.arange(n_resamples)[:, None] * n_clusters).ravel()
    times = np.bincount(cells, minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
    times.flags.writeable = False
    return times


def _quantiles(drawn: Floats, tail: float) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if not known.size:
        return -math.inf, math.inf
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """How many standard errors to either side hold Student's t with `degrees` of freedom with probability `level`."""
    return _student(_z(level), degrees)


def _student(z: float, degrees: int) -> float:
    """Student's quantile from the normal's, to order 1/degrees³ (Abramowitz and Stegun 26.7.5)."""
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3
