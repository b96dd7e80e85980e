"""A run with several judges: each labels every pair, and weighs what it was given or what gold says it is worth."""

import asyncio
import json
import math
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from scripted_run import changed, run_to_preferences, write_profile

from cai.cli.labels.report import report
from cai.config import load_profile
from cai.errors import DataError
from cai.records import Annotation, Comparison, Message, PreferencePair, Prompt, Response, digest
from cai.verdict import soft_verdict
from flows import accounts
from flows.judges import judges_of
from flows.labelling import labels
from flows.runs import create_run
from flows.session import Session
from storage.store import Store


@pytest.fixture
def profile(tmp_path):
    return partial(write_profile, tmp_path)


def with_judges(profile: Path, folder: Path, **settings: object) -> Path:
    """Two scripted judges: one sure of its letters, one always of the first."""
    body = yaml.safe_load(profile.read_text())
    scripts = {"sure": {"rules": []}, "biased": {"rules": [{"when": "letter A or B", "choose": [0.7, 0.3]}]}}
    for name, script in scripts.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(script))
    judges = [{**body["engine"], "model": name, "script": str(folder / f"{name}.yaml")} for name in scripts]
    return changed(profile, feedback={"judges": judges, "principles": 1} | settings, chains={"rounds": 1})


def test_a_committee_labels_every_pair_and_its_votes_are_weighed_and_told_apart(tmp_path, profile):
    run = run_to_preferences(tmp_path / "home", with_judges(profile(n_prompts=12), tmp_path, weights=[3.0, 1.0]))
    store, step = Store(tmp_path / "home"), run.result("preferences")
    sure, biased = (digest("scripted", name) for name in ("sure", "biased"))
    assert step["judges"] == [{"judge_digest": sure, "weight": 0.75}, {"judge_digest": biased, "weight": 0.25}]
    asked = Counter((row.judge_digest, row.order) for row in store.read(Comparison))
    assert asked == {(judge, order): 12 for judge in (sure, biased) for order in ("ab", "ba")}
    assert run.result("labels-0")["n_requests"] == run.result("labels-0")["n_in"] == 12 * 2 * 2
    again = asyncio.run(labels(Session(run), 0))
    assert (again["n_requests"], again["n_reused"]) == (0, 12 * 2 * 2), "the second judge's rows are found as well"
    said = {(r.judge_digest, r.prompt_id, r.order): r for r in store.read(Comparison)}
    pairs = store.read(PreferencePair)
    assert len(pairs) == 12
    for pair in pairs:
        each = [soft_verdict(said[sure, pair.prompt_id, order], max_mass_outside=1.0) for order in ("ab", "ba")]
        p = sum(each) / 2  # of a; the biased judge says 0.5 in both orders together
        assert pair.soft_label == pytest.approx(0.5 + abs(0.75 * p + 0.25 * 0.5 - 0.5))
        assert pair.disagreement == pytest.approx(abs(p - 0.5) * math.sqrt(3) / 4)
    for title, n_in, n_out, n_rejected in accounts.funnel(run):
        assert n_in == n_out + n_rejected, title
    command = ["--home", str(run.home), "--run", run.run_id, "--since", run.run_id, "--format", "json"]
    measured = json.loads(CliRunner().invoke(report, command, catch_exceptions=False).stdout)
    same_both_ways = {row["judge_digest"]: row["consistency"]["value"] for row in measured["judges"]}
    assert set(same_both_ways) == {sure, biased} and same_both_ways[biased] == 0.0
    assert measured["warnings"] == step["warnings"] == []  # of 12 pairs nothing is said
    assert measured["drift"] and not any(row["is_drift"] for row in measured["drift"])


def test_judges_weigh_what_their_accuracy_on_gold_is_worth(tmp_path, profile):
    """Gold that agrees with one judge: it weighs more; the other, a coin, cannot be used."""
    path, home = with_judges(profile(n_prompts=2), tmp_path, weights="gold"), tmp_path / "home"
    store = Store(home)
    gold_prompts = [Prompt.make([Message("user", f"gold question {i}")], "gold") for i in range(20)]
    texts = {
        p.prompt_id: [Response.given(p.prompt_id, f"{side} {i}", "gold") for side in ("good", "bad")]
        for i, p in enumerate(gold_prompts)
    }
    annotations = []
    for prompt_id, (good, bad) in texts.items():
        a, b = sorted((good.response_id, bad.response_id))
        ids = (Annotation.make_id(a, b, "gold", "", "", True), prompt_id, a, b)
        annotations.append(Annotation(*ids, float(a == good.response_id), "gold", is_gold=True))
    store.append([*gold_prompts, *(r for both in texts.values() for r in both), *annotations])
    # Finds what is good wherever it stands; the other one does so in three cases of four.
    for name, numbers in (("sure", r"\d+"), ("biased", r"\d*[0-6]")):
        rules = [
            {"when": rf"(?s)Response A.*good {numbers}\b.*Response B", "choose": [0.9, 0.1]},
            {"when": rf"(?s)Response B.*good {numbers}\b", "choose": [0.1, 0.9]},
            {"when": "letter A", "choose": [0.5, 0.5]},
        ]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"rules": rules}))
    run = run_to_preferences(home, path)
    judges = run.result("preferences")["judges"]
    assert [judge["gold"] for judge in judges] == [
        {"n_right": 20.0, "n": 20, "n_unscored": 0},
        {"n_right": 14 + 6 / 2, "n": 20, "n_unscored": 0},
    ]
    odds = [math.log(20.5 / 0.5), math.log(17.5 / 3.5)]
    assert [judge["weight"] for judge in judges] == pytest.approx([o / sum(odds) for o in odds])
    assert run.result("labels-0")["n_in"] == 2 * 2 * 2, "gold is no part of the run's own pairs"


def test_weights_from_gold_need_gold(tmp_path, profile):
    run = create_run(load_profile(with_judges(profile(n_prompts=2), tmp_path, weights="gold")), tmp_path / "home")
    with pytest.raises(DataError, match="gold annotations"):
        judges_of(run, Store(tmp_path / "home"), ["x", "y"])
