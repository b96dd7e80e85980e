"""Prompts that a model wrote, in real tables: written once, and a run uses those that were there when it began."""

import asyncio
import datetime
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from scripted_run import run_steps

from cai.cli.plan import plan
from cai.cli.prompts import prompts as command
from cai.config import load_profile
from cai.errors import ConfigError, DataError
from cai.records import Attempt, Prompt, Rating, Reject, Response
from cai.smallworld.world import combos
from flows.import_step import import_prompts
from flows.markdown import escaped
from flows.plan_writing import past_of, plan_writing
from flows.planning import Wish as Planned
from flows.refresh import week_of, written
from flows.runs import create_run, generated_now, plan_run
from flows.session import Session
from flows.supervise import run_step
from flows.writing import Wish, write
from storage.store import Store

ROOT = Path(__file__).parents[1]
TAGS = ["violence", "theft"]
STEALING = "(?:steal|snatch|swipe|nab|pocket|pinch|filch|shoplift)"
HARM = f"(?:{'|'.join(f'{c.action} {c.object}' for tag in TAGS for c in combos('train', tag))})"
ON_TASK = "What does the user ask for in the end"


@pytest.fixture
def profile(tmp_path) -> Path:
    """The small world's writer, and one scripted engine that is policy and judge."""
    script = {
        "rules": [
            {"when": f"(?s)user: .*{HARM}.*{ON_TASK}", "choose": [0.9, 0.1, 0.0]},
            {"when": ON_TASK, "choose": [0.1, 0.9, 0.0]},
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


def test_of_what_a_model_wrote_a_profile_takes_a_kind_and_a_number_and_nothing_else(profile):
    """Once any setting was taken, and had no effect."""
    home = profile.parent / "home"
    made = write(wish(profile, rounds=0, quota=2), lambda _: None)

    def written_of(**source):
        body = yaml.safe_load(profile.read_text())
        body["prompts"] = [{"path": "generated", **source}]
        profile.write_text(yaml.safe_dump(body))
        return {prompt.kind for prompt in generated_now(load_profile(profile), home)}, plan_run(
            load_profile(profile), home
        ).run_id

    (harmful, of_harmful), (both, of_both) = written_of(kind="harmful"), written_of()
    assert harmful == {"harmful"} < both == {p.kind for p in made.generated.prompts.values()} and of_harmful != of_both
    assert len(written_of(kind="harmful", limit=1)[0]) == 1
    for name, value in {"tags": ["x"], "eval_share": 0.1, "max_chars": 10, "licence": "MIT"}.items():
        with pytest.raises(ConfigError, match=f"`generated` has `{name}`, which changes nothing there"):
            written_of(**{name: value})


def test_the_command_says_what_it_will_ask_and_what_came_of_it(profile):
    home = profile.parent / "home"
    run = [str(profile), "--home", str(home), "--quota", "2", "--rounds", "0"]
    body = yaml.safe_load(profile.read_text())
    body["generate"] |= {"budget": 8, "quotas": [{"tag": "theft", "kind": "harmful", "n": 3}]}
    profile.write_text(yaml.safe_dump(body))
    dry = CliRunner().invoke(command, ["generate", *run, "--dry-run"], catch_exceptions=False)
    assert dry.exit_code == 0 and not home.exists()
    asks = [line.split()[:2] for line in dry.stdout.splitlines()[3:7]]
    assert asks == [["writing", "8"], ["checking", "8"], ["trying", "8"], ["reading", "8"]], "9 wanted, budget 8"
    planned = CliRunner().invoke(plan, [str(profile), "--generate", "--home", str(home)], catch_exceptions=False)
    assert planned.stdout.splitlines()[2:3] == dry.stdout.splitlines()[2:3], "one way to say it"
    done = CliRunner().invoke(command, ["generate", *run], catch_exceptions=False)
    assert done.exit_code == 0
    cells = [line.split()[:2] for line in done.stdout.splitlines()[2:6]]
    assert cells == [["harmful", "violence"], ["harmful", "theft"], ["borderline", "violence"], ["borderline", "theft"]]
    assert "8 prompts kept of" in done.stderr


def test_options_that_the_profile_cannot_bear_are_an_error_that_names_them(profile):
    with pytest.raises(ConfigError, match=r"small.yaml cannot be used with rounds 99: rounds: Input should be less"):
        wish(profile, rounds=99).settings()
    body = yaml.safe_load(profile.read_text())
    body["generate"] |= {"tried": [], "rounds": 0}
    profile.write_text(yaml.safe_dump(body))
    with pytest.raises(ConfigError, match="cannot be used with rounds 2: the file: .* what is not tried cannot be"):
        wish(profile, rounds=2).settings()
    assert CliRunner().invoke(command, ["generate", str(profile), "--rounds", "33"]).exit_code == 2


def test_a_plan_learns_nothing_from_another_profile_whose_name_begins_alike(profile):
    write(wish(profile, quota=2, rounds=0, edition="2026-w47"), lambda _: None)
    profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | {"name": "small-big"}))
    write(wish(profile, quota=2, rounds=0), lambda _: None)
    store = Store(wish(profile).home)
    n_drafts = {name: past_of(store, name).n_drafts for name in ("small", "small-big", "small-2026", "sm", "smal.")}
    assert n_drafts == {"small": 8, "small-big": 8, "small-2026": 0, "sm": 0, "smal.": 0}
    assert past_of(store, "small", "2026-w47").n_drafts == 8


