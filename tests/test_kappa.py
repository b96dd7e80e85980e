"""Kappa and alpha: worked by hand, equal to the reference implementations, and with intervals that hold."""

import math

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cai.errors import DataError
from cai.labels.kappa import cohens_kappa, fleiss_kappa, krippendorff_alpha


def count_ratings(ratings):
    """How many raters put each item into each category, `(n_items, n_categories)`; None is a rating not given."""
    given = sorted({rating for item in ratings for rating in item if rating is not None}, key=repr)
    place = {category: column for column, category in enumerate(given)}
    counts = np.zeros((len(ratings), len(given)))
    for row, item in enumerate(ratings):
        for rating in item:
            if rating is not None:
                counts[row, place[rating]] += 1
    return counts


def test_cohens_kappa_by_hand():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = 35/50, p_e = .5·.6 + .5·.4 = .5, so kappa = .2/.5."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    measured = cohens_kappa(first, second)
    assert measured.value == pytest.approx(0.4, abs=1e-15)
    assert measured.low < 0.4 < measured.high
    assert measured.n == 50


def test_fleiss_kappa_by_hand():
    """The table of Fleiss (1971) as it is commonly worked: 10 items, 14 raters, 5 categories, kappa .210."""
    table = """0 0 0 0 14;0 2 6 4 2;0 0 3 5 6;0 3 9 2 0;2 2 8 1 1;7 7 0 0 0;3 2 6 3 0;2 5 3 2 2;6 5 2 1 0;0 2 2 3 7"""
    measured = fleiss_kappa(np.array([row.split() for row in table.split(";")], dtype=float))
    assert measured.value == pytest.approx(0.210, abs=5e-4)


def test_krippendorffs_alpha_by_hand():
    """Krippendorff (2011), section C: 4 observers, 12 units, ratings missing; nominal .743, interval .849."""
    rows = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    by_rater = [[None if v == "." else int(v) for v in row.split()] for row in rows]
    counts = count_ratings([list(item) for item in zip(*by_rater, strict=True)])
    assert krippendorff_alpha(counts).value == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(counts, values=[1, 2, 3, 4, 5]).value == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha(counts).n == 11  # one unit has a single rating


@pytest.mark.parametrize("seed", range(8))
def test_they_equal_the_reference_implementations(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(20, 400)), int(rng.integers(2, 5))
    truth = rng.integers(0, k, n)
    ratings = np.where(rng.random((4, n)) < 0.7, truth, rng.integers(0, k, (4, n)))
    assert cohens_kappa(ratings[0], ratings[1]).value == pytest.approx(
        cohen_kappa_score(ratings[0], ratings[1]), abs=1e-12
    )
    assert fleiss_kappa(counted(ratings, k)).value == pytest.approx(fleiss_again(ratings.T.tolist(), k), abs=1e-12)
    holes = np.where(rng.random((4, n)) < 0.3, np.nan, ratings)
    for level, values in (("nominal", None), ("interval", list(range(k)))):
        expected = krippendorff.alpha(reliability_data=holes, level_of_measurement=level)
        assert krippendorff_alpha(counted(holes, k), values=values).value == pytest.approx(expected, abs=1e-12)


def counted(ratings, k):
    return np.stack([(ratings == category).sum(axis=0) for category in range(k)], axis=1).astype(float)


def fleiss_again(items, k):
    """Second implementation, from the definition: the chance that two raters drawn of an item agree."""
    m = len(items[0])
    pairs = [(a, b) for a in range(m) for b in range(m) if a != b]
    observed = sum(sum(item[a] == item[b] for a, b in pairs) / len(pairs) for item in items) / len(items)
    shares = [sum(item.count(category) for item in items) / (m * len(items)) for category in range(k)]
    expected = sum(share**2 for share in shares)
    return (observed - expected) / (1 - expected)


def test_where_everyone_always_says_the_same_nothing_can_be_said():
    same = ["a"] * 10
    assert math.isnan(cohens_kappa(same, same).value)
    assert math.isnan(fleiss_kappa(count_ratings([("a", "a")] * 5)).value)
    assert math.isnan(krippendorff_alpha(count_ratings([("a", "a")] * 5)).value)
    assert math.isnan(krippendorff_alpha(count_ratings([("a", None), (None, "b")])).value)
    assert math.isnan(cohens_kappa([], []).value)


def test_fleiss_refuses_items_with_unequal_ratings():
    with pytest.raises(DataError, match=r"got 1 to 2; .*krippendorff_alpha"):
        fleiss_kappa(count_ratings([("a", "a"), ("a", None)]))
    with pytest.raises(DataError, match="3 and 2 ratings"):
        cohens_kappa("aba", "ab")


def test_items_of_one_prompt_add_no_certainty_to_each_other():
    rng = np.random.default_rng(3)
    first = rng.integers(0, 2, 150)
    second = np.where(rng.random(150) < 0.8, first, 1 - first)
    prompts = np.arange(150)
    alone = cohens_kappa(first, second)
    copied = cohens_kappa(np.tile(first, 6), np.tile(second, 6), np.tile(prompts, 6))
    assert copied.value == pytest.approx(alone.value)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.05)
    taken_as_independent = cohens_kappa(np.tile(first, 6), np.tile(second, 6))
    assert taken_as_independent.high - taken_as_independent.low < 0.5 * (alone.high - alone.low)


def test_kappas_intervals_hold_the_truth():
    """Two raters right 85 % of the time, 300 items, two of a prompt: kappa is (.745 - .5) / .5 = .49."""
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(300):
        truth = rng.integers(0, 2, 300)
        first, second = (np.where(rng.random(300) < 0.85, truth, 1 - truth) for _ in range(2))
        measured = cohens_kappa(first, second, np.arange(300) // 2, seed=trial)
        hits += measured.low <= 0.49 <= measured.high
    assert 0.95 - 0.04 <= hits / 300 <= 0.95 + 0.04  # three standard deviations
