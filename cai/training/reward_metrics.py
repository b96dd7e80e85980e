"""How good a reward model is on held-out pairs: loss, accuracy, calibration, length bias. Each pair counts once,
whatever its weight. NumPy only; pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai.intervals import Floats, Rate, rate
from cai.labels.calibration import brier, ece, ece_floor, ece_interval, entropy


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
    found = {
        "held_out/brier": brier(pairs.probability, pairs.soft_label, groups, seed=seed),
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


def correlation(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float | None:
    """Pearson's r, or None where one side does not vary."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.size < 2 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
