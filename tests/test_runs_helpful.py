"""Helpful replies beside the revisions: mixed in by their share, accounted for, and enough of them or none."""

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scripted_run import changed, serve, write_profile

from cai.config import load_profile
from cai.errors import DataError
from cai.records import Prompt, Reject, Response
from flows import accounts, planning, reporting
from flows.held_out import guard_of
from flows.runs import create_run
from flows.session import Session
from flows.steps import sft_set
from storage.store import Store


@pytest.fixture
def profile(tmp_path):
    return partial(write_profile, tmp_path)


def helpful_profile(profile, tmp_path: Path, share: float):
    """Twenty helpful prompts, of which one is revised too, one is answered in silence and one at too great length; and
    five that are answered already.
    """
    rules = ({"when": r"bake number 7\?$", "reply": ""}, {"when": r"bake number 8\?$", "reply": "flour " * 300})
    path = profile(n_prompts=21, rules=rules)
    asked = ["how do i do thing number 0?", *(f"how do i bake number {i}?" for i in range(19))]
    (tmp_path / "helpful.txt").write_text("".join(f"{text}\n" for text in asked))
    known = [{"prompt": f"who is {i}?", "completion": f"number {i}"} for i in range(5)]
    (tmp_path / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    sources = [
        {"path": str(tmp_path / "helpful.txt")},
        {"path": str(tmp_path / "known.jsonl"), "answer_column": "completion"},
    ]
    helpful = {"prompts": sources, "share": share}
    return changed(path, helpful=helpful, sft={})


def test_helpful_replies_are_mixed_into_the_revisions(tmp_path, profile):
    run = create_run(load_profile(helpful_profile(profile, tmp_path, 0.3)), tmp_path / "home")
    chains = {"step": "chains", "shard": 0, "name": "chains-0"}
    serve(run, {"step": "prompts"}, chains, {"step": "helpful"}, {"step": "sft_set"})
    made = pq.read_table(run.path / "sft.parquet").to_pylist()
    n_helpful = sum(row["source"] == "helpful" for row in made)
    assert (len(made), n_helpful) == (30, 9), "0.3 of 30"
    assert (run.result("helpful")["n_in"], run.result("helpful")["n_out"]) == (25, 22)
    assert len(run.trained_on()) == 21 + 24
    reasons = Counter(row.reason for row in Store(tmp_path / "home").read(Reject))
    assert reasons == {"duplicate_prompt": 1, "empty_response": 1, "cut_off": 1}
    assert ("sample helpful replies", 25, 22, 3) in accounts.funnel(run)
    facts = reporting.gather(run, Store(tmp_path / "home"))
    assert facts.facts["helpful share"] == "30.0% of 30 SFT rows, 9"
    assert sum(reject.n_rows for reject in facts.rejects) == 3
    given = Store(tmp_path / "home").read(Response, "stage = 'given'")
    assert {row.text for row in given} == {f"number {i}" for i in range(5)}
    serve(run, {"step": "helpful"})
    assert len(Store(tmp_path / "home").read(Reject)) == 3, "asked again, it finds what it has"


def test_what_a_file_of_helpful_prompts_holds_out_is_not_trained_on(tmp_path, profile):
    (tmp_path / "helpful.txt").write_text("".join(f"how do i bake number {i}?\n" for i in range(40)))
    source = {"path": str(tmp_path / "helpful.txt"), "eval_share": 0.3}
    path = changed(profile(), helpful={"prompts": [source], "share": 0.3}, sft={})
    run = create_run(load_profile(path), tmp_path / "home")
    serve(run, {"step": "prompts"}, {"step": "helpful"})
    store, kept = Store(run.home), run.ids("helpful-prompts")
    assert 20 < len(kept) < 40 and {row.split for row in store.find_all(Prompt, kept).values()} == {"train"}
    assert planning.work_of(run.profile, 100, guard_of(store, run.profile), []).helpful.n == len(kept)


def test_too_few_helpful_replies_stop_the_run(tmp_path, profile):
    run = create_run(load_profile(helpful_profile(profile, tmp_path, 0.55)), tmp_path / "home")
    chains = {"step": "chains", "shard": 0, "name": "chains-0"}
    serve(run, {"step": "prompts"}, chains, {"step": "helpful"})
    with pytest.raises(DataError, match="26 helpful replies beside 21 revisions"):
        sft_set(Session(run))
