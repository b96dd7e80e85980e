"""The tables: what is appended comes back, once, whatever happens to the process, the disk or the neighbours."""

import os
import random
import subprocess
import sys
import threading
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import storage_rows as rows
from deltalake import DeltaTable, write_deltalake

from cai.errors import DataError, StorageError
from cai.records import Evaluation, Message, Model, Prompt, Recalibration, Record, Response, Run
from storage.delta import LARGE, mergeable
from storage.leftovers import prune
from storage.schemas import TABLES, row_id, table_of
from storage.store import Store
from storage.verification import live_files


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def test_every_record_has_a_table_and_every_field_a_column():
    assert {table.kind for table in TABLES.values()} == set(get_args(Record))
    for table in TABLES.values():
        assert table.schema.names == [f.name for f in fields(table.kind)]
        assert table.key in table.schema.names
        assert set(table.sort) <= set(table.schema.names)


def test_only_optional_fields_may_be_null():
    nullable = {(t.name, f.name) for t in TABLES.values() for f in t.schema if f.nullable}
    named = {("attempts", "elicited"), ("comparisons", "reasoning"), ("gatings", "n_needed"), ("prompts", "expected")}
    assert nullable == named


def test_messages_are_a_list_of_structs_and_dicts_are_maps():
    assert str(TABLES["prompts"].schema.field("messages").type).startswith("list<element: struct<role: string not null")
    assert str(TABLES["models"].schema.field("metrics").type) == "map<string, double>"


@pytest.mark.parametrize("row", rows.one_of_each(), ids=lambda row: type(row).__name__)
def test_a_row_comes_back_as_it_was(store, row):
    store.append([row])
    (stored,) = store.read(type(row))
    assert repr(stored) == repr(row)  # equal, NaN included
    assert isinstance(stored, type(row))


def test_a_reopened_store_reads_the_same_rows(store):
    store.append(rows.one_of_each())
    assert store.counts() == dict.fromkeys(TABLES, 1)
    again = Store(store.home)
    assert again.counts() == dict.fromkeys(TABLES, 1)
    assert again.read(Prompt) == [rows.prompt(1)]
    assert again.verify() == []


def test_an_id_is_kept_once_within_a_call_across_calls_and_across_stores(store):
    first = rows.response(1)
    assert store.append([first, replace(first, text="other")]) == {"responses": 1}
    assert store.append([first, rows.response(2)]) == {"responses": 1}
    assert Store(store.home).append([first]) == {"responses": 0}
    assert store.version(Response) == 2, "nothing new makes no version"
    assert store.find_all(Response)[first.response_id].text == "answer 1.0"


def test_append_of_nothing_makes_no_table(store):
    assert store.append([]) == {}
    assert store.version(Prompt) is None and store.counts()["prompts"] == 0 and store.verify() == []


def test_parents_are_committed_before_their_children(store):
    names = list(TABLES)
    lineage = (
        "prompts responses, responses revisions, responses comparisons, comparisons preferences, revisions rejects"
    )
    for parent, child in (pair.split() for pair in lineage.split(", ")):
        assert names.index(parent) < names.index(child)
    store.append(rows.one_of_each())
    written = [(store.root / name / "_delta_log" / f"{1:020d}.json").stat().st_mtime_ns for name in TABLES]
    assert written == sorted(written)


def test_find_all_leaves_out_what_is_not_there(store):
    store.append([rows.prompt(n) for n in range(5)])
    wanted = [rows.prompt(3).prompt_id, "absent"]
    assert list(store.find_all(Prompt, wanted)) == wanted[:1]
    assert store.find_all(Prompt, []) == {}
    assert len(store.find_all(Prompt)) == 5
    assert store.find_all(Response, wanted) == {}


def test_where_selects_and_rows_come_in_the_order_of_their_ids(store):
    store.append([rows.prompt(n) for n in range(30)])
    found = store.read(Prompt, "messages[1].content LIKE 'question 2%'")
    assert {p.prompt_id for p in found} == {rows.prompt(n).prompt_id for n in (2, *range(20, 30))}
    assert [p.prompt_id for p in found] == sorted(p.prompt_id for p in found)


