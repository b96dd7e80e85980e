"""Every source of labels measured against gold and against the others; one that flips its labels is flagged. Pure.

Accuracy counts a tie as one half, on pairs where gold prefers one. Intervals are 95 %, whole prompts resampled.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai.intervals import Floats, Rate, bootstrap, cluster_sums, rate_of, ratios
from cai.labels.agreement import TIE_BAND, Pairwise, pairwise
from cai.labels.calibration import Calibration, calibration
from cai.labels.kappa import cohens_kappa, fleiss_kappa, krippendorff_alpha
from cai.labels.opinions import Opinions, Source
from cai.labels.verdicts import Codes, lean

ALPHA = 0.01
"""Chance that the flip test flags anyone in a panel where all are alike."""
MARGIN = 0.03
"""A source is flagged only where it flips more than this share beyond the others: among a million pairs every
difference is beyond chance, and few matter."""
FEWEST = 30
"""Prompts that a source needs to be tested."""
MOST_PAIRWISE = 16


class GoldQuality(NamedTuple):
    """Of one source, on the pairs that gold decides."""

    source: Source
    accuracy: Rate
    kappa: Rate
    calibration: Calibration | None
    """None where the source gives no probabilities, only verdicts."""
    length_bias: Rate
    """Mean P(the longer text is better) less what gold says, over pairs of unequal length."""


class FlipTest(NamedTuple):
    """Whether a source contradicts the majority of the others more than they contradict theirs.

    `excess` is the estimated share of flipped labels beyond the others' mean; one-sided z test, robust over prompts,
    Holm's correction over the panel at `ALPHA`. Ties do not count. It cannot tell flipped labels from bad ones: both
    are flagged. None: too few prompts, or fewer than three sources.
    """

    source: Source
    agreement: Rate
    excess: float
    p_value: float
    is_flagged: bool | None


class Panel(NamedTuple):
    """Sources of one standing compared with each other: the judges, people and files; or the principles of a judge.

    `alpha` is Krippendorff's, `fleiss` is over the pairs that all of them labelled; both over a, b and tie. `pairs`
    are the pairwise agreements of the 16 sources with the most labels, where both prefer one.
    """

    judge: str
    tests: list[FlipTest]
    pairs: list[Pairwise]
    alpha: Rate
    fleiss: Rate


def against_gold(opinions: Opinions, *, tie_band: float = TIE_BAND, seed: int = 0) -> list[GoldQuality]:
    """One row a source that has labelled a pair that gold decides."""
    gold = lean(opinions.gold, 0.0)[opinions.pair]
    decided = np.abs(gold) == 1
    found = []
    for code, source in enumerate(opinions.sources):
        rows = np.flatnonzero(decided & (opinions.source == code))
        if len(rows):
            found.append(_against_gold(source, opinions, rows, tie_band, seed))
    return found


def _against_gold(source: Source, opinions: Opinions, rows: Codes, tie_band: float, seed: int) -> GoldQuality:
    pair, p = opinions.pair[rows], opinions.p_a[rows]
    group, gold_p = opinions.group[pair], opinions.gold[pair]
    own, gold = lean(p, tie_band), lean(gold_p, 0.0)
    right = np.where(own == 0, 0.5, own == gold)
    says_p = not np.isin(p, (0.0, 0.5, 1.0)).all()
    return GoldQuality(
        source,
        rate_of(cluster_sums(np.column_stack([right, np.ones(len(rows))]), group)),
        cohens_kappa(own, gold, group, seed=seed),
        calibration(p, (gold + 1) / 2, group, seed=seed) if says_p else None,
        _length_bias(p, gold_p, opinions.longer[pair], group, seed),
    )


def _length_bias(p: Floats, gold: Floats, longer: Floats, group: Codes, seed: int) -> Rate:
    unequal = np.abs(longer) == 1
    if not unequal.any():
        return Rate(np.nan, -np.inf, np.inf, 0)
    excess = ((p - gold) * longer)[unequal]
    (measured,) = bootstrap(
        cluster_sums(np.column_stack([excess, np.ones(len(excess))]), group[unequal]), ratios, seed=seed
    )
    return Rate(*measured, len(excess))


def panels(opinions: Opinions, *, tie_band: float = TIE_BAND, seed: int = 0) -> list[Panel]:
    """The judges, people and files as one panel (`judge` ""), then each judge's principles; where there are two."""
    members = [("", opinions.of(("judge", "person", "file")))]
    members += [
        (each.name, opinions.of(("principle",), each.name)) for each in opinions.sources if each.kind == "judge"
    ]
    return [_panel(judge, opinions, codes, tie_band, seed) for judge, codes in members if len(codes) > 1]


