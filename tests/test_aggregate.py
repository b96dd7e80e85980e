"""Several people to one probability: every rule against numbers worked by hand or by other means."""

import itertools
import math
import random

import numpy as np
import pytest

from cai.errors import ConfigError
from cai.labels.aggregate import aggregate, dawid_skene
from cai.records import Annotation


def said(pair: int, annotator: str, p_a: float, group: str = "", source: str = "s") -> Annotation:
    a, b = f"{pair:04d}a", f"{pair:04d}b"
    key = Annotation.make_id(a, b, source, annotator, "", False)
    return Annotation(key, f"prompt{pair}", a, b, p_a, source, annotator, group)


def votes(*values: float) -> list[Annotation]:
    return [said(0, str(i), value) for i, value in enumerate(values)]


def p_of(rows, rule="majority", weights=None) -> float:
    (found,) = aggregate(rows, rule, weights).values()
    return found.p_a


@pytest.mark.parametrize(
    ("values", "p_a"),
    [((1, 1, 0), 1), ((0, 0, 1), 0), ((1, 0), 0.5), ((0.5,), 0.5), ((1, 0.5, 0.5), 1), ((0.9, 0.6, 0), 1)],
)
def test_the_majority_decides_and_a_tie_stays_a_tie(values, p_a):
    assert p_of(votes(*values)) == p_a


def test_those_on_the_side_it_comes_out_on_are_counted():
    (found,) = aggregate(votes(1, 1, 0, 0.5)).values()
    assert found.n_annotators == 4 and found.agreement == 0.5


def test_a_large_group_does_not_outvote_a_small_one():
    """Five of `many` for a, one of `few` for b; weights 1 : 3 say b, whatever the heads say."""
    rows = [said(0, f"m{i}", 1.0, "many") for i in range(4)] + [said(0, "m4", 0.0, "many"), said(0, "f", 0.0, "few")]
    weights = {"many": 1.0, "few": 3.0}
    (found,) = aggregate(rows, "groups", weights).values()
    assert found.p_a == pytest.approx((1 * 0.8 + 3 * 0.0) / 4)
    assert found.by_group == {"few": 0.0, "many": 0.8}
    assert found.disagreement == pytest.approx(math.sqrt((1 * 0.6**2 + 3 * 0.2**2) / 4))
    (unweighted,) = aggregate(rows).values()
    assert unweighted.disagreement == pytest.approx(0.4) and aggregate(rows[:4])["0000a", "0000b"].disagreement == 0
    assert p_of(rows) == 1.0
    alone = [row for row in rows if row.group == "many"]
    assert p_of(alone, "groups", weights) == pytest.approx(0.8), "the groups that did not speak do not count"


def test_every_group_needs_a_weight():
    with pytest.raises(ConfigError, match="group 'few' has no weight"):
        aggregate([said(0, "f", 1.0, "few")], "groups", {"many": 1.0})
    with pytest.raises(ConfigError, match="above 0"):
        aggregate([said(0, "f", 1.0, "few")], "groups", {"few": 0.0})


# Dawid & Skene


def em_by_loops(rows: list[tuple[int, int, int]], n_classes: int, n_rounds: int) -> list[list[float]]:
    """Equations 2.3 to 2.5 of the paper, one number at a time."""
    items, people = sorted({i for i, _, _ in rows}), sorted({k for _, k, _ in rows})
    classes = range(n_classes)
    n = {key: sum(row == key for row in rows) for key in itertools.product(items, people, classes)}
    spoken = [[sum(n[i, k, c] for k in people) for c in classes] for i in items]
    truth = [[count / sum(counts) for count in counts] for counts in spoken]
    for _ in range(n_rounds):
        prior = [sum(truth[i][j] for i in items) / len(items) for j in classes]
        pi = {}
        for k, j in itertools.product(people, classes):
            total = sum(truth[i][j] * n[i, k, c] for i in items for c in classes)
            for c in classes:
                pi[k, j, c] = sum(truth[i][j] * n[i, k, c] for i in items) / total if total else 1 / n_classes
        for i in items:
            like = [prior[j] * math.prod(pi[key[1], j, key[2]] ** n[key] for key in n if key[0] == i) for j in classes]
            truth[i] = [value / sum(like) for value in like]
    return truth


