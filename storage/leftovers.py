"""What killed processes left in a home and nobody reads any more: torn temporary files, trainings and imports that
never went on.

cai tables --home cai-home prune
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

KEEP_LEFTOVERS = timedelta(days=30)
"""A training that was stopped goes on from its checkpoints; so long after its last one, nobody has wanted it to."""
PATTERNS = (
    "models/*.unfinished",
    "models/tmp-*",
    "runs/*/.*.tmp",
    "runs/*/*/.*.tmp",
    ".*.tmp",
    "cache/*/.*.tmp",
    "spill/*",
    f"imports/{'[0-9a-f]' * 16}",  # not the locks beside them: one that is deleted could be held twice
)
"""Under home. What is finished never has such a name."""


def leftovers(home: Path, now: float, keep: timedelta = KEEP_LEFTOVERS) -> Iterator[Path]:
    """Files and folders of which nothing was written in the last `keep` before `now` (seconds since 1970)."""
    for pattern in PATTERNS:
        for path in sorted(home.glob(pattern)):
            if not path.is_symlink() and now - _touched(path) > keep.total_seconds():
                yield path


def prune(home: Path, now: float, keep: timedelta = KEEP_LEFTOVERS) -> list[Path]:
    """Delete them; returns what was deleted. One that vanishes meanwhile is somebody's who is still at work on it."""
    gone = []
    for path in leftovers(home, now, keep):
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            gone.append(path)
    return gone


def _touched(path: Path) -> float:
    """When something in it was written last, in seconds since 1970."""
    newest = path.lstat().st_mtime
    for folder, _, files in os.walk(path):
        for name in (".", *files):
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, (Path(folder) / name).lstat().st_mtime)
    return newest
