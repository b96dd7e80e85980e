"""Intervals: known values, hand-worked clusters, and coverage on simulated data."""

import math

import numpy as np
import pytest

from cai.intervals import bootstrap_mean, paired_difference, rate, share, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    assert wilson(successes / n, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_exact_at_the_ends():
    assert wilson(0.0, 7)[0] == 0.0
    assert wilson(1.0, 7)[1] == 1.0
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_a_rate_of_independent_outcomes_has_wilsons_interval():
    measured = rate([True] * 15 + [False] * 133, list(range(148)))
    assert measured.value == pytest.approx(15 / 148)
    assert (measured.low, measured.high) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert measured.n == 148


def test_outcomes_that_repeat_within_a_prompt_count_once():
    """Ten prompts asked three times each with the same outcome hold the information of about ten outcomes."""
    outcomes = [prompt < 4 for prompt in range(10) for _ in range(3)]
    clusters = [prompt for prompt in range(10) for _ in range(3)]
    measured = rate(outcomes, clusters)
    # Robust variance: 10/9 × (4 × 1.8² + 6 × 1.2²) / 900; binomial: 0.24 / 30; so n is 30 / (10/3) = 9.
    assert (measured.low, measured.high) == pytest.approx(wilson(0.4, 9.0))
    assert measured.n == 30


def test_unanimous_clusters_count_each_prompt_once():
    measured = rate([False] * 40, [i // 4 for i in range(40)])
    assert (measured.low, measured.high) == wilson(0.0, 10)


@pytest.mark.parametrize("sizes", [[1] * 39 + [3], [3] * 40, [1, 2, 3, 7, 500], [10_000, 1]])
@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3, 1e-7, 1 - 1e-9])
def test_clusters_that_say_the_same_but_for_rounding_count_each_as_one(value, sizes):
    """0.1 + 0.1 + 0.1 is not 3 times 0.1: the difference was taken for all the noise there is, or for none to divide
    by.
    """
    clusters = [place for place, size in enumerate(sizes) for _ in range(size)]
    found = share([value] * len(clusters), clusters)
    assert found.value == pytest.approx(value) and found.n == len(clusters)
    assert (found.low, found.high) == pytest.approx(wilson(value, len(sizes)))


def test_clusters_that_differ_by_little_have_the_interval_of_their_own_noise():
    found = share([0.5, 0.500001, 0.5, 0.499999], range(4))
    assert 1e-6 < found.high - found.low < 1e-5


def test_nothing_measured_is_unknown_and_not_zero():
    measured = rate([], [])
    assert math.isnan(measured.value)
    assert (measured.low, measured.high, measured.n) == (0.0, 1.0, 0)


def test_bootstrap_weighs_values_and_resamples_clusters():
    values, clusters = [1.0, 1.0, 1.0, 0.0], ["p", "p", "p", "q"]
    measured = bootstrap_mean(values, clusters, seed=1)
    assert measured.value == 0.75
    assert (measured.low, measured.high) == (0.0, 1.0)  # both draws of p, or of q, happen a quarter of the time


def test_bootstrap_is_decided_by_its_seed():
    values, clusters = [float(i % 5) for i in range(60)], [i // 2 for i in range(60)]
    first, again = (bootstrap_mean(values, clusters, seed=3) for _ in range(2))
    assert first == again
    assert first != bootstrap_mean(values, clusters, seed=4)


def test_one_prompt_says_nothing_about_spread():
    measured = bootstrap_mean([0.2, 0.4], ["p", "p"], seed=0)
    assert measured.low == -math.inf
    assert measured.high == math.inf


def test_a_paired_difference_cancels_what_prompts_share():
    hard = np.random.default_rng(0).random(200)
    first, second = list(hard + 0.1), list(hard)
    measured = paired_difference(first, second, range(200), seed=0)
    assert measured.value == pytest.approx(0.1)
    assert measured.high - measured.low < 1e-9


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError):
        paired_difference([1.0, 0.0], [1.0], ["p", "q"], seed=0)


def test_bootstrap_covers_the_truth_at_its_level():
    """Twenty-five prompts of three correlated answers, 3,000 times over: 95 % intervals hold the truth 93 to 97 %."""
    rng = np.random.default_rng(7)
    clusters = [i // 3 for i in range(75)]
    hits = 0
    for trial in range(3000):
        values = np.repeat(rng.normal(size=25), 3) + rng.normal(size=75)
        measured = bootstrap_mean(list(values), clusters, seed=trial, n_resamples=800)
        hits += measured.low <= 0.0 <= measured.high
    assert 0.93 <= hits / 3000 <= 0.97


def test_rate_covers_the_truth_at_its_level():
    rng = np.random.default_rng(11)
    clusters = [i // 2 for i in range(120)]
    hits = 0
    for _ in range(3000):
        outcomes = (rng.random(120) < np.repeat(rng.beta(0.6, 1.4, size=60), 2)).tolist()
        measured = rate(outcomes, clusters)
        hits += measured.low <= 0.3 <= measured.high
    assert 0.93 <= hits / 3000 <= 0.97
