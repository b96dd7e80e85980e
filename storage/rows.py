"""Rows from files as a stream: JSONL, CSV, Parquet, or one a line. Knows bytes, not what a row says."""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cai.errors import DataError
from cai.privacy import redacted
from storage.dialogues import BadRow

MAX_ROW_CHARS = 16 * 2**20
"""A longer line is rejected unread: one broken file must not fill the memory."""
KEPT_OF_LONG = 1_000
READ_OF_LONG = 64 * KEPT_OF_LONG
"""What is kept of it until personal items in it are hidden, and then the cut is made: an item there is seen whole, also
where placeholders are far shorter than the keys before it.
"""
_DECODER = json.JSONDecoder()
_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")


class Row(NamedTuple):
    """One row as it was read. `number` counts from 1: lines of text files, records of the others."""

    number: int
    raw: str
    value: dict[str, Any] | str | BadRow


class Columns(NamedTuple):
    """What a file with named columns must have: one of `any_of`, and the column of each setting in `named`.

    Of Parquet only these and `others` are read.
    """

    any_of: tuple[str, ...]
    hint: str
    named: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()
    everything: bool = False
    """Read every column, whatever they are called."""

    def check(self, path: Path, names: list[str]) -> None:
        """Raise `DataError` where the file lacks what it must have, or has a column twice that is read."""
        if not self.everything:
            self._check_present(path, names)
        for column, n in Counter(self.read(names)).items():
            if n > 1:
                raise DataError(
                    f"{path} has the column {redacted(column)!r} {n} times, expected once: only one of them would be "
                    "read; rename or remove the others"
                )

    def _check_present(self, path: Path, names: list[str]) -> None:
        if not set(self.any_of) & set(names):
            wanted = " or ".join(map(repr, self.any_of))
            raise DataError(f"{path} has no column {wanted}, only {_shown(names)}; {self.hint}")
        for setting, column in self.named:
            if column not in names:
                raise DataError(f"{path} has no column {column!r}, only {_shown(names)}; correct `{setting}`")

    def read(self, names: list[str]) -> list[str]:
        wanted = {*self.any_of, *self.others, *(column for _, column in self.named)}
        return [name for name in names if self.everything or name in wanted]


def _shown(names: list[str]) -> list[str]:
    """Names of columns as an error may have them: the first row of a file without a header is somebody's data."""
    return [redacted(name) for name in names]


def reader(path: Path, columns: Columns) -> Callable[[], Iterator[Row]]:
    """A function that reads the file from its start, for its format.

    Raises:
        DataError: no such file, or a format that is not read.
    """
    if not path.is_file():
        what = "a directory, not a file" if path.is_dir() else "not there"
        raise DataError(f"{path} is {what}; give a file of {', '.join(_SUFFIXES)} (text also as .gz)")
    suffix = (Path(path.stem).suffix if _is_gzip(path) else path.suffix).lower()
    if suffix in {".jsonl", ".ndjson"}:
        return lambda: _lines(path, read_json)
    if suffix == ".txt":
        return lambda: _lines(path, str)
    if suffix in {".csv", ".tsv"}:
        return lambda: _csv_rows(path, "\t" if suffix == ".tsv" else ",", columns)
    if path.suffix.lower() == ".parquet":
        return lambda: _parquet_rows(path, columns)
    raise DataError(f"{path} has the unknown suffix {suffix!r}; expected one of {', '.join(_SUFFIXES)}")


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _open(path: Path) -> IO[str]:
    """Text in UTF-8; bytes that are none come through as lone surrogates, and so are rejected row by row.

    Raises:
        DataError: text in UTF-16, or no gzip.
    """
    binary: Any = gzip.GzipFile(path) if _is_gzip(path) else path.open("rb")
    try:
        mark = binary.read(2)
        binary.seek(0)
    except (OSError, EOFError, zlib.error) as error:
        binary.close()
        raise _broken(path, 0, error) from error
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        binary.close()
        raise _utf16(path, "utf16")
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _utf16(path: Path, encoding: str) -> DataError:
    unpack = "gunzip -c IN | " if _is_gzip(path) else ""
    convert = f"{unpack}iconv -f {encoding} -t utf8{'' if unpack else ' IN'} > OUT"
    return DataError(f"{path} is text in UTF-16, expected UTF-8; convert it with `{convert}` and give that file")


def _without_nul(text: str) -> str:
    """A row as a reject may have it: a NUL between each two letters (UTF-16 without its mark, or its JSON) hides an
    item from whoever looks for it, and not from whoever reads it.
    """
    return text.replace("\x00", "").replace("\\u0000", "")


