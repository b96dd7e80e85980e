"""One table as a Delta log over Parquet files: create, open, append, sync. Knows places and Arrow, not records.

Delta's own commit is atomic (a log file is linked into place, or put where none is) but on a disk it is synced to
nothing; `sync_commit` adds that.
"""

import errno
import fcntl
import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from cai.errors import StorageError
from cai.files import file_digest, fsync
from storage.place import Place, Remote

WRITER = WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=100_000)
NEXT_VERSION = CommitProperties(max_commit_retries=0)
# Old versions stay readable for good: a model's record names the table versions it was trained on.
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false"}
DIGESTS = "_digests.jsonl"
_ATTEMPTS = 10
T = TypeVar("T")
_LOCK_TIMEOUT_S = 300.0
_LOGIN = re.compile(r"(?<=://)[^\s@]+@")
"""A user and password in an address, such as AWS_ENDPOINT_URL: what the store answers has it word for word."""


def open_table(path: Place, version: int | None = None) -> DeltaTable | None:
    """The table at `path`, None where there is none.

    Raises:
        StorageError: its log cannot be read, or has no such version.
    """
    with storage_errors(path):
        if not DeltaTable.is_deltatable(str(path)):
            if version is not None:
                raise StorageError(f"no table at {path}, so no version {version} of it either")
            return None
        return DeltaTable(str(path), version=version)


def create_table(path: Place, schema: pa.Schema) -> DeltaTable:
    """The table at `path`, made with `schema` in one commit where it is not there yet."""
    with storage_errors(path):
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            try:
                return DeltaTable.create(
                    str(path), schema, mode="ignore", configuration=_CONFIGURATION, commit_properties=NEXT_VERSION
                )
            except CommitFailedError as error:  # another writer made it in the same moment
                if attempt == _ATTEMPTS - 1:
                    raise StorageError(_explain(path, error)) from error
    raise AssertionError("unreachable")


def append(table: DeltaTable, path: Place, rows: pa.Table) -> None:
    """Commit `rows` as the version after the one that `table` is at, and return when it is durable.

    Raises:
        CommitFailedError: somebody else made that version; which rows are new must be looked at again.
        StorageError: it could not be written; says where, how much space is left, and what to do.
    """
    with storage_errors(path):
        write_deltalake(table, rows, mode="append", writer_properties=WRITER, commit_properties=NEXT_VERSION)
        sync_commit(path, table.version())


def until_first(path: Place, table: DeltaTable, commit: Callable[[], T]) -> T:
    """What `commit` returns, which commits at the version after the one `table` is at; done again, at the newest
    version, as long as somebody else's commit came first.

    Raises:
        StorageError: others were first for five minutes.
    """
    pause, deadline = 0.01, time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            return commit()
        except CommitFailedError as error:
            if time.monotonic() > deadline:
                raise StorageError(_explain(path, error)) from error
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, 1.0)
        with storage_errors(path):
            table.update_incremental()


def local_files(table: DeltaTable, path: Place, but: Collection[str] = ()) -> list[str]:
    """The live files of the version `table` is at, as paths on this disk, without those named in `but`.

    Raises:
        StorageError: one could not be fetched.
    """
    uris = [uri for uri in table.file_uris() if file_name(uri) not in but]
    if not isinstance(path, Remote):  # a space in the path is %20 in an address
        return sorted(str(path / unquote(file_name(uri))) for uri in uris)
    with storage_errors(path):
        return sorted(map(str, path.fetch(map(file_name, uris))))


def file_name(uri: str) -> str:
    return uri.rpartition("/")[2]


def sync_commit(path: Place, version: int) -> None:
    """Flush a commit's data files, its log file and their directories: after this a power cut loses nothing of it.

    Also notes the SHA-256 of each data file, which is what shows a flipped byte: delta writes no page checksums. Object
    storage has acknowledged what it keeps, and keeps checksums itself.
    """
    if isinstance(path, Remote):
        return
    log = path / "_delta_log" / f"{version:020d}.json"
    actions = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    added = [path / unquote(action["add"]["path"]) for action in actions if "add" in action]
    _note_digests(path, added)
    for target in (*added, path, log, log.parent):
        fsync(target)


def _note_digests(path: Path, added: Iterable[Path]) -> None:
    """One write to a file that only grows; a line torn by a kill is cut off by the break that opens the next."""
    lines = [f"\n{json.dumps({'file': file.name, 'sha256': file_digest(file)})}\n" for file in added]
    handle = os.open(path / DIGESTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, "".join(lines).encode())
    finally:
        os.close(handle)


def noted_digests(path: Path) -> dict[str, str]:
    """SHA-256 by file name. A file whose writer was killed right after its commit has none."""
    noted = {}
    file = path / DIGESTS
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        with suppress(ValueError):
            body = json.loads(line)
            noted[body["file"]] = body["sha256"]
    return noted


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against every thread and process; the system frees it when the holder dies.

    Raises:
        StorageError: someone else held it for five minutes.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _wait_for(handle, path)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int, path: Path) -> None:
    pause, deadline = 0.001, time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageError(
                    f"another process has held {path} for {_LOCK_TIMEOUT_S:.0f} s; "
                    f"find it with `fuser {path}`, stop it, and run the same command again"
                ) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.05)


@contextmanager
def storage_errors(path: Place) -> Iterator[None]:
    """Turn what the disk and Delta raise into a `StorageError` that says where and what to do."""
    try:
        yield
    except CommitFailedError:  # no trouble of the storage's: `until_first` knows what to do
        raise
    except (OSError, DeltaError) as error:
        raise StorageError(_explain(path, error)) from (None if _LOGIN.search(str(error)) else error)


def _explain(path: Place, error: Exception) -> str:
    text = _LOGIN.sub("", str(error))
    if isinstance(path, Remote):
        return (
            f"{path} could not be read or written: {text}; check the address, the network, and the AWS_ variables of "
            "this environment, and run the same command again: rows committed before are safe"
        )
    full = (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)) or any(
        sign in text for sign in ("No space left", "os error 28", "Disk quota", "os error 122", "File too large")
    )
    if full:
        return (
            f"no space to write {path} ({_free(path)} free); rows committed before are safe. "
            f"Free some space, or name a --home on a larger disk, and run the same command again ({text})"
        )
    hint = "`cai tables verify` checks every file" if isinstance(error, DeltaError) else "check the path and its rights"
    return f"{path} could not be read or written: {text} ({_free(path)} free); {hint}"


def _free(path: Path) -> str:
    while not path.exists():
        path = path.parent
    return f"{shutil.disk_usage(path).free / 2**20:,.1f} MiB"
