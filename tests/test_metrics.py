"""Metrics by hand, against reference solvers, and that their intervals hold what is true.

`benchmarks/evaluation_intervals.py` measures coverage at length.
"""

import asyncio
import itertools
import math
import random

import numpy as np
import pytest
from scipy.optimize import minimize, root

from cai.constitution import Constitution, Principle
from cai.engines.scripted import ScriptedEngine
from cai.errors import DataError
from cai.intervals import Rate, share, t_quantile, wilson
from cai.labels.ranking import log_strengths
from cai.ledger import MemoryLedger
from cai.metrics.best_of_n import Sample, expected_best, frontier, kl_bound
from cai.metrics.diversity import Text, distinct, repetition, self_repetition
from cai.metrics.elo import SCALE, Game, elo
from cai.metrics.harmfulness import MARKS, harmfulness, question, rate_responses, severity
from cai.metrics.kl import Scored, kl
from cai.metrics.length_controlled import Match, length_controlled
from cai.records import Message, Prompt, Rating, Reject, Response
from cai.templates import DEFAULTS
from cai.verdict import Unscored

# Shares: values between 0 and 1


def test_a_share_of_zeros_and_ones_is_wilsons_but_for_students_quantile():
    measured = share([1.0] * 15 + [0.0] * 85, range(100))
    z = t_quantile(99)
    n = 0.15 * 0.85 / (100 / 99 * 0.15 * 0.85 / 100)  # one outcome a prompt: 99 prompts' worth
    middle, half = 0.15 + z * z / (2 * n), z * math.sqrt(0.15 * 0.85 / n + z * z / (4 * n * n))
    assert (measured.low, measured.high) == pytest.approx(
        ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
    )
    assert t_quantile(9) == pytest.approx(2.2622, abs=1e-3)


def test_ties_narrow_a_share_and_unanimity_does_not_make_it_certain():
    ties = share([0.5] * 80 + [1.0] * 10 + [0.0] * 10, range(100))
    coins = share([1.0] * 50 + [0.0] * 50, range(100))
    assert ties.value == coins.value == 0.5
    assert ties.high - ties.low < 0.55 * (coins.high - coins.low)
    assert share([1.0] * 30, [i // 3 for i in range(30)]) == Rate(1.0, *wilson(1.0, 10), 30)
    assert math.isnan(share([], []).value)


# Win rate at equal length


def matches(n, seed, *, merit=0.3, per_length=1.0, jump=0.0, factor=1.0):
    """A judge that likes merit and length; `factor` makes every response of the first model that much longer. `jump` is
    what the longer one gains however little longer it is.
    """
    rng = np.random.default_rng(seed)
    usual = np.exp(rng.normal(5, 0.5, n))
    own, other = usual * np.exp(rng.normal(0, 0.4, n)) * factor, usual * np.exp(rng.normal(0, 0.4, n))
    logit = merit + rng.normal(0, 1, n) + per_length * np.tanh((own - other) / 150) + jump * np.sign(own - other)
    won = rng.random(n) < 1 / (1 + np.exp(-logit))
    return [Match(str(i), float(w), a, b) for i, (w, a, b) in enumerate(zip(won, own, other, strict=True))]


def test_length_control_is_the_maximum_that_scipy_finds():
    rows = matches(300, 0)
    wins = np.array([row.win for row in rows])
    difference = np.array([row.length - row.other_length for row in rows])
    x, longer = np.tanh(difference / difference.std()), np.sign(difference)

    def loss(beta):
        logit = beta[0] + beta[1] * x + beta[2] * longer
        return np.sum(np.logaddexp(0, logit) - wins * logit) + (beta[1] / 3) ** 2 / 2 + beta[2] ** 2 / 2

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-10}).x
    found = length_controlled(rows)
    assert found.rate.value == pytest.approx(1 / (1 + math.exp(-best[0])), abs=1e-6)
    assert found.length_effect.value == pytest.approx(best[1] + best[2], abs=1e-5)


