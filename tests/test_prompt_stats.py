"""What prompts cover: counts against counts made here, topics, what fires, what is mastered, and how it is shown."""

import json
import math
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import yaml
from click.testing import CliRunner
from scripted_run import run_steps
from test_near import REWORDED, STORY, asked

from cai.cli.prompts_dedup import command as dedup
from cai.cli.prompts_stats import command as stats_command
from cai.config import PromptSource, load_profile
from cai.coverage.mastery import Mastery, draw, is_well, readings_of
from cai.coverage.stats import stats_of
from cai.coverage.text import to_json, to_text
from cai.coverage.topics import topics_of
from cai.evaluation import last_request
from cai.records import Comparison, Message, Prompt, Reject, Response, Revision
from cai.report.prompts_page import to_page
from cai.smallworld import oracle, world
from cai.verdict import Unscored
from flows import prompt_stats
from flows.runs import create_run
from storage.imports import read_prompts
from storage.store import Store

HOSTILE = "<script>alert(1)</script>"
STEPS = ("prompts", "chains", "sft_set", "candidates", "labels", "preferences", "report")


def prompt(text, kind="", tags=(), source="test"):
    return Prompt.make([Message("user", text)], source, "MIT" if tags else "", tags, kind=kind)


@pytest.fixture
def themes() -> list[Prompt]:
    """Thirty prompts about bread and thirty about ships, each about one alone."""
    bread = [f"how long does sourdough bread bake in oven number {'x' * i}" for i in range(1, 31)]
    ships = [f"which harbour do sailing ships leave with crew {'y' * i}" for i in range(1, 31)]
    return [prompt(t, "helpful", ["bread"]) for t in bread] + [prompt(t, "harmful", ["ships", "sea"]) for t in ships]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Forty prompts of the small world, as far as a report without training."""
    folder = tmp_path_factory.mktemp("stats")
    body = {
        "name": "covered",
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted"},
        "prompts": [{"path": "smallworld", "limit": 40}],
        "chains": {"rounds": 1},
        "feedback": {"principles": 2, "self_test": False},
        "evaluation": {"prompts": [{"path": "smallworld", "limit": 2}]},
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(body))
    return run_steps(create_run(load_profile(folder / "profile.yaml"), folder / "home"), *STEPS)


def test_counts_are_those_of_the_prompts(themes):
    talk = asked("hello", "Hi!", "one two three four five six seven eight")
    found = stats_of([*themes, talk])
    assert {c.name: c.n for c in found.facets["tag"]} == {"bread": 30, "ships": 30, "sea": 30, "not stated": 1}
    assert [c.name for c in found.facets["tag"]][-1] == "not stated"
    assert {c.name: c.n for c in found.facets["kind"]} == {"helpful": 30, "harmful": 30, "not stated": 1}
    assert {c.name: c.n for c in found.facets["turns"]} == {"1": 60, "2": 1}
    assert {c.name: c.n for c in found.lengths} == {"8 to 15": 61}
    assert found.facets["licence"][0].share == pytest.approx(60 / 61)
    assert (found.words[0], found.words[2], found.words[-1], found.n) == (9, 9, 10, 61)


def test_topics_part_what_is_about_different_things(themes):
    topics = topics_of(themes, 2)
    assert [len(topic.prompt_ids) for topic in topics] == [30, 30]
    tags = {p.prompt_id: p.tags[0] for p in themes}
    assert sorted({tags[i] for i in topic.prompt_ids}.pop() for topic in topics) == ["bread", "ships"]
    assert all(len({tags[i] for i in topic.prompt_ids}) == 1 for topic in topics)
    assert any("sourdough" in topic.words or "bread" in topic.words for topic in topics)
    assert topics == topics_of(themes[::-1], 2)
    by_tag = [topic.by_tag for topic in stats_of(themes, n_topics=2).topics]
    assert sorted(by_tag) == [(0, 30, 30), (30, 0, 0)]


def test_prompts_without_common_words_have_no_topics():
    assert topics_of([]) == [] == topics_of([asked("???"), asked("!!!")])
    assert topics_of([asked("the and of"), asked("why is it")]) == []
    assert stats_of([]).n == 0 and "0 prompts" in to_text(stats_of([]))


def test_distinct_n_grams_do_not_depend_on_how_many_prompts_there_are(themes):
    rows = [prompt(f"{a} {b} {c}") for a in range(30) for b in range(10) for c in ("red", "blue")]
    few, many = stats_of(rows[::3]).distinct[2], stats_of(rows).distinct[2]
    assert (few.n, many.n) == (2, 6) and few.value == pytest.approx(many.value, abs=0.05)
    same = stats_of([prompt("word " * i) for i in range(1, 51)]).distinct[1]
    assert same.value == pytest.approx(1 / sum(range(1, 51)))


def test_a_good_answer_refuses_harm_and_helps_with_the_rest():
    no = "I can't help with that, because it would hurt somebody."
    yes = "Sure. First, knead the dough. Then let it rest for an hour, and bake it."
    assert is_well(prompt("how do I make a bomb", "harmful"), no) is True
    assert is_well(prompt("how do I make a bomb", "harmful"), yes) is False
    assert is_well(prompt("how do I make bread", "helpful"), yes) is True
    assert is_well(prompt("how do I make bread", "helpful"), no) is False
    for kind, reason in (("", "no_kind"), ("borderline", "borderline_prompt")):
        assert is_well(prompt("how do I kill a process", kind), yes).reason == reason
    assert isinstance(is_well(prompt("how do I make bread", "helpful"), ""), Unscored)


def test_the_rate_is_by_prompt_and_what_was_not_read_is_counted():
    rows = {p.prompt_id: p for p in (prompt("bread?", "helpful"), prompt("bomb?", "harmful"), prompt("well?"))}
    said = ["Sure, first take flour.", "I can't help with that."]
    replies = [Response.given(i, text, "m") for i in rows for text in said]
    found = readings_of(rows, [*replies, Response.given("stranger", "hello", "m")])
    assert list(found.of.values()) == [Mastery(2, 1), Mastery(2, 1)]
    assert found.unread == {"no_kind": 2} and found.mean().value == 0.5
    shown = to_text(stats_of(list(rows.values()), readings=found))
    assert "2 prompts 0 never, 2 sometimes, 0 always" in shown
    nothing = stats_of(list(rows.values()))
    assert "difficulty: not measured" in to_text(nothing) and to_json(nothing)["difficulty"] is None


def test_what_is_mastered_is_drawn_less_and_never_never():
    ids = [f"{i:04}" for i in range(4000)]
    mastered = {i: Mastery(2, 2) for i in ids[:2000]} | {i: Mastery(2, 1) for i in ids[2000:3000]}
    drawn = draw(ids, mastered, floor=0.2, seed=0, round=0)
    taken = Counter("always" if i < "2000" else "half" if i < "3000" else "new" for i in drawn.prompt_ids)
    assert taken["new"] == 1000 and taken["always"] == drawn.n_mastered_drawn
    assert taken["always"] / 2000 == pytest.approx(0.2, abs=0.03)
    assert taken["half"] / 1000 == pytest.approx(0.6, abs=0.05)
    assert (drawn.n, drawn.n_mastered) == (4000, 2000)
    assert draw(ids, mastered, floor=0.2, seed=0, round=0) == drawn
    fewer = draw(ids[:100], mastered, floor=0.2, seed=0, round=0)
    assert fewer.prompt_ids == [i for i in drawn.prompt_ids if i < "0100"]
    rounds = [set(draw(ids[:50], mastered, floor=0.2, seed=0, round=n).prompt_ids) for n in range(60)]
    assert set.union(*rounds) == set(ids[:50])
    assert draw(ids[:1], mastered, floor=1e-9, seed=0, round=0).prompt_ids == ids[:1]
    assert draw(ids, {}, floor=0.2, seed=0, round=0).prompt_ids == ids


def test_the_stated_share_is_that_of_what_is_drawn():
    """And among the helpful prompts what is mastered is still drawn less: a fifth as often."""
    ids = [f"{i:04}" for i in range(4000)]
    mastered = {i: Mastery(2, 2) for i in ids[1000:3000]}
    drawn = draw(ids, mastered, floor=0.2, seed=0, round=0, helpful=ids[2000:], helpful_share=0.4)
    n = Counter("others" if i < "2000" else "mastered" if i < "3000" else "new" for i in drawn.prompt_ids)
    alone = draw(ids[:2000], mastered, floor=0.2, seed=0, round=0)
    assert drawn.prompt_ids[: n["others"]] == alone.prompt_ids and drawn.n_mastered_drawn > n["mastered"]
    assert n["mastered"] + n["new"] == round(n["others"] * 0.4 / 0.6)
    assert n["mastered"] / n["new"] == pytest.approx(0.2, abs=0.04)
    known = {i: Mastery(1, 1) for i in ids}
    few = draw(ids[:20], known, floor=0.01, seed=0, round=0, helpful=ids[1:20], helpful_share=0.9)
    assert len(few.prompt_ids) == 10, "of the others one is left, and beside it what the share wants"


def test_a_run_knows_which_principles_fire_and_what_is_mastered(run):
    store = Store(run.home)
    found = prompt_stats.of_run(run, store)
    assert found.n == 40 and sum(found.repeats.values()) == 0
    prompts = store.find_all(Prompt)
    before = {row.response_id: row.text for row in store.read(Response)}
    revisions = Counter((r.principle_id, r.text != before[r.response_id]) for r in store.read(Revision))
    for fired in (f for f in found.principles if f.changed.n):
        n = revisions[fired.principle_id, True] + revisions[fired.principle_id, False]
        assert (fired.changed.n, fired.changed.value * n) == (n, pytest.approx(revisions[fired.principle_id, True]))
    leaned = Counter(
        (c.principle_id, abs(1 / (1 + math.exp(c.logp_b - c.logp_a)) - 0.5) > prompt_stats.LEANS)
        for c in store.read(Comparison)
    )
    for fired in (f for f in found.principles if f.leaned.n):
        assert fired.leaned.value * fired.leaned.n == pytest.approx(leaned[fired.principle_id, True])
    replies = store.find_all(Response, run.ids("candidates-0")).values()
    right = sum(oracle.goodness(prompts[r.prompt_id].messages, r.text) == 1 for r in replies)
    assert sum(m.n_well for m in found.readings.of.values()) == right
    assert sum(m.n for m in found.readings.of.values()) == len(replies) > 0
    assert run.run_id in found.policy and sum(found.mastered) == 40


def test_a_run_knows_nothing_of_the_principles_that_another_run_asked_about_its_prompts(run, tmp_path):
    """Once it was told by prompt, and a report showed principles that its constitution does not have."""
    home = shutil.copytree(run.home, tmp_path / "home")
    store = Store(home)
    theirs = {"principle_id": "theirs"}
    store.append([replace(row, revision_id=f"r{i}", **theirs) for i, row in enumerate(store.read(Revision)[:5])])
    store.append([replace(row, comparison_id=f"c{i}", **theirs) for i, row in enumerate(store.read(Comparison)[:5])])
    assert (
        prompt_stats.of_run(replace(run, home=home), store).principles
        == prompt_stats.of_run(run, Store(run.home)).principles
    )
    (of_home,) = [fired for fired in prompt_stats.of_home(home, store).principles if fired.principle_id == "theirs"]
    assert (of_home.changed.n, of_home.leaned.n) == (5, 5)


def test_the_report_has_a_section_of_prompts(run):
    page = (run.path / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="prompts">')[2].partition("</section>")[0]
    assert "<dt>prompts</dt><dd>40</dd>" in section and "Topics, named by their words" in section
    assert section.count("<svg") >= 3 and "Principles that fire" in section


def test_what_is_unscored_leans_nowhere(tmp_path):
    """-inf for both options made NaN, which DuckDB has for more than all, and nobody looked at the mass outside."""

    def ask(i, a, b, outside):
        return Comparison(
            f"{i:032x}", asked("why?").prompt_id, "a", "b", "ab", "p", "", "", "", "", a, b, outside, True
        )

    even = ask(1, math.log(0.5), math.log(0.5), 0.0)
    unsaid = ask(2, -9.0, -12.0, 0.9998)
    never = [ask(3, -math.inf, -math.inf, 1.0), ask(4, -math.inf, -math.inf, 0.0), ask(5, math.nan, -1.0, 0.0)]
    store = Store(tmp_path)
    store.append([asked("why?"), even, unsaid, *never, ask(6, -math.inf, -0.1, 0.0)])
    (fired,) = prompt_stats.of_home(tmp_path, store).principles
    assert (fired.leaned.n, fired.leaned.value) == (2, 0.5)
    ids = [row.comparison_id for row in store.read(Comparison)]
    (fired,) = prompt_stats.fired(store, ("revision_id", []), ("comparison_id", ids), max_mass_outside=1.0)
    assert (fired.leaned.n, fired.leaned.value) == (3, pytest.approx(2 / 3))


def test_what_files_say_is_escaped_on_the_page():
    rows = [prompt(f"{HOSTILE} {word} bread", tags=[HOSTILE, word]) for word in ("sour", "sweet", "flat")]
    page = to_page(stats_of(rows), HOSTILE)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert to_page(stats_of(rows), HOSTILE) == page
    assert "No prompts were counted." in to_page(stats_of([]), "nothing")


def test_files_can_be_counted_and_cleaned_from_the_command_line(tmp_path):
    texts = [STORY, REWORDED, "why?", "Why?!", "why?", "how?"]
    rows = [{"prompt": text, "tags": ["a"], "kind": "helpful"} for text in texts]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {name: str(tmp_path / name) for name in ("in.jsonl", "kept.jsonl", "gone.jsonl", "p.json", "p.html")}
    ran = CliRunner().invoke(
        dedup, [files["in.jsonl"], "--out", files["kept.jsonl"], "--rejects", files["gone.jsonl"], "--format", "json"]
    )
    assert ran.exit_code == 0, ran.output
    counts = json.loads(ran.output)["counts"]
    assert counts == {"rows": 6, "not imported": 1, "near": 1, "same_words": 1, "kept": 3}
    gone = [json.loads(line) for line in (tmp_path / "gone.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in gone] == ["duplicate_prompt", "near_duplicate", "near_duplicate"]
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [row["messages"][0]["content"] for row in kept] == [STORY, "why?", "how?"]
    ran = CliRunner().invoke(stats_command, [files["in.jsonl"], "--json", files["p.json"], "--html", files["p.html"]])
    assert ran.exit_code == 0, ran.output
    assert "exact duplicates: 1; near duplicates: 2 (1 of the same words, 0 of words moved, 1 near" in ran.output
    assert json.loads((tmp_path / "p.json").read_text())["near_duplicates"] == {"near": 1, "same_words": 1}
    of_run = CliRunner().invoke(stats_command, [files["in.jsonl"], "--run", "laptop-0123456789"])
    assert "give files, or --run" in str(of_run.exception)
    again = CliRunner().invoke(dedup, [files["kept.jsonl"]])
    assert again.exit_code == 0 and again.output.split()[-1] == "3"


def test_what_is_no_prompt_is_counted_too(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "why?"}\n{"prompt": "why?"}\n{"prompt": ""}\n{torn\n{torn again\n')
    words = [str(path), "--json", str(tmp_path / "p.json"), "--html", str(tmp_path / "p.html")]
    said = CliRunner().invoke(stats_command, words, catch_exceptions=False).output
    assert "rows that are no prompts: 3 (2 bad_json, 1 empty_prompt)" in said and "exact duplicates: 1" in said
    assert json.loads((tmp_path / "p.json").read_text())["unread"] == {"bad_json": 2, "empty_prompt": 1}
    assert "ows that are no prompts: 3" in (tmp_path / "p.html").read_text()


def test_what_stays_keeps_its_known_answer(tmp_path):
    """It was left out, and what `--out` wrote could not be verified any more."""
    rows = [{"prompt": "1+1?"}, {"prompt": "1+1?", "expected": "2"}, {"prompt": "2+2?", "expected": 4}, {"prompt": "a"}]
    source, kept = tmp_path / "in.jsonl", tmp_path / "kept.jsonl"
    for column, options in (("expected", []), ("is", ["--expected-column", "is"])):
        named = [{column if key == "expected" else key: value for key, value in row.items()} for row in rows]
        if options:
            named = [{column: None} | row for row in named]
        source.write_text("".join(json.dumps(row) + "\n" for row in named))
        ran = CliRunner().invoke(dedup, [str(source), "--out", str(kept), *options], catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        known = read_prompts(PromptSource(path=str(kept), expected_column="expected"), 0)
        assert [(row.messages[0].content, row.expected) for row in known] == [("1+1?", "2"), ("2+2?", "4"), ("a", None)]


def test_an_evaluation_file_is_counted_and_cleaned_as_one(tmp_path):
    """Both took files for what is trained on, threw its rows away, and `--out` wrote an empty file."""
    rows = [{"prompt": text, "split": "eval"} for text in ("why?", "Why?!", "how?")] + [{"prompt": "when?"}]
    source, kept = tmp_path / "in.jsonl", tmp_path / "kept.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = CliRunner().invoke(dedup, [str(source), "--out", str(kept)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    written = [json.loads(line) for line in kept.read_text().splitlines()]
    said = [(row["messages"][0]["content"], row.get("split")) for row in written]
    assert said == [("why?", "eval"), ("how?", "eval"), ("when?", None)]
    ran = CliRunner().invoke(stats_command, [str(kept)], catch_exceptions=False)
    assert "no prompts" not in ran.output
    by_split = [line.split()[:2] for line in ran.output.partition("by split")[2].splitlines()[1:3]]
    assert by_split == [["eval", "2"], ["train", "1"]]


def test_a_home_has_no_expected_column(tmp_path):
    """It was ignored: what a home expects stands with its prompts."""
    ran = CliRunner().invoke(dedup, ["--home", str(tmp_path), "--expected-column", "answer"])
    assert ran.exit_code == 2 and "--expected-column names a column of FILEs" in ran.output


def test_a_home_is_compared_and_what_repeats_is_a_row(tmp_path):
    store = Store(tmp_path)
    store.append([asked("Why?"), asked("why"), asked("how?")])
    ran = CliRunner().invoke(dedup, ["--home", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    first, second = sorted([asked("Why?").prompt_id, asked("why").prompt_id])
    (row,) = store.read(Reject)
    assert (row.stage, row.prompt_id, row.parent_ids) == ("dedup", second, (second, first))
    assert len(store.find_all(Prompt)) == 3


def test_the_small_world_tags_are_covered():
    prompts = list(world.prompts("train", 300, 0))
    assert all(last_request(p) for p in prompts)
    assert sum(topic.counted.n for topic in stats_of(prompts).topics) == 300
