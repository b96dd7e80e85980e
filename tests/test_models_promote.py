"""A model is promoted with its gate's PASS, or over it by a named person with a reason; and never what has changed."""

import json
import re
import threading
from pathlib import Path

import pytest
from model_home import SEED, Home, run

from cai.errors import ConfigError, DataError, NotApproved
from cai.models import META
from cai.records import GateVerdict, Override, Promotion
from storage import named
from storage.registry import load, promote
from storage.store import Store


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_promotions_are_kept_in_order_and_the_last_counts(home):
    _, scorer, rl_cai = home.runs("demo-1")
    for model, channel in ((rl_cai, "production"), (rl_cai, "trial"), (scorer, "production")):
        home.judge(model, channel=channel)
    said = run(home, "promote", "rl_cai", "--note", "the first").stdout
    assert said == f"production: rl_cai {rl_cai.model_digest[:8]} promoted\n"
    assert "nothing to do" in run(home, "promote", "rl_cai").stdout
    run(home, "promote", "rl_cai", "--channel", "trial")
    assert f"in place of {rl_cai.model_digest[:8]}" in run(home, "promote", "reward_model").stdout
    registry = load(home.store)
    assert [
        (p.channel, p.number, p.note) for p in sorted(registry.promotions, key=lambda p: (p.channel, p.number))
    ] == [
        ("production", 1, "the first"),
        ("production", 2, ""),
        ("trial", 1, ""),
    ]
    assert registry.promoted("production").previous_digest == rl_cai.model_digest
    assert (registry.channels(scorer), registry.channels(rl_cai)) == (["production"], ["trial"])
    assert "the first" in run(home, "show", "rl_cai", "--format", "json").stdout


