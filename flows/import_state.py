"""How far an import is: in a folder, where the process that comes after a kill finds it, or gone with this one."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from flows.runs import write_atomically
from storage.import_report import ImportReport
from storage.seen import IdsOnDisk, SeenIds

_STATE, _SEEN = "state.json", "seen.bin"


class ImportState:
    """The source, its rows that are done, the counts, the ids of all prompts so far, and what ids a caller keeps.

    Args:
        folder: where it is kept; None starts from the first row and keeps nothing.
        before: ids that an import counts as met when it begins.
    """

    def __init__(self, folder: Path | None, before: Collection[str] = ()) -> None:
        self._folder = folder
        body: dict[str, Any] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / _STATE
            body = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.source: int = body.get("source", 0)
        self.row: int = body.get("row", 0)
        self.report = ImportReport.from_json(body.get("report", {}))
        self.seen = SeenIds(self._path(_SEEN), body.get("n_seen", 0))
        if not body:
            self.seen.add(before)
        self._kept = {name: IdsOnDisk(self._path(f"{name}.ids"), n) for name, n in body.get("kept", {}).items()}

    def ids(self, name: str) -> IdsOnDisk:
        """Ids for a caller to add to, and to find again: of these, too, what was there at the last note counts."""
        if name not in self._kept:
            self._kept[name] = IdsOnDisk(self._path(f"{name}.ids"))
        return self._kept[name]

    def note(self, source: int, row: int, met: Collection[str]) -> None:
        """A batch is committed: the ids first, then what makes them count."""
        self.seen.add(met)
        self.source, self.row = source, row
        if self._folder is not None:
            kept = {name: ids.n for name, ids in self._kept.items()}
            body = {"source": source, "row": row, "n_seen": self.seen.n, "kept": kept, "report": self.report.to_json()}
            write_atomically(self._folder / _STATE, json.dumps(body))

    def forget(self) -> None:
        """The import is done, and what follows from it is written."""
        if self._folder is not None:
            (self._folder / _STATE).unlink(missing_ok=True)
            shutil.rmtree(self._folder)

    def close(self) -> None:
        for ids in (self.seen, *self._kept.values()):
            ids.close()

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / name
