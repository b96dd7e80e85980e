"""Win rate at equal length: what the judge would prefer if both responses were as long (Dubois et al. 2024,
arXiv 2404.04475). Pure; numpy only.

The regression there, of one model against one other: P(win) = σ(θ + φ · tanh(Δ / sd(Δ)) + ψ · γ_prompt), with Δ the
difference of lengths. The length-controlled win rate is the mean with Δ set to 0. The prompt's difficulty γ is fitted
there over all models of a leaderboard; two models cannot show it, so it is left out, and σ(θ) is the mean over prompts.

Here a jump is added, κ · sign(Δ): a judge that sees which response is longer and not by how much is no slope, and what
the slope cannot follow would go to θ where one model is mostly the longer. θ and κ are told apart by the matches in
which that model is the shorter; where those are few, a prior bounds κ, and its width is in the interval.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cai.intervals import Floats, Interval, Rate, cluster_sums, share, t_quantile

TOLERANCE, MAX_STEPS, LONGEST_STEP = 1e-10, 100, 2.0
SLOPE, JUMP = 3.0, 1.0
"""Standard deviations of φ and κ before anything is seen, in nats: what length is worth has bounds. They keep the fit
finite where length separates wins from losses, and weigh as much as one match and four.
"""
N_TERMS = 3


class Match(NamedTuple):
    """One prompt's two responses. `win` is 1, 0, or 0.5 for a tie; lengths are in any one unit."""

    prompt_id: str
    win: float
    length: float
    other_length: float


class LengthControlled(NamedTuple):
    """`length_effect` is φ + κ: how many nats of log-odds a response gains that is longer by far more than is usual.

    `rate` is unknown (NaN, 0 to 1) where lengths differ by the same amount everywhere: then nothing tells length from
    merit.
    """

    rate: Rate
    raw: Rate
    length_effect: Interval


def length_controlled(matches: Sequence[Match]) -> LengthControlled:
    """The win rate as it is and at equal length, with intervals over prompts.

    σ(θ) has the interval of θ, by the cluster-robust variance of the estimate (Liang and Zeger 1986) and Student's
    quantile.
    """
    wins = np.array([match.win for match in matches], dtype=np.float64)
    clusters = [match.prompt_id for match in matches]
    raw = share(wins.tolist(), clusters)
    difference = np.array([match.length - match.other_length for match in matches], dtype=np.float64)
    nothing = Interval(math.nan, -math.inf, math.inf)
    if not len(wins) or not difference.any() or raw.value in (0.0, 1.0):
        return LengthControlled(raw, raw, nothing)
    n_prompts = len(set(clusters))
    spread = float(difference.std())
    if n_prompts <= N_TERMS or spread <= 1e-9 * float(np.abs(difference).max()):
        return LengthControlled(Rate(math.nan, 0.0, 1.0, 0), raw, nothing)
    design = np.column_stack([np.ones(len(wins)), np.tanh(difference / spread), np.sign(difference)])
    fit = _fit(design, wins, clusters)
    t = t_quantile(n_prompts - N_TERMS)
    theta, effect = (fit.interval(np.array(terms), t) for terms in ([1.0, 0.0, 0.0], [0.0, 1.0, 1.0]))
    rate = Rate(_sigmoid(theta.value), _sigmoid(theta.low), _sigmoid(theta.high), len(wins))
    return LengthControlled(rate, raw, effect)


class _Fit(NamedTuple):
    """θ, φ and κ, `(3,)`, and their covariance, `(3, 3)`."""

    values: Floats
    covariance: Floats

    def interval(self, terms: Floats, t: float) -> Interval:
        """Of the sum of the terms, each times its number."""
        value, error = float(terms @ self.values), math.sqrt(float(terms @ self.covariance @ terms))
        return Interval(value, value - t * error, value + t * error)


def _fit(design: Floats, wins: Floats, clusters: Sequence[str]) -> _Fit:
    """Newton's method on the posterior's logarithm, then the sandwich B (M + P) B: B is (XᵀWX + P)⁻¹, M is Σ over
    prompts of score·scoreᵀ, and P the prior's precision. In the middle P counts the prior as an observation, which errs
    as others do.
    """
    prior = np.diag([0.0, SLOPE**-2, JUMP**-2])
    beta = np.zeros(N_TERMS)
    for _ in range(MAX_STEPS):
        p = 1 / (1 + np.exp(-design @ beta))
        bread = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design + prior)
        step = np.clip(bread @ (design.T @ (wins - p) - prior @ beta), -LONGEST_STEP, LONGEST_STEP)
        beta = beta + step
        if np.abs(step).max() < TOLERANCE:
            break
    scores = cluster_sums(design * (wins - p)[:, None], clusters)
    n_prompts = len(scores)
    meat = scores.T @ scores * n_prompts / (n_prompts - 1)
    return _Fit(beta, bread @ (meat + prior) @ bread)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