def _lines(path: Path, read: Callable[[str], dict[str, Any] | str | BadRow]) -> Iterator[Row]:
    with _open(path) as file:
        number = 0
        try:
            while line := file.readline(MAX_ROW_CHARS):
                number += 1
                if len(line) == MAX_ROW_CHARS and not line.endswith("\n"):
                    while (rest := file.readline(MAX_ROW_CHARS)) and not rest.endswith("\n"):
                        pass
                    bad = BadRow("too_long", f"a line of more than {MAX_ROW_CHARS:,} characters")
                    yield Row(number, _without_nul(line[:READ_OF_LONG]), bad)
                    continue
                text = line.rstrip("\r\n")
                yield Row(number, _without_nul(text), read(text))
        except (OSError, EOFError, zlib.error) as error:
            raise _broken(path, number, error) from error


def _broken(path: Path, number: int, error: Exception) -> DataError:
    return DataError(f"{path} breaks off after row {number}: {error}; fetch the file again")


def read_json(line: str) -> dict[str, Any] | BadRow:
    """What a line says."""
    if not line.strip():
        return BadRow("empty_prompt", "an empty line")
    try:
        value = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        return BadRow("bad_json", str(error))
    return value if isinstance(value, dict) else BadRow("wrong_type", f"an object is expected, got {value!r:.200}")


def _csv_rows(path: Path, delimiter: str, columns: Columns) -> Iterator[Row]:
    """Where the quotes of a cell are wrong nobody knows which rows are within it: nothing is read from there on."""
    csv.field_size_limit(MAX_ROW_CHARS)
    with _open(path) as file:
        number = n_lines = 0
        records = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(records, None)
            if header is None:
                return
            if "\x00" in "".join(header):
                raise _utf16(path, "utf-16be" if header[0].startswith("\x00") else "utf-16le")
            columns.check(path, header)
            n_lines = records.line_num
            for fields in records:
                number += 1
                n_lines = records.line_num
                yield Row(number, _without_nul(delimiter.join(fields)), _csv_value(header, fields))
        except csv.Error as error:
            began = _cell_began(path, n_lines, records.line_num, delimiter)
            raise DataError(
                f"{path}: the cell that begins on line {began} cannot be read (line {records.line_num}: {error}). "
                "A cell that begins with a quote ends with one, and each quote between them is written twice; it has "
                f"{MAX_ROW_CHARS:,} characters at most. Correct the file, or give the rows as .jsonl"
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            raise _broken(path, number, error) from error


def _cell_began(path: Path, n_done: int, n_read: int, delimiter: str) -> int:
    """The line on which the first cell begins that cannot be read, of the lines behind `n_done` that were read."""
    cell = re.compile(f'(?:"(?:[^"]++|"")*+"|[^"{delimiter}\\r\\n][^{delimiter}\\r\\n]*|){delimiter}')
    with _open(path) as file:
        lines = list(islice(file, n_done, n_read))
    text, at = "".join(lines), 0
    while found := cell.match(text, at):
        at = found.end()
    return n_done + 1 + sum(end <= at for end in accumulate(map(len, lines)))


def _csv_value(header: list[str], fields: list[str]) -> dict[str, Any] | BadRow:
    if not fields:
        return BadRow("empty_prompt", "an empty line")
    if len(fields) != len(header):
        return BadRow("bad_csv", f"{len(fields)} fields where the header has {len(header)}; check the quotes")
    return dict(zip(header, fields, strict=True))


def _parquet_rows(path: Path, columns: Columns) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns.check(path, names)
            number = 0
            for batch in file.iter_batches(batch_size=1_000, columns=columns.read(names)):
                yield from arrow_rows(batch, number)
                number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole Parquet file: {error}; write it again") from error


def arrow_rows(batch: pa.RecordBatch | pa.Table, n_before: int) -> Iterator[Row]:
    """The rows of a batch that stands behind `n_before` others."""
    for number, value in enumerate(_values(batch), n_before + 1):
        raw = value.detail if isinstance(value, BadRow) else json.dumps(value, ensure_ascii=False, default=str)
        yield Row(number, _without_nul(raw), value)


def _values(batch: pa.RecordBatch | pa.Table) -> Sequence[dict[str, Any] | BadRow]:
    """Arrow does not look into text, and its times go further than those of Python: where a row has such a cell, the
    batch is read row by row.
    """
    try:
        values: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError):
        return [_value(batch.slice(i, 1)) for i in range(batch.num_rows)]
    return values


def _value(row: pa.RecordBatch | pa.Table) -> dict[str, Any] | BadRow:
    value = {}
    for name in row.schema.names:
        try:
            value[name] = row.column(name)[0].as_py()
        except UnicodeDecodeError as error:
            return BadRow("not_unicode", f"{name!r} is not valid UTF-8: {error.reason} at {error.start}")
        except (ValueError, OverflowError) as error:
            return BadRow("wrong_type", f"{name!r} cannot be read: {error}")
    return value
