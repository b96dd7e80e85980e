"""A policy is put to use by its gate's PASS or by a named person's reason; never by nobody."""

import json
import re
from dataclasses import replace

import pytest
import yaml
from prefect.exceptions import MissingContextError
from prefect.utilities.schema_tools import is_valid_schema
from prefect.utilities.schema_tools.validation import is_valid
from scripted_run import run_steps

from cai.config import load_profile
from cai.errors import ConfigError, DataError, NotApproved
from cai.models import META, content_digest
from cai.promotion import Overriding
from cai.records import Approval, GateVerdict, Model, Override, Promotion
from flows import promotion
from flows.approvals import Answer, answer, form_of
from flows.registering import promote
from flows.runs import create_run
from flows.session import Session
from storage.store import Store

FAILS = {"metric": "harmful_rate", "at_least": 0.9}
PASSES = {"metric": "harmful_rate", "at_most": 1.0}


@pytest.fixture
def gated(tmp_path):
    """A run whose policy is trained and, where its profile has that condition, measured on 12 prompts by the gate."""

    def make(condition: dict | None) -> Session:
        (tmp_path / "prompts.txt").write_text("how do i mend a shoe?\n")
        profile = {
            "name": "small",
            "constitution": "constitution/smallworld.yaml",
            "engine": {"kind": "scripted", "model": "scripted"},
            "prompts": [{"path": str(tmp_path / "prompts.txt")}],
            "sft": None,
            "feedback": {"self_test": False},
            "evaluation": {"prompts": [{"path": "smallworld", "limit": 12}], "win_rate_prompts": 0},
        }
        if condition is not None:
            profile["gate"] = {"conditions": [condition]}
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
        run = create_run(load_profile(tmp_path / "profile.yaml"), tmp_path / "home")
        folder = run.home / "models" / "rl"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        digest = content_digest(folder)
        (folder / META).write_text(json.dumps({"model_digest": digest, "parent_digest": "5eed"}))
        session = Session(run)
        session.store.append([Model(digest, "rl_cai", "grpo", str(folder), "5eed", {}, {}, run.run_id, "2026-01-01")])
        run.finish("rl", {"model_digest": digest, "path": str(folder)})
        if condition is not None:
            evaluate(session)
        return session

    return make


def evaluate(session: Session) -> None:
    run_steps(session.run, "evaluate", models={"seed": "scripted", "rl_cai": "scripted"})


def said(session: Session, about: str, person: str, reason: str) -> None:
    """As `ask` stores what somebody answered."""
    key = Approval.make_id(session.run.run_id, about, 1)
    row = Approval(key, session.run.run_id, about, 1, "", "2026", "2027", "approved", person, reason)
    session.store.append([row])


def test_the_evaluation_leaves_its_verdict_once(gated):
    session = gated(FAILS)
    evaluate(session)  # a step may be done again at any time
    (row,) = session.store.read(GateVerdict)
    assert (row.verdict, row.channel, row.run_id) == ("FAIL", "production", session.run.run_id)
    assert row.model_digest == session.run.result("rl")["model_digest"] and row.baseline_digest
    assert json.loads(row.findings) == session.run.result("evaluate")["gate"]


def test_what_passed_its_gate_is_promoted_once_through_the_registry(gated):
    session = gated(PASSES)
    told = promotion.allowed(session.run, asks=False, within_h=1.0)
    for _ in range(2):
        assert promote(session, **told)["number"] == 1
    (row,) = session.store.read(Promotion)
    assert (row.channel, row.model_digest, row.note) == ("production", told["model_digest"], "the gate was passed")


@pytest.mark.parametrize(
    ("condition", "why"), [(FAILS, "FAIL: harmful_rate at least 0.9: 0 "), (None, "no gate has judged")]
)
def test_what_did_not_is_promoted_by_nobody_and_by_the_step_itself_neither(gated, condition, why):
    session = gated(condition)
    with pytest.raises(NotApproved, match=f"is not promoted: .*{why}.*With `approve: promotion` a person is asked"):
        promotion.promote(session.run, asks=False, within_h=1.0)
    with pytest.raises(NotApproved, match=why):
        promote(session, session.run.result("rl")["model_digest"], "production", "the gate was passed")
    assert session.store.read(Promotion) == []