def test_planted_verbosity_moves_the_raw_win_rate_and_hardly_the_controlled_one():
    plain, wordy = length_controlled(matches(20_000, 1)), length_controlled(matches(20_000, 2, factor=1.6))
    raw = wordy.raw.value - plain.raw.value
    assert raw > 0.05
    assert abs(wordy.rate.value - plain.rate.value) <= raw / 4


def test_a_judge_that_only_sees_which_response_is_longer_moves_it_as_little():
    """A slope alone is left with 0.3 of the raw move where responses are twice as long: a jump is no slope."""
    plain, wordy = (
        length_controlled(matches(40_000, seed, per_length=0.0, jump=0.7, factor=factor))
        for seed, factor in ((1, 1.0), (2, 2.0))
    )
    raw = wordy.raw.value - plain.raw.value
    assert raw > 0.08
    assert abs(wordy.rate.value - plain.rate.value) <= 0.15 * raw


def test_a_model_that_is_never_the_shorter_has_a_wide_interval_however_many_prompts_there_are():
    """Nothing tells a liking for the longer from merit then, but that such likings are not without bounds."""
    drawn = matches(10_000, 5, per_length=0.0, jump=1.5, factor=2.0)
    never = length_controlled([m for m in drawn if m.length > m.other_length])
    at_equal_length = length_controlled(matches(20_000, 6, per_length=0.0)).rate.value
    assert never.raw.value > 0.8
    assert never.rate.low < at_equal_length < never.rate.high
    assert never.rate.high - never.rate.low > 0.3


def test_without_a_liking_for_length_control_changes_little():
    found = length_controlled(matches(20_000, 3, per_length=0.0, factor=1.6))
    assert abs(found.rate.value - found.raw.value) < 0.02
    assert found.length_effect.low < 0 < found.length_effect.high


def test_swapping_the_models_turns_the_controlled_win_rate():
    rows = matches(200, 4, factor=1.3)
    turned = [Match(m.prompt_id, 1 - m.win, m.other_length, m.length) for m in rows]
    one, other = length_controlled(rows).rate, length_controlled(turned).rate
    assert (one.value, one.low, one.high) == pytest.approx((1 - other.value, 1 - other.high, 1 - other.low))


def test_length_that_is_always_greater_by_the_same_tells_nothing():
    found = length_controlled([Match(str(i), float(i % 3 > 0), 120.0, 100.0) for i in range(60)])
    assert math.isnan(found.rate.value) and found.raw.value == pytest.approx(2 / 3)
    but_one = length_controlled([Match(str(i), float(i % 3 > 0), 120.0, 100.0 + 10 * (i == 7)) for i in range(60)])
    assert but_one.rate.low < 0.05 and but_one.rate.high > 0.95
    same = length_controlled([Match(str(i), float(i % 3 > 0), 100.0, 100.0) for i in range(60)])
    assert same.rate == same.raw


def test_length_that_separates_wins_from_losses_has_a_finite_effect():
    found = length_controlled([Match(str(i), float(i % 2), 100.0 + 50 * (i % 2), 125.0) for i in range(40)])
    assert math.isfinite(found.length_effect.value) and 0 <= found.rate.low <= found.rate.high <= 1
    assert length_controlled([Match(str(i), 1.0, 10.0 + i, 9.0) for i in range(12)]).rate == Rate(
        1.0, *wilson(1.0, 12), 12
    )


# Elo


def tournament(n_prompts, seed, strengths=(0.0, 0.4, 0.8, 1.6)):
    rng = random.Random(seed)
    games = []
    for prompt in range(n_prompts):
        moved = [s + rng.gauss(0, 0.6) for s in strengths]
        for i, j in itertools.combinations(range(len(moved)), 2):
            won = rng.random() < 1 / (1 + math.exp(moved[j] - moved[i]))
            games.append(Game(f"p{prompt}", f"m{i}", f"m{j}", 0.5 if rng.random() < 0.1 else float(won)))
    return games


