"""Directories that are whole or do not count: files first, flushed to disk, `meta.json` last, then a rename.

A checkpoint's `meta.json` lists every file with its size and SHA-256; `last_whole_checkpoint` believes nothing else.
(transformers' `get_last_checkpoint` takes the highest number, torn or not.)
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cai.errors import StorageError
from cai.files import file_digest, fsync
from cai.models import META

KEPT = 2
"""Whole checkpoints kept: the last, and the one before it in case the disk lost the last. A guarded run has one more,
the best.
"""


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn a failed write into a `StorageError` that says what was being written. Wrap nothing but writing in it.

    A full disk is an `OSError` to Python, a `RuntimeError` to `torch.save`, and its own error to safetensors.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise StorageError(
            f"could not {doing}: {error}; free some space or fix the permissions, then run the same command again: it "
            "goes on from the last whole checkpoint"
        ) from error


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write a small file so that it is there whole or not at all, and survives a power cut."""
    temporary = path.with_name(f"tmp-{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(body, file, indent=2, sort_keys=True, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync(path.parent)


def fsync_tree(path: Path) -> None:
    """Flush every file below `path`, and the directories that name them."""
    for file in files_below(path):
        fsync(file)
    for folder in [*(p for p in path.rglob("*") if p.is_dir()), path]:
        fsync(folder)


def files_below(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and p.name != META)


def seal(path: Path, step: int, **facts: Any) -> None:
    """Declare the checkpoint directory `path` whole: flush its files, then write `meta.json` over them."""
    fsync_tree(path)
    listing = {
        str(file.relative_to(path)): {"size": file.stat().st_size, "sha256": file_digest(file)}
        for file in files_below(path)
    }
    write_json(path / META, {"step": step, "files": listing, **facts})


def is_whole(path: Path) -> bool:
    """Whether every file that `meta.json` lists is there with the bytes it had."""
    try:
        listing = json.loads((path / META).read_text(encoding="utf-8"))["files"]
        return bool(listing) and all(
            (path / name).stat().st_size == known["size"] and file_digest(path / name) == known["sha256"]
            for name, known in listing.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """Every `checkpoint-N` directory below `folder`, whole or not, in order of N."""
    found = [p for p in folder.glob("checkpoint-*") if p.is_dir() and p.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or None. Torn ones are passed over."""
    return next((path for path in reversed(checkpoints(folder)) if is_whole(path)), None)


def discard_torn(folder: Path) -> list[str]:
    """Remove what a kill left behind after the last whole checkpoint; returns the names removed."""
    last = last_whole_checkpoint(folder)
    step = -1 if last is None else checkpoint_step(last)
    torn = [p for p in checkpoints(folder) if checkpoint_step(p) > step] + [p for p in folder.glob("tmp-*")]
    for path in torn:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [path.name for path in torn]


def keep_newest(folder: Path, kept: int = KEPT, best: int | None = None) -> None:
    """Bound the disk used: remove all but the `kept` newest checkpoints, and that of step `best`."""
    for path in checkpoints(folder)[:-kept]:
        if checkpoint_step(path) == best:
            continue
        (path / META).unlink(missing_ok=True)  # first, so that a kill half-way leaves a torn directory, not a whole one
        shutil.rmtree(path)


@contextmanager
def new_checkpoint(folder: Path, step: int, best: int | None = None, **facts: Any) -> Iterator[Path]:
    """A directory to fill; on leaving it becomes `checkpoint-{step}`, whole, by one rename.

    Older ones are removed, but not that of step `best`.
    """
    temporary = folder / f"tmp-checkpoint-{step}"
    with disk_errors(f"write checkpoint-{step} in {folder}"):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        put_in_place(temporary, folder, step, best, **facts)


def put_in_place(temporary: Path, folder: Path, step: int, best: int | None = None, **facts: Any) -> None:
    """Seal a filled directory of the same disk, rename it to `checkpoint-{step}`, and bound the number kept."""
    final = folder / f"checkpoint-{step}"
    seal(temporary, step, **facts)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    fsync(folder)
    keep_newest(folder, best=best)
