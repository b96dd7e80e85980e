"""Training sets as files that TRL and `datasets` read as they are: Parquet, or JSON lines where the name ends so.

Row order and bytes depend on the rows alone. A file appears whole or not at all. Rows about prompts with gold labels
are in none, and of prompts those alone that the caller does not hold out.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cai.errors import DataError, StorageError
from cai.files import fsync
from cai.mixing import Parts, n_of_share
from storage import catalog
from storage.delta import storage_errors
from storage.store import Store

ROW_GROUP = 10_000

_TURN = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])
_TURNS = pa.list_(_TURN)

# TRL 1.16 drops columns that it does not know; it must not meet `messages`, `text`, `labels`, `margin` or `tools`.
SFT_SCHEMA = pa.schema(
    {"prompt": _TURNS, "completion": _TURNS}
    | dict.fromkeys(["prompt_id", "response_id", "revision_id", "principle_id"], pa.string())
    | {"round": pa.int64(), "source": pa.string()}
)
PREFERENCE_SCHEMA = pa.schema(
    {"prompt": _TURNS, "chosen": _TURNS, "rejected": _TURNS, "soft_label": pa.float64(), "is_tie": pa.bool_()}
    | dict.fromkeys(["pair_id", "prompt_id", "source", "objective"], pa.string())
)
PROMPT_SCHEMA = pa.schema(
    {"prompt": _TURNS, "prompt_id": pa.string(), "source": pa.string(), "licence": pa.string()}
    | {"tags": pa.list_(pa.string()), "split": pa.string(), "expected": pa.string()}
    | {"origin": pa.string(), "kind": pa.string()}
)

# Whatever has a gold label is for measuring: no row about that prompt is ever trained on. A parameter that is NULL lets
# every row through.
_TRAINABLE = """
    prompt_id NOT IN (SELECT unnest($held_out::VARCHAR[]))
    AND prompt_id NOT IN (SELECT prompt_id FROM annotations WHERE is_gold)
"""
_SFT_PARTS = f"""
WITH chosen AS (
    FROM revisions
    WHERE ($revision_ids::VARCHAR[] IS NULL OR revision_id IN (SELECT unnest($revision_ids::VARCHAR[])))
        AND ($model_digest::VARCHAR IS NULL OR model_digest = $model_digest) AND {_TRAINABLE}
),
newest AS (FROM chosen WHERE $rounds = 'all' OR revision_id NOT IN (SELECT parent_id FROM chosen)),
revised AS (
    SELECT prompt_id, response_id, revision_id, principle_id, "round", 'revision' AS source, text FROM newest
    WHERE finish_reason <> 'length'
),
replies AS (
    SELECT prompt_id, response_id, '' AS revision_id, '' AS principle_id, 0 AS "round", 'helpful' AS source, text
    FROM responses
    WHERE response_id IN (SELECT unnest($response_ids::VARCHAR[]))
        AND ($model_digest::VARCHAR IS NULL OR model_digest = $model_digest) AND {_TRAINABLE}
)
"""
_SFT_COUNTS = f"""
{_SFT_PARTS}
SELECT (SELECT count(*) FROM revised), (SELECT count(*) FROM newest), (SELECT count(*) FROM replies)
"""
_SFT = f"""
{_SFT_PARTS}, mixed AS (FROM revised UNION ALL (FROM replies ORDER BY response_id LIMIT $n_helpful))
SELECT messages, mixed.* FROM mixed LEFT JOIN prompts USING (prompt_id)
ORDER BY if(revision_id = '', response_id, revision_id), response_id
"""
_PREFERENCES = f"""
SELECT messages, chosen, rejected, soft_label, is_tie, pair_id, prompt_id, source, objective FROM preferences
WHERE ($pair_ids::VARCHAR[] IS NULL OR pair_id IN (SELECT unnest($pair_ids::VARCHAR[])))
    AND ($include_ties OR NOT is_tie) AND {_TRAINABLE}
