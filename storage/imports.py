"""Prompts from files: JSONL, CSV, Parquet, or one a line, as a stream. Every row becomes a prompt or a reject.

What a row says is in `storage/dialogues.py`, how bytes become rows below.
"""

import csv
import gzip
import heapq
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cai.config import PromptSource
from cai.errors import ConfigError, DataError
from cai.records import Prompt, Reject, digest, seed_from
from cai.smallworld import world
from storage.dialogues import COLUMNS, BadRow, answer_of, check_unicode, expected_of, messages_of

MAX_ROW_CHARS = 16 * 2**20
"""A longer line is rejected unread: one broken file must not fill the memory."""
_KEPT_OF_LONG = 1_000
_TAG_COLUMNS = ("SemanticCategory", "type", "label")
_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")


class Row(NamedTuple):
    """One row as it was read. `number` counts from 1: lines of text files, records of the others."""

    number: int
    raw: str
    value: dict[str, Any] | str | BadRow


class Answered(NamedTuple):
    """A prompt and the answer that its row has, None where its source names no `answer_column`."""

    prompt: Prompt
    answer: str | None


Seen = dict[str, str | None]
"""What was imported before: the id of a prompt, and the answer that is expected of it."""


def read_sources(
    sources: Sequence[PromptSource], split: Literal["train", "eval"], seed: int
) -> Iterator[Prompt | Reject]:
    """The rows of all sources, one after the other; a prompt met before, in whichever file, is a reject.

    Raises:
        ConfigError: `smallworld` without a limit.
        DataError: see `read_prompts`.
    """
    seen: Seen = {}
    for source in sources:
        if source.path != world.SOURCE:
            for row in read_prompts(source, seed, seen):
                yield replace(row, split=split) if isinstance(row, Prompt) else row
        elif source.limit is None:
            raise ConfigError("the prompt source `smallworld` needs a `limit`: it makes as many as are asked for")
        else:
            yield from world.prompts(split, source.limit, seed)


def read_prompts(source: PromptSource, seed: int, seen: Seen | None = None) -> Iterator[Prompt | Reject]:
    """The prompts of a file in its order, as `read_answered` does."""
    return (row.prompt if isinstance(row, Answered) else row for row in read_answered(source, seed, seen))


def read_answered(source: PromptSource, seed: int, seen: Seen | None = None) -> Iterator[Answered | Reject]:
    """The prompts of a file in its order; a row that gives none gives a `Reject` of stage `import`.

    Args:
        source: `limit` rows of the file are drawn by `seed`, whatever their order; a larger limit draws the same rows
            and more.
        seed: what `limit` draws by.
        seen: prompts that count as duplicates; grows as prompts are read. Share one among several sources.

    Raises:
        DataError: no such file, an empty one, one in another format, or one that breaks off in the middle.
    """
    path = Path(source.path)
    read = _reader(path, source)
    rows = read()
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} has no rows; expected at least one prompt in it")
    drawn = chain([first], rows) if source.limit is None else _drawn(read, source.limit, seed)
    return _convert(source, drawn, {} if seen is None else seen)


def _drawn(rows: Callable[[], Iterator[Row]], limit: int, seed: int) -> Iterator[Row]:
    n_rows = sum(1 for _ in rows())
    chosen = set(heapq.nsmallest(limit, range(n_rows), key=lambda index: seed_from(f"row {index}", seed)))
    return (row for index, row in enumerate(rows()) if index in chosen)


def _convert(source: PromptSource, rows: Iterator[Row], seen: Seen) -> Iterator[Answered | Reject]:
    name = Path(source.path).name
    for row in rows:
        try:
            if isinstance(row.value, BadRow):
                raise row.value
            messages = messages_of(row.value, source.column)
            tags = (*source.tags, *_tags(row.value))
            check_unicode("".join(tags))
            expected = None if source.expected_column is None else expected_of(row.value, source.expected_column)
            answer = None if source.answer_column is None else answer_of(row.value, source.answer_column)
            prompt = Prompt.make(messages, name, source.licence, tags, expected=expected)
            _check_seen(prompt, seen)
        except BadRow as bad:
            yield _reject(source, row, bad)
        else:
            seen[prompt.prompt_id] = expected
            yield Answered(prompt, answer)


def _check_seen(prompt: Prompt, seen: Seen) -> None:
    if prompt.prompt_id not in seen:
        return
    if prompt.expected not in (None, first := seen[prompt.prompt_id]):
        detail = f"{prompt.expected!r} is expected here, and {first!r} where the conversation was imported before"
        raise BadRow("conflicting_expected", detail, prompt.prompt_id)
    raise BadRow("duplicate_prompt", "the same conversation was imported before", prompt.prompt_id)


def _reject(source: PromptSource, row: Row, bad: BadRow) -> Reject:
    text = row.raw.encode("utf-8", "replace").decode("utf-8")
    parents = (source.path, str(row.number), digest(text))
    detail = f"{source.path}, row {row.number}: {bad.detail}".encode("utf-8", "replace").decode("utf-8")
    return Reject.make("import", bad.reason, prompt_id=bad.prompt_id, parents=parents, detail=detail, text=text)


