"""Near duplicates across the sources of a run, of a home and of files: named, counted, and not trained on."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from scripted_run import run_steps
from test_near import REWORDED, STORY, asked

from cai.config import load_profile
from cai.coverage.near import near_duplicates
from cai.errors import ConfigError
from cai.records import Prompt, Reject
from cai.smallworld import world
from flows import planning, reporting
from flows.drawing import rl_prompts_name
from flows.held_out import guard_of
from flows.runs import create_run
from storage.store import Store

STEPS = ("prompts", "chains", "sft_set", "candidates", "labels", "preferences")


@pytest.fixture
def profile(tmp_path) -> Path:
    """Two files: six prompts, of which one is repeated, and three that repeat prompts of the first file."""
    rows = [STORY, "how do i steal a bicycle", "how do i steal a scarf", "why?", "who?", "Why?!"]
    more = ["HOW do I steal a bicycle?", REWORDED, "i do how steal a scarf"]
    for name, texts in (("first", rows), ("second", more)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    body = {
        "name": "near",
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted"},
        "prompts": [{"path": str(tmp_path / f"{name}.jsonl")} for name in ("first", "second")],
        "evaluation": {"prompts": [{"path": "smallworld", "limit": 2}]},
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    return tmp_path / "profile.yaml"


def with_setting(path: Path, **settings: object) -> Path:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))
    return path


def test_a_run_takes_one_of_each_family(tmp_path, profile):
    run = run_steps(create_run(load_profile(profile), tmp_path / "home"), "prompts")
    store = Store(run.home)
    texts = [store.find_all(Prompt)[prompt_id].messages[-1].content for prompt_id in run.ids("prompts")]
    assert texts == [
        STORY,
        "how do i steal a bicycle",
        "how do i steal a scarf",
        "why?",
        "who?",
        "i do how steal a scarf",
    ]
    rejects = store.read(Reject, "reason = 'near_duplicate'")
    assert {(row.stage, row.parent_ids) for row in rejects} == {
        ("import", (asked("Why?!").prompt_id, asked("why?").prompt_id)),
        ("import", (asked("HOW do I steal a bicycle?").prompt_id, asked("how do i steal a bicycle").prompt_id)),
        ("import", (asked(REWORDED).prompt_id, asked(STORY).prompt_id)),
    }
    assert all(row.parent_ids[1] in row.detail for row in rejects)
    assert {row.reject_id for row in rejects} == set(run.ids("rejected-prompts"))
    result = run.result("prompts")
    assert (result["n_in"], result["n_out"], result["n_rejected"]) == (9, 6, 3)
    planned = planning.work_of(run.profile, 100, guard_of(store, run.profile), []).prompts
    assert planned.n == 6 and {p.prompt_id for p in planned.rows} == set(run.ids("prompts"))


def test_how_many_prompts_stay_as_a_template_is_said(tmp_path, profile):
    """More than twenty prompts that differ in a few words: what differs is what they ask."""
    many = [f"{STORY} Mention the number {n}." for n in range(22)]
    (tmp_path / "second.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in many))
    run = run_steps(create_run(load_profile(profile), tmp_path / "home"), "prompts")
    n = run.result("prompts")["n_of_templates"]
    assert n >= 22 and f"{n} kept" in reporting.gather(run, Store(run.home)).facts["prompts of a template"]


def test_prompts_are_compared_as_the_home_has_them(tmp_path, profile):
    """Two that differ in case alone are two, where a home knows what is expected of one of them."""
    (tmp_path / "first.jsonl").write_text('{"prompt": "why?"}\n')
    (tmp_path / "second.jsonl").write_text('{"prompt": "WHY?"}\n')
    Store(tmp_path / "home").append([replace(asked("why?"), expected="because")])
    run = run_steps(create_run(load_profile(profile), tmp_path / "home"), "prompts")
    assert run.ids("prompts") == [asked("why?").prompt_id, asked("WHY?").prompt_id]


def test_a_profile_may_keep_them(tmp_path, profile):
    kept = load_profile(with_setting(profile, near_duplicates="keep"))
    assert run_steps(create_run(kept, tmp_path / "home"), "prompts").result("prompts")["n_out"] == 9


def test_the_small_world_is_left_as_it_is():
    """Its prompts are made of few words in all combinations: near each other, and each with a truth of its own."""
    assert near_duplicates(world.prompts("train", 3000, 0)) == []


@pytest.mark.parametrize("rl_prompts", [None, {"helpful_share": 0.4}])
def test_rl_draws_less_of_what_the_policy_has_mastered_in_the_share_that_is_wanted(tmp_path, profile, rl_prompts):
    """The scripted model never refuses: what is helpful it has mastered, what is harmful it has not. Once the share was
    made before the draw, which left less than a third of the helpful prompts, and the report said 40 %.
    """
    rows = [{"prompt": f"how do i bake {n} loaves of bread"} for n in range(60)]
    rows += [{"prompt": f"how do i rob {n} banks"} for n in range(20)]
    (tmp_path / "first.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = [{"path": str(tmp_path / "first.jsonl")}]
    body = {"prompts": source, "mastered": {"floor": 0.3}, "chains": {"rounds": 1}, "rl_prompts": rl_prompts}
    path = with_setting(profile, **body, feedback={"principles": 1, "self_test": False})
    run = run_steps(create_run(load_profile(path), tmp_path / "home"), STEPS[0])
    store = Store(run.home)
    known = store.find_all(Prompt).values()
    store.upsert([replace(p, kind="helpful" if "bread" in p.messages[0].content else "harmful") for p in known])
    run_steps(run, *STEPS[1:])
    said = [row["prompt"][-1]["content"] for row in pq.read_table(run.path / "rl_prompts.parquet").to_pylist()]
    drawn = run.result("preferences")["drawn"]
    mastered = [text for text in said if "bread" in text]
    assert (drawn["n"], drawn["n_read"], drawn["n_mastered"], drawn["n_drawn"]) == (80, 80, 60, len(said))
    assert sum("banks" in text for text in said) == 20 and len(mastered) == drawn["n_mastered_drawn"]
    facts = reporting.gather(run, store).facts
    assert 0.1 < len(mastered) / 60 < 0.5 and f"{len(said)} of 80" in facts["RL prompts drawn"]
    if rl_prompts is not None:
        assert facts["helpful share of RL prompts"] == "39.4% of 33, 13" and (len(mastered), len(said)) == (13, 33)
    assert rl_prompts_name(run, 1) == "rl_prompts-r1"


def test_dpo_draws_no_prompts(tmp_path, profile):
    with pytest.raises(ConfigError, match="dpo learns from pairs"):
        load_profile(with_setting(profile, mastered={"floor": 0.5}, rl={"algorithm": "dpo"}))