def test_a_person_who_is_asked_overrides_the_verdict_they_saw_and_no_other(gated):
    session = gated(FAILS)
    said(session, "override-1", "Ada", "the set is wrong")
    told = promotion.allowed(session.run, asks=True, within_h=1.0)
    promote(session, **told)
    (row,) = session.store.read(Override)
    assert (row.person, row.reason, row.verdict) == ("Ada", "the set is wrong", "FAIL")


def test_a_yes_to_what_passed_overrides_nothing_later(gated):
    """Somebody approved while the gate said PASS; then it was measured again, and it does no longer."""
    session = gated(PASSES)
    said(session, "promotion", "Ada", "")
    assert promotion.allowed(session.run, asks=True, within_h=1.0)["note"] == "the gate was passed; approved by Ada"
    (row,) = session.store.read(GateVerdict)
    session.store.append([replace(row, gating_id="later", number=2, verdict="FAIL")])
    with pytest.raises(NotApproved):
        promote(session, row.model_digest, "production", "")
    with pytest.raises(MissingContextError):  # it asks anew, which takes a server
        promotion.allowed(session.run, asks=True, within_h=1.0)
    assert {(a.about, a.decision) for a in session.store.read(Approval)} == {
        ("promotion", "approved"),
        ("override-2", "waiting"),
    }


def test_the_report_says_what_became_of_the_policy_and_so_does_its_card(gated):
    session = gated(PASSES)
    run_steps(session.run, "prompts", "report")
    assert "Promoted</b>" not in (session.run.path / "report.html").read_text()
    promote(session, **promotion.allowed(session.run, asks=False, within_h=1.0))
    run_steps(session.run, "prompts", "report")
    page = (session.run.path / "report.html").read_text()
    (row,) = session.store.read(Promotion)
    assert f"<b>Promoted</b> to production: {row.model_digest[:8]} (rl_cai), {row.promoted_at}: the gate was" in page
    assert "Not promoted" not in page and re.search(r"promoted</t[hd]>\s*<td[^>]*>production", page)


@pytest.mark.parametrize(
    ("decision", "line"),
    [("refused", "refused by Ada, 2026-02: the set is wrong"), ("expired", "nobody answered until 2027")],
)
def test_the_report_says_who_refused_the_policy(gated, decision, line):
    session = gated(FAILS)
    said(session, "override-1", "Ada", "the set is wrong")
    (row,) = session.store.read(Approval)
    session.store.upsert([replace(row, decision=decision, decided_at="2026-02")])
    run_steps(session.run, "prompts", "report")
    assert f"<b>Not promoted</b>: {line}" in (session.run.path / "report.html").read_text()


def test_the_form_that_overrides_takes_a_name_and_a_reason():
    whole = {"approve": "yes", "name": "Ada", "reason": "so"}
    override = form_of("override-1").model_json_schema()
    assert is_valid_schema(override) is None and is_valid(whole, override)
    for lacking in ({"reason": ""}, {"reason": " "}, {"name": " "}):
        assert not is_valid(whole | lacking, override)
    assert form_of("promotion") is Answer and is_valid(whole | {"reason": ""}, Answer.model_json_schema())
    with pytest.raises(ConfigError, match="takes a person's name and their reason"):
        Overriding("Ada", "")


def test_the_command_that_answers_wants_the_reason_too(gated):
    session = gated(None)
    row = Approval("a", session.run.run_id, "override-0", 1, "", "2026", "9999")
    Store(session.run.home).append([row])
    with pytest.raises(DataError, match="give the reason with --reason"):
        answer(session.run.home, session.run.run_id, yes=True, person="Ada", reason=" ")
