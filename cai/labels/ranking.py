"""Bradley–Terry (1952): the pairs of one prompt → one strength a response, and P(a better) of each pair from them.

P(i better than j) = s_i / (s_i + s_j). The strengths maximise Σ p_ij ln P(i better than j) over both directions of
each compared pair, where p_ij is the soft outcome; by the MM iteration s_i ← W_i / Σ_j n_ij / (s_i + s_j) (Hunter
2004, "MM algorithms for generalized Bradley-Terry models", eq. 3), with W_i the games won and n_ij the games played.
Each compared pair is one game of outcome p_ij and `prior` more games half won by each side, so the strengths are
finite even where one response wins every game.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-12  # of a log-strength, between two steps
MAX_STEPS = 100_000


class Outcome(NamedTuple):
    """A compared pair: P(a is better), over all its asks."""

    a: str
    b: str
    p_a: float


def bradley_terry(outcomes: Sequence[Outcome], *, prior: float) -> dict[str, float]:
    """The log-strength of each response named. Only differences between responses that are connected mean something."""
    names = sorted({name for outcome in outcomes for name in (outcome.a, outcome.b)})
    place = {name: i for i, name in enumerate(names)}
    won: NDArray[np.float64] = np.zeros((len(names), len(names)))
    for a, b, p_a in outcomes:
        won[place[a], place[b]] += p_a + prior / 2
        won[place[b], place[a]] += 1 - p_a + prior / 2
    return dict(zip(names, _log_strengths(won).tolist(), strict=True))


def p_better(log_strengths: dict[str, float], a: str, b: str) -> float:
    """P(a is better than b)."""
    return float(1 / (1 + np.exp(log_strengths[b] - log_strengths[a])))


def _log_strengths(won: NDArray[np.float64]) -> NDArray[np.float64]:
    """`won` (n, n): games that row won against column, all above 0 where any were played."""
    played, total = won + won.T, won.sum(axis=1)
    strengths = np.ones(len(won))
    for _ in range(MAX_STEPS):
        following = total / (played / (strengths[:, None] + strengths[None, :])).sum(axis=1)
        moved = np.abs(np.log(following / strengths)).max(initial=0.0)
        strengths = following
        if moved < TOLERANCE:
            break
    return np.log(strengths)
