"""The `Ledger` that keeps rows in the tables: the method calls `find` and `add` from its event loop, a thread commits.

`add` never waits for a disk. What was added is durable within `commit_every_s` and after `flush` and `close`.
"""

import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from cai.records import Comparison, PreferencePair, Prompt, R, Record, Reject, Response, Revision
from storage.schemas import row_id, table_of
from storage.store import Store

KINDS: tuple[type[Record], ...] = (Prompt, Response, Revision, Comparison, PreferencePair, Reject)
BATCH_ROWS = 5_000
"""So many waiting rows are committed at once, without waiting for the clock."""


class TableLedger:
    """Rows of some prompts: those stored before, and those added now. Use it as a context manager.

    Args:
        store: where rows are.
        prompt_ids: the prompts whose stored rows `find` sees; None sees every row. All of them are held in memory.
        kinds: the records `find` may be asked for.
        commit_every_s: the longest a finished row waits; a kill loses at most that.
        response_ids: for labels, in place of prompts: `find` sees the stored comparisons of two of these responses, and
            their rejects. What was ever said of the same prompts may be many times as much.
    """

    def __init__(
        self,
        store: Store,
        prompt_ids: Collection[str] | None,
        kinds: Sequence[type[Record]] = KINDS,
        commit_every_s: float = 2.0,
        response_ids: Collection[str] | None = None,
    ) -> None:
        self.n_added: Counter[str] = Counter()
        """Rows handed over in this session that were not there before, by table."""
        self.n_found: Counter[str] = Counter()
        """Stored rows that were asked for and so not made again, by table."""
        self._store = store
        self._prompt_ids = None if prompt_ids is None else frozenset(prompt_ids)
        self._response_ids = response_ids
        self._every_s = commit_every_s
        self._rows: dict[type, dict[str, Record]] = {kind: {} for kind in kinds}
        self._unclaimed: set[tuple[str, str]] = set()  # stored before and not yet counted in n_found
        self._pending: list[Record] = []
        self._error: BaseException | None = None
        self._closing = False
        self._n_handed = self._n_committed = self._flush_to = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Read what is stored and start committing.

        Raises:
            StorageError: a table cannot be read.
        """
        if self._prompt_ids is None or self._prompt_ids or self._response_ids is not None:
            self._read(self._prompt_ids)
        self._thread = threading.Thread(target=self._commit_until_closed, name="ledger", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, prompt_ids: Collection[str] | None) -> None:
        for kind, rows in self._rows.items():
            for row in self._stored(kind, prompt_ids):
                if rows.setdefault(row_id(row), row) is row:
                    self._unclaimed.add((table_of(kind).name, row_id(row)))

    def _stored(self, kind: type[Record], prompt_ids: Collection[str] | None) -> Sequence[Record]:
        if self._response_ids is not None:
            return self._store.of_pairs(kind, self._response_ids)
        return self._store.read(kind) if prompt_ids is None else self._store.of_prompts(kind, prompt_ids)

    def read_more(self, prompt_ids: Collection[str]) -> None:
        """Let `find` see the stored rows of these prompts too; those it has seen are not read again.

        Raises:
            StorageError: a table cannot be read.
        """
        if self._prompt_ids is not None and (new := frozenset(prompt_ids) - self._prompt_ids):
            self._read(new)
            self._prompt_ids |= new

    def find(self, kind: type[R], row_id: str) -> R | None:
        """The row of that id, stored before or added now, or None.

        Raises:
            KeyError: `kind` is not one of the ledger's kinds; None would have the model asked again.
        """
        row = self._rows[kind].get(row_id)
        if row is None:
            return None
        name = table_of(kind).name
        if (name, row_id) in self._unclaimed:
            self._unclaimed.discard((name, row_id))
            self.n_found[name] += 1
        assert isinstance(row, kind)
        return row

    def add(self, row: Record) -> None:
        """Hand over a finished row and go on. An id that is there already changes nothing.

        Raises:
            StorageError: an earlier row could not be committed (a full disk, say).
            RuntimeError: the ledger is not open.
        """
        rows, key = self._rows.setdefault(type(row), {}), row_id(row)
        with self._changed:
            self._raise_if_unusable()
            if key in rows:
                return
            rows[key] = row
            self._pending.append(row)
            self._n_handed += 1
            self.n_added[table_of(type(row)).name] += 1
            if len(self._pending) >= BATCH_ROWS:
                self._changed.notify_all()

    def flush(self) -> None:
        """Return when every row added so far is on the disk.

        Raises:
            StorageError: one could not be committed.
        """
        with self._changed:
            target = self._flush_to = self._n_handed
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._n_committed >= target or self._error is not None)
            self._raise_if_unusable(closed_is_fine=True)

    def close(self) -> None:
        """Commit what is left and stop. Safe to call twice.

        Raises:
            StorageError: something could not be committed, now or before.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            self._raise_if_unusable(closed_is_fine=True)

    def _raise_if_unusable(self, closed_is_fine: bool = False) -> None:
        if self._error is not None:
            raise self._error
        if not closed_is_fine and (self._thread is None or self._closing):
            raise RuntimeError("the ledger is not open; use it inside `with TableLedger(...) as ledger:`")

    def _commit_until_closed(self) -> None:
        """The thread's whole life: wait for the clock, a full batch, a flush or the end; commit; stop at an error."""
        while True:
            with self._changed:
                deadline = time.monotonic() + self._every_s
                self._changed.wait_for(self._is_due, timeout=max(0.0, deadline - time.monotonic()))
                batch, self._pending = self._pending, []
                last = self._closing
            try:
                if batch:
                    self._store.append(batch)
            except BaseException as error:  # kept, and raised where the rows come from
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._n_committed += len(batch)
                self._changed.notify_all()
            if last:
                return

    def _is_due(self) -> bool:
        return self._closing or len(self._pending) >= BATCH_ROWS or self._flush_to > self._n_committed
