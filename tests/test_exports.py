"""Exported files: TRL and `datasets` read them as they are, equal rows give equal bytes, and nothing is left out."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import storage_rows as rows
from click.testing import CliRunner
from scripted_run import CONSTITUTION, export, run_to_preferences, write_profile

from cai.cli import tables as cli
from cai.config import PromptSource, load_profile
from cai.errors import DataError, StorageError
from cai.records import Message, PreferencePair, Prompt
from cai.training.rows import read_prompts as read_training_prompts
from flows.runs import create_run
from storage.exports import export_preferences, export_prompts, export_sft
from storage.imports import read_prompts
from storage.store import Store


@pytest.fixture
def store(tmp_path):
    """Four chains of two rounds, with a pair each: 0 and 1 are sure, 2 and 3 are ties."""
    store = Store(tmp_path / "home")
    for n in range(4):
        store.append([*rows.chain(n), rows.response(n, 1), rows.pair(n, 0.9 if n < 2 else 0.5)])
    return store


def read(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_datasets_and_trl_read_every_export_as_it_is(store, tmp_path, suffix, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset
    from trl.data_utils import is_conversational, maybe_extract_prompt, maybe_unpair_preference_dataset

    def load(path: Path):
        kind = {".parquet": "parquet", ".jsonl": "json"}[suffix]
        return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))

    sft, pairs, prompts = (tmp_path / f"{name}{suffix}" for name in ("sft", "pairs", "prompts"))
    export_sft(store, sft, rounds="all")
    export_preferences(store, pairs)
    export_prompts(store, prompts)
    for path, wanted, n in (
        (sft, ("prompt", "completion"), 8),
        (pairs, ("prompt", "chosen", "rejected"), 4),
        (prompts, ("prompt",), 4),
    ):
        loaded = load(path)
        assert len(loaded) == n and set(wanted) <= set(loaded.column_names)
        assert not {"messages", "text", "labels", "margin", "tools", "input_ids"} & set(loaded.column_names)
        for row in loaded:
            assert all(is_conversational({key: row[key]}) for key in wanted)
            assert row["prompt"][-1]["role"] == "user"
            assert all([m["role"] for m in row[key]] == ["assistant"] for key in wanted[1:])
    loaded = load(pairs)
    assert maybe_extract_prompt(loaded[0]) == loaded[0], "the prompt is explicit already"
    flat = loaded.select_columns(["prompt", "chosen", "rejected"])
    assert len(maybe_unpair_preference_dataset(flat)) == 8


def test_sft_takes_all_rounds_or_the_last_of_each_chain(store, tmp_path):
    every = export_sft(store, tmp_path / "all.parquet", rounds="all")
    last = export_sft(store, tmp_path / "last.parquet", rounds="last")
    assert (every.n_rows, last.n_rows) == (8, 4)
    wanted = {rows.revision(n, 2).revision_id: rows.revision(n, 2).text for n in range(4)}
    assert {r["revision_id"]: r["completion"][0]["content"] for r in read(last.path)} == wanted
    by_prompt = {rows.prompt(n).prompt_id: rows.prompt(n).messages[0].content for n in range(4)}
    assert all(r["prompt"] == [{"role": "user", "content": by_prompt[r["prompt_id"]]}] for r in read(last.path))


def test_a_chain_that_broke_off_gives_its_last_revision(store, tmp_path):
    store.append([rows.prompt(9), rows.response(9), rows.revision(9, 1)])
    last = export_sft(store, tmp_path / "last.jsonl", rounds="last")
    assert rows.revision(9, 1).revision_id in {r["revision_id"] for r in read(last.path)} and last.n_rows == 5


def test_only_the_rows_of_one_run_are_exported(store, tmp_path):
    """Rows of an edited constitution stay in the tables; a run names its own."""
    store.append([rows.revision(n, k, "edited") for n in range(4) for k in (1, 2)])
    mine = [rows.revision(n, k, "edited").revision_id for n in range(3) for k in (1, 2)]
    done = export_sft(store, tmp_path / "x.jsonl", rounds="last", revision_ids=mine)
    assert [r["principle_id"] for r in read(done.path)] == ["edited"] * 3
    assert export_sft(store, tmp_path / "y.jsonl", rounds="last").n_rows == 8
    assert export_sft(store, tmp_path / "z.jsonl", rounds="last", revision_ids=mine[:3]).n_rows == 2
    with pytest.raises(DataError, match="no revisions to export"):
        export_sft(store, tmp_path / "q.jsonl", rounds="all", model_digest="another")


def test_a_revision_that_was_cut_off_is_left_out_and_nothing_stands_in_for_it(tmp_path):
    """The first chain was cut off in its last round, the second in its first one; the third came to its end."""
    store, rounds = Store(tmp_path / "home"), [(0, 1, "stop"), (0, 2, "length"), (1, 1, "length"), (1, 2, "stop")]
    made = [replace(rows.revision(n, k), finish_reason=why) for n, k, why in [*rounds, (2, 1, "stop"), (2, 2, "stop")]]
    store.append([*(row for n in range(3) for row in (rows.prompt(n), rows.response(n))), *made])
    last = export_sft(store, tmp_path / "last.parquet", rounds="last")
    assert {r["prompt_id"] for r in read(last.path)} == {rows.prompt(n).prompt_id for n in (1, 2)}
    assert (last.n_rows, last.n_cut_off) == (2, 1)
    every = export_sft(store, tmp_path / "all.parquet", rounds="all")
    assert (every.n_rows, every.n_cut_off) == (4, 2)
    replies = [rows.response(n).response_id for n in range(3)]
    mixed = export_sft(store, tmp_path / "mixed.parquet", rounds="last", response_ids=replies, share=0.5)
    assert mixed.by_source == {"revision": 2, "helpful": 2}, "the share is of the rows that are there"
    with pytest.raises(DataError, match=r"no revisions .* 1 were cut off: raise `chains.revision.max_tokens`"):
        export_sft(store, tmp_path / "none.parquet", rounds="last", revision_ids=[made[1].revision_id])
    said = CliRunner().invoke(cli.export, ["sft", str(tmp_path / "x.jsonl"), "--home", str(store.home)])
    assert "1 revision left out: cut_off" in said.stderr and "2 rows" in said.stdout


def test_responses_can_be_mixed_in_as_they_are(store, tmp_path):
    helpful = [rows.response(1).response_id, rows.response(2).response_id]
    done = export_sft(store, tmp_path / "x.jsonl", rounds="last", response_ids=helpful, revision_ids=[])
    assert {r["completion"][0]["content"] for r in read(done.path)} == {"answer 1.0", "answer 2.0"}


def test_helpful_replies_are_mixed_in_by_the_stated_share(store, tmp_path):
    """Which of them is decided by their ids, so the same rows come in whatever order they are named."""
    replies = sorted(rows.response(n, 1).response_id for n in range(4))

    def mixed(share: float, among: list[str]):
        return export_sft(store, tmp_path / "x.parquet", rounds="last", response_ids=among, share=share)

    done = mixed(1 / 3, replies)
    assert done.by_source == {"revision": 4, "helpful": 2}
    found = [r for r in read(done.path) if r["source"] == "helpful"]
    assert [r["response_id"] for r in found] == replies[:2] and {r["revision_id"] for r in found} == {""}
    assert mixed(1 / 3, replies[::-1]).digest == done.digest
    assert mixed(0.5, replies).by_source == {"revision": 4, "helpful": 4}
    assert mixed(0.01, replies).by_source == {"revision": 4}, "the nearest row is none"
    with pytest.raises(DataError, match=r"6 helpful replies .* 4 are there: add .* or lower `share` to 0.500"):
        mixed(0.6, replies)


def test_a_known_answer_goes_with_its_prompt(store, tmp_path):
    store.append([Prompt.make([Message("user", "2 + 2?")], "sums", expected="4")])
    made = read(export_prompts(store, tmp_path / "p.parquet").path)
    assert sorted(filter(None, (row["expected"] for row in made))) == ["4"] and len(made) == 5
    assert [row.expected for row in read_training_prompts(tmp_path / "p.parquet")] == [r["expected"] for r in made]


def test_ties_can_be_left_out_and_labels_are_kept(store, tmp_path):
    every = read(export_preferences(store, tmp_path / "a.parquet").path)
    sure = read(export_preferences(store, tmp_path / "b.parquet", include_ties=False).path)
    assert [r["pair_id"] for r in every] == [f"pair{n:06d}" for n in range(4)]
    assert [(r["soft_label"], r["is_tie"]) for r in every] == [(0.9, False)] * 2 + [(0.5, True)] * 2
    assert sure == every[:2]
    assert sure[0]["chosen"] == [{"role": "assistant", "content": "answer 0.0"}]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_bytes_and_digest_depend_on_the_rows_alone(store, tmp_path, suffix):
    """Another order of arrival, other files underneath, compacted or not."""
    other = Store(tmp_path / "other")
    other.append([row for n in (2, 0, 3, 1) for row in reversed(rows.chain(n))])
    first = export_sft(store, tmp_path / f"a{suffix}", rounds="all")
    second = export_sft(other, tmp_path / f"b{suffix}", rounds="all")
    store.compact()
    third = export_sft(store, tmp_path / f"c{suffix}", rounds="all")
    assert first.path.read_bytes() == second.path.read_bytes() == third.path.read_bytes()
    assert first.digest == second.digest == third.digest
    assert first.digest == export_sft(store, tmp_path / "d.jsonl", rounds="all").digest, "the same in both formats"
    store.append(rows.chain(7))
    assert export_sft(store, tmp_path / f"e{suffix}", rounds="all").digest != first.digest


def test_prompts_can_be_imported_again(tmp_path):
    asked = [Prompt.make([Message("user", f"{n} — ünïcode 'quoted'")], "test", "MIT", ("a", "b")) for n in range(4)]
    store = Store(tmp_path / "home")
    store.append([*asked, replace(Prompt.make([Message("user", "held out")], "test"), split="eval")])
    done = export_prompts(store, tmp_path / "p.jsonl", split="train")
    read_again = list(read_prompts(PromptSource(path=str(done.path)), 0))
    assert {p.prompt_id for p in read_again} == {p.prompt_id for p in asked}
    assert all(p.tags == ("a", "b") for p in read_again)
    assert export_prompts(store, tmp_path / "q.parquet", split="eval").n_rows == 1


def test_a_row_without_its_prompt_is_an_error_and_writes_nothing(store, tmp_path):
    store.append([rows.response(50), rows.revision(50)])
    out = tmp_path / "x.parquet"
    out.write_text("the set of last week")
    with pytest.raises(DataError, match=f"{rows.revision(50).revision_id}.*{rows.prompt(50).prompt_id}"):
        export_sft(store, out, rounds="all")
    assert out.read_text() == "the set of last week" and [p.name for p in tmp_path.glob(".*")] == []


def test_another_suffix_an_empty_set_and_a_folder_that_cannot_be_are_errors(store, tmp_path):
    with pytest.raises(DataError, match=r"suffix '\.csv'; expected \.parquet or \.jsonl"):
        export_sft(store, tmp_path / "x.csv", rounds="all")
    with pytest.raises(DataError, match="no preference pairs"):
        export_preferences(Store(tmp_path / "empty"), tmp_path / "x.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        export_prompts(store, tmp_path / "file" / "x.jsonl")
    assert not (tmp_path / "x.csv").exists() and not (tmp_path / "x.jsonl").exists()


def test_the_command_writes_what_it_says(store, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(cli.export, [str(a) for a in [*arguments, "--home", store.home]])

    done = run("preferences", tmp_path / "p.jsonl", "--no-ties")
    assert done.exit_code == 0 and "2 rows, digest " in done.stdout and "preferences@4" in done.stdout
    assert "8 rows" in run("sft", tmp_path / "s.parquet", "--rounds", "all").stdout
    (tmp_path / "ids").write_text(f"{rows.revision(1, 2).revision_id}\n{rows.revision(2, 2).revision_id}\n")
    assert "2 rows" in run("sft", tmp_path / "s.parquet", "--ids", tmp_path / "ids").stdout
    assert "4 rows" in run("prompts", tmp_path / "q.parquet").stdout
    assert isinstance(run("prompts", tmp_path / "q.parquet", "--split", "eval").exception, DataError)


def test_the_command_leaves_out_what_repeats_a_held_out_prompt(store, tmp_path):
    """It asked for gold labels by id alone, where a run that derived the same set left the prompt out."""
    shouted = Prompt.make([Message("user", rows.prompt(0).messages[0].content.upper())], "test")
    store.append([replace(shouted, split="eval")])
    for table, kind in (("sft", "revisions"), ("preferences", "preferences"), ("prompts", "prompts")):
        out = tmp_path / f"{table}.jsonl"
        done = CliRunner().invoke(cli.export, [table, str(out), "--home", str(store.home)])
        assert done.exit_code == 0 and f"1 prompt of {kind} left out: near_evaluation" in done.stderr
        assert {row["prompt_id"] for row in read(out)} == {rows.prompt(n).prompt_id for n in (1, 2, 3)}
    assert "1 prompt of prompts left out: held_out_prompt" in done.stderr
    measured = CliRunner().invoke(
        cli.export, ["prompts", str(tmp_path / "e.jsonl"), "--split", "eval", "--home", str(store.home)]
    )
    assert "left out" not in measured.stderr
    assert [row["prompt_id"] for row in read(tmp_path / "e.jsonl")] == [shouted.prompt_id]


# of one run, as the command writes them


@pytest.fixture
def profile(tmp_path):
    return partial(write_profile, tmp_path)


def test_the_rows_of_one_run_can_be_exported_alone(tmp_path, profile):
    home, other = tmp_path / "home", CONSTITUTION.replace("kinder", "more kind")
    first, second = run_to_preferences(home, profile()), run_to_preferences(home, profile(constitution=other))
    pairs = {run.run_id: export(home, "preferences", run) for run in (first, second)}
    assert sum(map(len, pairs.values())) == len(Store(home).read(PreferencePair)) > len(pairs[first.run_id])
    assert {row["pair_id"] for row in pairs[second.run_id]} == set(second.ids("preferences"))
    assert {row["revision_id"] for row in export(home, "sft", first)} == set(first.ids("last-revisions-0"))
    assert len(export(home, "prompts", first)) == 40


def test_a_run_that_is_not_so_far_has_nothing_to_export(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    Store(run.home).append([Prompt.make([Message("user", "hello")], "test")])
    with pytest.raises(DataError, match="has not made all its preferences yet"):
        export(run.home, "preferences", run)