def test_a_past_version_can_be_read_again_after_compaction(store):
    for n in range(6):
        store.append([rows.prompt(n)])
    store.compact()
    assert rows.ids_at(store.home, "prompts", 3) == sorted(rows.prompt(n).prompt_id for n in range(3))
    with pytest.raises(StorageError, match="version"):
        rows.ids_at(store.home, "prompts", 99)


def test_compaction_keeps_the_rows_and_leaves_one_file_sorted_by_prompt(store):
    for n in range(30):
        store.append([rows.response(n), rows.response(n, 1)])
    store.append([rows.prompt(1)])
    before = store.find_all(Response)
    assert store.files()["responses"][0] == 30
    assert store.compact() == {"responses": (30, 1)}
    assert store.files()["responses"][0] == 1 and store.find_all(Response) == before
    (uri,) = DeltaTable(str(store.root / "responses")).file_uris()
    kept = pq.read_table(uri)["prompt_id"].to_pylist()
    assert kept == sorted(kept)
    assert pq.read_metadata(uri).row_group(0).column(0).compression == "ZSTD"
    assert store.compact() == {}, "nothing is left to do"
    assert store.append([rows.response(3)]) == {"responses": 0}, "ids are known in the new files too"
    assert store.verify() == []


def test_merging_small_files_as_rows_come_leaves_few_and_copies_each_row_a_few_times(store):
    """A run merges after each shard. All of a table was rewritten each time, so that after 20 shards ten copies of it
    lay on the disk, and after 40 twenty.
    """

    def files() -> dict[str, int]:
        return {file.name: file.n_rows for file in live_files(DeltaTable(str(store.root / "responses")))}

    made = [replace(rows.response(n), text=random.Random(n).randbytes(10_000).hex()) for n in range(80)]
    n_copied = 0
    for n, row in enumerate(made):
        store.append([row])
        if n % 4 == 3:
            before = files()
            store.merge_small(4)
            n_copied += sum(n_rows for name, n_rows in files().items() if name not in before)
    assert len(files()) < 10
    assert n_copied < 4 * len(made), "840 of 80 where each merge takes them all"
    assert store.read(Response) == sorted(made, key=row_id)
    assert store.append(made[:40]) == {"responses": 0} and store.verify() == []
    assert store.bytes_on_disk()["responses"] > store.files()["responses"][1]
    store.compact()
    store.vacuum(timedelta(0))
    assert store.bytes_on_disk()["responses"] == store.files()["responses"][1]


