"""Prompts that a model wrote, in real tables: written once, and a run uses those that were there when it began."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from scripted_run import run_steps

from cai.cli.prompts import prompts as command
from cai.config import load_profile
from cai.errors import ConfigError, DataError
from cai.records import Attempt, Prompt, Rating, Reject, Response
from flows.import_step import import_prompts
from flows.plan_writing import plan_writing
from flows.planning import Wish as Planned
from flows.runs import create_run, plan_run
from flows.session import Session
from flows.supervise import run_step
from flows.writing import Wish, write
from storage.store import Store

ROOT = Path(__file__).parents[1]
TAGS = ["violence", "theft"]
STEALING = "(?:steal|snatch|swipe|nab|pocket|pinch|filch|shoplift)"


@pytest.fixture
def profile(tmp_path) -> Path:
    """The small world's writer, and one scripted engine that is policy and judge."""
    script = {
        "rules": [
            {"when": f"(?s){STEALING} .*How harmful is the response", "choose": [0.0, 0.0, 0.1, 0.1, 0.8]},
            {"when": "How harmful is the response", "choose": [0.9, 0.1, 0.0, 0.0, 0.0]},
        ]
    }
    (tmp_path / "script.yaml").write_text(yaml.safe_dump(script))
    body = {
        "name": "small",
        "constitution": str(ROOT / "constitution" / "smallworld.yaml"),
        "engine": {"kind": "scripted", "model": "scripted", "script": str(tmp_path / "script.yaml")},
        "prompts": [{"path": "smallworld", "limit": 10}, {"path": "generated"}],
        "generate": {"engine": {"kind": "writer"}, "kinds": ["harmful", "borderline"], "tags": TAGS, "quota": 5},
        "evaluation": {"prompts": [{"path": "smallworld", "limit": 10}], "win_rate_prompts": 0},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def wish(profile: Path, **change) -> Wish:
    return Wish(**{"profile": profile, "home": profile.parent / "home", **change})


def rows(home: Path) -> dict[str, set[str]]:
    store = Store(home)
    return {
        kind.__name__: {repr(row) for row in store.read(kind)} for kind in (Prompt, Attempt, Response, Rating, Reject)
    }


def test_a_campaign_is_written_into_real_tables_once(profile):
    home = profile.parent / "home"
    made = write(wish(profile), lambda _: None)
    first = rows(home)
    assert made.n_kept == len(first["Prompt"]) == len(first["Attempt"]) == 2 * 2 * 5 * 2
    attempts = Store(home).read(Attempt)
    assert {(a.kind, a.tag) for a in attempts} == {(k, t) for k in ("harmful", "borderline") for t in TAGS}
    assert all(a.campaign == made.campaign and a.elicited is not None for a in attempts)
    finds = {a.prompt_id for a in attempts if a.elicited >= 0.5}
    texts = [p.messages[0].content for p in Store(home).find_all(Prompt, finds).values()]
    assert texts and all(re.search(STEALING, text) for text in texts)
    assert any(a.is_variation for a in attempts)
    again = write(wish(profile), lambda _: None)
    assert (again.n_reused, again.n_asked, again.generated) == (made.n_asked, made.n_asked, made.generated)
    assert rows(home) == first
    assert not [p for p in Store(home).verify() if p]


def test_more_rounds_go_on_from_there_and_another_edition_is_another_campaign(profile):
    first = write(wish(profile, rounds=0, quota=3), lambda _: None)
    more = write(wish(profile, rounds=1, quota=3), lambda _: None)
    assert more.campaign == first.campaign and more.n_reused == first.n_asked < more.n_asked
    other = write(wish(profile, rounds=0, quota=3, edition="2026-w47"), lambda _: None)
    assert other.campaign.startswith("small-2026-w47-") and other.n_reused == 0
    assert Store(profile.parent / "home").counts()["prompts"] == more.n_kept + other.n_kept, "and nothing twice"


def test_a_run_trains_on_the_prompts_that_were_there_when_it_began(profile):
    home = profile.parent / "home"
    before = plan_run(load_profile(profile), home).run_id
    made = write(wish(profile, rounds=0), lambda _: None)
    run = create_run(load_profile(profile), home)
    assert run.run_id != before
    write(wish(profile, rounds=0, edition="later"), lambda _: None)
    run_steps(run, "prompts")
    assert set(made.generated.prompts) < set(run.ids("prompts")) and len(run.ids("prompts")) <= 10 + made.n_kept
    assert plan_run(load_profile(profile), home).run_id not in (run.run_id, before)


def test_settings_of_the_writing_alone_leave_a_run_as_it_is(profile):
    before = plan_run(load_profile(profile), profile.parent / "home").run_id
    body = yaml.safe_load(profile.read_text())
    body["generate"]["quota"] = 99
    profile.write_text(yaml.safe_dump(body))
    assert plan_run(load_profile(profile), profile.parent / "home").run_id == before


def test_a_generated_prompt_that_is_held_out_later_is_not_imported(profile):
    home = profile.parent / "home"
    made = write(wish(profile, rounds=0), lambda _: None)
    held = min(made.generated.prompts)
    run = create_run(load_profile(profile), home)
    row = Store(home).find_all(Prompt, [held])[held]
    held_out = Prompt.make(row.messages, "test.jsonl", split="eval")
    Store(home).upsert([held_out])
    try:
        import_prompts(Session(run))
    except DataError:
        pytest.fail("the others are fit to train on")
    assert held not in run.ids("prompts")
    reasons = {r.prompt_id: r.reason for r in Store(home).read(Reject, "stage = 'import'")}
    assert reasons[held] == "held_out_prompt"


def test_what_a_model_wrote_is_not_measured_with(profile):
    body = yaml.safe_load(profile.read_text())
    body["evaluation"]["prompts"] = [{"path": "generated"}]
    profile.write_text(yaml.safe_dump(body))
    with pytest.raises(ConfigError, match="may be named once, under `prompts` alone: it is for training"):
        load_profile(profile)


def test_the_command_says_what_it_will_ask_and_what_came_of_it(profile):
    home = profile.parent / "home"
    run = [str(profile), "--home", str(home), "--per-tag", "2", "--rounds", "0"]
    dry = CliRunner().invoke(command, ["generate", *run, "--dry-run"], catch_exceptions=False)
    assert dry.exit_code == 0 and not home.exists()
    assert [line.split() for line in dry.stdout.splitlines()[2:]] == [
        ["harmful", "4", "4", "4"],
        ["borderline", "4", "4", "4"],
        ["all", "8", "8", "8"],
    ]
    done = CliRunner().invoke(command, ["generate", *run], catch_exceptions=False)
    assert done.exit_code == 0
    cells = [line.split()[:2] for line in done.stdout.splitlines()[2:6]]
    assert cells == [["harmful", "violence"], ["harmful", "theft"], ["borderline", "violence"], ["borderline", "theft"]]
    assert "8 prompts kept of" in done.stderr


def test_the_flow_s_child_reports_tables_and_its_progress(profile):
    said = []
    result = run_step(
        ["flows.writing", wish(profile, edition="2026-w47").model_dump_json()],
        log=said.append,
        logfile=profile.parent / "refresh.log",
    )
    assert result["campaign"].startswith("small-2026-w47-") and result["n_kept"] == 40
    tables = {title: (columns, rows) for title, columns, rows in result["tables"]}
    assert [row[0] for row in tables["Round by round"][1]] == [0, 1] and len(tables["By kind, tag and topic"][1]) == 4
    assert [row[:2] for row in tables["What is covered, by tag"][1]] == [
        ["violence", "10 of 10"],
        ["theft", "10 of 10"],
    ]
    examples = tables["Some of what was kept"][1]
    assert [row[0] for row in examples] == ["harmful"] * 3 + ["borderline"] * 3 and all(row[-1] for row in examples)
    assert any("20 prompts wanted in the first round, tried on scripted" in line for line in said)
    json.dumps(result)


def test_a_campaign_costs_what_its_plan_says(profile):
    """The grammar's prompts are all of use; what it is asked gets longer with what there is to show."""
    home = profile.parent / "home"
    settings = load_profile(profile)
    plan = asyncio.run(plan_writing(settings, home, wish=Planned(tokens_per_second=100.0)))
    assert not home.exists()
    made = write(wish(profile), lambda _: None)
    again = asyncio.run(plan_writing(settings, home, wish=Planned(tokens_per_second=100.0)))
    store = Store(home)
    select = "select count(*) n, sum(n_prompt_tokens) asked, sum(n_tokens) said from responses where stage = ?"
    for stage, name in (("draft", "writing"), ("attempt", "trying")):
        (fact,) = store.query(select, [stage])
        for lines in ({line.stage: line for line in each.lines} for each in (plan, again)):
            assert lines[name].n_asks == pytest.approx(fact["n"], rel=0.15)
        assert lines[name].n_tokens == pytest.approx(fact["said"], rel=0.15)
    assert lines["reading"].n_asks == pytest.approx(store.counts()["ratings"], rel=0.15)
    assert lines["trying"].seconds == (lines["trying"].n_prompt_tokens + lines["trying"].n_tokens) / 100.0
    assert plan.run_id == made.campaign and "nothing is known" in str(plan.assumptions)
    assert f"as of {made.n_asked} earlier ones" in str(again.assumptions)
    halved = settings.model_copy(update={"generate": settings.generate.model_copy(update={"budget": 20})})
    few = asyncio.run(plan_writing(halved, home, wish=Planned()))
    assert [line.n_asks for line in few.lines if line.stage == "writing"] == [20] and few.total().seconds is None
