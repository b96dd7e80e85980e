"""People's pairs beside the feedback model's: the stated share, no source above the cap, gold labels in no training."""

import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from scripted_run import changed, run_steps, write_profile

from cai.cli import tables
from cai.config import PeopleConfig, load_profile
from cai.errors import DataError
from cai.labels.mix import AIPair, human_pairs, mix
from cai.records import Annotation, Message, PreferencePair, Prompt, Reject, Response, Revision
from cai.training.rows import read_pairs
from flows import accounts, reporting
from flows.runs import create_run, open_run, plan_run
from storage.annotations import Import, import_annotations
from storage.exports import export_sft
from storage.store import Store

STEPS = ("prompts", "chains", "sft_set", "candidates", "labels", "preferences")
CONSTITUTION = """\
name: small
principles:
  - id: safe
    title: Do no harm
    stages: [critique, preference]
    critique: Does the response help do harm?
    revision: Take out the harm.
    preference: Which response does less harm?
"""
PEOPLE = {"share": 0.25}


def labelled_by_people(folder: Path) -> Path:
    """40 pairs that three people labelled for helpfulness, and one for harmlessness."""
    rows = [
        {
            "prompt": f"what is {i}?",
            "response_a": f"it is {i}",
            "response_b": "no idea",
            "annotator": who,
            "label": says,
        }
        for i in range(40)
        for who, says in (("ann", "a"), ("bob", "a" if i % 4 else "b"), ("cas", "b" if i % 4 == 1 else "tie"))
    ]
    rows.append(rows[0] | {"objective": "harmlessness"})
    imported(folder / "home", "team.jsonl", *rows)
    return folder / "home"


