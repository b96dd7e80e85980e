"""How good a reward model is on held-out pairs: loss, accuracy, calibration, length bias. Each pair counts once,
whatever its weight. NumPy only; pure.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai.intervals import Rate, bootstrap_mean, rate

Floats = NDArray[np.float64]
BINS = 10
N_SIMULATED = 1_000
_CHUNK = 2_000_000  # random numbers drawn at once: 16 MB


class HeldOut(NamedTuple):
    """Held-out pairs after scoring, each array `(n_pairs,)`. Lengths are tokens of prompt and response together."""

    chosen: Floats
    rejected: Floats
    soft_label: Floats
    is_tie: NDArray[np.bool_]
    chosen_length: Floats
    rejected_length: Floats
    group: NDArray[np.str_]
    """Pairs of one group share a prompt, and are not independent."""
    source: NDArray[np.str_]

    @property
    def margin(self) -> Floats:
        return self.chosen - self.rejected

    @property
    def probability(self) -> Floats:
        """P(chosen better) of each pair, by the model."""
        return np.exp(-np.logaddexp(0, -self.margin))  # σ(Δ), for any Δ

    @property
    def is_decided(self) -> NDArray[np.bool_]:
        """Whether the label says which one is better."""
        return ~self.is_tie & (self.soft_label != 0.5)

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether the model prefers what the label prefers; equal scores are wrong. Only where decided."""
        return self.margin * (self.soft_label - 0.5) > 0

    def where(self, chosen: NDArray[np.bool_]) -> "HeldOut":
        return HeldOut(*(column[chosen] for column in self))  # type: ignore[arg-type]


def measure(pairs: HeldOut) -> dict[str, float]:
    """Every metric that can be computed of `pairs`; those that cannot (no pair, no variance) are left out.

    Where labels come from several sources, `quality` also of each alone, as `held_out/source/NAME/…`.
    """
    if len(pairs.chosen) == 0:
        return {}
    floor = ece_floor(pairs.probability, pairs.soft_label)
    metrics = {
        **{f"held_out/{name}": value for name, value in quality(pairs).items()},
        "held_out/loss_floor": float(np.mean(entropy(pairs.soft_label))),
        "held_out/margin": float(np.mean(pairs.margin)),
        "held_out/ece_floor": floor.mean,
        "held_out/ece_floor_95": floor.high,
        **_length_bias(pairs),
    }
    if (decided := pairs.where(pairs.is_decided)).chosen.size:
        metrics["held_out/brier_hard"] = float(np.mean((decided.probability - (decided.soft_label > 0.5)) ** 2))
    sources = sorted(set(pairs.source.tolist()))
    for source in sources if len(sources) > 1 else ():
        found = quality(pairs.where(pairs.source == source))
        metrics |= {f"held_out/source/{source or 'unstated'}/{name}": value for name, value in found.items()}
    return metrics


def quality(pairs: HeldOut) -> dict[str, float]:
    """Loss, Brier score, calibration error and, where any pair is decided, accuracy. At least one pair."""
    found = {
        "n": float(len(pairs.chosen)),
        "loss": float(np.mean(soft_loss(pairs.margin, pairs.soft_label))),
        "brier": float(np.mean((pairs.probability - pairs.soft_label) ** 2)),
        "ece": ece(pairs.probability, pairs.soft_label),
    }
    if pairs.is_decided.any():
        found["accuracy"] = float(np.mean(pairs.is_right[pairs.is_decided]))
    return found


def intervals(pairs: HeldOut, seed: int = 0) -> dict[str, Rate]:
    """Accuracy, Brier score and calibration error with 95 % intervals; what varies is the prompt.

    Accuracy has Wilson's interval on the effective number of pairs, the others a bootstrap of whole prompts.
    """
    if len(pairs.chosen) == 0:
        return {}
    groups = pairs.group.tolist()
    brier = bootstrap_mean(((pairs.probability - pairs.soft_label) ** 2).tolist(), groups, seed=seed)
    found = {
        "held_out/brier": Rate(brier.value, max(brier.low, 0.0), min(brier.high, 1.0), brier.n),
        "held_out/ece": ece_interval(pairs.probability, pairs.soft_label, groups, seed=seed),
    }
    decided = pairs.is_decided
    if decided.any():
        found["held_out/accuracy"] = rate(pairs.is_right[decided].tolist(), pairs.group[decided].tolist())
    return found


