"""What a guard decides from scores alone, the curve it fits to them, and the prompts it holds aside."""

import math
import random

import pytest
from guard_scores import GUARD, history, row

from cai.config import GuardConfig, RewardModelTerm
from cai.errors import ConfigError
from cai.records import Message
from cai.training.guard import decide, fit_history, fit_overoptimisation, hold_aside
from cai.training.rows import PromptRow

STALL = GuardConfig(every=5, patience=3, stall=5)


# decisions


def test_while_gold_rises_the_run_goes_on_and_the_newest_is_the_best():
    assert decide(GUARD, history(0.5, 0.6, 0.7)) == (10, None, "")
    assert decide(GUARD, []) == (0, None, "")


def test_it_stops_once_gold_has_fallen_as_often_as_patience_says_and_keeps_the_peak():
    falling = history(0.5, 0.8, 0.7, 0.6, 0.5)
    assert decide(GUARD, falling[:4]) == (5, None, "")
    found = decide(GUARD, falling)
    assert (found.best_step, found.stop_step) == (5, 20)
    assert found.reason == "gold 0.5 ± 0.02, at step 5 it was 0.8 ± 0.02; the proxy went from 1 ± 0.1 to 4 ± 0.1"


def test_a_drop_within_the_noise_is_no_drop():
    """The difference 0.1 of two scores with error 0.05 each: noise is 2.33 · √2 · 0.05 = 0.165."""
    assert not decide(GUARD, history(0.8, 0.7, 0.7, 0.7, 0.7, sem=0.05)).must_stop
    assert decide(GUARD, history(0.8, 0.7, 0.7, 0.7, 0.7, sem=0.03)).must_stop


def test_one_score_back_at_the_peak_starts_the_count_again():
    assert not decide(GUARD, history(0.8, 0.6, 0.6, 0.79, 0.6, 0.6)).must_stop
    assert decide(GUARD, history(0.8, 0.6, 0.6, 0.79, 0.6, 0.6, 0.6)).stop_step == 30
    assert decide(GUARD, history(0.8, 0.6, 0.6, 0.9)).best_step == 15


def test_noise_alone_seldom_stops_a_run_and_a_true_fall_always_does():
    """200 runs of 20 scores each, error 0.03: one stays at 0.8 for good, the other falls by 0.02 a score from there."""
    rng = random.Random(0)
    flat = [decide(GUARD, history(*(rng.gauss(0.8, 0.03) for _ in range(20)), sem=0.03)) for _ in range(200)]
    falls = [
        decide(GUARD, history(*(rng.gauss(0.8 - 0.02 * i, 0.03) for i in range(20)), sem=0.03)) for _ in range(200)
    ]
    assert sum(d.must_stop for d in flat) <= 10
    assert all(d.must_stop for d in falls)


def test_it_stops_where_the_proxy_rises_and_gold_does_not_though_it_has_not_fallen():
    stalled = history(0.5, 0.9, 0.9, 0.89, 0.88, 0.9, 0.89)
    assert decide(STALL, stalled[:-1]) == (5, None, "")
    found = decide(STALL, stalled)
    assert (found.best_step, found.stop_step) == (5, 30)
    assert found.reason == (
        "gold has not been above what it was at step 5 for 5 scores (gold 0.89 ± 0.02, at step 5 it was 0.9 ± 0.02); "
        "the proxy went from 1 ± 0.1 to 6 ± 0.1"
    )
    assert not decide(GUARD, stalled).must_stop
    assert not decide(STALL, [{**r, "proxy/mean": 1.0} for r in stalled]).must_stop, "the proxy rests too"


@pytest.mark.parametrize(("rise", "most"), [(0.3, 0.3), (0.5, 0.04)])
def test_a_run_whose_gold_rises_slowly_seldom_stalls(rise, most):
    """400 runs of 20 scores each; `rise` in standard errors a score. Scores of the same prompts share noise."""
    rng = random.Random(1)
    runs = [history(*(0.1 * rise * i + rng.gauss(0, 0.07) for i in range(20)), sem=0.1) for _ in range(400)]
    assert sum(decide(STALL, each).must_stop for each in runs) <= most * len(runs)


def test_of_equal_scores_the_earlier_is_kept():
    assert decide(GUARD, history(0.5, 0.8, 0.8)).best_step == 5


