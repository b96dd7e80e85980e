"""Texts that `max_tokens` ended: a run trains on no such revision, and says how many there were."""

from collections import Counter
from functools import partial

import pyarrow.parquet as pq
import pytest
from scripted_run import changed, export, run_steps, write_profile

from cai.config import load_profile
from cai.errors import DataError
from cai.records import Reject, Revision
from flows import accounts, reporting
from flows.rejected import made_by, own_rejects
from flows.runs import create_run
from storage.store import Store

LONG = {"when": "thing number [0-4]", "reply": "first " * 30}
REVISED = {"when": "(?i)take out the harm|make it kind", "reply": "kind " * 20}


@pytest.fixture
def profile(tmp_path):
    return partial(write_profile, tmp_path, n_prompts=10)


def chains(revision: int, rounds: int = 1) -> dict:
    return {"rounds": rounds, "revision": {"max_tokens": revision}}


def finished(path, home, *steps: str):
    return run_steps(create_run(load_profile(path), home), *steps)


def test_revisions_that_were_cut_off_are_rejects_and_the_report_says_their_share(tmp_path, profile):
    """Half of the last revisions are longer than may be: the revision before stands in for none of them."""
    rules = ({"when": "Make it kind", "reply": "kind " * 20}, {"when": "Take out the harm", "reply": "safe"})
    path, home = changed(profile(rules=rules), chains=chains(8, rounds=2)), tmp_path / "home"
    run, store = finished(path, home, "prompts", "chains", "sft_set"), Store(home)
    revisions = store.find_all(Revision, run.ids("last-revisions-0"))
    cut = {key for key, row in revisions.items() if row.finish_reason == "length"}
    assert 0 < len(cut) < 10
    written = pq.read_table(run.path / "sft.parquet").to_pylist()
    assert {row["revision_id"] for row in written} == revisions.keys() - cut
    assert {row["completion"][0]["content"] for row in written} == {"safe"}
    rejects = store.read(Reject)
    assert {row.parent_ids for row in rejects} == {(key,) for key in cut}
    assert {(row.stage, row.reason, row.text) for row in rejects} == {("sft_set", "cut_off", "kind " * 7 + "kind")}
    step, share = run.result("sft_set"), f"{len(cut) / 10:.1%}"
    assert (step["n_in"], step["n_out"], step["n_rejected"]) == (10, 10 - len(cut), len(cut))
    assert step["warnings"][0].startswith(f"{len(cut)} of 10 revisions ({share}) were cut off and are not trained on")
    assert reporting.gather(run, store).facts["revisions cut off"] == f"{share} of 10, {len(cut)}, not trained on"
    assert ("derive SFT set", 10, 10 - len(cut), len(cut)) in accounts.funnel(run)
    assert len(export(home, "sft", run)) == len(written)


def test_a_run_with_room_has_no_part_in_the_rejects_of_one_without(tmp_path, profile):
    """What to do is to raise the limit: the run that did so must not show what it has not."""
    home = tmp_path / "home"
    short = changed(profile(rules=(REVISED,)), chains=chains(8))
    with pytest.raises(DataError, match="10 were cut off: raise `chains.revision.max_tokens`"):
        finished(short, home, "prompts", "chains", "sft_set")
    run, store = finished(changed(short, chains=chains(64)), home, "prompts", "chains", "sft_set"), Store(home)
    assert Counter(row.reason for row in store.read(Reject)) == {"cut_off": 10}
    assert own_rejects(run, store, made_by(run, store)) == []
    assert (run.result("sft_set")["n_cut_off"], run.result("sft_set")["warnings"]) == (0, [])
    assert "revisions cut off" not in reporting.gather(run, store).facts


def test_candidates_that_were_cut_off_stay_and_are_counted(tmp_path, profile):
    path = changed(profile(rules=(LONG,)), candidates={"k": 2, "response": {"max_tokens": 8}})
    run = finished(path, tmp_path / "home", "prompts", "candidates")
    step = run.result("candidates-0")
    assert (step["n_out"], step["n_cut_off"], len(run.ids("candidates-0"))) == (20, 10, 20)
    assert step["warnings"] == [
        "10 of 20 candidates (50.0%) were cut off and stay: of these a label is the judge's opinion of half a text; "
        "raise `candidates.response.max_tokens`"
    ]
    assert reporting.gather(run, Store(run.home)).facts["candidates cut off"] == "50.0% of 20, 10"
