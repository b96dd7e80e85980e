"""Sources of labels: right by gold, alike or not, flagged where they flip, and whether they drifted between runs."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from verdicts_by_row import annotated, verdicts_of

from cai.cli import door
from cai.labels.drift import Values, difference, drift
from cai.labels.opinions import Annotated, Source, opinions_of
from cai.labels.report import label_report, warnings
from cai.labels.report_text import report_text
from cai.labels.sources import against_gold, flip_tests, panels
from cai.labels.verdicts import Verdicts
from cai.records import Annotation, Comparison
from storage.store import Store

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import simulated_judges as simulated  # noqa: E402


def nobody() -> Verdicts:
    return verdicts_of([])


def said(rows) -> Annotated:
    """Rows of (pair, source, annotator, p_a, is_gold); a pair is a prompt."""
    return annotated(
        Annotation(f"{i:04d}", f"p{pair}", f"a{pair}", f"b{pair}", p, source, who, is_gold=gold)
        for i, (pair, source, who, p, gold) in enumerate(rows)
    )


def test_accuracy_by_hand_counts_a_tie_as_one_half_and_skips_what_gold_leaves_open():
    gold = [(0, "g", "", 1.0, True), (1, "g", "", 0.0, True), (2, "g", "", 1.0, True), (3, "g", "", 0.5, True)]
    person = [(0, "f", "ann", 1.0, False), (1, "f", "ann", 1.0, False), (2, "f", "ann", 0.5, False)]
    person.append((3, "f", "ann", 1.0, False))
    (row,) = against_gold(opinions_of(nobody(), said(gold + person)))
    assert row.source == Source("person", "f:ann")
    assert (row.accuracy.value, row.accuracy.n) == (0.5, 3)


def test_a_judge_a_principle_a_person_and_a_file_are_each_a_source():
    def ask(order):
        return Comparison(order, "p0", "a0", "b0", order, "kind", "d", "d", "d", "judge", -0.1, -2.4, 0.0, True)

    rows = [(0, "g", "", 1.0, True), (0, "f", "ann", 1.0, False), (0, "pairs.jsonl", "", 0.0, False)]
    found = against_gold(opinions_of(verdicts_of([ask("ab"), ask("ba")]), said(rows)))
    assert {row.source: row.accuracy.value for row in found} == {
        Source("judge", "judge"): 1.0,
        Source("principle", "kind", "judge"): 1.0,
        Source("file", "pairs.jsonl"): 0.0,
        Source("person", "f:ann"): 1.0,
    }


def people(flipped: float, n: int = 400, seed: int = 0) -> Annotated:
    """Five people who are right on 85 %; the first flips that share of her labels."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.5
    rows = []
    for who in range(5):
        label = np.where(rng.random(n) < 0.85, truth, ~truth)
        label = label ^ ((rng.random(n) < flipped) & (who == 0))
        rows += [(i, "people.csv", f"person{who}", float(label[i]), False) for i in range(n)]
    return said(rows)


def test_a_person_who_flips_is_flagged_and_named_in_a_warning():
    (panel,) = panels(opinions_of(nobody(), people(flipped=0.3)))
    assert [test.is_flagged for test in panel.tests] == [True, False, False, False, False]
    assert panel.tests[0].excess == pytest.approx(0.3, abs=0.08)
    assert {panel.pairs[0].first, panel.pairs[1].first} == {"people.csv:person0"}
    report = label_report(nobody(), people(flipped=0.3))
    assert [text for text in warnings(report) if "people.csv:person0: FLAGGED" in text]
    assert "FLAGGED" in report_text(report)


def test_nobody_is_flagged_where_nobody_flips_or_too_few_can_say():
    (panel,) = panels(opinions_of(nobody(), people(flipped=0.0)))
    assert not any(test.is_flagged for test in panel.tests)
    (few,) = panels(opinions_of(nobody(), people(flipped=1.0, n=20)))
    assert [test.is_flagged for test in few.tests] == [None] * 5
    two = [Source("person", "x"), Source("person", "y")]
    item = np.tile(np.arange(100), 2)
    labels = np.repeat([1.0, -1.0], 100)
    assert [t.is_flagged for t in flip_tests(two, np.repeat([0, 1], 100), labels, item, item)] == [None, None]