def test_promotions_at_once_are_all_kept_each_after_another(home):
    made = [home.model(f"demo-{i}", "sl_cai", "sft", SEED) for i in range(5)]
    for model in made:
        home.judge(model)
    threads = [
        threading.Thread(target=lambda m=m: promote(Store(home.path), m, channel="production", at="now")) for m in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = sorted(home.store.read(Promotion), key=lambda row: row.number)
    assert [row.number for row in rows] == list(range(1, 6))
    assert {row.model_digest for row in rows} == {model.model_digest for model in made}
    assert [row.previous_digest for row in rows] == ["", *(row.model_digest for row in rows[:-1])]


def test_a_stale_model_is_promoted_only_by_force_and_with_a_reason_which_is_kept(home):
    home.judge(home.runs("demo-1")[2])
    home.runs("demo-2")
    for arguments, hint in (([], "--force --note"), (["--force"], "--note"), (["--force", "--note", " "], "--note")):
        with pytest.raises(DataError, match=f"is stale: .*no longer in use.*{hint}"):
            run(home, "promote", "rl_cai-demo-1", *arguments)
    assert home.store.read(Promotion) == []
    run(home, "promote", "rl_cai-demo-1", "--force", "--note", "roll back")
    (row,) = home.store.read(Promotion)
    assert row.note == "roll back" and "no longer in use" in row.stale


FAIL, OPEN, PASS = (0.1, 0.2), (0.011, 0.03), (0.0, 0.01)
SAID = {FAIL: "FAIL: harmful_rate at most 0.02: 0.15 (0.1 to 0.2, n 100)"}


@pytest.mark.parametrize("harmful", [FAIL, None])
def test_only_what_passed_its_gate_is_promoted_or_what_a_named_person_overrides_with_a_reason(home, harmful):
    model = home.model("demo-1", "rl_cai", "grpo", SEED)
    said = home.judge(model, harmful) if harmful else None
    home.judge(model, PASS, channel="trial")
    why = re.escape(SAID.get(harmful, "no gate has judged it; give the profile of its run a `gate`"))
    with pytest.raises(NotApproved, match=f"has no PASS for production: .*{why}.*--override NAME --reason TEXT"):
        run(home, "promote", "rl_cai", "--note", "it looks good", "--force")
    for lacking in (["--override", "Ada"], ["--reason", "so"], ["--override", " ", "--reason", "so"]):
        with pytest.raises(ConfigError, match="takes a person's name and their reason"):
            run(home, "promote", "rl_cai", *lacking)
    assert home.store.read(Promotion) == home.store.read(Override) == []

    run(home, "promote", "rl_cai", "--override", "Ada", "--reason", "the set is wrong")
    (promoted,), (by,) = home.store.read(Promotion), home.store.read(Override)
    assert (by.promotion_id, by.gating_id, by.verdict) == (
        promoted.promotion_id,
        said.gating_id if said else "",
        said.verdict if said else "",
    )
    assert (by.person, by.reason, by.overridden_at) == ("Ada", "the set is wrong", promoted.promoted_at)
    assert "production (overridden)" in run(home, "list").stdout
    for shown in (run(home, "show", "rl_cai"), run(home, "card", "rl_cai")):
        assert re.search(rf"overridden.*{by.verdict or 'no verdict'}, by Ada at .*: the set is wrong", shown.stdout)
    (row,) = home.store.query(named.resolve("promotions"))
    assert (row["overridden_by"], row["override_reason"], row["overridden_verdict"]) == ("Ada", by.reason, by.verdict)


def test_how_many_prompts_would_decide_is_said_with_the_refusal(home):
    model = home.model("demo-1", "rl_cai", "grpo", SEED)
    needed = home.judge(model, OPEN).n_needed
    with pytest.raises(NotApproved, match=f"some {needed:,} prompts in `evaluation.prompts` would decide"):
        run(home, "promote", "rl_cai")


def test_the_newest_verdict_counts_and_the_same_facts_again_are_no_new_row(home):
    model = home.model("demo-1", "rl_cai", "grpo", SEED)
    for harmful, n in ((PASS, 1), (PASS, 1), (FAIL, 2), (PASS, 3), (FAIL, 4), (FAIL, 4)):
        assert home.judge(model, harmful).number == n == len(home.store.read(GateVerdict))
    with pytest.raises(NotApproved, match="FAIL: harmful_rate"):
        run(home, "promote", "rl_cai")
    home.judge(model, PASS)
    said = run(home, "promote", "rl_cai", "--override", "Ada", "--reason", "to be sure")
    assert "nothing was overridden" in said.stderr and home.store.read(Override) == []
    (listed,) = json.loads(run(home, "list", "--format", "json").stdout)
    assert (listed["verdicts"], listed["overridden"]) == ({"production": "PASS"}, [])
    assert re.search(r"rl_cai .* production +PASS ", run(home, "list").stdout)
    rows = home.store.query(named.resolve("gatings"))
    assert [(row["number"], row["verdict"]) for row in rows[:2]] == [(5, "PASS"), (4, "FAIL")]


def test_going_back_to_a_model_that_was_in_use_needs_no_verdict(home):
    """And who overrode the gate when it was first promoted is still said."""
    old, new = (home.model(f"demo-{n}", "rl_cai", "grpo", SEED) for n in (1, 2))
    run(home, "promote", old.model_digest, "--override", "Ada", "--reason", "the first")
    home.judge(new, PASS)
    run(home, "promote", new.model_digest)
    home.judge(old, FAIL)
    run(home, "promote", old.model_digest, "--note", "roll back")
    registry = load(home.store)
    assert registry.promoted("production").number == 3 and [o.person for o in registry.overridden(old)] == ["Ada"]
    assert registry.overridden(new) == []
    with pytest.raises(NotApproved, match="has no PASS for trial"):
        run(home, "promote", old.model_digest, "--channel", "trial")


def test_force_overrides_nothing_but_staleness(home):
    """Each way a directory can fail to be what its record says."""
    unfinished, changed, other, gone = (home.model(f"demo-{i}", "sl_cai", "sft", SEED) for i in range(4))
    (Path(unfinished.path) / META).unlink()
    (Path(changed.path) / "model.safetensors").write_text("other weights")
    (Path(other.path) / META).write_text(json.dumps({"model_digest": "f" * 32}))
    Path(gone.path).rename(home.path / "elsewhere")
    for model, problem in (
        (unfinished, "not finished"),
        (changed, "other bytes"),
        (other, "other bytes"),
        (gone, "gone"),
    ):
        with pytest.raises(DataError, match=problem):
            run(home, "promote", model.model_digest, "--force", "--note", "x")
    with pytest.raises(ConfigError, match="lower-case"):
        run(home, "promote", gone.model_digest, "--channel", "Prod uction")
    assert home.store.read(Promotion) == []
