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

# Whatever has a gold label is for measuring: no row about that prompt is ever trained on.
_NO_GOLD = "prompt_id NOT IN (SELECT prompt_id FROM annotations WHERE is_gold)"


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


class _Filter(NamedTuple):
    """A condition on a column; `values` None lets every row through."""

    column: str
    values: Collection[str] | None


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
    versions: Mapping[str, int] | None = None,
) -> ExportResult:
    """Revisions as prompt and completion, ordered by id; `source` is `revision` or `helpful`.

    A revision that was cut off is left out, and no earlier one takes its place: training puts the end of a turn behind
    every completion.

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
        versions: table versions to read, as an earlier `ExportResult` named them.

    Raises:
        DataError: nothing is left to write, there are too few helpful responses for `share`, a row's prompt is not
            stored, or `out` has another suffix.
        StorageError: `out` cannot be written.
    """
    model = None if model_digest is None else [model_digest]
    of_model = _Filter("model_digest", model)
    revisions, params = _where([_Filter("revision_id", revision_ids), of_model], held_out)
    responses, more = _where([_Filter("response_id", response_ids), of_model], held_out)
    newest = "WHERE NOT EXISTS (FROM chosen AS later WHERE later.parent_id = chosen.revision_id)"
    rows = f"""
        WITH chosen AS (FROM revisions WHERE {revisions} AND {_NO_GOLD}),
        newest AS (FROM chosen {newest if rounds == "last" else ""}),
        revised AS (
            SELECT prompt_id, response_id, revision_id, principle_id, "round", 'revision' AS source, text FROM newest
            WHERE finish_reason <> 'length'
        ),
        replies AS (
            SELECT prompt_id, response_id, '' AS revision_id, '' AS principle_id, 0 AS "round",
                'helpful' AS source, text
            FROM responses WHERE {responses} AND {_NO_GOLD}
        )
    """
    read = dict(store.versions() if versions is None else versions)
    values = [*params, *more]
    counts = _counts(store, rows, values, read)
    n_helpful = None if share is None else _n_helpful(counts, share)
    sql = f"""
        {rows}, mixed AS (FROM revised UNION ALL (FROM replies ORDER BY response_id LIMIT {_sql_limit(n_helpful)}))
        SELECT messages, mixed.* FROM mixed LEFT JOIN prompts USING (prompt_id)
        ORDER BY if(revision_id = '', response_id, revision_id), response_id
    """
    cut_off = f"; {counts.cut_off} were cut off: raise `chains.revision.max_tokens`" if counts.cut_off else ""
    done = _export(store, out, SFT_SCHEMA, sql, values, _sft_row, read, "revisions", hint=cut_off)
    return replace(done, n_cut_off=counts.cut_off)


def _sql_limit(n: int | None) -> str:
    return "ALL" if n is None else str(n)


class _Counts(NamedTuple):
    """How many rows there are to write, and how many revisions are not because they were cut off."""

    revisions: int
    cut_off: int
    replies: int


def _counts(store: Store, rows: str, values: list[list[str]], versions: Mapping[str, int]) -> _Counts:
    tables = ("revised", "newest", "replies")
    sql = f"{rows} SELECT {', '.join(f'(SELECT count(*) FROM {name})' for name in tables)}"
    with _reading(store, versions) as connection:
        (n_revised, n_newest, n_replies), *_ = connection.execute(sql, values).fetchall()
    return _Counts(n_revised, n_newest - n_revised, n_replies)


def _n_helpful(counts: _Counts, share: float) -> int:
    """How many replies make `share` of all rows.

    Raises:
        DataError: there are fewer.
    """
    n_revisions, n_replies = counts.revisions, counts.replies
    n_helpful = round(n_revisions * share / (1 - share))
    if n_replies < n_helpful:
        raise DataError(
            f"{n_helpful} helpful replies beside {n_revisions} revisions make a share of {share}, {n_replies} are "
            f"there: add helpful prompts, or lower `share` to {n_replies / (n_revisions + n_replies):.3f}"
        )
    return n_helpful