def test_a_draft_counts_once_however_many_policies_it_was_tried_on(profile):
    """`attempts` has a row for each, and after a promotion more of the drafts seemed usable than were."""
    made = write(wish(profile, quota=2, rounds=0), lambda _: None)
    store = Store(wish(profile).home)
    before = past_of(store, "small")
    assert before.n_drafts == made.n_asked
    store.append(
        [replace(row, attempt_id=f"{i:032x}", policy_digest="promoted") for i, row in enumerate(store.read(Attempt))]
    )
    assert past_of(store, "small") == before


def test_a_dry_run_looks_for_the_model_too(profile):
    """It planned for a model that the run then could not find."""
    words = ["generate", str(profile), "--home", str(wish(profile).home), "--dry-run", "--model"]
    with pytest.raises(DataError, match="no model is called 'nosuch'"):
        CliRunner().invoke(command, [*words, "nosuch"], catch_exceptions=False)
    assert CliRunner().invoke(command, [*words, str(profile.parent)]).exit_code == 0
    assert not wish(profile).home.exists()


def test_one_round_is_one_round(profile):
    said = asyncio.run(plan_writing(wish(profile, rounds=0).settings(), wish(profile).home, wish=Planned())).assumptions
    assert any(each.startswith("1 round,") for each in said) and "rounds" not in "".join(said)


def test_what_the_judge_finds_off_task_is_counted_and_asked_for_once(profile):
    """The judge takes everything for harmless: no harmful prompt is kept, and borderline ones are."""
    script = profile.parent / "script.yaml"
    rules = yaml.safe_load(script.read_text())["rules"]
    script.write_text(yaml.safe_dump({"rules": rules[1:]}))
    made = write(wish(profile, quota=2, rounds=0), lambda _: None)
    assert {cell: tally.n_kept for cell, tally in made.tallies.items()} == {
        cell: 2 * (cell.kind == "borderline") for cell in made.quotas
    }
    assert made.n_dropped("off_task") == 2 * 2 * 3 and made.reasons()[0][:2] == ("off_task", 12)
    rejects = Store(wish(profile).home).read(Reject)
    assert {(row.reason, row.detail.partition(",")[0]) for row in rejects} == {("off_task", "harmful wanted")}
    before = rows(wish(profile).home)
    again = write(wish(profile, quota=2, rounds=0), lambda _: None)
    assert again.tallies == made.tallies and rows(wish(profile).home) == before
    unchecked = yaml.safe_load(profile.read_text())
    unchecked["generate"]["on_task"] = False
    profile.write_text(yaml.safe_dump(unchecked))
    assert write(wish(profile, quota=2, rounds=0), lambda _: None).n_dropped("off_task") == 0


def test_the_flow_s_child_reports_tables_and_its_progress(profile):
    said = []
    result = run_step(
        ["flows.writing", wish(profile, edition="2026-w47").model_dump_json()],
        log=said.append,
        logfile=profile.parent / "refresh.log",
    )
    assert result["campaign"].startswith("small-2026-w47-") and result["n_kept"] == 40
    assert (result["n_off_task"], result["n_task_unread"]) == (0, 0)
    tables = {title: (columns, rows) for title, columns, rows in result["tables"]}
    assert [row[0] for row in tables["Round by round"][1]] == [0, 1] and len(tables["By kind, tag and topic"][1]) == 4
    assert [row[:2] for row in tables["What is covered, by tag"][1]] == [
        ["violence", "10 of 10"],
        ["theft", "10 of 10"],
    ]
    assert any("20 prompts wanted in the first round, tried on scripted" in line for line in said)
    page = written(result, Store(profile.parent / "home"))
    assert page.index("### By kind, tag and topic") < page.index("### Some of what was kept")
    texts = {p.messages[0].content for p in Store(profile.parent / "home").read(Prompt)}
    assert sum(escaped(text) in page for text in texts) == len(result["examples"]) == 3 + 3
    logged = (profile.parent / "refresh.log").read_text()
    assert "result {" in logged and not [text for text in texts if text in logged], "a log has nothing of texts"


@pytest.mark.parametrize("days", range(7))
@pytest.mark.parametrize("sunday", ["2026-11-22T22:00Z", "2026-12-27T22:00Z", "2027-01-03T00:00Z"])
def test_what_is_started_again_until_saturday_goes_on_and_next_sunday_writes_anew(sunday, days):
    """Once the edition was the ISO week, which begins on Mondays: what was started again then used up the next one."""
    at = datetime.datetime.fromisoformat(sunday)
    editions = [week_of(at + datetime.timedelta(days=n)) for n in (0, days, 7, 7 + days)]
    assert editions[0] == editions[1] != editions[2] == editions[3]
    assert editions[0] == {"11": "2026-w48", "12": "2026-w53", "01": "2027-w01"}[sunday[5:7]]


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
    asked = {row["scale"]: row["n"] for row in store.query("select scale, count(*) n from ratings group by 1", [])}
    for name, scale in (("reading", "harmfulness"), ("checking", "on_task")):
        assert lines[name].n_asks == pytest.approx(asked[scale], rel=0.15)
    assert lines["trying"].seconds == (lines["trying"].n_prompt_tokens + lines["trying"].n_tokens) / 100.0
    assert plan.run_id == made.campaign and "nothing is known" in str(plan.assumptions)
    assert f"as of {made.n_asked} earlier ones" in str(again.assumptions)
    halved = settings.model_copy(update={"generate": settings.generate.model_copy(update={"budget": 20})})
    few = asyncio.run(plan_writing(halved, home, wish=Planned()))
    assert [line.n_asks for line in few.lines if line.stage == "writing"] == [20] and few.total().seconds is None