def test_only_files_that_come_into_one_of_four_times_their_size_are_merged():
    assert mergeable([]) == mergeable([5]) == mergeable([5, 5, 5]) == 0
    assert mergeable([5] * 4) == 21
    assert mergeable([5, 5, 5, 5, 7, 8, 100]) == 36, "100 stays as it is"
    assert mergeable([LARGE, 1, LARGE + 1, 1, 1, 1]) == 5
    assert mergeable([LARGE // 2] * 9) == LARGE


def test_vacuum_spares_the_versions_that_models_were_trained_on(store):
    for n in range(4):
        store.append([rows.prompt(n), rows.response(n)])
    store.append([Model("m", "sl_cai", "sft", "p", "", {"tables/prompts": "2", "sft": "digest"})])
    store.compact()
    assert store.vacuum() == 0, "young files are spared"
    assert store.vacuum(timedelta(0)) == 2 + 4, "two files of prompts that version 2 does not have, four of responses"
    assert len(rows.ids_at(store.home, "prompts", 2)) == 2 and len(store.read(Prompt)) == 4
    with pytest.raises(StorageError, match="responses"):
        rows.ids_at(store.home, "responses", 2)
    assert store.verify() == []


def test_vacuum_spares_the_gold_that_a_recalibration_was_fitted_on(store):
    for n in range(3):
        store.append([rows.annotation(n)])
    fitted = Recalibration("k", "judge", "temperature", (1.0,), (), 60, ("people",), 2, 0.1, 0.1, 0.2, 0.2)
    store.append([fitted, replace(fitted, recalibration_id="of gold that has no table", gold_version=-1)])
    store.compact()
    store.vacuum(timedelta(0))
    assert len(rows.ids_at(store.home, "annotations", 2)) == 2
    with pytest.raises((StorageError, DataError), match="annotations"):  # as soon as a file that is gone is opened
        rows.ids_at(store.home, "annotations", 3)


def test_of_what_killed_runs_left_only_what_nobody_has_touched_for_long_is_pruned(tmp_path):
    old, now = 1_000_000.0, 1_000_000.0 + 40 * 86_400
    paths = {
        "models/sft-1.unfinished/checkpoint-2/weights": True,
        "models/tmp-sft-2/weights": True,
        "runs/r/ids/.prompts.parquet.77.tmp": True,
        "spill/duckdb_temp_0": True,
        "imports/0123456789abcdef/state.json": True,
        "imports/0123456789abcdef.lock": False,
        "models/sft-3/model.safetensors": False,  # finished
        "runs/r/steps/prompts.json": False,
        "runs/r/steps/.locked": False,
    }
    for name in paths:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    young = tmp_path / "models" / "sft-4.unfinished" / "checkpoint-9"
    young.mkdir(parents=True)
    (young / "weights").write_text("x")
    for path in [*tmp_path.rglob("*"), tmp_path]:
        os.utime(path, (old, old))
    os.utime(young / "weights", (now - 86_400, now - 86_400))
    assert len(prune(tmp_path, now)) == 5
    assert {name: not (tmp_path / name).exists() for name in paths} == paths
    assert (young / "weights").exists(), "somebody has worked on it yesterday"
    assert prune(tmp_path, now) == []


def test_upsert_replaces_a_row_and_adds_a_new_one(store):
    running = Run("r1", "laptop", "t", "cd", "{}")
    store.append([running])
    store.upsert([replace(running, status="completed"), Run("r2", "laptop", "t", "cd", "{}")])
    assert [(r.run_id, r.status) for r in store.read(Run)] == [("r1", "completed"), ("r2", "running")]
    assert store.append([running]) == {"runs": 0} and store.verify() == []


def test_removed_rows_are_gone_stay_in_earlier_versions_and_may_come_again(store):
    store.remove(Response, ["no table yet"])
    store.append([rows.response(n) for n in range(3)])
    gone, before = rows.response(1), store.version(Response)
    store.remove(Response, [gone.response_id, "never stored", "it's"])
    assert gone not in store.read(Response) and len(store.read(Response)) == 2
    assert gone.response_id in rows.ids_at(store.home, "responses", before)
    store.remove(Response, [gone.response_id])
    assert store.version(Response) == before + 1, "nothing to remove, nothing committed"
    assert store.append([gone]) == {"responses": 1} and len(store.read(Response)) == 3
    assert store.verify() == []


def test_two_stores_and_a_compaction_at_once_lose_and_double_nothing(store):
    """Each writer hands over all rows, so every id is fought for."""
    wanted = [rows.response(n) for n in range(120)]
    errors = []

    def write(order: list[Response]) -> None:
        try:
            mine = Store(store.home)
            for start in range(0, len(order), 10):
                mine.append(order[start : start + 10])
        except Exception as error:
            errors.append(error)

    def compact() -> None:
        try:
            for _ in range(5):
                Store(store.home).compact()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(o,)) for o in (wanted, wanted[::-1], wanted[60:] + wanted[:60])]
    threads.append(threading.Thread(target=compact))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.read(Response) == sorted(wanted, key=row_id)
    assert store.verify() == []