ORDER BY pair_id
"""
_PROMPTS = """
SELECT messages, prompt_id, source, licence, tags, split, expected, origin, kind FROM prompts
WHERE ($prompt_ids::VARCHAR[] IS NULL OR prompt_id IN (SELECT unnest($prompt_ids::VARCHAR[])))
    AND ($split::VARCHAR IS NULL OR split = $split)
    AND prompt_id NOT IN (SELECT unnest($held_out::VARCHAR[]))
ORDER BY prompt_id
"""
_HELPFUL = Parts("helpful replies", "revisions", "add helpful prompts", "share")


@dataclass(frozen=True)
class ExportResult:
    """What was written. `digest` is of the rows (equal rows, equal digest, in either format)."""

    path: Path
    n_rows: int
    digest: str
    versions: dict[str, int]
    """Table versions the rows were read from; `cai.records.Model.inputs` keeps them as `tables/NAME`."""
    by_source: dict[str, int]
    """Rows by their column `source`."""
    n_cut_off: int = 0
    """Revisions left out: they were cut off before their end."""


Row = dict[str, Any]


class _Set(NamedTuple):
    """A kind of set: what its rows are called, the file's columns, the query, and how a row of it is written."""

    what: str
    schema: pa.Schema
    sql: str
    row: Callable[[Row], Row]


def export_sft(
    store: Store,
    out: Path,
    *,
    rounds: Literal["all", "last"],
    revision_ids: Collection[str] | None = None,
    response_ids: Collection[str] = (),
    share: float | None = None,
    held_out: Collection[str] = (),
    model_digest: str | None = None,
) -> ExportResult:
    """Revisions as prompt and completion, ordered by id; `source` is `revision` or `helpful`.

    Args:
        store: where rows are.
        out: the file to write.
        rounds: every revision, or only those that no other chosen revision grew from.
        revision_ids: the revisions of one run. None takes all that are stored, those of older constitutions too.
        response_ids: helpful responses, to train on as they are beside the revisions.
        share: of all rows, so many are to be helpful, to the nearest row: those of `response_ids` that come first by
            id, which is a digest. None takes all of them.
        held_out: no row of these prompts.
        model_digest: only rows of this model.

    Raises:
        DataError: nothing is left to write, there are too few helpful responses for `share`, a row's prompt is not
            stored, or `out` has another suffix.
        StorageError: `out` cannot be written.
    """
    asked = {
        "rounds": rounds,
        "revision_ids": _listed(revision_ids),
        "response_ids": _listed(response_ids),
        "held_out": _listed(held_out),
        "model_digest": model_digest,
    }
    versions = store.versions()
    with _reading(store, versions) as connection:
        (n_revisions, n_newest, n_replies), *_ = connection.execute(_SFT_COUNTS, asked).fetchall()
    n_helpful = n_replies if share is None else n_of_share(share, n_revisions, n_replies, _HELPFUL)
    n_cut_off = n_newest - n_revisions
    hint = f"; {n_cut_off} were cut off: raise `chains.revision.max_tokens`" if n_cut_off else ""
    made = _Set("revisions", SFT_SCHEMA, _SFT, _sft_row)
    done = _export(store, out, made, asked | {"n_helpful": n_helpful}, versions, hint)
    return replace(done, n_cut_off=n_cut_off)


def export_preferences(
    store: Store,
    out: Path,
    *,
    pair_ids: Collection[str] | None = None,
    held_out: Collection[str] = (),
    include_ties: bool = True,
) -> ExportResult:
    """Preference pairs as prompt, chosen and rejected, ordered by id, with their soft labels.

    Args:
        store: where rows are.
        out: the file to write.
        pair_ids: the pairs of one run; None takes all that are stored.
        held_out: no pair of these prompts.
        include_ties: DPO wants none; a reward model trained on soft labels learns from them.

    Raises:
        DataError: nothing is left to write, or `out` has another suffix.
        StorageError: `out` cannot be written.
    """
    asked = {"pair_ids": _listed(pair_ids), "held_out": _listed(held_out), "include_ties": include_ties}
    made = _Set("preference pairs", PREFERENCE_SCHEMA, _PREFERENCES, _preference_row)
    return _export(store, out, made, asked, store.versions())


