"""Agreement beyond chance between raters: Cohen's and Fleiss' kappa, Krippendorff's alpha. Pure; numpy only.

All are 1 for full agreement and 0 for what chance alone would give; NaN where chance is certain to agree (everyone
always says the same), for then nothing can be said. Intervals are 95 %, whole prompts resampled.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cai.errors import DataError
from cai.intervals import Floats, Interval, Rate, bootstrap, cluster_sums

Clusters = Sequence[Hashable] | NDArray[Any]


def cohens_kappa(
    first: Sequence[Hashable] | NDArray[Any],
    second: Sequence[Hashable] | NDArray[Any],
    prompts: Clusters | None = None,
    *,
    seed: int = 0,
) -> Rate:
    """Two raters of the same items, rating by rating (Cohen 1960). `prompts` says which items are not independent."""
    if len(first) != len(second):
        raise DataError(f"two raters of the same items are expected, got {len(first)} and {len(second)} ratings")
    if len(first) == 0:
        return Rate(math.nan, -math.inf, math.inf, 0)
    categories, codes = np.unique(np.concatenate([np.asarray(first), np.asarray(second)]), return_inverse=True)
    k = len(categories)
    cell = codes[: len(first)] * k + codes[len(first) :]
    return confusions_kappa(_by_prompt(_one_hot(cell, k * k), prompts)[:, None], seed=seed)[0]


def confusions_kappa(confusions: Floats, *, seed: int = 0) -> list[Rate]:
    """Cohen's kappa of several pairs of raters at once, from confusion matrices laid flat `(n_prompts, m, k·k)`."""
    n_prompts, m, cells = confusions.shape
    if not n_prompts:
        return [_rate(None, 0) for _ in range(m)]
    measured = bootstrap(
        confusions.reshape(n_prompts, m * cells), lambda sums: _cohen(sums.reshape(len(sums), m, cells)), seed=seed
    )
    counts = confusions.sum(axis=(0, 2))
    return [Rate(*each, int(n)) for each, n in zip(measured, counts, strict=True)]


def fleiss_kappa(counts: Floats, prompts: Clusters | None = None, *, seed: int = 0) -> Rate:
    """Several raters (Fleiss 1971); `counts` is how many put each item into each category, `(n_items, n_categories)`.

    Raises:
        DataError: the items have not all the same number of ratings, or fewer than 2; `krippendorff_alpha` can do that.
    """
    if not len(counts):
        return _rate(None, 0)
    raters = counts.sum(axis=1)
    n = float(raters[0])
    if n < 2 or (raters != n).any():
        raise DataError(
            f"Fleiss' kappa expects as many ratings, 2 or more, of every item, got {raters.min():g} to "
            f"{raters.max():g}; drop the items that lack one, or use krippendorff_alpha"
        )
    agreeing = ((counts**2).sum(axis=1) - n) / (n * (n - 1))
    columns = np.column_stack([counts / n, agreeing, np.ones(len(counts))])
    return _rate(bootstrap(_by_prompt(columns, prompts), _fleiss, seed=seed), len(counts))


def krippendorff_alpha(
    counts: Floats,
    prompts: Clusters | None = None,
    *,
    values: Sequence[float] | None = None,
    seed: int = 0,
) -> Rate:
    """Any number of raters, any ratings missing (Krippendorff 2011); `counts` as for `fleiss_kappa`.

    Nominal, or on the interval scale where `values` gives the number each category stands for. An item with fewer than
    two ratings says nothing of agreement and does not count.
    """
    pairable = counts.sum(axis=1) >= 2
    counts = counts[pairable]
    if not len(counts):
        return _rate(None, 0)
    groups = None if prompts is None else np.asarray(prompts)[pairable]
    if values is None:
        columns, statistic = _nominal(counts), _nominal_alpha
    else:
        columns, statistic = _interval(counts, np.asarray(values, dtype=np.float64)), _interval_alpha
    return _rate(bootstrap(_by_prompt(columns, groups), statistic, seed=seed), len(counts))


def _cohen(sums: Floats) -> Floats:
    """(p_o - p_e) / (1 - p_e) of flat confusion matrices `(n, m, k·k)`; p_e is the product of the margins."""
    k = round(sums.shape[2] ** 0.5)
    table = sums.reshape(*sums.shape[:2], k, k)
    n = table.sum(axis=(2, 3))
    agreed: Floats = np.trace(table, axis1=2, axis2=3)
    by_chance: Floats = (table.sum(axis=2) * table.sum(axis=3)).sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa: Floats = (n * agreed - by_chance) / (n**2 - by_chance)
    return kappa


def _fleiss(sums: Floats) -> Floats:
    """(P - P_e) / (1 - P_e): P the mean share of agreeing pairs of raters, P_e = Σ p_j²."""
    n_items = sums[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = sums[:, -2] / n_items
        expected = ((sums[:, :-2] / n_items[:, None]) ** 2).sum(axis=1)
        return _one_column((observed - expected) / (1 - expected))


def _nominal(counts: Floats) -> Floats:
    """Of each item: its disagreeing pairs of ratings over m - 1; then how often each category was said."""
    m = counts.sum(axis=1)
    return np.column_stack([(m**2 - (counts**2).sum(axis=1)) / (m - 1), counts])


def _nominal_alpha(sums: Floats) -> Floats:
    """1 - D_o / D_e with D_e = (n² - Σ n_c²) / (n - 1)."""
    disagreeing, said = sums[:, 0], sums[:, 1:]
    n = said.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _one_column(1 - (n - 1) * disagreeing / (n**2 - (said**2).sum(axis=1)))


def _interval(counts: Floats, values: Floats) -> Floats:
    """Of each item: the squared differences of its pairs of ratings over m - 1; then m, Σv and Σv².

    Values are moved to their mean, so that no digits are lost; alpha does not change.
    """
    centred = values - float(counts.sum(axis=0) @ values) / float(counts.sum())
    m, first, second = counts.sum(axis=1), counts @ centred, counts @ centred**2
    return np.column_stack([2 * (m * second - first**2) / (m - 1), m, first, second])


def _interval_alpha(sums: Floats) -> Floats:
    """1 - D_o / D_e with D_e = 2·(n·Σv² - (Σv)²) / (n - 1)."""
    differing, n, first, second = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return _one_column(1 - (n - 1) * differing / (2 * (n * second - first**2)))


def _one_column(estimates: Floats) -> Floats:
    return estimates[:, None]


def _by_prompt(columns: Floats, prompts: Clusters | None) -> Floats:
    return columns if prompts is None else cluster_sums(columns, prompts)


def _one_hot(codes: NDArray[np.int_], k: int) -> Floats:
    table = np.zeros((len(codes), k))
    table[np.arange(len(codes)), codes] = 1
    return table


def _rate(measured: list[Interval] | None, n: int) -> Rate:
    return Rate(math.nan, -math.inf, math.inf, n) if measured is None else Rate(*measured[0], n)