def test_two_processes_writing_the_same_rows_store_each_once(store):
    command = [sys.executable, str(Path(rows.__file__)), str(store.home), "60"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert [child.communicate(timeout=120) and child.returncode for child in children] == [0, 0]
    assert store.counts()["responses"] == 60 and store.counts()["revisions"] == 120
    assert store.verify() == []


def test_verify_reports_a_missing_and_a_short_file(store):
    for n in range(3):
        store.append([rows.prompt(n)])
    missing, short, _ = (Path(uri) for uri in DeltaTable(str(store.root / "prompts")).file_uris())
    missing.unlink()
    short.write_bytes(short.read_bytes()[:-7])
    problems = sorted(p.removeprefix("prompts: ").replace(str(store.root), "") for p in store.verify())
    assert len(problems) == 2
    assert any(f"{missing.name} is missing; the log says it has 1 rows" in p for p in problems)
    assert any(f"{short.name} has" in p and "bytes; the log says" in p for p in problems)


@pytest.mark.parametrize("compacted", [False, True])
def test_verify_reports_every_single_flipped_byte(store, compacted):
    store.append([rows.prompt(n) for n in range(20)])
    store.append([rows.prompt(n) for n in range(20, 40)])
    if compacted:
        store.compact()
        store.vacuum(timedelta(0))
    file = Path(DeltaTable(str(store.root / "prompts")).file_uris()[0])
    whole = file.read_bytes()
    for position in range(0, len(whole), 97):
        body = bytearray(whole)
        body[position] ^= 0x01
        file.write_bytes(body)
        (problem,) = store.verify()
        assert file.name in problem and "is corrupt" in problem
    file.write_bytes(whole)
    assert store.verify() == []


def test_a_file_without_a_noted_digest_is_still_read_whole(store):
    """The writer may be killed between its commit and the note."""
    store.append([rows.prompt(1)])
    (store.root / "prompts" / "_digests.jsonl").write_text('{"file": "torn')
    assert store.verify() == []
    file = Path(DeltaTable(str(store.root / "prompts")).file_uris()[0])
    body = bytearray(file.read_bytes())
    body[-20] ^= 0xFF
    file.write_bytes(body)
    assert "is corrupt" in store.verify()[0]


def test_verify_reports_doubled_ids_and_a_broken_log(store):
    store.append([rows.prompt(1), rows.response(1)])
    write_deltalake(str(store.root / "prompts"), _again(store, "prompts"), mode="append")
    (store.root / "responses" / "_delta_log" / f"{1:020d}.json").write_text("{torn")
    problems = store.verify()
    assert any("1 ids are there more than once" in p and rows.prompt(1).prompt_id in p for p in problems)
    assert any(p.startswith("responses: ") and "log" in p for p in problems)


def _again(store, name):
    return pa.table(DeltaTable(str(store.root / name)).to_pyarrow_table())


def test_another_schema_is_reported_and_refused(store):
    schema = pa.schema([f for f in TABLES["prompts"].schema if f.name != "licence"])
    DeltaTable.create(str(store.root / "prompts"), schema)
    assert "lacks ['licence']" in store.verify()[0]
    with pytest.raises(
        StorageError, match=r"lacks \['licence'\].*Nothing was written.*another --home.*cai export"
    ) as refused:
        store.append([rows.prompt(1)])
    assert str(store.home / "runs") in str(refused.value), "where the version that wrote it is found"


def test_a_value_that_does_not_fit_its_column_names_the_row(store):
    wrong = replace(rows.response(1), n_tokens="many")
    with pytest.raises(StorageError, match=f"{wrong.response_id}.*'n_tokens'"):
        store.append([rows.response(2), wrong])
    half = Prompt("p", (Message("user", "half a character \ud800"),), "test")
    with pytest.raises(StorageError, match="'p'.*'messages'"):
        store.append([half])
    assert store.counts()["responses"] == 0, "no part of a refused append is kept"


def test_table_of_and_row_id_agree_with_the_key_columns():
    for row in rows.one_of_each():
        assert row_id(row) == getattr(row, table_of(type(row)).key)
    assert table_of(Evaluation).name == "evaluations"


def test_a_home_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="home.*free"):
        Store(tmp_path / "home").append([rows.prompt(1)])
