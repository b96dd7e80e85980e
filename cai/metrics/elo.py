"""Elo ratings of any number of models from judged matches: Bradley–Terry strengths on the scale of chess. Pure.

A lead of 400 points is odds of 10 to 1: rating = 1000 + (400 / ln 10) · strength (Chiang et al. 2024, arXiv
2403.04132, section 4). Strengths are fitted to all games at once, so no order of games matters.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cai.errors import DataError
from cai.intervals import N_RESAMPLES, Floats, Rate, bootstrap
from cai.labels.ranking import log_strengths, reach

MIDDLE, SCALE = 1000.0, 400 / math.log(10)
PRIOR = 1.0
"""Games added to each pair of models that met, half won by each side: a model that never lost has a rating still."""


class Game(NamedTuple):
    """Two models' responses to one prompt; `p_first` is 1, 0, 0.5 for a tie, or P(the first is better)."""

    prompt_id: str
    first: str
    second: str
    p_first: float


def elo(
    games: Sequence[Game],
    *,
    seed: int,
    prior: float = PRIOR,
    anchor: str | None = None,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, Rate]:
    """Each model's rating, with a bootstrap interval that resamples prompts; `n` counts its games.

    Args:
        games: any pairs of models, any number of times.
        seed: of the resampling.
        prior: see `PRIOR`.
        anchor: the model that stands at 1000, and has no interval then; None: the mean of all does.
        n_resamples: how many tournaments are drawn.

    Raises:
        DataError: the anchor has played no game, no chain of games connects the models, or (only with `prior` 0) a
            model has won or lost all its games.
    """
    names = sorted({name for game in games for name in (game.first, game.second)})
    if anchor is not None and anchor not in names:
        raise DataError(f"the anchor {anchor!r} has played no game; there are {', '.join(names) or 'none'}")
    if not names:
        return {}
    m = len(names)
    totals = _won_by_prompt(games, names)
    # Who met whom is known, so a resample without their games has the added ones all the same.
    added = prior / 2 * (totals.sum(axis=0) + _turned(totals.sum(axis=0), m) > 0)
    whole = _strengths(totals.sum(axis=0)[None], added, m)[0]
    if np.isnan(whole).any():
        raise DataError(_why(totals.sum(axis=0), names))
    centre = None if anchor is None else names.index(anchor)

    def ratings(sums: Floats) -> Floats:
        found = _strengths(sums, added, m, start=whole)
        return MIDDLE + SCALE * (found - (found.mean(axis=1) if centre is None else found[:, centre])[:, None])

    n_games = {name: sum(name in (game.first, game.second) for game in games) for name in names}
    measured = bootstrap(totals, ratings, seed=seed, n_resamples=n_resamples)
    return {name: Rate(*each, n_games[name]) for name, each in zip(names, measured, strict=True)}


def _won_by_prompt(games: Sequence[Game], names: Sequence[str]) -> Floats:
    """What row won against column, laid flat, by prompt: `(n_prompts, m·m)`."""
    m = len(names)
    place = {name: i for i, name in enumerate(names)}
    prompts, which = np.unique([game.prompt_id for game in games], return_inverse=True)
    won = np.zeros((len(prompts), m * m))
    for prompt, (_, first, second, p_first) in zip(which, games, strict=True):
        won[prompt, place[first] * m + place[second]] += p_first
        won[prompt, place[second] * m + place[first]] += 1 - p_first
    return won


def _turned(flat: Floats, m: int) -> Floats:
    return flat.reshape(m, m).T.ravel()


def _strengths(sums: Floats, added: Floats, m: int, start: Floats | None = None) -> Floats:
    """NaN where there is no maximum, or games do not connect all models."""
    won = (sums + added).reshape(len(sums), m, m)
    found = log_strengths(won, start)
    found[(reach(won + won.transpose(0, 2, 1)) == 0).any(axis=(1, 2))] = np.nan
    return found


def _why(sums: Floats, names: Sequence[str]) -> str:
    m = len(names)
    apart = [names[j] for j in np.flatnonzero(reach((sums + _turned(sums, m)).reshape(1, m, m))[0, 0] == 0)]
    if apart:
        return f"no chain of games leads from {names[0]} to {', '.join(apart)}; rate them apart, or let them meet"
    return f"of {', '.join(names)} some have won or lost all their games; with a `prior` above 0 their ratings end"