def _tags(value: dict[str, Any] | str) -> list[str]:
    if isinstance(value, str):
        return []
    own = value.get("tags")
    given = [tag for tag in own if isinstance(tag, str)] if isinstance(own, list | tuple) else []
    return given + [tag for c in _TAG_COLUMNS if isinstance(tag := value.get(c), str) and tag]


# From bytes to rows


def _reader(path: Path, source: PromptSource) -> Callable[[], Iterator[Row]]:
    """A function that reads the file from its start, for its format.

    Raises:
        DataError: no such file, or a format that is not read.
    """
    if not path.is_file():
        what = "a directory, not a file" if path.is_dir() else "not there"
        raise DataError(f"prompts file {path} is {what}; give a file of {', '.join(_SUFFIXES)} (text also as .gz)")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix in {".jsonl", ".ndjson"}:
        return lambda: _json_rows(path)
    if suffix == ".txt":
        return lambda: _lines(path)
    if suffix in {".csv", ".tsv"}:
        return lambda: _csv_rows(path, "\t" if suffix == ".tsv" else ",", source)
    if path.suffix == ".parquet":
        return lambda: _parquet_rows(path, source)
    raise DataError(f"prompts file {path} has the unknown suffix {suffix!r}; expected one of {', '.join(_SUFFIXES)}")


def _open(path: Path) -> IO[str]:
    """Text in UTF-8; bytes that are none come through as lone surrogates, and so are rejected row by row."""
    binary: Any = gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb")
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lines(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        number = 0
        try:
            while line := file.readline(MAX_ROW_CHARS):
                number += 1
                if len(line) == MAX_ROW_CHARS and not line.endswith("\n"):
                    while (rest := file.readline(MAX_ROW_CHARS)) and not rest.endswith("\n"):
                        pass
                    kept, detail = line[:_KEPT_OF_LONG], f"a line of more than {MAX_ROW_CHARS:,} characters"
                    yield Row(number, kept, BadRow("too_long", detail))
                    continue
                text = line.rstrip("\r\n")
                yield Row(number, text, text)
        except (OSError, EOFError, zlib.error) as error:
            raise _broken(path, number, error) from error


def _broken(path: Path, number: int, error: Exception) -> DataError:
    return DataError(f"{path} breaks off after row {number}: {error}; fetch the file again")


def _json_rows(path: Path) -> Iterator[Row]:
    for row in _lines(path):
        yield row if isinstance(row.value, BadRow) else Row(row.number, row.raw, _json(row.raw))


def _json(line: str) -> dict[str, Any] | BadRow:
    if not line.strip():
        return BadRow("empty_prompt", "an empty line")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow("bad_json", str(error))
    return value if isinstance(value, dict) else BadRow("wrong_type", f"an object is expected, got {value!r:.200}")


def _csv_rows(path: Path, delimiter: str, source: PromptSource) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_CHARS)
    with _open(path) as file:
        number = 0
        try:
            records = csv.reader(file, delimiter=delimiter)
            header = next(records, None)
            if header is None:
                return
            _check_columns(path, header, source)
            while True:
                number += 1
                try:
                    fields = next(records)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Row(number, "", BadRow("bad_csv", str(error)))
                    continue
                yield Row(number, delimiter.join(fields), _csv_value(header, fields))
        except (OSError, EOFError, zlib.error) as error:
            raise _broken(path, number, error) from error


def _csv_value(header: list[str], fields: list[str]) -> dict[str, Any] | BadRow:
    if not fields:
        return BadRow("empty_prompt", "an empty line")
    if len(fields) != len(header):
        return BadRow("bad_csv", f"{len(fields)} fields where the header has {len(header)}; check the quotes")
    return dict(zip(header, fields, strict=True))


def _check_columns(path: Path, names: list[str], source: PromptSource) -> None:
    wanted = (source.column,) if source.column is not None else COLUMNS
    if not set(wanted) & set(names):
        raise DataError(f"{path} has no column {' or '.join(map(repr, wanted))}, only {names}; name one as `column`")
    for setting, column in (("expected_column", source.expected_column), ("answer_column", source.answer_column)):
        if column is not None and column not in names:
            raise DataError(f"{path} has no column {column!r}, only {names}; correct `{setting}`")


def _parquet_rows(path: Path, source: PromptSource) -> Iterator[Row]:
    named = {source.column, source.expected_column, source.answer_column}
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_columns(path, names, source)
            wanted = [n for n in names if n in {*named, *COLUMNS, *_TAG_COLUMNS, "tags", "ContextString"}]
            number = 0
            for batch in file.iter_batches(batch_size=1_000, columns=wanted):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, json.dumps(value, ensure_ascii=False, default=str), value)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole Parquet file: {error}; write it again") from error
