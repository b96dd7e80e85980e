"""Every table of one home: append finished rows, read them back, ask in SQL, keep the files in order.

Rows are content-addressed, so appending an id that is there does nothing. Who decides what to write is elsewhere.
"""

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableMerger

from cai.errors import StorageError
from cai.records import Annotation, Model, R, Recalibration, Record
from storage import catalog, delta, verification
from storage.place import Place, Remote, bytes_at, tables_of
from storage.schemas import TABLES, Table, from_arrow, row_id, table_of, to_arrow
from storage.seen import SeenIds

KEEP_DELETED = timedelta(days=7)
"""How long `vacuum` leaves files that no live version uses: a reader may still be at work on them."""


class Store:
    """The tables under `home`. May be shared by threads; any number of processes may write at the same time."""

    def __init__(self, home: Path) -> None:
        self.home = Path(home)
        self.root = tables_of(self.home)
        self._mutex = threading.RLock()
        self._handles: dict[str, DeltaTable] = {}
        self._ids: dict[str, tuple[set[str], set[str]]] = {}  # table → files read, ids found in them
        self._digests: dict[str, tuple[set[str], SeenIds]] = {}  # the same, on disk

    # Writing

    def append(self, rows: Sequence[Record], *, index: bool = True) -> dict[str, int]:
        """Commit `rows`, one atomic and synced commit a table, parents first, and say how many were new by table.

        An id that is stored already, or comes twice, is kept once: the row that came first stays.

        Args:
            rows: of any tables.
            index: know stored ids from memory, some 120 bytes each: for many small commits. Without, know them from
                a file that each commit reads through: for few large ones, in memory that does not grow. Their ids must
                be digests of 32 hex digits.

        Raises:
            StorageError: a table could not be written. The tables before it, in the order of `TABLES`, were.
        """
        written: dict[str, int] = {}
        for table, group in _by_table(rows):
            with self._writing(table) as handle:
                add = functools.partial(self._append, table, handle, group, index)
                written[table.name] = delta.until_first(self._path(table), handle, add)
        return written

    def _append(self, table: Table, handle: DeltaTable, group: Mapping[str, Record], index: bool) -> int:
        known = self._known_ids(table, handle) if index else self._stored_ids(table, handle, list(group))
        fresh = {key: row for key, row in group.items() if key not in known}
        if fresh:
            delta.append(handle, self._path(table), to_arrow(table, list(fresh.values())))
            files = map(delta.file_name, handle.file_uris())
            if index:
                known.update(fresh)
                self._ids[table.name][0].update(files)
            else:
                read, digests = self._digests[table.name]
                digests.add(fresh)
                read.update(files)
        return len(fresh)

    def upsert(self, rows: Sequence[Record]) -> None:
        """Commit `rows`; an id that is stored already is replaced. For rows that change, such as a run's status."""
        for table, group in _by_table(rows):
            with self._arranging(table), self._writing(table) as handle:
                self._upsert(table, handle, to_arrow(table, list(group.values())))

    def _upsert(self, table: Table, handle: DeltaTable, rows: pa.Table) -> None:
        def merger() -> TableMerger:
            return self._merger(table, handle, rows).when_matched_update_all().when_not_matched_insert_all()

        self._commit(table, handle, merger)

    def remove(self, kind: type[R], ids: Collection[str]) -> None:
        """Commit that rows are withdrawn; ids that are not stored are passed over. Earlier versions keep them.

        A store in another process may have read such a row already, and would not `append` its id again: where ids
        can come back, `upsert` what `append` did not find to be new.
        """
        table = table_of(kind)
        if self._handle(table) is None:
            return
        with self._arranging(table), self._writing(table) as handle:
            known = self._known_ids(table, handle)
            if not (found := known.intersection(ids)):
                return
            rows = pa.table({table.key: pa.array(sorted(found), pa.string())})
            self._commit(table, handle, lambda: self._merger(table, handle, rows).when_matched_delete())
            known.difference_update(found)

    def _merger(self, table: Table, handle: DeltaTable, rows: pa.Table) -> TableMerger:
        """Stored rows matched by id with `rows`; what becomes of them is still to be said."""
        return handle.merge(
            rows,
            predicate=f"old.{table.key} = new.{table.key}",
            source_alias="new",
            target_alias="old",
            writer_properties=delta.WRITER,
            commit_properties=delta.NEXT_VERSION,
        )

    def _commit(self, table: Table, handle: DeltaTable, merger: Callable[[], TableMerger]) -> None:
        with delta.storage_errors(self._path(table)):
            delta.until_first(self._path(table), handle, lambda: merger().execute())
            delta.sync_commit(self._path(table), handle.version())

    @contextmanager
    def _writing(self, table: Table) -> Iterator[DeltaTable]:
        """The table at its newest version, held against every other writer of this home: so they need not race.

        What makes "once by id" true is that a commit fails where the version it was made for is there already.
        """
        with self._mutex, delta.locked(self._lock(f"{table.name}.lock")):
            handle = self._handle(table) or delta.create_table(self._path(table), table.schema)
            self._handles[table.name] = handle
            self._check_schema(table, handle)
            yield handle

    @contextmanager
    def _arranging(self, table: Table) -> Iterator[None]:
        """Hold the table against others who replace its files; appends go on."""
        with delta.locked(self._lock(f"{table.name}.files.lock")):
            yield

    def _known_ids(self, table: Table, handle: DeltaTable) -> set[str]:
        """Every stored id (some 120 bytes each), kept up to date by reading the files that are new since last time."""
        seen, ids = self._ids.setdefault(table.name, (set(), set()))
        for path in map(Path, delta.local_files(handle, self._path(table), but=seen)):
            with delta.storage_errors(path), verification.parquet_errors(path):
                ids.update(pq.read_table(path, columns=[table.key]).column(0).to_pylist())
            seen.add(path.name)
        return ids

    def _stored_ids(self, table: Table, handle: DeltaTable, ids: list[str]) -> set[str]:
        """Those of `ids` that are stored. Each file's keys are read once into a file of digests, and all of them again
        where a file is gone: a merge may have taken rows with it.
        """
        paths = list(map(Path, delta.local_files(handle, self._path(table))))
        read, digests = self._digests.get(table.name) or (set[str](), SeenIds(None))
        if not read.issubset(path.name for path in paths):
            read, digests = set[str](), SeenIds(None)
        self._digests[table.name] = (read, digests)
        for path in paths:
            if path.name in read:
                continue
            with delta.storage_errors(path), verification.parquet_errors(path), pq.ParquetFile(path) as file:
                for batch in file.iter_batches(65_536, columns=[table.key]):
                    digests.add(batch.column(0).to_pylist())
            read.add(path.name)
        return digests.find(ids)

    def _check_schema(self, table: Table, handle: DeltaTable) -> None:
        if problem := verification.schema_drift(table, handle):
            raise StorageError(
                f"{problem}. Nothing was written. Go on in this home with the cai-flows that wrote it (the version is "
                f"`code` in the run.json of each folder under {self.home / 'runs'}), or start anew in another --home: "
                "`cai export prompts FILE.jsonl` of that version writes what `cai run PROFILE --prompts FILE.jsonl` of "
                "this one reads, and models are folders that a profile may name"
            )

    # Reading

    def read(self, kind: type[R], where: str | None = None) -> list[R]:
        """Rows of one table, ordered by id. `where` is SQL, such as `"stage = 'import'"`."""
        return self._select(kind, where)

    def find_all(self, kind: type[R], ids: Collection[str] | None = None) -> dict[str, R]:
        """Rows by id; all of the table where `ids` is None. An id that is not stored is left out."""
        table = table_of(kind)
        if ids is None:
            rows = self._select(kind)
        else:
            rows = self._select(kind, f"{table.key} IN (SELECT unnest(?::VARCHAR[]))", (list(ids),))
        return {row_id(row): row for row in rows}

    def of_prompts(self, kind: type[R], prompt_ids: Collection[str]) -> list[R]:
        """Rows of one table that belong to these prompts; the table must have a `prompt_id` column."""
        return self._select(kind, "prompt_id IN (SELECT unnest(?::VARCHAR[]))", (list(prompt_ids),))

    def of_pairs(self, kind: type[R], response_ids: Collection[str]) -> list[R]:
        """Comparisons of two of these responses, or rejects of such: their parents are the comparison, then the two."""
        a, b = {"comparisons": ("response_a", "response_b"), "rejects": ("parent_ids[2]", "parent_ids[3]")}[
            table_of(kind).name
        ]
        ids = "(SELECT unnest(?::VARCHAR[]))"
        return self._select(kind, f"{a} IN {ids} AND {b} IN {ids}", (list(response_ids),) * 2)

    def _select(self, kind: type[R], where: str | None = None, params: Sequence[Any] = ()) -> list[R]:
        table = table_of(kind)
        with self._mutex:
            handle = self._handle(table)
            files = {} if handle is None else {table.name: delta.local_files(handle, self._path(table))}
        sql = f'SELECT * FROM "{table.name}"{"" if where is None else f" WHERE {where}"} ORDER BY "{table.key}"'
        connection = catalog.over_files(files, self.home / "spill", table)
        try:
            catalog.check_select(connection, sql)
            relation: Any = connection.sql(sql, params=list(params))
            return list(from_arrow(kind, relation.to_arrow_reader(10_000)))
        except (duckdb.Error, pa.ArrowInvalid) as error:
            raise StorageError(f"table {table.name!r} could not be read: {error}") from error
        finally:
            connection.close()

    def query(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """The rows of one reading statement over views named like the tables, all at one set of versions.

        Raises:
            DataError: it is not one SELECT, or it fails; the message is DuckDB's.
        """
        connection = catalog.connect(self.home)
        try:
            return catalog.query(connection, sql, params)
        finally:
            connection.close()

    def version(self, kind: type[Record]) -> int | None:
        """The newest version of a table, None where nothing was ever written to it."""
        with self._mutex:
            handle = self._handle(table_of(kind))
            return None if handle is None else handle.version()

    def versions(self) -> dict[str, int]:
        """The newest version of every table that is there, children read first; give it to `catalog.connect`."""
        found = {name: self.version(table.kind) for name, table in reversed(TABLES.items())}
        return {name: version for name in TABLES if (version := found[name]) is not None}

    def counts(self) -> dict[str, int]:
        """Rows by table, from the log alone; a table that is not there has 0."""
        with self._mutex:
            handles = {name: self._handle(table) for name, table in TABLES.items()}
            return {name: 0 if handle is None else verification.log_rows(handle) for name, handle in handles.items()}

    def files(self) -> dict[str, tuple[int, int]]:
        """Live files and their bytes, by table."""
        with self._mutex:
            found = {}
            for name, table in TABLES.items():
                handle = self._handle(table)
                sizes = [] if handle is None else [size for _, size, _ in verification.live_files(handle)]
                found[name] = (len(sizes), sum(sizes))
            return found

    def bytes_on_disk(self) -> dict[str, int]:
        """Bytes by table of all files that lie there, also those that only earlier versions use."""
        found = {}
        for name, table in TABLES.items():
            with delta.storage_errors(self._path(table)):
                found[name] = bytes_at(self._path(table))
        return found

    # Keeping order

    def compact(self) -> dict[str, tuple[int, int]]:
        """Rewrite every table of several live files whole, into few, sorted by prompt: (before, after) by table.

        Writers may go on meanwhile. The old files stay for readers and old versions until `vacuum`.
        """
        return self._rearrange(2, self._rewrite)

    def merge_small(self, min_files: int) -> dict[str, tuple[int, int]]:
        """Make few of the small files of tables that have at least `min_files`, as they are: (before, after) by table.

        For while a run writes: a row is copied a number of times that grows as the logarithm of its table's size, and
        each copy is on the disk until `vacuum`. Writers may go on meanwhile.
        """
        return self._rearrange(min_files, self._merge)

    def _rearrange(self, min_files: int, rewrite: Callable[[Table, DeltaTable], None]) -> dict[str, tuple[int, int]]:
        done = {}
        for name, table in TABLES.items():
            with self._arranging(table):
                handle = delta.open_table(self._path(table))
                if handle is None or (before := len(handle.file_uris())) < min_files:
                    continue
                try:
                    rewrite(table, handle)
                except CommitFailedError:  # somebody else replaced some of these files; the next one does it
                    continue
                done[name] = (before, len(handle.file_uris()))
        return done

    def _rewrite(self, table: Table, handle: DeltaTable) -> None:
        with delta.storage_errors(self._path(table)):
            if table.sort:
                handle.optimize.z_order(list(table.sort), writer_properties=delta.WRITER)
            else:
                handle.optimize.compact(writer_properties=delta.WRITER)
            handle.create_checkpoint()
        delta.sync_commit(self._path(table), handle.version())

    def _merge(self, table: Table, handle: DeltaTable) -> None:
        if not (size := delta.mergeable(file.size for file in verification.live_files(handle))):
            return
        with delta.storage_errors(self._path(table)):
            handle.optimize.compact(target_size=size, writer_properties=delta.WRITER)
            handle.create_checkpoint()
        delta.sync_commit(self._path(table), handle.version())

    def vacuum(self, keep_deleted: timedelta = KEEP_DELETED) -> int:
        """Delete files that no live version uses and that are older than `keep_deleted`; returns how many.

        The table versions that models and recalibrations were made from stay whole; see `pinned_versions`.
        """
        pinned = self.pinned_versions()
        deleted = 0
        for name, table in TABLES.items():
            if self._handle(table) is None:
                continue
            with self._arranging(table), self._writing(table) as handle, delta.storage_errors(self._path(table)):
                hours = int(keep_deleted.total_seconds() // 3600)
                # A record that came from elsewhere may name a version that this table never had.
                keep = sorted(version for version in pinned.get(name, ()) if version <= handle.version())
                deleted += len(
                    handle.vacuum(
                        hours,
                        dry_run=False,
                        enforce_retention_duration=False,
                        full=True,
                        keep_versions=keep or None,
                    )
                )
                if isinstance(place := self._path(table), Remote):
                    place.forget([delta.file_name(uri) for uri in handle.file_uris()])
        return deleted

    def pinned_versions(self) -> dict[str, set[int]]:
        """The table versions that stored models were trained on (inputs named `tables/NAME`), and the gold that stored
        recalibrations were fitted on.
        """
        pinned: dict[str, set[int]] = {}
        for fitted in self.read(Recalibration):
            if fitted.gold_version >= 0:
                pinned.setdefault(table_of(Annotation).name, set()).add(fitted.gold_version)
        for model in self.read(Model):
            for key, value in model.inputs.items():
                name = key.removeprefix("tables/")
                if name != key and name in TABLES and value.isdigit():
                    pinned.setdefault(name, set()).add(int(value))
        return pinned

    def verify(self) -> list[str]:
        """What is wrong with the stored bytes, one sentence a problem; empty when all is well. Reads every file."""
        problems = []
        for table in TABLES.values():
            problems += verification.verify_table(table, self._path(table))
        return problems

    # Handles

    def _path(self, table: Table) -> Place:
        return self.root / table.name

    def _lock(self, name: str) -> Path:
        """A file of this home: machines that share a home by a network file system share its locks."""
        return (self.root if isinstance(self.root, Path) else self.root.cache) / ".locks" / name

    def _handle(self, table: Table) -> DeltaTable | None:
        """The table at its newest version."""
        handle = self._handles.get(table.name)
        if handle is None:
            handle = delta.open_table(self._path(table))
            if handle is not None:
                self._handles[table.name] = handle
        else:
            with delta.storage_errors(self._path(table)):
                handle.update_incremental()
        return handle


def _by_table(rows: Sequence[Record]) -> Iterator[tuple[Table, dict[str, Record]]]:
    """Rows by table in the order of `TABLES` (parents first), each id once: the row that came first."""
    groups: dict[str, dict[str, Record]] = {}
    for row in rows:
        groups.setdefault(table_of(type(row)).name, {}).setdefault(row_id(row), row)
    for name, table in TABLES.items():
        if name in groups:
            yield table, groups[name]
