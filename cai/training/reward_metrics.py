"""How good a reward model is on held-out pairs: loss, accuracy, calibration, length bias. NumPy only; pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


class HeldOut(NamedTuple):
    """Held-out pairs after scoring, each array `(n_pairs,)`. Lengths are tokens of prompt and response together."""

    chosen: Floats
    rejected: Floats
    soft_label: Floats
    is_tie: NDArray[np.bool_]
    chosen_length: Floats
    rejected_length: Floats

    @property
    def probability(self) -> Floats:
        """P(chosen better) of each pair, by the model."""
        return 1 / (1 + np.exp(self.rejected - self.chosen))


def measure(pairs: HeldOut) -> dict[str, float]:
    """Every metric that can be computed of `pairs`; those that cannot (no pair, no variance) are left out."""
    if len(pairs.chosen) == 0:
        return {}
    margin = pairs.chosen - pairs.rejected
    probability = pairs.probability
    decided = ~pairs.is_tie
    metrics = {
        "held_out/loss": float(np.mean(soft_loss(margin, pairs.soft_label))),
        "held_out/loss_floor": float(np.mean(entropy(pairs.soft_label))),
        "held_out/margin": float(np.mean(margin)),
        "held_out/brier": float(np.mean((probability - pairs.soft_label) ** 2)),
        "held_out/ece": ece(probability, pairs.soft_label),
    }
    if decided.any():
        hard = (pairs.soft_label[decided] > 0.5).astype(np.float64)
        metrics["held_out/accuracy"] = float(np.mean((margin[decided] > 0) == (hard > 0.5)))
        metrics["held_out/brier_hard"] = float(np.mean((probability[decided] - hard) ** 2))
    scores = np.concatenate([pairs.chosen, pairs.rejected])
    lengths = np.concatenate([pairs.chosen_length, pairs.rejected_length])
    by_score, by_margin = correlation(scores, lengths), correlation(margin, pairs.chosen_length - pairs.rejected_length)
    if by_score is not None:
        metrics["held_out/length_correlation"] = by_score
    if by_margin is not None:
        metrics["held_out/margin_length_correlation"] = by_margin
    return metrics


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
    which = np.minimum((p * bins).astype(int), bins - 1)
    inside = [which == b for b in sorted(set(which.tolist()))]
    return [Bin(float(p[chosen].mean()), float(y[chosen].mean()), int(chosen.sum())) for chosen in inside]


def ece(probability: Floats, label: Floats, bins: int = BINS) -> float:
    """Expected calibration error: |mean label − mean probability| per bin of probability, by the bin's share."""
    found = reliability(probability, label, bins)
    return sum(b.n * abs(b.observed - b.predicted) for b in found) / sum(b.n for b in found)


def correlation(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float | None:
    """Pearson's r, or None where one side does not vary."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.size < 2 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
