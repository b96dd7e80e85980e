"""Whether probabilities mean what they say: calibration error with its noise floor, Brier score, reliability diagram.

For a reward model's held-out pairs and for a judge's labels on gold pairs alike. NumPy only; pure.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai.intervals import Floats, Rate, bootstrap, cluster_sums, ratios, resampled

BINS = 10
N_SIMULATED = 1_000
MANY = 20_000
_CHUNK = 2_000_000  # random numbers drawn at once: 16 MB


class Floor(NamedTuple):
    """Mean and 95 % quantile."""

    mean: float
    high: float


class Bin(NamedTuple):
    """Pairs whose probability falls in one bin: mean probability, mean label, how many."""

    predicted: float
    observed: float
    n: int


class Calibration(NamedTuple):
    """Of one source of probabilities, against labels that are taken to be right.

    Read `ece` beside `floor`: below `floor.high` the error is what chance gives. `brier` is the proper score.
    """

    ece: Rate
    floor: Floor
    brier: Rate
    bins: list[Bin]


def calibration(
    probability: Floats, label: Floats, groups: Sequence[Hashable] | NDArray[Any], *, seed: int = 0
) -> Calibration:
    """P(a better) and what gold says of it (1, 0, or between), `(n,)` each, at least one; `groups` are the prompts."""
    return Calibration(
        ece_interval(probability, label, groups, seed=seed),
        ece_floor(probability, label),
        brier(probability, label, groups, seed=seed),
        reliability(probability, label),
    )


def brier(probability: Floats, label: Floats, groups: Sequence[Hashable] | NDArray[Any], *, seed: int = 0) -> Rate:
    """Mean squared difference of probability and label, with its 95 % interval over whole prompts."""
    squares = np.column_stack([(probability - label) ** 2, np.ones(len(label))])
    (measured,) = bootstrap(cluster_sums(squares, groups), ratios, seed=seed)
    return Rate(measured.value, max(measured.low, 0.0), min(measured.high, 1.0), len(label))


def entropy(p: Floats) -> Floats:
    """Entropy of a label in nats, `(n,)`: the least that `soft_loss` can be."""
    inside = np.clip(p, 1e-300, 1)
    outside = np.clip(1 - p, 1e-300, 1)
    nats: Floats = -p * np.log(inside) - (1 - p) * np.log(outside)
    return nats


def reliability(probability: Floats, label: Floats, bins: int = BINS) -> list[Bin]:
    """The bins that are not empty, by probability.

    Each pair counts in both orders, (p, y) and (1 − p, 1 − y): which response is called "chosen" is no information.
    """
    p, y = np.concatenate([probability, 1 - probability]), np.concatenate([label, 1 - label])
    which = _bin_of(p, bins)
    inside = [which == b for b in sorted(set(which.tolist()))]
    return [Bin(float(p[chosen].mean()), float(y[chosen].mean()), int(chosen.sum())) for chosen in inside]


def ece(probability: Floats, label: Floats, bins: int = BINS) -> float:
    """Expected calibration error: |mean label − mean probability| per bin of probability, by the bin's share.

    Of soft labels it says whether the model's probabilities are, on average, those the labeller gave: not whether the
    labeller is right. An estimate from few pairs is never 0: read it beside `ece_floor`.
    """
    residuals = label - probability
    return float(np.abs(residuals @ _sides(probability, bins)).sum() / (2 * len(label)))


def ece_floor(probability: Floats, label: Floats, bins: int = BINS, seed: int = 0) -> Floor:
    """The calibration error that a perfectly calibrated model would show on these pairs, by chance alone.

    Labels are drawn from the model's own probabilities, 1,000 times, so that it is right by construction:

        y* = p + s·(b − p),   b ~ Bernoulli(p)

    Hard labels are coins: s = 1. A soft label is a probability itself and varies about p by less; s² is the variance of
    the labels' residuals within their bins over a coin's, Σ(r − r̄)² / Σ p(1 − p), at most 1. Of more than 20,000 pairs
    the bins' sums are drawn at once, as the normal variables that they then are.
    """
    sides = _sides(probability, bins)
    coin = probability * (1 - probability)
    scale = _noise_scale(probability, label, coin, bins)
    rng = np.random.default_rng(seed)
    if len(label) > MANY:
        covariance = (sides * coin[:, None]).T @ sides
        gaps = scale * rng.multivariate_normal(np.zeros(bins), covariance, size=N_SIMULATED, method="eigh")
    else:
        coins = ((rng.random((n, len(label))) < probability) - probability for n in _chunks(len(label)))
        gaps = scale * np.concatenate([drawn @ sides for drawn in coins])
    simulated = np.abs(gaps).sum(axis=1) / (2 * len(label))
    return Floor(float(simulated.mean()), float(np.quantile(simulated, 0.95)))


def ece_interval(
    probability: Floats, label: Floats, groups: Sequence[Hashable] | NDArray[Any], *, bins: int = BINS, seed: int = 0
) -> Rate:
    """Calibration error with a 95 % bootstrap interval over whole prompts.

    A resample is noisier than the sample, and noise raises the error: the quantiles are moved by that much.
    """
    value = ece(probability, label, bins)
    residuals = (label - probability)[:, None] * _sides(probability, bins)
    totals = cluster_sums(np.column_stack([residuals, np.ones(len(label))]), groups)
    if len(totals) < 2:
        return Rate(value, 0.0, 1.0, len(label))
    drawn = resampled(totals, _ece_of, seed=seed, n_resamples=N_SIMULATED)[:, 0]
    low, high = np.quantile(drawn, [0.025, 0.975]) + value - drawn.mean()
    return Rate(value, max(0.0, float(low)), min(1.0, float(high)), len(label))


def _ece_of(sums: Floats) -> Floats:
    """From each bin's summed residuals and the number of pairs, `(n, bins + 1)`."""
    error: Floats = np.abs(sums[:, :-1]).sum(axis=1) / (2 * sums[:, -1])
    return error[:, None]


def _bin_of(p: Floats, bins: int) -> NDArray[np.int_]:
    which: NDArray[np.int_] = np.minimum((p * bins).astype(int), bins - 1)
    return which


def _sides(probability: Floats, bins: int) -> Floats:
    """What each pair's residual y − p adds to the bins, `(n, bins)`: +1 to that of p, −1 to that of 1 − p."""
    sides, rows = np.zeros((len(probability), bins)), np.arange(len(probability))
    sides[rows, _bin_of(probability, bins)] += 1
    sides[rows, _bin_of(1 - probability, bins)] -= 1
    return sides


def _noise_scale(probability: Floats, label: Floats, coin: Floats, bins: int) -> float:
    """The s of `ece_floor`."""
    if np.isin(label, (0.0, 1.0)).all():
        return 1.0
    both = np.concatenate([probability, 1 - probability])
    residuals = np.concatenate([label - probability, probability - label])
    which = _bin_of(both, bins)
    means = np.bincount(which, residuals, bins) / np.maximum(np.bincount(which, minlength=bins), 1)
    variance = float(((residuals - means[which]) ** 2).sum()) / 2
    return float(np.sqrt(min(1.0, variance / max(float(coin.sum()), 1e-300))))


def _chunks(width: int) -> Iterator[int]:
    """`N_SIMULATED` as parts that keep arrays of `width` columns small."""
    most = max(1, _CHUNK // width)
    for start in range(0, N_SIMULATED, most):
        yield min(most, N_SIMULATED - start)
