"""A ledger in memory: for dry runs, previews and tests. What it holds is gone with the process."""

from dataclasses import fields

from cai.records import R, Record


def row_id(row: Record) -> str:
    """A row's own id: the first field of every record."""
    return str(getattr(row, fields(row)[0].name))


class MemoryLedger:
    """Rows by kind and id, in order of arrival; the first row of an id stays."""

    def __init__(self) -> None:
        self._rows: dict[type[object], dict[str, Record]] = {}

    def find(self, kind: type[R], row_id: str) -> R | None:
        row = self._rows.get(kind, {}).get(row_id)
        return row if isinstance(row, kind) else None

    def add(self, row: Record) -> None:
        self._rows.setdefault(type(row), {}).setdefault(row_id(row), row)

    def flush(self) -> None:
        """Nothing waits: there is no disk."""

    def rows(self, kind: type[R]) -> list[R]:
        return [row for row in self._rows.get(kind, {}).values() if isinstance(row, kind)]
