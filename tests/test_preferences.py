"""Comparisons → pairs: soft labels by hand, ties, and every ask that does not count written down."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cai.config import FeedbackConfig, PreferencesConfig, ReasoningConfig, SamplingConfig
from cai.constitution import Constitution, Feedback, Principle
from cai.engines.scripted import ScriptedEngine
from cai.feedback import Labelling, ResponsePair, label
from cai.ledger import MemoryLedger
from cai.preferences import derive
from cai.records import Comparison, Message, PreferencePair, Prompt, Reject, Response

PROMPT = Prompt.make([Message("user", "question")], "test")


def response(id: str, text: str) -> Response:
    return Response(id, PROMPT.prompt_id, "model", "candidate", 0, 0, 1.0, 1.0, 8, text, "stop", 1, 1)


PAIR = ResponsePair.of(PROMPT, response("1", "text of a"), response("2", "text of b"))


def constitution(**weights: float) -> Constitution:
    """One principle a keyword, with its weight."""
    made = [Principle(id, id, w, (), ("preference",), "", "", f"More {id}?") for id, w in weights.items()]
    return Constitution("test", "", tuple(made))


def labelling(of: Constitution, **changed: object) -> Labelling:
    settings = {"config": FeedbackConfig(), "seed": 0, "judge_digest": "judge"} | changed
    return Labelling(of, **settings)


def comparisons(of: Labelling, said: dict[str, tuple[float | None, float | None]]) -> list[Comparison]:
    """What a judge said: for each principle P(a better) in the order "ab" and in "ba"; None was never answered."""
    rows = []
    for ask in of.asks(PAIR):
        p = said[ask.principle.id][ask.order == "ba"]
        if p is not None:
            logp_a, logp_b = (math.log(x) if x > 0 else -math.inf for x in (p, 1 - p))
            ids = (ask.comparison_id, PROMPT.prompt_id, "1", "2", ask.order, ask.principle.id, "d", "d", "d", "judge")
            rows.append(Comparison(*ids, logp_a, logp_b, 0.0, True))
    return rows


def derived(of: Labelling, rows: Sequence[Comparison], **config: object) -> tuple[list[PreferencePair], list[Reject]]:
    outcomes = list(derive([PAIR], rows, labelling=of, config=PreferencesConfig(**config), recalibration=None))
    return (
        [o for o in outcomes if isinstance(o, PreferencePair)],
        [o for o in outcomes if isinstance(o, Reject)],
    )


def only(outcome: tuple[list[PreferencePair], list[Reject]]) -> PreferencePair:
    (pair,), rejects = outcome
    assert rejects == []
    return pair


def test_the_label_is_the_weighted_mean_of_principles_over_both_orders() -> None:
    of = labelling(constitution(kind=3.0, safe=1.0))
    pair = only(derived(of, comparisons(of, {"kind": (0.9, 0.7), "safe": (0.4, 0.2)})))
    assert pair.soft_label == pytest.approx((3 * 0.8 + 1 * 0.3) / 4)
    assert (pair.chosen_id, pair.rejected_id, pair.chosen, pair.rejected) == ("1", "2", "text of a", "text of b")
    assert (pair.n_asks, pair.consistency, pair.is_tie) == (4, 1.0, False)
    assert pair.position_bias == pytest.approx(0.1)
    assert (pair.messages, pair.source, pair.judge_digest) == (PROMPT.messages, "ai", "judge")


def test_the_label_follows_the_winner_to_the_other_side() -> None:
    of = labelling(constitution(kind=1.0))
    pair = only(derived(of, comparisons(of, {"kind": (0.2, 0.4)})))
    assert (pair.chosen_id, pair.rejected_id, pair.chosen) == ("2", "1", "text of b")
    assert pair.soft_label == pytest.approx(0.7)


def test_a_judge_that_always_says_a_gives_ties_and_a_bias_of_one_half() -> None:
    of = labelling(constitution(kind=1.0, safe=2.0, true=0.3))
    pair = only(derived(of, comparisons(of, dict.fromkeys(("kind", "safe", "true"), (1.0, 0.0)))))
    assert (pair.is_tie, pair.soft_label) == (True, pytest.approx(0.5))
    assert (pair.position_bias, pair.consistency) == (0.5, 0.0)
    assert pair.chosen_id == "1"  # a tie has its sides by id


@pytest.mark.parametrize("winner", ["1", "2"])
@pytest.mark.parametrize("strength", [0.6, 0.95])
def test_labels_follow_a_judge_of_known_taste_through_the_real_path(winner: str, strength: float) -> None:
    """Prompt, engine, swap, storage and aggregation together: the winner wins, whichever id and place it has."""
    best = PAIR.a if winner == PAIR.a.response_id else PAIR.b

    def taste(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
        return (
            (strength, 1 - strength)
            if best.text in messages[-1].content.split("Response B:")[0]
            else (1 - strength, strength)
        )

    of = constitution(kind=1.0, safe=1.0)
    ledger, engine = MemoryLedger(), ScriptedEngine(choices=taste)
    asyncio.run(
        label(
            [PAIR],
            constitution=of,
            engine=engine,
            ledger=ledger,
            config=FeedbackConfig(),
            seed=0,
            max_concurrency=2,
        )
    )
    pair = only(derived(labelling(of, judge_digest=engine.model_digest), ledger.rows(Comparison)))
    assert (pair.chosen_id, pair.soft_label) == (winner, pytest.approx(strength))
    assert (pair.consistency, pair.position_bias) == (1.0, pytest.approx(0.0))


def test_ties_are_kept_with_their_soft_label_and_the_band_is_inclusive() -> None:
    of = labelling(constitution(kind=1.0))
    rows = comparisons(of, {"kind": (0.49, 0.49)})
    tie = only(derived(of, rows, tie_band=0.01))
    assert (tie.is_tie, tie.chosen_id, tie.soft_label) == (True, "2", pytest.approx(0.51))
    assert not only(derived(of, rows, tie_band=0.009)).is_tie
    exact = comparisons(of, {"kind": (0.5, 0.5)})
    assert only(derived(of, exact, tie_band=0.0)).is_tie


def test_the_clamp_bounds_each_ask_before_the_average_and_leaves_the_bias_raw() -> None:
    of = labelling(constitution(kind=1.0))
    rows = comparisons(of, {"kind": (0.99, 0.55)})
    pair = only(derived(of, rows, clamp=(0.4, 0.6)))
    assert pair.soft_label == pytest.approx((0.6 + 0.55) / 2)
    assert pair.position_bias == pytest.approx((0.99 + 0.45) / 2 - 0.5)


def test_the_constitution_can_set_the_clamp() -> None:
    of = labelling(replace(constitution(kind=1.0), feedback=Feedback(clamp=(0.4, 0.6))))
    assert only(derived(of, comparisons(of, {"kind": (0.99, 0.99)}))).soft_label == pytest.approx(0.6)


def test_consistency_is_the_share_of_principles_whose_orders_agree() -> None:
    of = labelling(constitution(kind=1.0, safe=1.0, true=1.0, fair=1.0))
    said = {"kind": (0.9, 0.8), "safe": (0.9, 0.4), "true": (0.1, 0.2), "fair": (0.3, 0.7)}
    assert only(derived(of, comparisons(of, said))).consistency == 0.5


@pytest.mark.parametrize("key", ["A", "", "Answer: A", ":"])
def test_a_response_that_says_nothing_may_lose_and_neither_wins_nor_ties(key: str) -> None:
    """A bare letter has won judges over by itself (arXiv 2507.08794); that it loses is what a reward model learns."""
    pair = ResponsePair.of(PROMPT, response("1", key), response("2", "an honest try"))
    of = labelling(constitution(kind=1.0))
    for p, outcome in ((0.9, "key_only_response"), (0.5, "key_only_response"), (0.2, "an honest try")):
        rows = comparisons(of, {"kind": (p, p)})
        (made,) = derive([pair], rows, labelling=of, config=PreferencesConfig(), recalibration=None)
        assert outcome == (made.reason if isinstance(made, Reject) else made.chosen)


def test_between_two_letters_the_judge_decides() -> None:
    pair = ResponsePair.of(PROMPT, response("1", "A"), response("2", "B"))
    of = labelling(constitution(kind=1.0))
    (made,) = derive(
        [pair], comparisons(of, {"kind": (0.9, 0.9)}), labelling=of, config=PreferencesConfig(), recalibration=None
    )
    assert isinstance(made, PreferencePair) and made.chosen == "A"


@pytest.mark.parametrize("lost", ["ab", "ba"])
def test_one_order_alone_is_no_label(lost: str) -> None:
    of = labelling(constitution(kind=1.0, safe=1.0))
    safe = (None, 0.99) if lost == "ab" else (0.99, None)
    (pair,), (reject,) = derived(of, comparisons(of, {"kind": (0.3, 0.3), "safe": safe}))
    assert (pair.soft_label, pair.n_asks, pair.chosen_id) == (pytest.approx(0.7), 2, "2")
    assert (reject.stage, reject.reason) == ("verdict", "other_order_unscored")


def test_an_unscored_ask_is_a_reject_and_takes_its_other_order_along() -> None:
    of = labelling(constitution(kind=1.0, safe=1.0))
    rows = comparisons(of, {"kind": (0.9, 0.9), "safe": (0.1, 0.1)})
    bad = next(row for row in rows if (row.principle_id, row.order) == ("safe", "ba"))
    rows[rows.index(bad)] = replace(bad, mass_outside=0.8)
    (pair,), rejects = derived(of, rows)
    assert pair.soft_label == pytest.approx(0.9)
    assert sorted(r.reason for r in rejects) == ["mass_outside", "other_order_unscored"]
    assert {r.parent_ids[0] for r in rejects} == {r.comparison_id for r in rows if r.principle_id == "safe"}
    assert pair.n_asks + len(rejects) == len(rows)
    # A wider limit is another setting: no ask, and other reject ids.
    assert only(derived(of, rows, max_mass_outside=0.9)).soft_label == pytest.approx(0.5)


def test_a_pair_without_a_scored_ask_is_rejected_never_a_tie() -> None:
    of = labelling(constitution(kind=1.0, safe=1.0))
    nan = [replace(row, logp_a=math.nan) for row in comparisons(of, {"kind": (0.9, 0.9), "safe": (0.9, 0.9)})]
    pairs, rejects = derived(of, nan)
    assert pairs == []
    assert [(r.stage, r.reason) for r in rejects] == [("verdict", "not_a_probability")] * 4 + [
        ("preference", "unscored")
    ]
    assert [r.reason for r in derived(of, [])[1]] == ["unscored"]


def test_rows_of_another_judge_or_an_older_text_do_not_count() -> None:
    now = labelling(constitution(kind=1.0))
    other_judge = labelling(constitution(kind=1.0), judge_digest="other")
    older = replace(constitution(kind=1.0).principles[0], preference="Older words?")
    before = labelling(Constitution("test", "", (older,)))
    noise = [row for of in (other_judge, before) for row in comparisons(of, {"kind": (0.01, 0.01)})]
    rows = comparisons(now, {"kind": (0.8, 0.8)})
    assert only(derived(now, [*noise, *rows])).soft_label == pytest.approx(0.8)
    assert [r.reason for r in derived(now, noise)[1]] == ["unscored"]


def test_only_the_drawn_principles_count_even_where_all_were_asked() -> None:
    """Else a label would depend on what else happens to be stored."""
    of = constitution(kind=1.0, safe=1.0, true=1.0)
    rows = comparisons(labelling(of), {"kind": (0.9, 0.9), "safe": (0.7, 0.7), "true": (0.6, 0.6)})
    two = labelling(of, config=FeedbackConfig(principles=2))
    drawn = [{"kind": 0.9, "safe": 0.7, "true": 0.6}[p.id] for p in two.principles(PAIR)]
    pair = only(derived(two, rows))
    assert (pair.n_asks, pair.soft_label) == (4, pytest.approx(sum(drawn) / 2))


def test_the_pair_id_covers_what_decides_the_label_and_nothing_else() -> None:
    def pair_id(of: Labelling, **config: object) -> str:
        said = dict.fromkeys((p.id for p in of.principles(PAIR)), (0.8, 0.8))
        return only(derived(of, comparisons(of, said), **config)).pair_id

    base = pair_id(labelling(constitution(kind=1.0, safe=1.0)))
    retitled = constitution(kind=1.0, safe=1.0)
    retitled = replace(retitled, principles=tuple(replace(p, title="other") for p in reversed(retitled.principles)))
    assert pair_id(labelling(retitled)) == base
    changed = [
        pair_id(labelling(constitution(kind=1.0, safe=2.0))),
        pair_id(labelling(constitution(kind=1.0))),
        pair_id(labelling(constitution(kind=1.0, safe=1.0), judge_digest="other")),
        pair_id(labelling(constitution(kind=1.0, safe=1.0)), tie_band=0.2),
        pair_id(labelling(constitution(kind=1.0, safe=1.0)), clamp=(0.4, 0.6)),
        pair_id(labelling(replace(constitution(kind=1.0, safe=1.0), templates={"comparison": "x"}))),
    ]
    assert len({base, *changed}) == 1 + len(changed)


def test_a_pair_whose_principles_were_not_edited_keeps_its_id() -> None:
    of = constitution(kind=1.0, safe=1.0)
    one = labelling(of, config=FeedbackConfig(principles=1))
    (drawn,) = one.principles(PAIR)
    edited = replace(of, principles=tuple(p if p == drawn else replace(p, preference="New?") for p in of.principles))
    other = labelling(edited, config=FeedbackConfig(principles=1))
    ids = {only(derived(each, comparisons(each, {drawn.id: (0.8, 0.8)}))).pair_id for each in (one, other)}
    assert len(ids) == 1


def test_rows_arrive_in_any_order() -> None:
    of = labelling(constitution(kind=0.1, safe=0.7, true=1.3))
    rows = comparisons(of, {"kind": (0.9, 0.3), "safe": (0.2, 0.7), "true": (0.6, 0.1)})
    assert derived(of, rows) == derived(of, rows[::-1])


def sampled(of: Labelling, said: dict[str, Sequence[float | None]]) -> list[Comparison]:
    """What the samples of an order say, P(a better) each; None is a reject of the labelling."""
    (one,) = comparisons(labelling(of.constitution), {"kind": (0.5, None)})
    return [
        replace(one, comparison_id=ask.comparison_id, logp_a=math.log(p), logp_b=math.log(1 - p), order=ask.order)
        for ask in of.asks(PAIR)
        if (p := said[ask.order][ask.sample]) is not None
    ]


def reasoned(samples: int = 3) -> Labelling:
    config = FeedbackConfig(reasoning=ReasoningConfig(sampling=SamplingConfig(), samples=samples))
    return labelling(constitution(kind=1.0), config=config)


def test_samples_are_averaged_in_each_order_and_then_the_orders() -> None:
    """An order with fewer samples left counts as much as the other: else the position would come back in."""
    rows = sampled(reasoned(), {"ab": (0.9, 0.9, 0.6), "ba": (0.3, None, None)})
    pair = only(derived(reasoned(), rows))
    assert pair.soft_label == pytest.approx((0.8 + 0.3) / 2)
    assert (pair.n_asks, pair.consistency, pair.position_bias) == (4, 0.0, pytest.approx((0.8 + 0.7) / 2 - 0.5))


def test_each_sample_is_clamped_before_the_mean() -> None:
    rows = sampled(reasoned(), {"ab": (0.99, 0.45, 0.55), "ba": (0.01, 0.5, 0.5)})
    pair = only(derived(reasoned(), rows, clamp=(0.4, 0.6)))
    assert pair.soft_label == pytest.approx(((0.6 + 0.45 + 0.55) / 3 + (0.4 + 0.5 + 0.5) / 3) / 2)


def test_an_order_without_a_sample_takes_the_samples_of_the_other_along() -> None:
    rows = sampled(reasoned(), {"ab": (0.9, 0.8, 0.7), "ba": (None, None, 0.9)})
    spoilt = [replace(row, mass_outside=0.9) if row.order == "ba" else row for row in rows]
    pairs, rejects = derived(reasoned(), spoilt)
    assert pairs == []
    assert [r.reason for r in rejects] == ["other_order_unscored"] * 3 + ["mass_outside", "unscored"]
    one_bad = [replace(row, mass_outside=0.9) if row is rows[0] else row for row in rows]
    (pair,), (reject,) = derived(reasoned(), one_bad)
    assert (pair.n_asks, pair.soft_label) == (3, pytest.approx((0.75 + 0.9) / 2))
    assert (reject.reason, reject.parent_ids[0]) == ("mass_outside", rows[0].comparison_id)


def test_fewer_samples_make_another_pair_and_never_look_at_the_others() -> None:
    rows = sampled(reasoned(), {"ab": (0.9, 0.8, 0.1), "ba": (0.9, 0.8, 0.1)})
    three, two = only(derived(reasoned(3), rows)), only(derived(reasoned(2), rows))
    assert (three.soft_label, two.soft_label) == (pytest.approx(0.6), pytest.approx(0.85))
    assert three.pair_id != two.pair_id


def test_a_pair_of_direct_asks_keeps_the_id_it_has() -> None:
    of = labelling(replace(constitution(kind=1.0), templates={"comparison": "x"}))
    assert only(derived(of, comparisons(of, {"kind": (0.8, 0.8)}))).pair_id == "186fcccb76a775c0ed0a0e5bacf2eccf"