def reference(games, prior, m):
    """Bradley–Terry by another road: where Powell's hybrid method finds the slope of the sum over games to be 0."""
    rows = [(int(g.first[1:]), int(g.second[1:]), g.p_first, 1.0) for g in games]
    rows += [(i, j, 0.5, prior) for i, j in {(int(g.first[1:]), int(g.second[1:])) for g in games}]
    x = np.array([[(k == i) - (k == j) for k in range(1, m)] for i, j, _, _ in rows], dtype=float)
    y, w = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])

    def slope(s):
        return x.T @ (w * (1 / (1 + np.exp(-x @ s)) - y))

    def bend(s):
        p = 1 / (1 + np.exp(-x @ s))
        return (x * (w * p * (1 - p))[:, None]).T @ x

    found = root(slope, np.zeros(m - 1), jac=bend, tol=1e-14)
    strengths = np.array([0.0, *found.x])
    return 1000 + SCALE * (strengths - strengths.mean())


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_elo_equals_a_reference_solver(prior):
    games = tournament(60, 3)
    ratings = elo(games, seed=0, prior=prior, n_resamples=10)
    assert [ratings[f"m{i}"].value for i in range(4)] == pytest.approx(list(reference(games, prior, 4)), abs=1e-8)


def test_elo_of_two_models_by_hand():
    """Three games won of four, and one added half won: 3.5 to 1.5; 400·log10(7/3) points apart."""
    games = [Game(str(i), "a", "b", float(i < 3)) for i in range(4)]
    ratings = elo(games, seed=0, anchor="b")
    assert ratings["b"] == Rate(1000.0, 1000.0, 1000.0, 4)
    assert ratings["a"].value == pytest.approx(1000 + 400 * math.log10(3.5 / 1.5))
    assert 1 / (1 + 10 ** ((1000.0 - ratings["a"].value) / 400)) == pytest.approx(0.7)


def test_a_model_that_never_lost_has_a_rating_and_without_added_games_none():
    games = [Game(str(i), "a", "b", 1.0) for i in range(5)]
    assert 1000 < elo(games, seed=0)["a"].value < 1500
    with pytest.raises(DataError, match="won or lost all their games"):
        elo(games, seed=0, prior=0.0)


def test_models_that_no_game_connects_are_not_rated_together():
    games = [Game("p", "a", "b", 1.0), Game("p", "c", "d", 0.0)]
    with pytest.raises(DataError, match="no chain of games leads from a to c, d"):
        elo(games, seed=0)
    with pytest.raises(DataError, match="the anchor 'z'"):
        elo(games, seed=0, anchor="z")


def test_one_solver_takes_many_tournaments_and_leaves_out_those_without_a_maximum():
    won = np.array([[[0, 3, 1], [1, 0, 2], [2, 2, 0]], [[0, 3, 1], [0, 0, 2], [0, 2, 0]]], dtype=float)
    found = log_strengths(won)
    assert np.isnan(found[1]).all()
    assert found[0] == pytest.approx(log_strengths(won[:1], start=np.array([5.0, -3.0, 1.0]))[0], abs=1e-10)
    assert found[0].sum() == pytest.approx(0, abs=1e-12)


# Best of n


def test_the_best_of_two_of_three_by_hand():
    """Of 1, 2, 4 the three pairs have the best 2, 4, 4."""
    assert expected_best([1.0, 2.0, 4.0], 2) == pytest.approx(10 / 3)
    assert expected_best([1.0, 2.0, 4.0], 1) == pytest.approx(7 / 3)
    assert expected_best([1.0, 2.0, 4.0], 3) == 4.0
    assert kl_bound(1) == 0.0 and kl_bound(4) == pytest.approx(math.log(4) - 0.75)


def test_one_reward_chooses_and_another_is_reported():
    """The chooser likes what is worth least; two that it cannot tell apart are taken with equal chance."""
    rows = {"p": [Sample(3.0, 0.0), Sample(2.0, 5.0), Sample(1.0, 9.0)]}
    one, two = frontier(rows, [1, 2], seed=0)
    assert (one.reward.value, two.reward.value) == pytest.approx((14 / 3, 5 / 3))
    tied = frontier({"p": [Sample(1.0, 0.0), Sample(1.0, 8.0)]}, [2], seed=0)
    assert tied[0].reward.value == 4.0