def export_prompts(
    store: Store,
    out: Path,
    *,
    prompt_ids: Collection[str] | None = None,
    split: Literal["train", "eval"] | None = None,
    held_out: Collection[str] = (),
) -> ExportResult:
    """Prompts as message lists, ordered by id; none of `held_out`. `cai run --prompts` reads such a file again."""
    asked = {"prompt_ids": _listed(prompt_ids), "split": split, "held_out": _listed(held_out)}
    made = _Set("prompts", PROMPT_SCHEMA, _PROMPTS, _prompt_row)
    return _export(store, out, made, asked, store.versions())


def _listed(values: Collection[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def _export(store: Store, out: Path, made: _Set, asked: Row, versions: dict[str, int], hint: str = "") -> ExportResult:
    with _reading(store, versions) as connection:
        rows = _rows(connection, made.sql, asked)
        return _write(out, made.schema, map(made.row, rows), versions, made.what, hint)


@contextmanager
def _reading(store: Store, versions: Mapping[str, int]) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = catalog.connect(store.home, versions)
    try:
        yield connection
    except duckdb.Error as error:
        raise StorageError(f"the tables under {store.home} could not be read: {error}") from error
    finally:
        connection.close()


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, asked: Row) -> Iterator[Row]:
    catalog.check_select(connection, sql)
    cursor = connection.execute(sql, asked)
    names = [column[0] for column in cursor.description or ()]
    while batch := cursor.fetchmany(ROW_GROUP):
        yield from (dict(zip(names, values, strict=True)) for values in batch)


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _sft_row(row: Row) -> Row:
    messages, text = row.pop("messages"), row.pop("text")
    if messages is None:
        raise DataError(
            f"row {row['revision_id'] or row['response_id']!r} belongs to prompt {row['prompt_id']!r}, which is not in "
            "the table `prompts`; store the prompts of a run before its rows"
        )
    return {"prompt": messages, "completion": _assistant(text), **row}


def _preference_row(row: Row) -> Row:
    return {
        **row,
        "prompt": row["messages"],
        "chosen": _assistant(row["chosen"]),
        "rejected": _assistant(row["rejected"]),
    }


def _prompt_row(row: Row) -> Row:
    return {**row, "prompt": row["messages"]}


def _write(
    out: Path, schema: pa.Schema, rows: Iterable[Row], versions: dict[str, int], what: str, hint: str
) -> ExportResult:
    if out.suffix not in {".parquet", ".jsonl"}:
        raise DataError(f"{out} has the suffix {out.suffix!r}; expected .parquet or .jsonl")
    hasher, n_rows = hashlib.sha256(), 0
    by_source = Counter[str]()
    with _replacing(out) as unfinished:
        write_group = _jsonl_writer if out.suffix == ".jsonl" else _parquet_writer
        with write_group(unfinished, schema) as write:
            for group in _groups(rows, schema.names):
                lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in group]
                hasher.update("".join(lines).encode())
                n_rows += len(group)
                by_source.update(row["source"] for row in group)
                write(group, lines)
        if n_rows == 0:
            none = "the table holds none that pass the filters; `cai tables`"
            raise DataError(f"no {what} to export to {out}: {none}{hint}")
    return ExportResult(out, n_rows, hasher.hexdigest()[:32], versions, dict(by_source))


def _groups(rows: Iterable[Row], names: list[str]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append({name: row[name] for name in names})
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


_WriteGroup = Callable[[list[dict[str, Any]], list[str]], None]


@contextmanager
def _parquet_writer(path: Path, schema: pa.Schema) -> Iterator[_WriteGroup]:
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3) as writer:
        yield lambda rows, _: writer.write_table(pa.Table.from_pylist(rows, schema=schema))


@contextmanager
def _jsonl_writer(path: Path, schema: pa.Schema) -> Iterator[_WriteGroup]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda _, lines: file.writelines(lines)


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A name to write under; what is there takes the place of `out`, synced, when the block ends well."""
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with storage_errors(out):
            yield unfinished
            fsync(unfinished)
            unfinished.replace(out)
            fsync(out.parent)
    finally:
        unfinished.unlink(missing_ok=True)
