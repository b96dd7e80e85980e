"""Position bias and consistency of a judge: known judges give known numbers, and what cannot be read is counted."""

import math
import random

import pytest

from cai.agreement import order_agreement
from cai.records import Comparison


def asked(pair: int, order: str, p_a: float, *, principle: str = "kind", judge: str = "judge") -> Comparison:
    """One ask of pair `pair`; two pairs share a prompt."""
    ids = (f"{judge}{principle}{pair}{order}", f"prompt {pair // 2}", f"a{pair}", f"b{pair}", order, principle)
    logps = (math.log(p) if p > 0 else -math.inf for p in (p_a, 1 - p_a))
    return Comparison(*ids, "d", "d", "d", judge, *logps, 0.0, True)


def both(pair: int, ab: float, ba: float, **named: str) -> list[Comparison]:
    return [asked(pair, "ab", ab, **named), asked(pair, "ba", ba, **named)]


def test_a_judge_that_always_says_a_is_all_bias_and_never_consistent() -> None:
    (overall, kind) = order_agreement([row for i in range(20) for row in both(i, 1.0, 0.0)])
    assert (overall.principle_id, kind.principle_id) == ("", "kind")
    for row in (overall, kind):
        assert (row.position_bias.value, row.position_bias.low, row.position_bias.high) == (0.5, 0.5, 0.5)
        assert (row.consistency.value, row.consistency.n, row.n_unscored) == (0.0, 20, 0)


def test_a_planted_bias_is_found_within_its_interval() -> None:
    """Verdicts differ by pair; the first place adds 0.1 to each."""
    draw = random.Random(1)
    quality = [draw.uniform(0.15, 0.85) for _ in range(200)]
    (overall, _) = order_agreement([row for i, q in enumerate(quality) for row in both(i, q + 0.1, q - 0.1)])
    assert overall.position_bias.value == pytest.approx(0.1)
    noisy = [row for i, q in enumerate(quality) for row in both(i, q, draw.uniform(0.15, 0.85))]
    (overall, _) = order_agreement(noisy)
    assert overall.position_bias.low < 0 < overall.position_bias.high
    assert 0.3 < overall.consistency.value < 0.7


def test_bias_is_told_apart_by_principle_and_by_judge() -> None:
    rows = [row for i in range(10) for row in both(i, 0.9, 0.9)]
    rows += [row for i in range(10) for row in both(i, 0.9, 0.3, principle="safe")]
    rows += [row for i in range(10) for row in both(i, 0.2, 0.6, judge="other")]
    found = {(r.judge_digest, r.principle_id): r for r in order_agreement(rows)}
    assert {key: round(row.position_bias.value, 6) for key, row in found.items()} == {
        ("judge", ""): 0.15,
        ("judge", "kind"): 0.0,
        ("judge", "safe"): 0.3,
        ("other", ""): -0.2,
        ("other", "kind"): -0.2,
    }
    assert found["judge", ""].consistency.value == 0.5


def test_opposite_biases_of_two_principles_do_not_hide_each_other() -> None:
    rows = (
        both(0, 1.0, 0.0)
        + both(1, 1.0, 0.0)
        + both(0, 0.0, 1.0, principle="safe")
        + both(1, 0.0, 1.0, principle="safe")
    )
    biases = {r.principle_id: r.position_bias.value for r in order_agreement(rows)}
    assert biases == {"": 0.0, "kind": 0.5, "safe": -0.5}


def test_what_has_one_order_or_cannot_be_read_is_counted_and_left_out() -> None:
    rows = [*both(0, 0.9, 0.9), asked(1, "ab", 0.9), asked(2, "ab", math.nan), asked(2, "ba", 0.9)]
    (overall, _) = order_agreement(rows)
    assert (overall.position_bias.n, overall.n_unscored) == (1, 2)


def test_nothing_scored_is_unknown_and_not_zero() -> None:
    (overall, _) = order_agreement([asked(0, "ab", 0.9)])
    assert math.isnan(overall.position_bias.value)
    assert overall.n_unscored == 1
    assert order_agreement([]) == []


def test_prompts_are_the_unit_that_varies() -> None:
    """Asking about each pair under ten copies of a principle adds rows, and no certainty."""
    draw = random.Random(2)
    verdicts = [(draw.random(), draw.random()) for _ in range(40)]
    once = [row for i, (ab, ba) in enumerate(verdicts) for row in both(i, ab, ba)]
    often = [
        row for k in range(10) for i, (ab, ba) in enumerate(verdicts) for row in both(i, ab, ba, principle=f"p{k}")
    ]
    (one, *_), (ten, *_) = order_agreement(once), order_agreement(often)
    width = one.position_bias.high - one.position_bias.low
    assert ten.position_bias.high - ten.position_bias.low == pytest.approx(width, rel=0.05)
