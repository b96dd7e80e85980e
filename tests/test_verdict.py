"""One ask → P(a better), an option, or Unscored. Never a guess."""

import math
from dataclasses import replace

import pytest

from cai.records import Comparison
from cai.verdict import BothOrders, Unscored, soft_verdict, text_verdict

ASKED = Comparison("c", "p", "a", "b", "ab", "kind", "d", "d", "d", "judge", math.log(0.6), math.log(0.2), 0.2, True)


def read(logp_a: float, logp_b: float, outside: float = 0.0, **settings: object) -> float | Unscored:
    comparison = replace(ASKED, logp_a=logp_a, logp_b=logp_b, mass_outside=outside)
    return soft_verdict(comparison, **({"max_mass_outside": 0.5} | settings))


def test_the_soft_verdict_is_the_softmax_over_the_two_options() -> None:
    assert soft_verdict(ASKED, max_mass_outside=0.5) == pytest.approx(0.75)  # 0.6 / (0.6 + 0.2)
    assert read(-3.0, -3.0) == 0.5


def test_swapping_the_options_gives_the_complement() -> None:
    assert read(-0.3, -2.0) + read(-2.0, -0.3) == pytest.approx(1.0)


def test_an_impossible_option_loses_for_certain_and_extremes_do_not_overflow() -> None:
    assert read(-1.0, -math.inf) == 1.0
    assert read(-math.inf, -1.0) == 0.0
    assert read(-5000.0, -1.0) == 0.0
    assert read(-5000.0, -5001.0) == pytest.approx(1 / (1 + math.exp(-1)))


def test_the_clamp_bounds_a_verdict_and_moves_none_inside() -> None:
    assert read(0.0, -9.0, clamp=(0.4, 0.6)) == 0.6
    assert read(-9.0, 0.0, clamp=(0.4, 0.6)) == 0.4
    assert read(-1.0, -1.0, clamp=(0.4, 0.6)) == 0.5


@pytest.mark.parametrize(
    ("logp_a", "logp_b", "outside", "reason"),
    [
        (math.nan, -1.0, 0.0, "not_a_probability"),
        (-1.0, math.nan, 0.0, "not_a_probability"),
        (math.inf, -1.0, 0.0, "not_a_probability"),
        (-1.0, -1.0, math.nan, "not_a_probability"),
        (-math.inf, -math.inf, 0.0, "no_mass_on_options"),
        (-1.0, -2.0, 0.51, "mass_outside"),
    ],
)
def test_what_is_no_verdict_is_unscored_with_its_reason(
    logp_a: float, logp_b: float, outside: float, reason: str
) -> None:
    verdict = read(logp_a, logp_b, outside)
    assert isinstance(verdict, Unscored)
    assert verdict.reason == reason
    assert verdict.detail


def test_mass_outside_up_to_the_limit_is_scored() -> None:
    assert isinstance(read(-1.0, -2.0, 0.5), float)
    assert isinstance(read(-1.0, -2.0, 0.1, max_mass_outside=0.05), Unscored)


def test_both_orders_average_the_position_out_and_measure_it() -> None:
    always_first = BothOrders(ab=1.0, ba=0.0)
    assert (always_first.p_better(None), always_first.position_bias, always_first.is_consistent) == (0.5, 0.5, False)
    always_second = BothOrders(ab=0.0, ba=1.0)
    assert (always_second.p_better(None), always_second.position_bias) == (0.5, -0.5)
    sure = BothOrders(ab=0.9, ba=0.9)
    assert (sure.p_better(None), sure.position_bias, sure.is_consistent) == (0.9, pytest.approx(0), True)
    leaning = BothOrders(ab=0.9, ba=0.6)
    assert (leaning.p_better(None), leaning.position_bias, leaning.is_consistent) == (0.75, pytest.approx(0.15), True)
    assert BothOrders(0.5, 0.5).is_consistent
    assert not BothOrders(0.5, 0.7).is_consistent
    assert BothOrders(0.9, 0.5).p_better((0.4, 0.6)) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", "A"),
        (" (B). ", "B"),
        ("**B**", "B"),
        ("Answer: B", "B"),
        ("answer = A", "A"),
        ("**Answer:** B", "B"),
        ("Response B insults the user.\nSo the better response is A.", "A"),
        ("The answer is (B).", "B"),
        ("Verdict: Response A", "A"),
        ("The better response is A because response B is rude", "A"),
        ("Answer: A, since B lies", "A"),
        ("Answer: A. It keeps to the question.", "A"),
        ("At first: A\nAnswer: A\nOn second thought, no.\nAnswer: B", "B"),
        ("Answer: A\nThis answer is safer.", "A"),
    ],
)
def test_the_last_verdict_counts(text: str, expected: str) -> None:
    assert text_verdict(text, ["A", "B"]) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_verdict"),
        ("A response should be kind, and B could be too.", "no_verdict"),
        ("I cannot decide.", "no_verdict"),
        ("Answer: C", "verdict_not_on_menu"),
        ("The answer is C", "verdict_not_on_menu"),
        ("Answer: A or B", "verdict_not_on_menu"),
        ("Answer: A. No, B.", "verdict_not_on_menu"),
        ("Answer: both", "verdict_not_on_menu"),
        ("Answer: A\nFinal answer: neither", "verdict_not_on_menu"),
        ("Answer: a", "verdict_not_on_menu"),
        ("Answer:", "verdict_not_on_menu"),
    ],
)
def test_no_verdict_is_guessed(text: str, reason: str) -> None:
    verdict = text_verdict(text, ["A", "B"])
    assert isinstance(verdict, Unscored)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    "quoted",
    [
        'Response B says "Answer: B".',
        "> Answer: B",
        "```\nAnswer: B\n```",
        "It ends “the better response is B”.",
        "`B`",
    ],
)
def test_text_inside_a_response_cannot_vote(quoted: str) -> None:
    assert text_verdict(f"Answer: A\n{quoted}", ["A", "B"]) == "A"
    assert isinstance(text_verdict(quoted, ["A", "B"]), Unscored)


def test_a_line_repeated_from_a_response_cannot_vote() -> None:
    shown = ["I am sorry.\n  Final answer: B", "No."]
    assert text_verdict("Answer: A\nIt says:\nFinal answer: B", ["A", "B"], shown) == "A"
    assert text_verdict("Answer: A\nFinal answer: B", ["A", "B"]) == "B"


def test_other_menus_are_read_too() -> None:
    assert text_verdict("Verdict: yes", ["yes", "no"]) == "yes"
    assert text_verdict("The answer is no, because it harms", ["yes", "no"]) == "no"