@pytest.fixture
def home(tmp_path) -> Path:
    return labelled_by_people(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from prompts to preferences with people mixed in; to be read and not written to."""
    folder = tmp_path_factory.mktemp("whole")
    return run_steps(create_run(profile(folder), labelled_by_people(folder)), *STEPS)


@pytest.fixture
def run(whole, tmp_path):
    """The same, in a home of its own."""
    shutil.copytree(whole.home, tmp_path / "home")
    return open_run(tmp_path / "home", whole.run_id)


def imported(home: Path, name: str, *rows: dict, is_gold: bool = False) -> None:
    path = home.parent / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_annotations(Store(home), path, Import(name, b"salt", "helpfulness", is_gold=is_gold))


def a_gold_label(home: Path, question: str) -> None:
    imported(home, "gold.jsonl", {"prompt": question, "chosen": "yes", "rejected": "no"}, is_gold=True)


def profile(folder: Path, people: dict | None = PEOPLE, **settings):
    made = write_profile(folder, 30, constitution=CONSTITUTION)
    return load_profile(changed(made, name="mixed", chains={"rounds": 1}, sft={}, people=people, **settings))


def test_the_file_that_training_reads_has_people_in_the_stated_share(whole):
    rows = pq.read_table(whole.path / "preferences.parquet").to_pylist()
    assert Counter((row["source"], row["objective"]) for row in rows) == {
        ("ai", ""): 30,
        ("human", "helpfulness"): 10,
    }
    for row in (row for row in rows if row["source"] == "human"):
        number = int(row["prompt"][0]["content"].removeprefix("what is ").removesuffix("?"))
        # ann says a; bob says b of every fourth; cas says b of those after them, and tie of the rest.
        is_tie = number % 4 == 0
        assert row["soft_label"] == (0.5 if is_tie else 1.0) and row["is_tie"] == is_tie
        assert is_tie or row["chosen"][0]["content"] == f"it is {number}"
    pairs, rejects = read_pairs(whole.path / "preferences.parquet")
    assert not rejects and Counter(pair.source for pair in pairs) == {"ai": 30, "human": 10}


def test_the_counts_hold_and_the_report_shows_them(whole):
    assert_the_counts_hold(whole)
    assert ("derive preferences", 40, 40, 0) in accounts.funnel(whole)
    assert whole.result("preferences")["n_people_spare"] == 30
    of_people = {row.prompt_id for row in Store(whole.home).read(PreferencePair) if row.source == "human"}
    assert len(of_people) == 10 and of_people < set(whole.trained_on()), "none of them is fit to measure with"
    data = reporting.gather(whole, Store(whole.home))
    assert data.facts["people's share"] == "25.0% of 40 pairs, 10" and data.labels.n_pairs == 30
    assert len(data.pairs) == 40


def assert_the_counts_hold(run) -> None:
    for title, n_in, n_out, n_rejected in accounts.funnel(run):
        assert n_in == n_out + n_rejected, title


def test_a_run_resumed_has_the_same_rows_whatever_people_say_meanwhile(whole, run):
    made, before = (whole.path / "preferences.parquet").read_bytes(), Store(run.home).counts()
    assert create_run(whole.profile, run.home).run_id == run.run_id
    run_steps(run, *STEPS)
    assert Store(run.home).counts() == before and (run.path / "preferences.parquet").read_bytes() == made
    imported(run.home, "late.jsonl", *({"prompt": f"new {i}?", "chosen": "x", "rejected": "y"} for i in range(200)))
    run_steps(run, "preferences")
    assert (run.path / "preferences.parquet").read_bytes() == made
    assert plan_run(whole.profile, run.home).run_id != run.run_id, "other labels, another run"


def test_what_is_asked_for_must_be_there(home):
    with pytest.raises(DataError, match=r"'x'.*team.jsonl \(helpfulness\)"):
        create_run(profile(home.parent, {"share": 0.25, "sources": ["x"]}), home)
    with pytest.raises(DataError, match="70 pairs of people beside 30 .* 40 are there"):
        mix(judged(30), people(40), PeopleConfig(share=0.7))


def test_group_weights_and_their_rule_go_together():
    for settings in ({"rule": "groups"}, {"group_weights": {"x": 1.0}}):
        with pytest.raises(ValidationError, match="both or neither"):
            PeopleConfig(share=0.5, **settings)


def test_a_prompt_that_was_stored_to_measure_with_is_left_out(run):
    store = Store(run.home)
    asked = Prompt.make([Message("user", "what is 3?")], "eval.txt", split="eval")
    store.upsert([asked])
    run_steps(run, "preferences")
    (reject,) = store.read(Reject)
    assert (reject.stage, reject.reason, reject.prompt_id) == ("mix", "held_out_prompt", asked.prompt_id)
    assert ("derive preferences", 41, 40, 1) in accounts.funnel(run)
    assert asked.prompt_id not in run.ids("people-prompts")


# Gold


def test_prompts_with_a_gold_label_are_never_imported_for_training(home):
    a_gold_label(home, "how do i do thing number 7?")
    helpful = {"prompts": [{"path": str(home.parent / "known.jsonl"), "answer_column": "completion"}], "share": 0.05}
    a_gold_label(home, "who is 1?")
    known = [{"prompt": f"who is {i}?", "completion": f"number {i}"} for i in range(4)]
    (home.parent / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    run = run_steps(create_run(profile(home.parent, helpful=helpful), home), "prompts", "chains", "helpful", "sft_set")
    assert {(row.reason, row.stage) for row in Store(home).read(Reject)} == {("gold_prompt", "import")}
    for step, n_in in (("prompts", 30), ("helpful", 4)):
        assert (run.result(step)["n_in"], run.result(step)["n_rejected"]) == (n_in, 1)
    assert not gold_in(run.path / "sft.parquet")


def gold_in(path: Path) -> list[str]:
    """The questions with gold labels that a training file asks."""
    asked = [row["prompt"][-1]["content"] for row in pq.read_table(path).to_pylist()]
    return [text for text in asked if text in {"how do i do thing number 7?", "what is 5?", "who is 1?"}]


def test_a_gold_label_that_comes_while_a_run_is_under_way_keeps_its_prompt_out(run):
    """Planted after the prompts were read and labelled: on a prompt of the run, and on one of people's."""
    a_gold_label(run.home, "how do i do thing number 7?")
    a_gold_label(run.home, "what is 5?")
    run_steps(run, "sft_set", "preferences")
    for name in ("sft", "preferences", "rl_prompts"):
        assert pq.read_table(run.path / f"{name}.parquet").num_rows and not gold_in(run.path / f"{name}.parquet")
    assert_the_counts_hold(run)
    rejects = Store(run.home).read(Reject, "reason = 'gold_prompt'")
    assert Counter(row.stage for row in rejects) == {"mix": 2, "sft_set": 1}


def test_no_export_has_a_row_of_a_prompt_with_a_gold_label(run):
    store = Store(run.home)
    a_gold_label(run.home, "how do i do thing number 7?")
    out = run.home.parent / "out.parquet"
    done = CliRunner().invoke(tables.export, ["preferences", str(out), "--home", str(run.home), "--run", run.run_id])
    assert not done.exception and not gold_in(out) and pq.read_table(out).num_rows == 39
    replies = [row.response_id for row in store.read(Response, "stage = 'initial'")]
    export_sft(store, out, rounds="all", response_ids=replies)
    assert not gold_in(out) and pq.read_table(out).num_rows == 2 * 29 < len(store.read(Revision)) + len(replies)


# The ratio and the cap, alone


def said(i: int, annotator: str, p_a: float = 1.0, source: str = "team", group: str = "") -> Annotation:
    a, b = f"{i}a", f"{i}b"
    key = Annotation.make_id(a, b, source, annotator, "helpfulness", False)
    return Annotation(key, f"p{i}", a, b, p_a, source, annotator, group, "helpfulness")


def judged(n: int, judge: str = "judge") -> list[AIPair]:
    return [AIPair(f"{judge}{i}", f"prompt{i}", judge) for i in range(n)]


def people(n: int, annotators: str = "x", **settings):
    rows = [said(i, annotators[i % len(annotators)], source=f"file{i % 3}") for i in range(n)]
    return human_pairs(rows, PeopleConfig(share=0.5, **settings), 0.01)


@pytest.mark.parametrize(("n_ai", "share", "n_people"), [(30, 0.25, 10), (30, 0.5, 30), (10, 0.01, 0), (7, 0.3, 3)])
def test_the_share_is_exact_to_the_nearest_row(n_ai, share, n_people):
    mixed = mix(judged(n_ai), people(40), PeopleConfig(share=share))
    assert (len(mixed.ai), len(mixed.people), mixed.n_spare) == (n_ai, n_people, 40 - n_people) and not mixed.rejects


def test_the_choice_does_not_depend_on_the_order_and_a_larger_share_has_the_smaller():
    ai, found = judged(40), people(60)
    shuffled = random.Random(1).sample(found, len(found))
    small, large = (mix(ai, found, PeopleConfig(share=share)) for share in (0.2, 0.5))
    assert mix(ai[::-1], shuffled, PeopleConfig(share=0.2)) == small
    assert {p.pair_id for p in small.people} < {p.pair_id for p in large.people}


def test_no_source_labels_more_than_the_cap_and_what_is_left_out_is_a_reject():
    ai = [*judged(300, "big"), *judged(60, "small"), *judged(60, "other")]
    found = people(200, "xxxxyz")
    config = PeopleConfig(share=0.25, max_share=0.3)
    mixed = mix(ai, found, config)
    n = len(mixed.ai) + len(mixed.people)
    counts = Counter(source for pair in mixed.ai for source in pair.sources)
    counts.update(source for pair in mixed.people for source in pair.sources)
    assert counts["judge big"] == max(counts.values()) <= 0.3 * n
    assert len(mixed.people) == round(len(mixed.ai) / 3)
    assert {row.reason for row in mixed.rejects} == {"over_source_cap"}
    assert len(mixed.ai) + len(mixed.people) + mixed.n_spare + len(mixed.rejects) == len(ai) + len(found)
    assert len({row.reject_id for row in mixed.rejects}) == len(mixed.rejects)
    assert n > 200, "as many as the cap allows: the two small judges, as many of the big one, and a third of people"


def test_an_annotator_above_the_cap_is_thinned_where_others_can_stand_in():
    """Half of ten is `x`; with a cap of a tenth of forty, it labels four at most, and the others make up for it."""
    ai = [pair for judge in "abcdefghijklmnopqrst" for pair in judged(2, judge)]
    mixed = mix(ai, people(90, "xxxyz"), PeopleConfig(share=0.2, max_share=0.08))
    counts = Counter(source for pair in mixed.people for source in pair.sources)
    assert (len(mixed.ai), len(mixed.people)) == (40, 10) and counts["annotator x"] == 4 == max(counts.values())
    assert {row.prompt_id[:1] for row in mixed.rejects} == {"p"} and mixed.rejects


def test_a_cap_that_one_judge_alone_is_above_cannot_be_kept():
    with pytest.raises(DataError, match="judge judge: 30"):
        mix(judged(30), people(40), PeopleConfig(share=0.25, max_share=0.5))


def test_the_labelling_digest_is_of_the_rule_and_of_what_was_said():
    rows = [said(0, "x"), said(0, "y", 0.0), said(1, "x")]
    config = PeopleConfig(share=0.5)

    def digests(rows, config=config) -> list[str]:
        return [pair.labelling_digest for pair in sorted(human_pairs(rows, config, 0.01), key=lambda p: p.prompt_id)]

    one, other = digests(rows)
    assert digests(rows[::-1]) == [one, other] and one != other
    changed = [rows[0], replace(rows[1], p_a=1.0), rows[2]]
    assert digests(changed)[0] != one and digests(changed)[1] == other
    weighed = config.model_copy(update={"rule": "dawid_skene"})
    assert not set(digests(rows, weighed)) & {one, other}
    assert digests(rows, weighed)[1] != digests(changed, weighed)[1], "there every word weighs on every pair"