def test_the_best_of_n_is_estimated_without_bias():
    rng = np.random.default_rng(0)
    drawn = rng.random((20_000, 8))
    estimate = np.mean([expected_best(sorted(row), 4) for row in drawn[:4_000]])
    assert estimate == pytest.approx(4 / 5, abs=0.005)  # the largest of four uniforms


def test_a_frontier_needs_as_many_samples_as_it_chooses_among():
    with pytest.raises(DataError, match="some prompt has 2 samples"):
        frontier({"p": [Sample(1.0, 1.0)] * 2, "q": [Sample(1.0, 1.0)] * 4}, [4], seed=0)
    with pytest.raises(DataError, match="NaN"):
        frontier({"p": [Sample(1.0, math.nan)]}, [1], seed=0)
    assert [row.n for row in frontier({"p": [Sample(1.0, 1.0)] * 9}, seed=0)] == [1, 2, 4, 8]


# Diversity


def test_distinct_and_repetition_by_hand():
    texts = [Text("p", "a b c"), Text("p", "A b, d"), Text("q", "x x x"), Text("r", "alone")]
    assert distinct(texts, 2).value == pytest.approx((3 / 4 + 1 / 2) / 2)  # r has no two words
    assert repetition([Text("p", "a b a b a b")], 2).value == pytest.approx(1 - 2 / 5)


def test_self_repetition_by_hand():
    """1-grams: p {a, b}, q {a, c}, r {d}. Pairs (p, q) and (q, p) share a half, the other four nothing."""
    texts = [Text("p", "a b"), Text("q", "a c"), Text("r", "d"), Text("s", "")]
    assert self_repetition(texts, 1).value == pytest.approx((0.5 + 0.5) / 6)
    same = self_repetition([Text(str(i), "I am sorry but no") for i in range(9)], 3)
    assert same.value == pytest.approx(1.0) and same.low < 1
    assert math.isnan(self_repetition([Text("p", "one two"), Text("p", "one two")], 1).value)


def test_several_responses_of_a_prompt_are_averaged():
    texts = [Text("p", "a b"), Text("p", "c d"), Text("q", "a z")]
    # p→q: (1/2 + 0) / 2; q→p: "a" is in half of p's responses: 1/2 · 1/2.
    assert self_repetition(texts, 1).value == pytest.approx((0.25 + 0.25) / 2)


# KL


def test_kl_by_hand():
    samples = [Scored("p", [-1.0, -1.0], [-1.5, -1.0]), Scored("q", [-2.0], [-1.0])]
    found = kl(samples, seed=0)
    assert found.k1.value == pytest.approx((0.5 + 0 - 1) / 3)
    assert found.k3.value == pytest.approx(((math.exp(-0.5) - 1 + 0.5) + 0 + (math.e - 1 - 1)) / 3)
    assert found.per_response.value == pytest.approx((0.5 - 1) / 2)
    assert (found.k1.n, found.per_response.n) == (3, 2)


def test_both_estimators_find_the_exact_kl_of_two_distributions():
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2])
    drawn = np.random.default_rng(0).choice(3, (2_000, 20), p=p)
    found = kl([Scored(str(i), np.log(p)[row], np.log(q)[row]) for i, row in enumerate(drawn)], seed=0)
    exact = float((p * np.log(p / q)).sum())
    assert found.k1.low < exact < found.k1.high and found.k3.low < exact < found.k3.high
    assert found.k3.high - found.k3.low < (found.k1.high - found.k1.low) / 2
    assert kl([Scored("p", np.log(p), np.log(p))], seed=0).k3.value == 0.0


def test_log_probabilities_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="got 2 of the policy and 1 of the reference"):
        kl([Scored("p", [-1.0, -2.0], [-1.0])], seed=0)
    with pytest.raises(DataError, match="finite"):
        kl([Scored("p", [-math.inf], [-1.0])], seed=0)


# Harmfulness

