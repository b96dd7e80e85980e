"""Rows of Hugging Face datasets: a folder that `save_to_disk` made, or a name on the hub. No code of a dataset is run.

A name is fetched once into the library's cache, and read from there; HF_HUB_OFFLINE=1 reads the cache alone. The rows
are mapped from disk, a thousand at a time.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cai.errors import DataError
from storage.rows import Columns, Row, arrow_rows

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "hf:"
GROUP = 1_000
EXPECTED = "expected hf:OWNER/NAME[:CONFIG][@SPLIT], or a folder that `save_to_disk` made"
_SAVED = ("dataset_info.json", "dataset_dict.json")


class _Name(NamedTuple):
    """`hf:OWNER/NAME[:CONFIG][@SPLIT]`, in parts."""

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
        yield from arrow_rows(group, number)
        number += group.num_rows


def _load(path: str) -> "Dataset":
    from datasets import Dataset, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    try:
        if path.startswith(HUB):
            name = _name(path)
            found = load_dataset(name.name, name.config, split=name.split)
        else:
            found = load_from_disk(path)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        why = ": ".join(str(each) for each in (error, error.__cause__) if each is not None)
        raise DataError(f"{path} is no dataset that can be read: {why}; {_advice(error)}") from error
    if isinstance(found, Dataset):
        return found
    splits = list(found)
    if len(splits) == 1:
        return found[splits[0]]
    named = f"{path}@{splits[0]}" if path.startswith(HUB) else str(Path(path) / splits[0])
    raise DataError(f"{path} has the splits {', '.join(splits)}; name one of them, such as {named}")


def _advice(error: Exception) -> str:
    """What to do. The library tells a dataset that is not there from one that it may not see by its words alone."""
    from datasets.config import HF_HUB_OFFLINE
    from datasets.exceptions import DatasetBuildError

    said = str(error).casefold()
    if isinstance(error, ConnectionError) and HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and the cache (HF_HOME) does not have it: unset it once, or copy the cache here"
    if isinstance(error, ConnectionError):
        return "the hub does not answer: try again, or read from the cache (HF_HOME) with HF_HUB_OFFLINE=1"
    if "gated" in said or "authenticated" in said:
        return "accept its terms on its page, then `hf auth login` (or HF_TOKEN)"
    if isinstance(error, DatasetBuildError):
        return "its files are there and do not go together; fetch those that do, and give them one by one"
    return EXPECTED


def _name(path: str) -> _Name:
    rest, _, split = path.removeprefix(HUB).partition("@")
    name, _, config = rest.partition(":")
    if "/" not in name:  # "text" and "csv" are formats to the library, and it would read the files that lie around here
        raise DataError(f"{path} names no owner; {EXPECTED}")
    return _Name(name, config or None, split or None)