def _length_bias(pairs: HeldOut) -> dict[str, float]:
    scores = np.concatenate([pairs.chosen, pairs.rejected])
    lengths = np.concatenate([pairs.chosen_length, pairs.rejected_length])
    found = {
        "held_out/length_correlation": correlation(scores, lengths),
        "held_out/margin_length_correlation": correlation(pairs.margin, pairs.chosen_length - pairs.rejected_length),
    }
    return {name: value for name, value in found.items() if value is not None}


def soft_loss(margin: Floats, soft_label: Floats) -> Floats:
    """−p·log σ(Δ) − (1 − p)·log σ(−Δ), per pair, `(n,)`: `losses.soft_preference_loss` in NumPy."""
    return soft_label * np.logaddexp(0, -margin) + (1 - soft_label) * np.logaddexp(0, margin)


def entropy(p: Floats) -> Floats:
    """Entropy of a label in nats, `(n,)`: the least that `soft_loss` can be."""
    inside = np.clip(p, 1e-300, 1)
    outside = np.clip(1 - p, 1e-300, 1)
    return -p * np.log(inside) - (1 - p) * np.log(outside)


class Bin(NamedTuple):
    """Pairs whose probability falls in one bin: mean probability, mean label, how many."""

    predicted: float
    observed: float
    n: int


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


class Floor(NamedTuple):
    """Mean and 95 % quantile."""

    mean: float
    high: float


def ece_floor(probability: Floats, label: Floats, bins: int = BINS, seed: int = 0) -> Floor:
    """The calibration error that a perfectly calibrated model would show on these pairs, by chance alone.

    Labels are drawn from the model's own probabilities, 1,000 times, so that it is right by construction:

        y* = p + s·(b − p),   b ~ Bernoulli(p)

    Hard labels are coins: s = 1. A soft label is a probability itself and varies about p by less; s² is the variance of
    the labels' residuals within their bins over a coin's, Σ(r − r̄)² / Σ p(1 − p), at most 1.
    """
    sides = _sides(probability, bins)
    coin = probability * (1 - probability)
    scale = _noise_scale(probability, label, coin, bins)
    rng = np.random.default_rng(seed)
    found = []
    for n in _chunks(N_SIMULATED, len(label)):
        drawn = (rng.random((n, len(label))) < probability) - probability
        found.append(np.abs(scale * drawn @ sides).sum(axis=1) / (2 * len(label)))
    simulated = np.concatenate(found)
    return Floor(float(simulated.mean()), float(np.quantile(simulated, 0.95)))


def ece_interval(probability: Floats, label: Floats, groups: Sequence[str], *, bins: int = BINS, seed: int = 0) -> Rate:
    """Calibration error with a 95 % bootstrap interval over whole prompts.

    A resample is noisier than the sample, and noise raises the error: the quantiles are moved by that much.
    """
    value = ece(probability, label, bins)
    names, which = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) == 1:
        return Rate(value, 0.0, 1.0, len(label))
    gaps = np.zeros((len(names), bins))
    np.add.at(gaps, which, (label - probability)[:, None] * _sides(probability, bins))
    counts = np.bincount(which).astype(np.float64)
    rng = np.random.default_rng(seed)
    found = []
    for n in _chunks(N_SIMULATED, len(names)):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n).astype(np.float64)
        found.append(np.abs(drawn @ gaps).sum(axis=1) / (2 * drawn @ counts))
    resampled = np.concatenate(found)
    low, high = np.quantile(resampled, [0.025, 0.975]) + value - resampled.mean()
    return Rate(value, max(0.0, float(low)), min(1.0, float(high)), len(label))


def _bin_of(p: Floats, bins: int) -> NDArray[np.int_]:
    return np.minimum((p * bins).astype(int), bins - 1)


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


def _chunks(n: int, width: int) -> Iterator[int]:
    """`n` as parts that keep arrays of `width` columns small."""
    most = max(1, _CHUNK // width)
    for start in range(0, n, most):
        yield min(most, n - start)


def correlation(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float | None:
    """Pearson's r, or None where one side does not vary."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.size < 2 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