def test_in_a_million_labels_a_difference_too_small_to_matter_is_not_flagged():
    rng = np.random.default_rng(0)
    n = 40_000
    truth = rng.choice([-1.0, 1.0], n)
    labels = np.where(rng.random((5, n)) < np.array([[0.83], [0.85], [0.85], [0.85], [0.85]]), truth, -truth)
    item = np.tile(np.arange(n), 5)
    sources = [Source("person", str(k)) for k in range(5)]
    worst, *_ = flip_tests(sources, np.repeat(np.arange(5), n), labels.ravel(), item, item)
    assert worst.p_value < 1e-6 and 0 < worst.excess < 0.03 and worst.is_flagged is False


def test_drift_compares_shared_prompts_with_themselves():
    rng = np.random.default_rng(1)
    prompts = np.array([f"p{i}" for i in range(200)])
    base = rng.random(200)
    same = difference("s", "m", Values(base, prompts), Values(base + 0.02, prompts))
    assert same.is_drift and same.n_shared == 200 and same.difference.low == pytest.approx(0.02)
    apart = difference("s", "m", Values(base, prompts), Values(base + 0.02, np.char.add(prompts, "x")))
    assert not apart.is_drift and apart.n_shared == 0
    nothing = difference("s", "m", Values(np.array([np.nan]), prompts[:1]), Values(base, prompts))
    assert not nothing.is_drift and math.isnan(nothing.difference.value)


def test_a_judge_that_became_biased_and_worse_has_drifted():
    before, gold = simulated.judge(np.random.default_rng(1), 300)
    after, _ = simulated.judge(np.random.default_rng(1), 300)
    worse = 0.5 + 0.2 * np.sign(np.random.default_rng(2).normal(size=600))
    flat = np.concatenate([worse, worse])
    changed = after.where(np.ones(1200, dtype=bool))
    changed = Verdicts(*changed_columns(changed, np.clip(flat + 0.15, 0, 1), np.clip(flat - 0.15, 0, 1)))
    found = {each.metric: each for each in drift(before, changed, gold)}
    assert found["position bias"].is_drift and found["position bias"].difference.value > 0.05
    assert found["accuracy"].is_drift and found["accuracy"].difference.high < 0
    assert not any(each.is_drift for each in drift(before, before, gold))


def changed_columns(verdicts, ab, ba):
    return [{"ab": ab, "ba": ba}.get(name, getattr(verdicts, name)) for name in Verdicts.__dataclass_fields__]


# The benchmark's simulations, smaller: the share of intervals that hold lies within binomial bounds of 95 %.


def test_intervals_of_simulated_judges_hold_the_truth():
    n_runs = 80
    found = simulated.coverage(n_runs, n_prompts=120, truth_prompts=20_000)
    lowest = 0.95 - 3.5 * math.sqrt(0.95 * 0.05 / n_runs)
    assert {name: share for name, share in found.items() if share < lowest} == {}
    assert len(found) == 14


def test_a_bias_of_three_points_is_found_and_none_is_not():
    assert simulated.bias_found(20, 0.03) == 1.0
    assert simulated.bias_found(20, 0.0) <= 0.25


def test_a_source_that_flips_a_tenth_is_flagged_among_five_with_a_thousand_items():
    found = simulated.flips(60, simulated.shared_difficulty)
    assert found["flagged"] >= 0.9
    assert found["anyone flagged where nobody flips"] <= 0.05


def test_the_command_prints_tables_and_json(tmp_path):
    store = Store(tmp_path)
    truth = np.random.default_rng(0).random(60) < 0.5
    rows = [Annotation(f"g{i}", f"p{i}", f"a{i}", f"b{i}", float(t), "g", is_gold=True) for i, t in enumerate(truth)]
    for i, t in enumerate(truth):
        logps = (-0.1, -2.4) if t else (-2.4, -0.1)
        ids = [(f"{order}{i}", f"p{i}", f"a{i}", f"b{i}", order) for order in ("ab", "ba")]
        rows += [Comparison(*each, "kind", "d", "d", "d", "judge", *logps, 0.0, True) for each in ids]
    store.append(rows)
    text = CliRunner().invoke(door, ["labels", "report", "--home", str(tmp_path)], catch_exceptions=False).stdout
    assert "Against gold" in text and "100.0 ±" in text
    printed = CliRunner().invoke(door, ["labels", "report", "--home", str(tmp_path), "--format", "json"]).stdout
    body = json.loads(printed)
    assert body["gold"][0]["accuracy"]["value"] == 1.0
    assert body["judges"][0]["length_bias"]["value"] is None
    refused = CliRunner().invoke(door, ["labels", "report", "--home", str(tmp_path), "--since", "r"])
    assert refused.exit_code == 2 and "--run" in refused.output
