"""Several judges: what they say together, how far apart they are, and what each one's vote weighs."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from cai.config import EngineConfig, FeedbackConfig, PreferencesConfig, RankingConfig
from cai.constitution import Constitution, Principle
from cai.errors import DataError
from cai.feedback import Labelling, ResponsePair
from cai.labels.committee import Committee, GoldCount, count_right, gold_sides, gold_weight
from cai.preferences import derive
from cai.records import Annotation, Comparison, Message, PreferencePair, Prompt, Reject, Response

PROMPT = Prompt.make([Message("user", "question")], "test")
OF = Constitution("test", "", (Principle("kind", "", 1.0, (), ("preference",), "", "", "Kind?"),))


def response(id: str) -> Response:
    return Response(id, PROMPT.prompt_id, "model", "candidate", 0, 0, 1.0, 1.0, 8, f"text {id}", "stop", 1, 1)


PAIR = ResponsePair.of(PROMPT, response("1"), response("2"))


def labelling(judge: str) -> Labelling:
    return Labelling(OF, FeedbackConfig(), seed=0, judge_digest=judge)


def said(judge: str, p: float, outside: float = 0.0) -> list[Comparison]:
    """P(a better) of that judge, in both orders."""
    logps = math.log(p), math.log(1 - p)
    return [
        Comparison(
            a.comparison_id, PROMPT.prompt_id, "1", "2", a.order, "kind", "d", "d", "d", judge, *logps, outside, True
        )
        for a in labelling(judge).asks(PAIR)
    ]


def derived(committee: Committee | Labelling, rows: Sequence[Comparison], **config: object) -> list:
    return list(derive([PAIR], rows, labelling=committee, config=PreferencesConfig(**config), recalibration=None))


def committee(**weights: float) -> Committee:
    return Committee([labelling(judge) for judge in weights], list(weights.values()))


def test_the_label_is_the_weighted_mean_of_the_judges_and_disagreement_their_spread() -> None:
    rows = [*said("x", 0.9), *said("y", 0.4)]
    (pair,) = derived(committee(x=3.0, y=1.0), rows)
    assert (pair.soft_label, pair.chosen_id, pair.n_asks) == (pytest.approx((3 * 0.9 + 0.4) / 4), "1", 4)
    spread = math.sqrt(np.cov([0.9, 0.4], aweights=[3, 1], ddof=0))
    assert pair.disagreement == pytest.approx(spread) == pytest.approx(0.5 * math.sqrt(3) / 4)


def test_one_judge_never_disagrees_and_is_the_same_pair_as_without_a_committee() -> None:
    rows = said("x", 0.9)
    (alone,), (plain,) = derived(committee(x=0.7), rows), derived(labelling("x"), rows)
    assert alone == plain
    assert (alone.disagreement, alone.judge_digest) == (0.0, "x")


def test_judges_that_are_opposed_disagree_by_one_half_and_make_a_tie() -> None:
    (pair,) = derived(committee(x=1.0, y=1.0), [*said("x", 1 - 1e-12), *said("y", 1e-12)])
    assert (pair.is_tie, pair.disagreement) == (True, pytest.approx(0.5))


def test_a_judge_that_could_not_be_read_leaves_the_others_and_its_rejects() -> None:
    *rejects, pair = derived(committee(x=1.0, y=9.0), [*said("x", 0.8), *said("y", 0.1, outside=0.9)])
    assert (pair.soft_label, pair.n_asks, pair.disagreement) == (pytest.approx(0.8), 2, 0.0)
    assert [reject.reason for reject in rejects] == ["mass_outside"] * 2
    (unscored,) = derived(committee(x=1.0, y=1.0), [])
    assert isinstance(unscored, Reject) and unscored.reason == "unscored"


def test_weights_count_by_their_ratio_and_make_another_pair() -> None:
    rows = [*said("x", 0.9), *said("y", 0.4)]
    (one,), (same,), (other,) = (
        derived(committee(**w), rows) for w in ({"x": 3, "y": 1}, {"x": 6, "y": 2}, {"x": 1, "y": 1})
    )
    assert one.pair_id == same.pair_id != other.pair_id
    assert one.judge_digest == same.judge_digest != other.judge_digest
    (turned,) = derived(committee(y=1, x=3), rows)
    assert turned == one, "the order in which judges are named decides nothing"


def test_a_committee_can_rank() -> None:
    (pair,) = derived(committee(x=1.0, y=1.0), [*said("x", 0.9), *said("y", 0.7)], ranking=RankingConfig(prior=1e-9))
    assert (pair.soft_label, pair.disagreement) == (pytest.approx(0.8), pytest.approx(0.1))


def test_one_model_twice_or_a_missing_weight_is_refused() -> None:
    with pytest.raises(DataError, match="same model"):
        Committee([labelling("x"), labelling("x")], [1.0, 1.0])
    for weights in ([1.0], [1.0, 0.0]):
        with pytest.raises(DataError, match="one weight above 0"):
            Committee([labelling("x"), labelling("y")], weights)


def gold(a: str, b: str, p_a: float, annotator: str = "", is_gold: bool = True) -> Annotation:
    return Annotation(f"{a}{b}{annotator}{is_gold}", "p", a, b, p_a, "file", annotator, is_gold=is_gold)


def pair_of(chosen: str, rejected: str, is_tie: bool = False) -> PreferencePair:
    ids = (f"{chosen}{rejected}", "p", (), chosen, rejected, "", "")
    return PreferencePair(*ids, 0.9, is_tie, 2, 1.0, 0.0)


def test_accuracy_on_gold_counts_sides_and_half_of_ties() -> None:
    rows = [
        gold("1", "2", 1.0),
        gold("1", "3", 0.0),
        gold("2", "3", 1.0, "x"),
        gold("2", "3", 1.0, "y"),
        gold("2", "3", 0.0, "z"),
        gold("3", "4", 0.5),
        gold("4", "5", 1.0, is_gold=False),
        gold("5", "6", 1.0),
    ]
    sides = gold_sides(rows)
    assert sides == {("1", "2"): 1.0, ("1", "3"): 0.0, ("2", "3"): pytest.approx(2 / 3), ("5", "6"): 1.0}
    labels = [pair_of("1", "2"), pair_of("1", "3"), pair_of("3", "2", is_tie=True), pair_of("4", "3")]
    assert count_right(labels, sides) == GoldCount(n_right=1.5, n=3, n_unscored=1)


def test_the_weight_is_the_log_odds_of_the_accuracy() -> None:
    assert gold_weight(GoldCount(90, 100, 0), "x") == pytest.approx(math.log(90.5 / 10.5))
    assert math.isfinite(gold_weight(GoldCount(100, 100, 0), "x"))
    for n_right, n in ((50, 100), (40, 100), (0, 0)):
        with pytest.raises(DataError, match="no better than a coin"):
            gold_weight(GoldCount(n_right, n, 0), "x")


def test_votes_weighed_by_log_odds_are_right_more_often_than_equal_ones_and_than_the_best_judge() -> None:
    """Nitzan and Paroush's theorem, simulated: four judges, 20,000 pairs, errors independent."""
    rng = np.random.default_rng(0)
    accuracy = np.array([0.8, 0.72, 0.7, 0.55])
    votes = np.where(rng.random((20_000, 4)) < accuracy, 1, -1)
    weights = [gold_weight(GoldCount(*counts, 0), "x") for counts in zip((votes > 0).sum(0), [20_000] * 4, strict=True)]
    rng_half = rng.random(20_000) < 0.5  # equal votes tie; a coin decides

    def right(w: Sequence[float]) -> float:
        total = votes @ np.array(w)
        return float(np.mean((total > 1e-9) | ((np.abs(total) <= 1e-9) & rng_half)))

    assert right(weights) > right([1] * 4) + 0.005
    assert right(weights) > 0.8 + 0.005


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"judges": ("one",)}, "committee of one"),
        ({"judges": ("one", "one")}, "count twice"),
        ({"judges": ("one", "two"), "judge": "three"}, "both given"),
        ({"judges": ("one", "two"), "weights": (1.0,)}, "give one each"),
        ({"judges": ("one", "two"), "weights": (1.0, 0.0)}, "greater than 0"),
        ({"weights": "gold"}, "there are none"),
    ],
)
def test_a_committee_that_makes_no_sense_is_refused(settings: dict, problem: str) -> None:
    engines = {"judges": lambda names: tuple(map(engine, names)), "judge": engine}
    given = {name: engines.get(name, lambda value: value)(value) for name, value in settings.items()}
    with pytest.raises(ValidationError, match=problem):
        FeedbackConfig(**given)


def engine(name: str) -> EngineConfig:
    return EngineConfig(kind="scripted", model=name)
