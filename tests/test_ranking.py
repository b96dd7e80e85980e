"""Bradley–Terry: by hand, against scipy's and scikit-learn's optimum, and from comparisons to ranked pairs."""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from cai.config import FeedbackConfig, PreferencesConfig, RankingConfig
from cai.constitution import Constitution, Principle
from cai.feedback import Labelling, ResponsePair, make_pairs
from cai.labels.ranking import Outcome, bradley_terry, p_better
from cai.preferences import derive
from cai.records import Comparison, Message, PreferencePair, Prompt, Reject, Response

PROMPT = Prompt.make([Message("user", "question")], "test")
RESPONSES = [
    Response(id, PROMPT.prompt_id, "model", "candidate", 0, 0, 1.0, 1.0, 8, f"text {id}", "stop", 1, 1) for id in "abcd"
]
OF = Constitution("test", "", (Principle("kind", "", 1.0, (), ("preference",), "", "", "Kind?"),))
LABELLING = Labelling(OF, FeedbackConfig(), seed=0, judge_digest="judge")


def all_pairs(n: int, seed: int) -> list[Outcome]:
    rng = random.Random(seed)
    return [Outcome(f"r{i}", f"r{j}", rng.random()) for i, j in itertools.combinations(range(n), 2)]


def differences(strengths: dict[str, float]) -> list[float]:
    return [strengths[name] - strengths["r0"] for name in sorted(strengths)]


def test_two_responses_by_hand() -> None:
    """One game won by 0.8 and a prior of 0.5: (0.8 + 0.25) : (0.2 + 0.25) = 7 : 3."""
    strengths = bradley_terry([Outcome("x", "y", 0.8)], prior=0.5)
    assert strengths["x"] - strengths["y"] == pytest.approx(math.log(7 / 3))
    assert p_better(strengths, "x", "y") == pytest.approx(0.7)
    assert p_better(strengths, "y", "x") == pytest.approx(0.3)


def test_a_chain_by_hand() -> None:
    """x against y and y against z only: each pair decides its own difference, and they add up."""
    strengths = bradley_terry([Outcome("x", "y", 0.8), Outcome("y", "z", 0.6)], prior=1e-12)
    assert p_better(strengths, "x", "y") == pytest.approx(0.8)
    assert p_better(strengths, "y", "z") == pytest.approx(0.6)
    assert p_better(strengths, "x", "z") == pytest.approx(4 * 1.5 / (4 * 1.5 + 1))


def test_outcomes_that_follow_a_ranking_are_given_back() -> None:
    true = {"r0": 0.0, "r1": 1.3, "r2": -0.4, "r3": 0.1}
    outcomes = [Outcome(a, b, p_better(true, a, b)) for a, b in itertools.combinations(true, 2)]
    assert differences(bradley_terry(outcomes, prior=1e-12)) == pytest.approx(list(true.values()), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_strengths_are_the_maximum_that_scipy_finds(seed: int) -> None:
    outcomes, prior = all_pairs(5, seed), 0.1

    def loss(s: np.ndarray) -> float:
        s = np.array([0.0, *s])
        total = 0.0
        for a, b, p in outcomes:
            d = s[int(b[1])] - s[int(a[1])]
            total += (p + prior / 2) * np.logaddexp(0, d) + (1 - p + prior / 2) * np.logaddexp(0, -d)
        return total

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    assert differences(bradley_terry(outcomes, prior=prior))[1:] == pytest.approx(list(best), abs=1e-5)


def test_the_strengths_are_those_of_scikit_learns_logistic_regression() -> None:
    """Games as rows: +1 for one side, -1 for the other, weighted by how far it was won."""
    outcomes, prior = all_pairs(6, 7), 0.02
    rows, won, weights = [], [], []
    for a, b, p in outcomes:
        row = np.zeros(6)
        row[int(a[1])], row[int(b[1])] = 1, -1
        rows += [row, row]
        won += [1, 0]
        weights += [p + prior / 2, 1 - p + prior / 2]
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=10_000)
    model.fit(np.array(rows)[:, 1:], won, sample_weight=weights)
    assert differences(bradley_terry(outcomes, prior=prior))[1:] == pytest.approx(list(model.coef_[0]), abs=1e-4)


def test_a_response_that_wins_everything_has_a_finite_strength() -> None:
    outcomes = [Outcome("x", "y", 1.0), Outcome("x", "z", 1.0), Outcome("y", "z", 0.5)]
    strengths = bradley_terry(outcomes, prior=0.02)
    assert all(map(math.isfinite, strengths.values()))
    assert 0.98 < p_better(strengths, "x", "y") < 1
    assert p_better(bradley_terry(outcomes[:1], prior=0.02), "x", "y") == pytest.approx(0.99 / 1.0, abs=2e-4)