def _panel(judge: str, opinions: Opinions, codes: list[int], tie_band: float, seed: int) -> Panel:
    inside = np.isin(opinions.source, codes)
    own, pair = lean(opinions.p_a[inside], tie_band), opinions.pair[inside]
    source = np.searchsorted(codes, opinions.source[inside])
    cells = np.bincount(pair * 3 + own.astype(np.int_) + 1, minlength=3 * len(opinions.pairs))
    counts = cells.reshape(-1, 3).astype(np.float64)
    full = counts.sum(axis=1) == len(codes)
    most = np.sort(np.argsort(-np.bincount(source, minlength=len(codes)), kind="stable")[:MOST_PAIRWISE])
    sources = [opinions.sources[code] for code in codes]
    leans = np.full((len(opinions.pairs), len(codes)), np.nan)
    leans[pair, source] = own
    return Panel(
        judge,
        flip_tests(sources, source, own, pair, opinions.group[pair]),
        pairwise(leans[:, most], opinions.group, [sources[place].name for place in most], seed=seed),
        krippendorff_alpha(counts, opinions.group, seed=seed),
        fleiss_kappa(counts[full], opinions.group[full], seed=seed),
    )


def flip_tests(
    sources: list[Source], source: Codes, leans: Floats, pair: Codes, group: Codes, *, alpha: float = ALPHA
) -> list[FlipTest]:
    """One row a source of the panel; the columns `(n,)` are labels: whose, 1, 0 or -1, of which pair, and its group."""
    n_sources, n_groups = len(sources), int(group.max()) + 1
    rest = np.bincount(pair, leans)[pair] - leans
    counts = (rest != 0) & (leans != 0)
    agrees = (np.sign(rest) == leans)[counts].astype(np.float64)
    cell = source[counts] * n_groups + group[counts]

    def sums(values: Floats) -> Floats:
        return np.bincount(cell, values, n_sources * n_groups).reshape(n_sources, n_groups).astype(np.float64)

    n = sums(np.ones(len(agrees)))
    evidence, information = (sums(each) for each in _scores(agrees, np.abs(rest[counts]).astype(np.int_)))
    tested = ((n > 0).sum(axis=1) >= FEWEST) & (information.sum(axis=1) > 0)
    excess, p_values = np.full(n_sources, np.nan), np.full(n_sources, np.nan)
    if tested.sum() >= 3:
        excess[tested], p_values[tested] = _more_than_others(evidence[tested], information[tested])
    flagged = _rejected(p_values, alpha) & (excess > MARGIN)
    rates = [rate_of(np.stack(each, axis=1)) for each in zip(sums(agrees), n, strict=True)]
    is_flagged = [None if np.isnan(p_values[k]) else bool(flagged[k]) for k in range(n_sources)]
    return [
        FlipTest(name, rates[k], float(excess[k]), float(p_values[k]), is_flagged[k]) for k, name in enumerate(sources)
    ]


def _scores(agrees: Floats, majority: Codes) -> tuple[Floats, Floats]:
    """Of each label: its score for a share f of flipped labels, and the information it holds of f.

    Where labels agree with a majority of some size with probability a, one that flips a share f of them agrees with
    probability a - f·(2a - 1). The score of f at 0 weighs a label by (2a - 1) / a·(1 - a): a source that contradicts
    a unanimous panel says much, one that contradicts a bare majority says little.
    """
    a = (np.bincount(majority, agrees) + 0.5) / (np.bincount(majority) + 1)
    weight = np.maximum(2 * a - 1, 0) / (a * (1 - a))
    return (weight * a)[majority] - weight[majority] * agrees, (weight * np.maximum(2 * a - 1, 0))[majority]


class _Excess(NamedTuple):
    share: Floats
    p_values: Floats


def _more_than_others(evidence: Floats, information: Floats) -> _Excess:
    """Each source's share of flips less the mean of the others', from sums `(n_sources, n_groups)`.

    The variance is that of the sums over groups of each label's influence on the difference (the delta method).
    """
    m, n_groups = evidence.shape
    total = information.sum(axis=1)
    share = evidence.sum(axis=1) / total
    influence = (evidence - share[:, None] * information) / total[:, None]
    excess = share - (share.sum() - share) / (m - 1)
    on_excess = influence - (influence.sum(axis=0) - influence) / (m - 1)
    deviation = np.sqrt(n_groups / (n_groups - 1) * (on_excess**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(excess > 0, excess / deviation, 0.0)
    return _Excess(excess, np.array([1 - NormalDist().cdf(float(each)) for each in z]))


def _rejected(p_values: Floats, alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses fall, all true ones standing with probability 1 - `alpha` (Holm 1979); NaN is no test."""
    order = [int(k) for k in np.argsort(p_values) if not np.isnan(p_values[k])]
    fallen = np.zeros(len(p_values), dtype=np.bool_)
    for place, k in enumerate(order):
        if p_values[k] > alpha / (len(order) - place):
            break
        fallen[k] = True
    return fallen
