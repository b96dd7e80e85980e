"""What a home knows of prompts when they are imported, what it learns, and what is met twice."""

from dataclasses import replace

import pytest
from click.testing import CliRunner
from prompt_files import asking, command, everything, jsonl, rejected

from cai.cli import door
from cai.config import PromptSource
from cai.held_out import HeldOutGuard
from cai.records import Prompt
from cai.smallworld import world
from flows.importing import Import, run_import
from storage.imports import read_sources
from storage.store import Store


def of_small_world(*limits: int) -> list[PromptSource]:
    return [PromptSource(path="smallworld", limit=n) for n in limits]


def test_a_prompt_that_two_sources_of_the_small_world_make_comes_in_once(tmp_path):
    """13 prompts and no rejects were reported, 8 were stored, and a run's ids had five of them twice."""
    sources = of_small_world(5, 8)
    for size in (1, 3, 100):
        store, taken = Store(tmp_path / str(size)), []
        wish = Import(sources, HeldOutGuard([]), batch_rows=size)
        report = run_import(store, wish, lambda batch, taken=taken: taken.extend(batch.prompts))
        n_out = report.rejects.total()
        assert (report.n_rows, report.n_prompts + n_out) == (13, 13), size
        assert len(taken) == len({prompt.prompt_id for prompt in taken}) == store.counts()["prompts"], size
        assert report.rejects == rejected(tmp_path / str(size)) == {"duplicate_prompt": n_out}, size
        assert n_out == 5, size
    planned = [row for row in read_sources(sources, "train", 0) if isinstance(row, Prompt)]
    assert planned == taken, "a plan counts them alike"


@pytest.mark.parametrize("split", ["train", "eval"])
def test_one_source_of_the_small_world_gives_what_the_world_makes(tmp_path, split):
    taken = []
    wish = Import(of_small_world(1_600), HeldOutGuard([]), split, seed=3, batch_rows=700)
    report = run_import(Store(tmp_path / "home"), wish, lambda batch: taken.extend(batch.prompts))
    assert taken == world.prompts(split, 1_600, seed=3) and not report.rejects


def test_a_generated_prompt_that_was_met_is_a_reject(tmp_path):
    made = asking("why?")
    wish = Import([PromptSource(path="generated")], HeldOutGuard([]), generated=[made], before=[made.prompt_id])
    assert run_import(Store(tmp_path / "home"), wish).rejects == {"duplicate_prompt": 1}


def refusal_of(tmp_path, *arguments: str) -> str:
    said = CliRunner().invoke(door, ["prompts", "import", *arguments, "--home", str(tmp_path / "home")])
    assert said.exit_code == 2 and not (tmp_path / "home").exists(), said.output
    return " ".join(said.output.split())


def test_settings_that_change_nothing_in_the_small_world_are_refused_by_name(tmp_path):
    """They were taken without a word: nothing was held out, and no prompt had the kind or the licence."""
    said = refusal_of(
        tmp_path, "smallworld", "--limit", "5", "--eval-share", "0.5", "--kind", "helpful", "--licence", "X"
    )
    assert all(name in said for name in ("`smallworld`", "--eval-share", "--kind", "--licence")), said
    assert "--limit" not in said and "--tags" not in said
    assert command(tmp_path / "home", "smallworld", "--limit", 5, "--split", "eval")["splits"] == {"eval": 5}


def test_the_name_that_only_a_profile_knows_is_refused(tmp_path):
    """With `--dry-run` it was 0 rows and a success; without, an error about a file."""
    for more in ([], ["--dry-run"]):
        assert "in a profile only" in refusal_of(tmp_path, "generated", *more)


def test_a_dry_run_knows_what_the_home_would_refuse(tmp_path):
    home, path = tmp_path / "home", tmp_path / "p.jsonl"
    command(home, jsonl(path, {"prompt": "a", "is": "1"}, {"prompt": "b", "is": "1"}), "--expected-column", "is")
    jsonl(path, *({"prompt": text, "is": "2"} for text in "acd"), {"prompt": "c", "is": "3"})
    before = everything(home)
    for options in (["--expected-column", "is"], ["--split", "eval"]):
        dry = command(home, path, *options, "--dry-run")
        assert everything(home) == before
        wet = command(home, path, *options)
        differ = {"n_stored", "dry_run"}
        assert {k: v for k, v in dry.items() if k not in differ} == {k: v for k, v in wet.items() if k not in differ}
        before = everything(home)
    assert rejected(home)["conflicting_expected"] == 2 and rejected(home)["stored_to_train"] == 3


