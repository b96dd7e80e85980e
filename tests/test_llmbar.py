"""LLMBar's stored verdicts through our import give the figures computed from its files without us."""

import json

import pytest
from sklearn.metrics import cohen_kappa_score
from verdicts_by_row import annotated, verdicts_of

from cai.errors import DataError
from cai.labels.agreement import judge_quality
from cai.labels.llmbar import read_llmbar
from cai.labels.opinions import opinions_of
from cai.labels.report import label_report
from cai.labels.sources import against_gold
from cai.records import Annotation, Comparison, Reject
from storage import named
from storage.store import Store
from storage.verdicts import read_labels

SUBSETS = ("Natural", "Adversarial-Neighbor", "Adversarial-GPTInst")


def by_hand(path):
    """Of each row: whether each order is right, and which output was shown first and preferred; from the file alone."""
    right, firsts, same = [], [], []
    for row in json.loads(path.read_text()):
        plain, swapped = (int(row["results"][0][f"swap = {swap}"]["winner"]) for swap in ("False", "True"))
        right.append(((plain == row["label"]) + (swapped == row["label"])) / 2)
        firsts.append(((plain == 1) + (swapped == 2)) / 2)
        same.append(plain == swapped)
    n = len(right)
    return sum(right) / n, sum(same) / n, sum(firsts) / n - 0.5


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("judge", ["gpt4-vanilla", "gpt4-swap"])
def test_accuracy_consistency_and_position_bias_are_those_of_the_files(shared_data, subset, judge):
    rows = read_llmbar(shared_data / "llmbar" / subset)
    verdicts = verdicts_of([row for row in rows if isinstance(row, Comparison) and row.judge_digest == judge])
    said = annotated(row for row in rows if isinstance(row, Annotation))
    (gold, _) = against_gold(opinions_of(verdicts, said))
    overall = judge_quality(verdicts)[0]
    accuracy, consistency, bias = by_hand(shared_data / "llmbar" / subset / f"{judge}.json")
    assert gold.accuracy.value == pytest.approx(accuracy, abs=1e-12)
    assert overall.consistency.value == pytest.approx(consistency, abs=1e-12)
    assert overall.position_bias.value == pytest.approx(bias, abs=1e-12)
    assert gold.calibration is None  # it says which, and not how probably


def test_kappa_against_gold_is_scikit_learns(shared_data):
    rows = read_llmbar(shared_data / "llmbar" / "Natural")
    verdicts = verdicts_of([row for row in rows if isinstance(row, Comparison) and row.judge_digest == "gpt4-vanilla"])
    opinions = opinions_of(verdicts, annotated(row for row in rows if isinstance(row, Annotation)))
    judged = opinions.source == 0
    lean = [round(2 * p) for p in opinions.p_a[judged]]
    gold = [round(2 * p) for p in opinions.gold[opinions.pair[judged]]]
    assert against_gold(opinions)[0].kappa.value == pytest.approx(cohen_kappa_score(lean, gold), abs=1e-12)


def test_every_pair_is_stored_and_the_report_runs_over_the_tables(shared_data, tmp_path):
    store = Store(tmp_path)
    for subset in SUBSETS:
        rows = read_llmbar(shared_data / "llmbar" / subset)
        assert not [row for row in rows if isinstance(row, Reject)]
        store.append(rows)
    labels = read_labels(store)
    assert labels.n_comparisons == 326 * 2 * 2
    report = label_report(labels.verdicts, labels.annotated)
    assert {row.judge_digest for row in report.judges} == {"gpt4-vanilla", "gpt4-swap"}
    assert {row.accuracy.n for row in report.gold} == {326}
    rows = store.query(named.resolve("judge_accuracy"))
    in_sql = {(row["judge"], row["principle_id"]): row["accuracy"] for row in rows}
    for row in report.gold:
        if row.source.kind == "judge":
            assert in_sql[row.source.name[:8], "(all)"] == pytest.approx(row.accuracy.value, abs=5e-5)


def test_a_verdict_that_names_neither_output_is_a_reject(tmp_path):
    pair = {"input": "q", "output_1": "one", "output_2": "two", "label": 1}
    said = {"completion": ["both", "stop"], "winner": None}
    folder = tmp_path / "Natural"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps([pair]))
    stored = pair | {"results": [{"swap = False": said, "swap = True": said | {"winner": "2"}}]}
    (folder / "judge.json").write_text(json.dumps([stored]))
    rows = read_llmbar(folder)
    (reject,) = (row for row in rows if isinstance(row, Reject))
    (kept,) = (row for row in rows if isinstance(row, Comparison))
    assert (reject.reason, reject.text) == ("no_verdict", "both")
    (gold,) = (row for row in rows if isinstance(row, Annotation))
    prefers_a = kept.logp_a == 0
    assert gold.p_a == float(not prefers_a)  # the judge says 2, gold says 1
    (folder / "judge.json").write_text(json.dumps([pair]))
    with pytest.raises(DataError, match="row 0 of .*judge.json lacks 'results'"):
        read_llmbar(folder)
