"""Rows of Hugging Face datasets: a folder that `save_to_disk` made, or a name on the hub. No code of a dataset is run.

A name is fetched once into the library's cache, and read from there; HF_HUB_OFFLINE=1 reads the cache alone. The rows
are mapped from disk, a thousand at a time.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cai.errors import DataError
from storage.rows import Columns, Row

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "hf:"
GROUP = 1_000
_SAVED = ("dataset_info.json", "dataset_dict.json")


class _Name(NamedTuple):
    """`hf:NAME[:CONFIG][@SPLIT]`, in parts."""

    name: str
    config: str | None
    split: str | None


def is_dataset(path: str) -> bool:
    return path.startswith(HUB) or any((Path(path) / name).is_file() for name in _SAVED)


def dataset_reader(path: str, columns: Columns) -> Callable[[], Iterator[Row]]:
    """A function that reads the dataset from its start.

    Raises:
        DataError: no such dataset or split, one that needs code to be read, or one without these columns.
    """
    found = _load(path)
    columns.check(Path(path), found.column_names)
    kept = found.select_columns(columns.read(found.column_names)).with_format("arrow")
    return lambda: _rows(kept)


def _rows(dataset: "Dataset") -> Iterator[Row]:
    number = 0
    for group in dataset.iter(batch_size=GROUP):
        for value in group.to_pylist():
            number += 1
            yield Row(number, json.dumps(value, ensure_ascii=False, default=str), value)


def _load(path: str) -> "Dataset":
    from datasets import Dataset, load_dataset, load_from_disk

    try:
        if path.startswith(HUB):
            name = _name(path)
            found = load_dataset(name.name, name.config, split=name.split)
        else:
            found = load_from_disk(path)
    except (OSError, ValueError, RuntimeError) as error:
        expected = "hf:NAME[:CONFIG][@SPLIT], or a folder that `save_to_disk` made"
        raise DataError(f"{path} is no dataset that can be read: {error}; expected {expected}") from error
    if isinstance(found, Dataset):
        return found
    splits = list(found)
    if len(splits) == 1:
        return found[splits[0]]
    named = f"{path}@{splits[0]}" if path.startswith(HUB) else str(Path(path) / splits[0])
    raise DataError(f"{path} has the splits {', '.join(splits)}; name one of them, such as {named}")


def _name(path: str) -> _Name:
    rest, _, split = path.removeprefix(HUB).partition("@")
    name, _, config = rest.partition(":")
    return _Name(name, config or None, split or None)