def test_a_known_answer_is_told_from_another_across_batches_and_files(tmp_path):
    first = jsonl(
        tmp_path / "1.jsonl", {"prompt": "a", "is": "1"}, {"prompt": "b", "is": None}, {"prompt": "a", "is": "2"}
    )
    again = jsonl(
        tmp_path / "2.jsonl", {"prompt": "a", "is": "1"}, {"prompt": "a", "is": "3"}, {"prompt": "c", "is": "1"}
    )
    sources = [PromptSource(path=str(path), expected_column="is") for path in (first, again)]
    for size in (1, 2, 100):
        store = Store(tmp_path / f"home{size}")
        report = run_import(store, Import(sources, HeldOutGuard([]), batch_rows=size))
        assert report.rejects == {"conflicting_expected": 2, "duplicate_prompt": 1}, size
        assert sorted((p.messages[0].content, p.expected) for p in store.read(Prompt)) == [
            ("a", "1"), ("b", None), ("c", "1"),
        ]  # fmt: skip


def test_an_answer_that_a_later_row_knows_is_learnt_however_rows_are_grouped(tmp_path):
    """That an earlier row knew none was taken for a conflict, and every answer after it was lost; and what counted as
    one depended on which rows came in one batch.
    """
    rows = [
        ("a", None),
        ("a", "1"),
        ("a", "2"),
        ("a", "1"),
        ("b", "1"),
        ("b", "2"),
        ("b", "3"),
        ("c", None),
        ("c", "9"),
    ]
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": text, "is": answer} for text, answer in rows))
    source = PromptSource(path=str(path), expected_column="is")
    for size in (1, 2, 3, 100):
        store = Store(tmp_path / f"home{size}")
        store.append([replace(asking("b"), expected="2"), replace(asking("c"), expected="8")])
        for dry_run in (True, False, False):
            report = run_import(store, Import([source], HeldOutGuard([]), batch_rows=size, dry_run=dry_run))
            counted = (report.n_prompts, report.rejects)
            assert counted == (2, {"duplicate_prompt": 3, "conflicting_expected": 4}), (size, dry_run)
        assert {p.messages[0].content: p.expected for p in store.read(Prompt)} == {"a": "1", "b": "2", "c": "8"}, size


def test_what_the_home_does_not_state_it_learns_and_what_it_states_stays(tmp_path):
    """A kind that was stated for prompts of the home was forgotten, and no word said."""
    home = tmp_path / "home"
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", "kind": "helpful"}, {"prompt": "b"}, {"prompt": "c"})
    command(home, path)
    path = jsonl(path, {"prompt": "a"}, {"prompt": "b"}, {"prompt": "c", "origin": "a survey"})
    dry, wet, again = (
        command(home, path, "--kind", "harmful", "--licence", "MIT", *more) for more in (["--dry-run"], [], [])
    )
    stored = sorted(Store(home).read(Prompt), key=lambda p: p.messages[0].content)
    assert [(p.kind, p.licence, p.origin) for p in stored] == [
        ("helpful", "MIT", ""), ("harmful", "MIT", ""), ("harmful", "MIT", "a survey"),
    ]  # fmt: skip
    for said in (dry, wet, again):
        assert (said["kinds"], said["licences"]) == ({"helpful": 1, "harmful": 2}, {"MIT": 3})
        assert said["otherwise"] == {"kind": 1}
    words = ["prompts", "import", str(path), "--home", str(home), "--kind", "harmful", "--licence", "CC0"]
    text = CliRunner().invoke(door, words, catch_exceptions=False).stdout
    assert "the home states another licence of 3, another kind of 1, and keeps it" in text


def test_an_import_goes_on_in_a_home_where_an_answer_was_learnt(tmp_path):
    """What a merge writes has another Arrow type, in which ids were not found."""
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", "is": "1"}, {"prompt": "b", "is": "1"})
    command(tmp_path / "home", path)
    command(tmp_path / "home", path, "--expected-column", "is")
    assert command(tmp_path / "home", path, "--licence", "MIT")["n_stored"] == 2