@pytest.mark.parametrize("n_classes", [2, 3])
def test_dawid_skene_is_the_em_of_the_paper(n_classes):
    chance = random.Random(n_classes)
    true = [chance.randrange(n_classes) for _ in range(30)]
    rows = [
        (i, k, t if chance.random() < 0.6 + 0.1 * k else chance.randrange(n_classes))
        for i, t in enumerate(true)
        for k in range(4)
        if chance.random() < 0.8 or k == 0
    ]
    fitted = dawid_skene(*map(np.array, zip(*rows, strict=True)), n_classes)
    by_loops = em_by_loops(rows, n_classes, fitted.n_iterations)
    assert np.abs(fitted.posterior - np.array(by_loops)).max() < 1e-9
    assert np.allclose(fitted.posterior.sum(axis=1), 1) and np.allclose(fitted.confusion.sum(axis=2), 1)


def test_dawid_skene_worked_by_hand():
    """Two who always agree: each is then right whenever it speaks, and every item is as they say."""
    rows = [(i, k, int(i >= 3)) for i in range(4) for k in range(2)]
    fitted = dawid_skene(*map(np.array, zip(*rows, strict=True)), 2)
    assert fitted.posterior.tolist() == [[1, 0]] * 3 + [[0, 1]]
    assert fitted.prior.tolist() == [0.75, 0.25]
    assert fitted.confusion.tolist() == [[[1, 0], [0, 1]]] * 2


def planted(n_pairs: int, accuracies: dict[str, float]) -> tuple[list[float], list[Annotation]]:
    chance = random.Random(5)
    true = [float(chance.random() < 0.5) for _ in range(n_pairs)]
    right = [(i, t, name, chance.random() < p) for i, t in enumerate(true) for name, p in accuracies.items()]
    return true, [said(i, name, t if is_right else 1 - t) for i, t, name, is_right in right]


def test_dawid_skene_finds_what_each_annotator_is_worth_and_beats_the_majority():
    accuracies = {"good": 0.95, "fair": 0.8, "coin": 0.5, "coin too": 0.5, "liar": 0.2}
    true, rows = planted(3000, accuracies)
    names = sorted(accuracies)
    items = np.array([int(row.response_a[:4]) for row in rows])
    people = np.array([names.index(row.annotator) for row in rows])
    fitted = dawid_skene(items, people, np.array([int(row.p_a == 0) for row in rows]), 2)
    for name, accuracy in accuracies.items():
        found = fitted.confusion[names.index(name)]
        assert found[0, 0] == pytest.approx(accuracy, abs=0.05) and found[1, 1] == pytest.approx(accuracy, abs=0.05)
    right = {rule: accuracy_of(aggregate(rows, rule), true) for rule in ("majority", "dawid_skene")}
    assert right["dawid_skene"] > 0.94 and right["majority"] < 0.85


def accuracy_of(found, true: list[float]) -> float:
    return sum((a.p_a > 0.5) == (t == 1) for a, t in zip(found.values(), true, strict=True)) / len(true)


@pytest.mark.parametrize("rule", ["majority", "dawid_skene", "groups"])
def test_the_order_of_the_rows_changes_nothing(rule):
    _, rows = planted(50, {"x": 0.9, "y": 0.7, "z": 0.6})
    rows += [said(60, "x", 0.5)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert aggregate(rows, rule, {"": 1.0}) == aggregate(shuffled, rule, {"": 1.0})


def test_a_tie_of_people_has_a_class_of_its_own():
    rows = [row for i in range(20) for row in (said(i, "x", (i % 3) / 2), said(i, "y", (i % 3) / 2))]
    found = aggregate(rows, "dawid_skene")
    assert [a.p_a for a in found.values()] == pytest.approx([(i % 3) / 2 for i in range(20)])


def test_nothing_said_is_nothing_found():
    assert aggregate([], "dawid_skene") == aggregate([]) == {}