def export_preferences(
    store: Store,
    out: Path,
    *,
    pair_ids: Collection[str] | None = None,
    held_out: Collection[str] = (),
    include_ties: bool = True,
    versions: Mapping[str, int] | None = None,
) -> ExportResult:
    """Preference pairs as prompt, chosen and rejected, ordered by id, with their soft labels.

    Args:
        store: where rows are.
        out: the file to write.
        pair_ids: the pairs of one run; None takes all that are stored.
        held_out: no pair of these prompts.
        include_ties: DPO wants none; a reward model trained on soft labels learns from them.
        versions: table versions to read, as an earlier `ExportResult` named them.

    Raises:
        DataError: nothing is left to write, or `out` has another suffix.
        StorageError: `out` cannot be written.
    """
    condition, params = _where([_Filter("pair_id", pair_ids)], held_out)
    sql = f"""
        SELECT messages, chosen, rejected, soft_label, is_tie, pair_id, prompt_id, source, objective FROM preferences
        WHERE {condition} AND {_NO_GOLD} {"" if include_ties else "AND NOT is_tie"} ORDER BY pair_id
    """
    return _export(store, out, PREFERENCE_SCHEMA, sql, params, _preference_row, versions, "preference pairs")


def export_prompts(
    store: Store,
    out: Path,
    *,
    prompt_ids: Collection[str] | None = None,
    split: Literal["train", "eval"] | None = None,
    held_out: Collection[str] = (),
    versions: Mapping[str, int] | None = None,
) -> ExportResult:
    """Prompts as message lists, ordered by id; none of `held_out`. `cai run --prompts` reads such a file again."""
    filters = [_Filter("prompt_id", prompt_ids), _Filter("split", None if split is None else [split])]
    condition, params = _where(filters, held_out)
    columns = "messages, prompt_id, source, licence, tags, split, expected, origin, kind"
    sql = f"SELECT {columns} FROM prompts WHERE {condition} ORDER BY prompt_id"
    return _export(store, out, PROMPT_SCHEMA, sql, params, _prompt_row, versions, "prompts")


def _where(filters: Iterable[_Filter], held_out: Collection[str] = ()) -> tuple[str, list[list[str]]]:
    """SQL for all of the filters, with the values as parameters; no row of the prompts that are held out."""
    active = [f for f in filters if f.values is not None]
    parts = [f"{f.column} IN (SELECT unnest(?::VARCHAR[]))" for f in active]
    params = [list(f.values) for f in active if f.values is not None]
    if held_out:
        parts.append("prompt_id NOT IN (SELECT unnest(?::VARCHAR[]))")
        params.append(list(held_out))
    return " AND ".join(parts) or "true", params


def _export(
    store: Store,
    out: Path,
    schema: pa.Schema,
    sql: str,
    params: list[list[str]],
    row: Callable[[dict[str, Any]], dict[str, Any]],
    versions: Mapping[str, int] | None,
    what: str,
    *,
    hint: str = "",
) -> ExportResult:
    read = dict(store.versions() if versions is None else versions)
    with _reading(store, read) as connection:
        return _write(out, schema, map(row, _rows(connection, sql, params)), read, what, hint)


@contextmanager
def _reading(store: Store, versions: Mapping[str, int]) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = catalog.connect(store.home, versions)
    try:
        yield connection
    except duckdb.Error as error:
        raise StorageError(f"the tables under {store.home} could not be read: {error}") from error
    finally:
        connection.close()


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, params: list[list[str]]) -> Iterator[dict[str, Any]]:
    catalog.check_select(connection, sql)
    cursor = connection.execute(sql, params)
    names = [column[0] for column in cursor.description or ()]
    while batch := cursor.fetchmany(ROW_GROUP):
        yield from (dict(zip(names, values, strict=True)) for values in batch)


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _sft_row(row: dict[str, Any]) -> dict[str, Any]:
    messages, text = row.pop("messages"), row.pop("text")
    if messages is None:
        raise DataError(
            f"row {row['revision_id'] or row['response_id']!r} belongs to prompt {row['prompt_id']!r}, which is not in "
            "the table `prompts`; store the prompts of a run before its rows"
        )
    return {"prompt": messages, "completion": _assistant(text), **row}


def _preference_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "prompt": row["messages"],
        "chosen": _assistant(row["chosen"]),
        "rejected": _assistant(row["rejected"]),
    }


def _prompt_row(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "prompt": row["messages"]}


def _write(
    out: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]], versions: dict[str, int], what: str, hint: str
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


def _groups(rows: Iterable[dict[str, Any]], names: list[str]) -> Iterator[list[dict[str, Any]]]:
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
