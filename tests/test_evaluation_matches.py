"""Win rates from labels: ties, what could not be scored, the position, and the length."""

import asyncio

import pytest
from evaluation_rows import prompts_of, response_to

from cai.config import FeedbackConfig, PreferencesConfig
from cai.constitution import load_constitution
from cai.engines.scripted import ScriptedEngine
from cai.evaluation import judge_matches, match
from cai.intervals import wilson
from cai.ledger import MemoryLedger
from cai.records import Comparison


@pytest.fixture
def constitution(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(
        "name: one\ndescription: One principle.\nprinciples:\n  - id: good\n    title: Be good\n"
        "    preference: Which response is better?\n"
        "    stages: [preference]\n"
    )
    return load_constitution(path)


def judge(strength, first_bonus=0.0):
    """Prefers the response that says `good` with this probability, and what it reads first by `first_bonus`."""

    def choose(messages, options):
        shown = messages[-1].content
        a, b = shown.split("Response A:")[1].split("Response B:")
        merit = ("good" in a) - ("good" in b)
        p = 0.5 + merit * (strength - 0.5) + first_bonus
        return [p, 1 - p]

    return choose


def played(constitution, texts, others, choose, **preferences):
    prompts = prompts_of(len(texts))
    first = [response_to(prompt, text, "first") for prompt, text in zip(prompts, texts, strict=True)]
    second = [response_to(prompt, text, "second") for prompt, text in zip(prompts, others, strict=True)]
    ledger = MemoryLedger()

    def win_rate(one, other):
        return asyncio.run(
            judge_matches(
                prompts,
                one,
                other,
                constitution=constitution,
                engine=ScriptedEngine(choices=choose),
                ledger=ledger,
                feedback=FeedbackConfig(),
                preferences=PreferencesConfig(**preferences),
                seed=0,
            )
        ).win_rate

    return win_rate(first, second), win_rate(second, first), ledger


def test_win_rate_counts_wins_and_half_of_the_ties(constitution):
    """Of ten prompts: five won, one lost, two called equal by the judge, two with the same text."""
    texts = ["good"] * 5 + ["bad"] + ["plain"] * 2 + ["same"] * 2
    others = ["bad"] * 5 + ["good"] + ["other"] * 2 + ["same"] * 2
    won, lost, ledger = played(constitution, texts, others, judge(0.9))
    assert won.rate.value == pytest.approx((5 + 0.5 * 4) / 10)
    assert (won.rate.n, won.n_ties, won.n_unscored, won.n_unmatched) == (10, 4, 0, 0)
    assert won.rate.low < 0.7 < won.rate.high <= 1.0
    assert lost.rate.value == pytest.approx(1 - won.rate.value)
    assert len(ledger.rows(Comparison)) == 8 * 2  # both orders of the pairs that differ; the second call asks nothing


def test_a_judge_that_only_follows_the_position_gives_ties(constitution):
    won, _, _ = played(constitution, ["plain"] * 6, ["other"] * 6, judge(0.9, first_bonus=0.3))
    assert won.rate.value == 0.5
    assert won.n_ties == 6


def test_what_could_not_be_scored_is_left_out_and_counted(constitution):
    def mute(messages, options):
        p = 0.01 if "mute" in messages[-1].content else 0.45
        return [p, p] if "good" not in messages[-1].content else judge(0.9)(messages, options)

    won, _, _ = played(constitution, ["good", "mute"], ["bad", "bad"], mute)
    assert won.rate.value == 1.0
    assert (won.rate.n, won.n_unscored) == (1, 1)
    assert won.rate.low == wilson(1.0, 1)[0]


def test_winning_every_match_is_not_certainty(constitution):
    won, _, _ = played(constitution, ["good"] * 12, ["bad"] * 12, judge(0.9))
    assert (won.rate.low, won.rate.high) == wilson(1.0, 12)


def test_responses_without_a_counterpart_are_counted():
    prompts = prompts_of(3)
    first = [response_to(prompt, "a", "first") for prompt in prompts]
    second = [response_to(prompt, "b", "second") for prompt in prompts[:1]]
    matches = match(prompts, first, second)
    assert (len(matches.pairs), matches.n_unmatched) == (1, 2)


def test_a_judge_that_likes_length_prefers_the_longer_and_length_control_takes_it_back(constitution):
    """What the judge says follows length alone, by its logit; one model's replies are longer on most prompts."""

    def by_length(messages, options):
        a, b = (part.split("\n\n")[0] for part in messages[-1].content.split("Response A:")[1].split("Response B:"))
        return [0.9, 0.1] if len(a) > len(b) else [0.1, 0.9] if len(b) > len(a) else [0.5, 0.5]

    words = [2 + i % 7 for i in range(140)]
    texts = ["word " * (n + (3 if i % 3 else -1)) for i, n in enumerate(words)]
    won, lost, _ = played(constitution, texts, ["word " * n for n in words], by_length)
    assert won.rate.value == pytest.approx(2 / 3, abs=0.01)
    assert won.length_controlled.value < won.rate.value
    assert won.length_controlled.value == pytest.approx(1 - lost.length_controlled.value)