@pytest.mark.parametrize(
    ("limits", "bad", "reason"),
    [
        ({"kl_budget": 8.0}, {"kl": 9.25}, "KL 9.25 nats per response, above kl_budget 8"),
        ({"min_entropy": 0.1}, {"entropy": 0.05}, "entropy 0.05 nats per token, below min_entropy 0.1"),
        ({"max_repetition": 0.2}, {"repetition": 0.5}, "50.0% of trigrams repeated, above max_repetition 20.0%"),
    ],
)
def test_a_collapse_stops_at_once_and_is_never_kept_however_good_its_gold(limits, bad, reason):
    config = GUARD.model_copy(update=limits)
    rows = [row(0, 0.5), row(5, 0.6), row(10, 0.9, **bad), row(15, 0.95)]
    assert decide(config, rows) == (5, 10, reason)
    assert not decide(GUARD, rows).must_stop


def test_without_gold_the_last_sound_step_is_kept():
    config = GUARD.model_copy(update={"kl_budget": 8.0})
    rows = [row(0, kl=0.0), row(5, kl=4.0), row(10, kl=7.9)]
    assert decide(config, rows).best_step == 10
    assert decide(config, [*rows, row(15, kl=8.1)])[:2] == (10, 15)


def test_a_number_that_is_none_stops_between_scores():
    rows = [*history(0.5, 0.6), {"step": 7, "not_finite": 1.0}]
    assert decide(GUARD, rows) == (5, 7, "loss, gradient or logits after step 7 are no numbers")


def test_rows_of_unscored_steps_change_nothing():
    rows = [each for i in range(4) for each in (*history(0.5, 0.8, 0.7, 0.6)[i : i + 1], {"step": 5 * i + 1})]
    assert decide(GUARD, rows) == decide(GUARD, history(0.5, 0.8, 0.7, 0.6))


# the fit


def test_the_fit_finds_the_curve_that_made_the_points():
    d = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]
    alpha, beta, peak = fit_overoptimisation(d, [x * (1.5 - 0.8 * math.log(x)) if x else 0.0 for x in d])
    assert (alpha, beta) == (pytest.approx(1.5), pytest.approx(0.8))
    assert peak == pytest.approx(math.exp(1.5 / 0.8 - 1))


def test_the_fit_by_hand():
    """d = 1 and e, R = 2 and e: α = 2; at e, e·(α − β) = e, so β = 1, and the peak is at exp(2 − 1) = e."""
    assert fit_overoptimisation([1, math.e], [2, math.e]) == pytest.approx((2, 1, math.e))


def test_the_fit_is_least_squares_on_the_reward():
    """At d = 1 only α matters: three noisy rewards there give their mean."""
    found = fit_overoptimisation([1, 1, 1, math.e], [1, 2, 6, math.e * 2])
    assert (found.alpha, found.beta) == pytest.approx((3, 1))


def test_gold_that_only_rises_has_no_peak_and_too_few_points_no_fit():
    assert fit_overoptimisation([1, 2, 3], [1, 3, 6]).peak_d is None
    assert fit_overoptimisation([0, 0.5, 0.5], [0, 1, 1]) is None
    assert fit_history(history(0.5)) is None


def test_the_fit_of_a_run_is_above_its_start_and_over_the_root_of_its_kl():
    rows = [row(5 * i, 0.3 + d * (1 - 0.5 * math.log(d or 1)), kl=d * d) for i, d in enumerate((0, 0.5, 1, 2))]
    assert fit_history(rows) == pytest.approx((1, 0.5, math.e))


# prompts held aside


def prompts(n):
    return [PromptRow(f"p{i}", (Message("user", f"text {i}"),), None) for i in range(n)]


def test_prompts_are_held_aside_by_their_text_and_never_trained_on():
    rows = [*prompts(20), PromptRow("twin", (Message("user", "text 3"),), None)]
    found = hold_aside(rows, GuardConfig(gold_prompts=8))
    assert len({p.prompt for p in found.held_aside}) == len(found.held_aside) == 8
    assert not {p.prompt for p in found.held_aside} & {p.prompt for p in found.training}
    assert len({p.prompt for p in found.training}) == 12
    again = hold_aside(rows[::-1], GuardConfig(gold_prompts=8))
    assert [p.prompt for p in again.held_aside] == [p.prompt for p in found.held_aside]
    assert hold_aside(rows, None) == (rows, [])


def test_a_guard_that_would_leave_nothing_to_train_on_is_refused():
    with pytest.raises(ConfigError, match="gold_prompts is 8, and of 8 prompts none would be left"):
        hold_aside(prompts(8), GuardConfig(gold_prompts=8))


def test_gold_cannot_be_the_proxy():
    with pytest.raises(ValueError, match="it would be the proxy itself"):
        GuardConfig(gold=(RewardModelTerm(name="gold"),))