def test_a_circle_of_wins_is_no_preference() -> None:
    strengths = bradley_terry([Outcome("x", "y", 0.9), Outcome("y", "z", 0.9), Outcome("z", "x", 0.9)], prior=0.02)
    assert p_better(strengths, "x", "y") == pytest.approx(0.5)


def test_the_order_of_the_games_and_of_their_sides_does_not_matter() -> None:
    outcomes = all_pairs(5, 3)
    turned = [Outcome(b, a, 1 - p) for a, b, p in reversed(outcomes)]
    assert bradley_terry(turned, prior=0.1) == pytest.approx(bradley_terry(outcomes, prior=0.1))


def asked(pairs: Sequence[ResponsePair], p: dict[str, float]) -> list[Comparison]:
    """Comparisons in which P(a better) is `p` of the pair's ids, `ab` and so on; a pair not in it was not asked."""
    rows = []
    for pair in pairs:
        said = p.get(pair.a.response_id + pair.b.response_id)
        for ask in LABELLING.asks(pair) if said is not None else ():
            ids = (ask.comparison_id, PROMPT.prompt_id, pair.a.response_id, pair.b.response_id, ask.order)
            logps = (math.log(said), math.log(1 - said))
            rows.append(Comparison(*ids, "kind", "d", "d", "d", "judge", *logps, 0.0, True))
    return rows


def ranked(
    pairs: Sequence[ResponsePair], rows: Sequence[Comparison], **settings: object
) -> list[PreferencePair | Reject]:
    config = PreferencesConfig(**({"ranking": RankingConfig(prior=0.02)} | settings))
    return list(derive(pairs, rows, labelling=LABELLING, config=config, recalibration=None))


def test_a_ranking_mends_the_pair_that_contradicts_the_others() -> None:
    """b beats a in their own asks, but a beats c and d far more clearly: the ranking says a."""
    pairs = make_pairs([PROMPT], RESPONSES).pairs
    p = {"ab": 0.45, "ac": 0.95, "ad": 0.95, "bc": 0.6, "bd": 0.6, "cd": 0.5}
    made = {row.chosen_id + row.rejected_id: row for row in ranked(pairs, asked(pairs, p))}
    strengths = bradley_terry([Outcome(*ids, said) for ids, said in p.items()], prior=0.02)
    assert set(made) == {"ab", "ac", "ad", "bc", "bd", "cd"}
    for ids, row in made.items():
        assert row.soft_label == pytest.approx(p_better(strengths, *ids))
    assert made["cd"].is_tie and not made["ab"].is_tie
    plain = ranked(pairs, asked(pairs, p), ranking=None)
    assert next(row for row in plain if {row.chosen_id, row.rejected_id} == {"a", "b"}).chosen_id == "b"
    assert {row.pair_id for row in plain}.isdisjoint(row.pair_id for row in made.values())


def test_a_pair_that_nobody_scored_is_rejected_and_not_filled_in_by_the_ranking() -> None:
    pairs = make_pairs([PROMPT], RESPONSES[:3]).pairs
    rows = ranked(pairs, asked(pairs, {"ab": 0.9, "bc": 0.9}))
    assert [row.reason for row in rows if isinstance(row, Reject)] == ["unscored"]
    assert len(rows) == 3


def test_a_ranked_pair_is_another_pair_once_any_of_its_prompt_is() -> None:
    pairs = make_pairs([PROMPT], RESPONSES[:3]).pairs
    rows = asked(pairs, {"ab": 0.9, "ac": 0.8, "bc": 0.7})
    whole = {row.pair_id for row in ranked(pairs, rows)}
    assert whole == {row.pair_id for row in ranked(pairs[::-1], rows[::-1])}
    assert whole.isdisjoint({row.pair_id for row in ranked(pairs[:2], rows)})


def test_prompts_are_ranked_apart() -> None:
    other = Prompt.make([Message("user", "another")], "test")
    theirs = [replace(r, response_id=f"{r.response_id}2", prompt_id=other.prompt_id) for r in RESPONSES[:2]]
    pairs = make_pairs([PROMPT, other], [*RESPONSES[:2], *theirs]).pairs
    rows = ranked(pairs, asked(pairs, {"ab": 0.9, "a2b2": 0.3}))
    expected = [(0.9 + 0.01) / 1.02, 1 - (0.3 + 0.01) / 1.02]
    assert [row.soft_label for row in rows] == pytest.approx(expected)
