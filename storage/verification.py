"""Is what is stored whole? Reads every live file of a table and holds it against the log and the schema."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema

from cai.errors import StorageError
from cai.files import file_digest
from storage.delta import file_name, noted_digests, open_table, storage_errors
from storage.place import Place
from storage.schemas import Table


class LiveFile(NamedTuple):
    name: str
    size: int
    n_rows: int | None


def live_files(handle: DeltaTable) -> list[LiveFile]:
    """The files of the version `handle` is at, with what the log says of them."""
    actions = pa.table(handle.get_add_actions(flatten=True)).to_pylist()
    return [LiveFile(unquote(file_name(a["path"])), a["size_bytes"], a.get("num_records")) for a in actions]


def log_rows(handle: DeltaTable) -> int:
    """Rows of the version `handle` is at, without opening a data file."""
    return sum(file.n_rows or 0 for file in live_files(handle))


def schema_drift(table: Table, handle: DeltaTable) -> str | None:
    """How the stored schema differs from the record's, None where it does not."""
    expected = {f.name: f for f in Schema.from_arrow(table.schema).fields}
    stored = {f.name: f for f in handle.schema().fields}
    missing, extra = sorted(set(expected) - set(stored)), sorted(set(stored) - set(expected))
    other = sorted(name for name in set(expected) & set(stored) if expected[name] != stored[name])
    if not (missing or extra or other):
        return None
    parts = [f"{what} {names}" for what, names in (("lacks", missing), ("also has", extra), ("types", other)) if names]
    return f"table {table.name!r} was written with other columns than these records have: it {'; '.join(parts)}"


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{path} is no whole Parquet file: {error}; `cai tables verify` checks every file"
        ) from error


def verify_table(table: Table, path: Place) -> list[str]:
    """Problems of one table, one sentence each. At an address every file is read there, and none from the cache."""
    try:
        if isinstance(path, Path):
            return _verify(table, path, path, noted_digests(path))
        with tempfile.TemporaryDirectory() as folder, storage_errors(path):
            return _verify(table, path, Path(folder), {})
    except StorageError as error:
        return [f"{table.name}: it cannot be read: {error}"]


def _verify(table: Table, path: Place, folder: Path, noted: Mapping[str, str]) -> list[str]:
    """`folder` is where the files are, or are fetched to one by one."""
    try:
        handle = open_table(path)
    except StorageError as error:
        return [f"{table.name}: the log cannot be read: {error}"]
    if handle is None:
        stray = [name for name in _names(path) if name.endswith(".parquet")]
        return [f"{table.name}: {len(stray)} Parquet files and no log at {path}"] if stray else []
    problems = []
    if drift := schema_drift(table, handle):
        problems.append(f"{table.name}: {drift}")
    problems += _log_gaps(table, path, folder, handle)
    ids: Counter[str] = Counter()
    for file in live_files(handle):
        with _fetched(path, file.name, folder) as here:
            problems += _verify_file(table, file, here, f"{table.name}: {path / file.name}", noted.get(file.name), ids)
    doubled = [key for key, n in ids.items() if n > 1]
    if doubled:
        problems.append(f"{table.name}: {len(doubled)} ids are there more than once, the first is {min(doubled)!r}")
    return problems


def _names(path: Place) -> list[str]:
    if isinstance(path, Path):
        return [file.name for file in path.iterdir()] if path.is_dir() else []
    return list(path.sizes())


@contextmanager
def _fetched(path: Place, name: str, folder: Path) -> Iterator[Path]:
    """The file on this disk, for as long as it is looked at; it is not there where it is missing."""
    here = folder / name
    if isinstance(path, Path):
        yield here
        return
    try:
        with suppress(FileNotFoundError):
            path.fetch([name], folder)
        yield here
    finally:
        here.unlink(missing_ok=True)


def _verify_file(
    table: Table, file: LiveFile, here: Path, where: str, noted: str | None, ids: Counter[str]
) -> list[str]:
    """Read one file whole, against the digest noted when it was written, and count its ids into `ids`."""
    if not here.is_file():
        return [f"{where} is missing; the log says it has {file.n_rows} rows"]
    if (size := here.stat().st_size) != file.size:
        return [f"{where} has {size} bytes; the log says {file.size}"]
    if noted is not None and file_digest(here) != noted:
        return [f"{where} is corrupt: its SHA-256 is no longer the one it was written with"]
    problems, n_rows = [], 0
    try:
        parquet = pq.ParquetFile(here, page_checksum_verification=True)
        if missing := sorted(set(table.schema.names) - set(parquet.schema_arrow.names)):
            return [f"{where} lacks the columns {missing}"]
        for batch in parquet.iter_batches(batch_size=10_000):
            batch.validate(full=True)
            n_rows += batch.num_rows
            ids.update(batch.column(table.key).to_pylist())
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        problems.append(f"{where} is corrupt: {error}")
    else:
        if n_rows != file.n_rows:
            problems.append(f"{where} has {n_rows} rows; the log says {file.n_rows}")
    return problems


def _log_gaps(table: Table, path: Place, folder: Path, handle: DeltaTable) -> list[str]:
    """Every version's log file must be there, be JSON, and be older than none that is missing."""
    problems = []
    for version in range(handle.version() + 1):
        name = f"{version:020d}.json"
        try:
            with storage_errors(path), _fetched(path / "_delta_log", name, folder / "_delta_log") as log:
                for line in log.read_text(encoding="utf-8").splitlines():
                    json.loads(line)
        except (StorageError, ValueError) as error:
            problems.append(f"{table.name}: version {version} of the log cannot be read: {error}")
    return problems
