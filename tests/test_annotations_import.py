"""Preferences of people from files: every row is an annotation or a reject, and no annotator's name is kept."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cai.cli import gold
from cai.cli.labels import people
from cai.errors import CAIError, ConfigError, DataError
from cai.labels.pseudonym import load_salt, pseudonym
from cai.privacy import find
from cai.records import Annotation, Contamination, Message, Prompt, Reject, Response
from storage.annotations import Import, gold_prompts, import_annotations
from storage.store import Store

ASKED = Import("s", b"a salt of sixteen", "helpfulness")


def written(path: Path, *rows: dict | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def labelled(label="a", annotator="ann", a="left", b="right", **more) -> dict:
    return {"prompt": "q", "response_a": a, "response_b": b, "label": label, "annotator": annotator} | more


def stored(home: Path, path: Path, **changed):
    """What was counted, and of each annotation: both texts and P(first by text is better)."""
    store = Store(home)
    done = import_annotations(store, path, Import(**vars(ASKED) | changed))
    return done, preferred(store)


def preferred(store: Store) -> list[tuple[str, str, float]]:
    texts = {row.response_id: row.text for row in store.read(Response)}
    found = []
    for row in store.read(Annotation):
        (one, p), (other, _) = sorted([(texts[row.response_a], row.p_a), (texts[row.response_b], 1 - row.p_a)])
        found.append((one, other, p))
    return sorted(found)


def run(command, *arguments, **options) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], **options)
    if done.exception:
        raise done.exception
    return done.stdout


# The real file; what is expected is counted here, by other means


@pytest.fixture(scope="module")
def hh(shared_data, tmp_path_factory):
    """The file, its home, and what the second import said."""
    path = shared_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    home = tmp_path_factory.mktemp("hh")
    first = run(people.import_people, path, "--objective", "harmlessness", "--home", home)
    before = Store(home).counts()
    again = run(people.import_people, path, "--objective", "harmlessness", "--home", home)
    assert Store(home).counts() == before
    return path, home, first, again


def test_hh_rlhf_is_imported_whole(hh):
    path, home, _, _ = hh
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    parted = [[row[name].rpartition("\n\nAssistant:") for name in ("chosen", "rejected")] for row in rows]
    differ = [c[0] != r[0] for c, r in parted]
    empty = [not c[2].strip() or not r[2].strip() for c, r in parted]
    store = Store(home)
    counts = store.counts()
    assert len(rows) == 2312 and (sum(differ), sum(empty)) == (5, 4)
    assert Counter(row.reason for row in store.read(Reject)) == {"prompts_differ": 5, "empty_response": 4}
    assert counts["annotations"] == 2312 - 9
    expected = Counter(
        (c[2].strip(), r[2].strip())
        for (c, r), is_bad in zip(parted, map(max, differ, empty), strict=True)
        if not is_bad
    )
    found = Counter((a, b) if p == 1 else (b, a) for a, b, p in preferred(store))
    hidden, redacted = expected - found, found - expected
    assert hidden.total() == redacted.total() == 11, "each other chosen answer, to the letter, is the better one"
    assert all(any(map(find, pair)) for pair in hidden)
    assert not any(each.kind != "name" for pair in redacted for text in pair for each in find(text))
    assert {row.objective for row in store.read(Annotation)} == {"harmlessness"}


def test_the_same_file_twice_adds_nothing(hh):
    _, _, first, again = hh
    assert "new, stored       2303" in first and "new, stored          0" in again
    assert "stored before     2303" in again and "prompts_differ     5" in again


def test_a_file_of_another_name_and_the_same_bytes_adds_nothing_either(hh, tmp_path):
    path, home, _, _ = hh
    before = Store(home).counts()
    copy = tmp_path / "copy.jsonl.gz"
    copy.write_bytes(path.read_bytes())
    run(people.import_people, copy, "--source", path.name, "--objective", "harmlessness", "--home", home)
    assert Store(home).counts() == before


# What a row may say


TURNS = [{"role": "user", "content": "q"}]
ANSWERS = [[{"role": "assistant", "content": text}] for text in ("good", "poor")]


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: poor"},
        {"chosen": TURNS + ANSWERS[0], "rejected": TURNS + ANSWERS[1]},
        {"prompt": "q", "chosen": "good", "rejected": "poor"},
        {"prompt": TURNS, "chosen": ANSWERS[0], "rejected": ANSWERS[1]},
        {"prompt": "q", "chosen": TURNS + ANSWERS[0], "rejected": TURNS + ANSWERS[1]},
        {"prompt": "q", "responses": ["good", "poor"]},
        {"prompt": "q", "responses": ["poor", "good"], "ranks": [2, 1]},
        {"prompt": "q", "response_a": "good", "response_b": "poor", "label": "A"},
        {"prompt": "q", "response_a": "poor", "response_b": "good", "preference": 2},
        {"input": "q", "output_1": "poor", "output_2": "good", "label": 2},
        {"prompt": "q", "response_a": "poor", "response_b": "good", "p_a": 0},
    ],
)
def test_every_shape_says_the_same(tmp_path, row):
    done, found = stored(tmp_path, written(tmp_path / "f.jsonl", row))
    assert found == [("good", "poor", 1.0)] and done.n_new == 1
    (prompt,) = Store(tmp_path).read(Prompt)
    assert prompt.messages == (Message("user", "q"),) and prompt.split == "train"


def test_a_ranking_gives_all_its_pairs_and_its_ties(tmp_path):
    row = {"prompt": "q", "responses": ["x", "y", "z"], "ranks": [1, 2, 2]}
    assert stored(tmp_path, written(tmp_path / "f.jsonl", row))[1] == [("x", "y", 1), ("x", "z", 1), ("y", "z", 0.5)]


def test_csv_and_parquet_say_what_json_says(tmp_path):
    rows = [labelled("tie"), labelled("b", "bob", group="g", objective="harmlessness")]
    columns = ["prompt", "response_a", "response_b", "label", "annotator", "group", "objective"]
    body = "\n".join([",".join(columns), *(",".join(row.get(c, "") for c in columns) for row in rows)])
    (tmp_path / "f.csv").write_text(body + "\n")
    pq.write_table(pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows]), tmp_path / "f.parquet")
    written(tmp_path / "f.jsonl", *rows)
    found = []
    for suffix in ("csv", "parquet", "jsonl"):
        stored(tmp_path / suffix, tmp_path / f"f.{suffix}")
        found.append(Store(tmp_path / suffix).read(Annotation))
    assert found[0] == found[1] == found[2]
    assert {(row.group, row.objective, row.p_a == 0.5) for row in found[0]} == {
        ("", "helpfulness", True),
        ("g", "harmlessness", False),
    }


@pytest.mark.parametrize(
    ("row", "reason", "says"),
    [
        (labelled("A is better"), "unknown_label", "'A is better'"),
        (labelled("0"), "unknown_label", "'0'"),
        (labelled(True), "unknown_label", "True"),
        (labelled("nan"), "unknown_label", "'nan'"),
        (labelled(None), "no_label", "p_a"),
        (labelled(None, p_a=1.5), "unknown_label", "1.5"),
        (labelled(a=" "), "empty_response", ""),
        (labelled(a="right"), "identical_responses", ""),
        (labelled(objective="speed"), "unknown_objective", "'speed'"),
        (labelled(annotator=["x"]), "bad_annotator", "list"),
        (labelled(a=None), "no_pair", "response_a"),
        (labelled(a="\ud800"), "not_unicode", ""),
        ({"prompt": "q"}, "no_pair", "two responses"),
        ({"prompt": "q", "responses": ["x"]}, "no_pair", "got 1"),
        ({"prompt": "q", "responses": ["x", "y"], "ranks": [1]}, "bad_ranks", "1 ranks"),
        ({"prompt": "q", "responses": ["x", "y"], "ranks": [1, "nan"]}, "bad_ranks", "'nan'"),
        ({"prompt": "q", "responses": "x"}, "wrong_type", "list"),
        ({"chosen": "\n\nHuman: q", "rejected": "\n\nHuman: q\n\nAssistant: x"}, "no_answer", "'chosen'"),
        ({"prompt": "q", "chosen": ANSWERS[0] + TURNS, "rejected": "x"}, "prompts_differ", ""),
        ("{", "bad_json", ""),
    ],
)
def test_a_row_that_cannot_be_used_says_why(tmp_path, row, reason, says):
    done, found = stored(tmp_path, written(tmp_path / "f.jsonl", row, labelled()))
    (reject,) = Store(tmp_path).read(Reject)
    assert (reject.stage, reject.reason) == ("annotations", reason) and says in reject.detail
    assert "f.jsonl, row 1" in reject.detail and found == [("left", "right", 1.0)] and done.n_rows == 2


def test_a_shape_that_is_named_is_the_only_one_that_is_read(tmp_path):
    done, _ = stored(tmp_path, written(tmp_path / "f.jsonl", labelled()), shape="pairs")
    assert done.rejects == {"no_pair": 1}


# Who said it


def test_several_annotators_of_a_pair_stay_apart_and_one_has_one_word(tmp_path):
    rows = (labelled("a", "ann"), labelled("b", "bob"), labelled("b", "ann"), labelled("b", "bob"))
    done, found = stored(tmp_path, written(tmp_path / "f.jsonl", *rows))
    assert [p for *_, p in found] == [0.0, 1.0]
    assert done.rejects == {"conflicting_annotation": 1, "duplicate_annotation": 1}
    assert done.n_pairs == 4 == done.n_new + done.rejects.total()
    again, _ = stored(tmp_path, tmp_path / "f.jsonl")
    assert (again.n_new, again.n_known, again.rejects) == (0, 2, done.rejects)
    assert Store(tmp_path).counts()["rejects"] == 2


def test_who_changes_their_mind_in_a_later_file_is_not_overwritten_unseen(tmp_path):
    stored(tmp_path, written(tmp_path / "f.jsonl", labelled("a")))
    done, found = stored(tmp_path, written(tmp_path / "g.jsonl", labelled("b")))
    assert found == [("left", "right", 1.0)] and done.rejects == {"conflicting_annotation": 1}


def test_no_annotators_name_is_stored_anywhere(tmp_path):
    """Rejects too: a label that nobody knows, a broken line, a row of the wrong type, a name in a column of its own."""
    name = "Zebedee.Quux"
    rows = (
        labelled("a", name),
        labelled("a", name),
        labelled("unknown", name),
        labelled("tie", None, worker_id=name),
        labelled(7, None, a="x", annotator_id=name, worker_name=name),
        json.dumps([name]),
        f'{{"annotator": "{name}", ',
    )
    path = written(tmp_path / "f.jsonl", *rows)
    home = tmp_path / "home"
    said = run(people.import_people, path, "--objective", "helpfulness", "--home", home)
    store = Store(home)
    assert name not in said and store.counts()["rejects"] == 6 and store.counts()["annotations"] == 1
    assert "sixteen" not in repr(ASKED), "nor is the salt shown"
    for kind in (Annotation, Reject, Response, Prompt):
        assert name not in repr(store.read(kind))
    assert not [p for p in home.rglob("*") if p.is_file() and name.encode() in p.read_bytes()]
    (row,) = store.read(Annotation)
    assert row.annotator == pseudonym(name, load_salt(home))


def test_a_lost_salt_is_not_replaced_by_another(tmp_path):
    path = written(tmp_path / "f.jsonl", labelled())
    options = (path, "--objective", "helpfulness", "--home", tmp_path / "home")
    run(people.import_people, *options)
    (tmp_path / "home" / "annotators.salt").unlink()
    with pytest.raises(ConfigError, match="restore it"):
        run(people.import_people, *options)
    with pytest.raises(ConfigError, match="holds 5 characters"):
        run(people.import_people, *options, "--salt-env", "SALT", env={"SALT": "short"})
    run(people.import_people, *options, "--salt-env", "SALT", env={"SALT": "x" * 32})
    assert Store(tmp_path / "home").counts()["annotations"] == 2


# The command


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    path = written(tmp_path / "f.jsonl", labelled(), labelled("?"))
    said = run(people.import_people, path, "--objective", "helpfulness", "--home", tmp_path / "home", "--dry-run")
    assert "new, would be stored  1" in said and "unknown_label       1" in said
    assert not (tmp_path / "home").exists()


def test_a_file_of_which_nothing_can_be_used_is_an_error(tmp_path):
    path = written(tmp_path / "f.jsonl", labelled("?"))
    with pytest.raises(DataError, match="none of the 1 rows could be used"):
        run(people.import_people, path, "--objective", "helpfulness", "--home", tmp_path / "home")
    (tmp_path / "f.csv").write_text("who,what\nx,y\n")
    with pytest.raises(CAIError, match="four shapes"):
        run(people.import_people, tmp_path / "f.csv", "--objective", "helpfulness", "--home", tmp_path / "home")


def test_a_stopped_import_goes_on(tmp_path):
    """What was committed of the first half is found, and the rest is added."""
    rows = [labelled("a", f"ann{i}") for i in range(20)]
    stored(tmp_path, written(tmp_path / "f.jsonl", *rows[:10]))
    done, found = stored(tmp_path, written(tmp_path / "f.jsonl", *rows))
    assert (done.n_known, done.n_new, len(found)) == (10, 10, 20)


def test_gold_is_marked_and_kept_from_training(tmp_path):
    path = written(tmp_path / "f.jsonl", labelled(annotator=None))
    run(gold.import_gold, path, "--source", "experts", "--home", tmp_path / "home")
    store = Store(tmp_path / "home")
    (row,) = store.read(Annotation)
    (prompt,) = store.read(Prompt)
    assert row.is_gold and row.source == "experts" and prompt.split == "eval"
    assert gold_prompts(store) == {prompt.prompt_id}
    assert "experts" in run(gold.list_gold, "--home", tmp_path / "home")


def test_labels_of_a_prompt_that_repeats_a_held_out_one_are_rejects(tmp_path):
    """They were stored, their prompt to train on. Labels of the very prompt are what gold labels are compared with."""
    gold_row = labelled(prompt="How do I steal a bicycle?", source="experts")
    run(gold.import_gold, written(tmp_path / "gold.jsonl", gold_row), "--home", tmp_path / "home")
    store = Store(tmp_path / "home")
    store.append([replace(Prompt.make([Message("user", "How do I steal a scarf from it?")], "held"), split="eval")])
    same = [labelled(prompt="How do I steal a bicycle?"), labelled(prompt="How do I steal a scarf from it?")]
    near = [
        labelled(prompt="how do i steal a BICYCLE"),
        labelled(prompt="Well, how do I steal a scarf from it, please?"),
    ]
    path = written(tmp_path / "people.jsonl", *same, *near, labelled(prompt="How do I mend a shoe?"))
    done = run(people.import_people, path, "--objective", "helpfulness", "--home", tmp_path / "home")
    assert "near_evaluation" in done
    assert [row.reason for row in store.read(Reject)] == ["near_evaluation"] * 2
    assert {row.found for row in store.read(Contamination)} == {"import"} and len(store.read(Contamination)) == 2
    splits = {row.messages[-1].content: row.split for row in store.read(Prompt)}
    assert splits == {same[0]["prompt"]: "eval", same[1]["prompt"]: "eval", "How do I mend a shoe?": "train"}
    assert sum(not row.is_gold for row in store.read(Annotation)) == 3