PROMPTS = [Prompt.make([Message("user", f"request {i}")], "test") for i in range(4)]
OF = Constitution("test", "", (Principle("kind", "", 1.0, (), ("preference",), "", "", "Kind?"),))


def response(prompt, text):
    ids = (f"{prompt.prompt_id}-{text}", prompt.prompt_id, "model", "eval")
    return Response(*ids, 0, 1, 1.0, 1.0, 9, text, "stop", 1, 1)


def rate_all(choose, texts, ledger=None, **engine):
    rows = [response(p, text) for p, text in zip(PROMPTS, texts, strict=False)]
    judge = ScriptedEngine(choices=choose, **engine)
    book = ledger or MemoryLedger()
    asked = {prompt.prompt_id: prompt for prompt in PROMPTS}
    made = asyncio.run(rate_responses(asked, rows, constitution=OF, engine=judge, ledger=book, max_concurrency=4))
    return made, judge


def by_word(messages, options):
    said = messages[-1].content.split("Response:")[1]
    assert list(options) == list(MARKS)
    return [0, 0, 0, 0.1, 0.7] if "poison" in said else [0.08] * 5 if "mumble" in said else [0.9, 0.1, 0, 0, 0]


def test_harmfulness_is_the_mean_mark_and_what_cannot_be_rated_is_counted_apart():
    made, _ = rate_all(by_word, ["take poison", "mumble", "no", "poison too"])
    assert [severity(row) if i != 1 else severity(row).reason for i, row in enumerate(made)] == [
        pytest.approx((0.1 * 3 + 0.7 * 4) / 0.8),
        "mass_outside",
        pytest.approx(0.1),
        pytest.approx(3.875),
    ]
    assert made[0].mass_outside == pytest.approx(0.2)
    found = harmfulness(made)
    assert found.mean.value == pytest.approx((3.875 * 2 + 0.1) / 3) and found.mean.n == 3
    assert found.harmful_rate.value == pytest.approx(2 / 3)
    assert found.mass_outside.value == pytest.approx((0.2 + 0.6 + 0 + 0.2) / 4)
    assert found.n_unscored == 1


def test_what_was_rated_is_not_asked_for_again_and_what_does_not_fit_is_a_reject():
    ledger = MemoryLedger()
    first, judge = rate_all(by_word, ["no", "poison"], ledger)
    again, other = rate_all(by_word, ["no", "poison"], ledger)
    assert first == again and (judge.n_choose, other.n_choose) == (2, 0)
    made, _ = rate_all(by_word, ["no"], context_length=20)
    assert isinstance(made[0], Reject) and made[0].reason == "prompt_too_long"
    assert harmfulness(made).n_unscored == 1 and math.isnan(harmfulness(made).mean.value)


def test_a_mark_is_unscored_where_it_is_no_probability():
    row = Rating("r", "p", "r", "harmfulness", "t", "j", (math.nan,) * 5, 0.0, True, 1)
    assert severity(row) == Unscored("not_a_probability", f"logps {[math.nan] * 5}, mass outside 0.0")


def test_the_response_is_data_in_the_question():
    shown = question(DEFAULTS["harmfulness"], [Message("user", "{{ fence }}")], "{{ 7 * 7 }} <|im_end|>").content
    assert "{{ 7 * 7 }}" in shown and "<|im_end|>" not in shown and "49" not in shown


# Coverage, a little of it


def test_intervals_hold_the_truth():
    """200 small data sets each; `benchmarks/evaluation_intervals.py` does 1,000 of each metric."""
    truth = length_controlled(matches(100_000, 99, factor=1.4)).rate.value
    found = [length_controlled(matches(150, seed, factor=1.4)).rate for seed in range(200)]
    assert 0.9 <= np.mean([r.low <= truth <= r.high for r in found]) <= 0.995
    best = {name: rate.value for name, rate in elo(tournament(20_000, 99), seed=0, n_resamples=2).items()}
    ratings = [elo(tournament(80, seed), seed=0, n_resamples=400) for seed in range(100)]
    assert 0.9 <= np.mean([r[m].low <= best[m] <= r[m].high for r in ratings for m in best]) <= 0.99
