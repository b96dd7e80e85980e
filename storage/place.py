"""Where the tables of a home lie: in its folder `tables`, or at the address in its file `tables.url`.

    cai tables --home cai-home at s3://bucket/prefix

At an address every file is fetched once, into the home's folder `cache`: Delta's files never change. Credentials come
from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, …) and go nowhere else.
"""

import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, PyFileSystem

from cai.errors import ConfigError

ADDRESS = "tables.url"
_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[A-Za-z0-9._=-]+)*/?")


@dataclass(frozen=True)
class Remote:
    """A folder in object storage, and the folder on this disk that its files are fetched into."""

    url: str
    cache: Path

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url}/{name}", self.cache / name)

    def fetch(self, names: Iterable[str], into: Path | None = None) -> list[Path]:
        """Files of this folder, on this disk: those that are not in the cache yet (or `into`) are read.

        Raises:
            OSError: one is missing, or the store does not answer.
        """
        folder = into or self.cache
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [folder / name for name in names]
        if missing := [path for path in wanted if not path.is_file()]:
            source = self._files()
            for path in missing:
                _copy(source, path)
        return wanted

    def sizes(self) -> dict[str, int]:
        """The files that lie in this folder itself, with their bytes."""
        found = self._files().get_file_info(FileSelector("", allow_not_found=True))
        return {info.base_name: info.size or 0 for info in found}

    def forget(self, live: Collection[str]) -> None:
        """Delete from the cache what is not live."""
        for path in self.cache.glob("*.parquet"):
            if path.name not in live:
                path.unlink(missing_ok=True)

    def _files(self) -> PyFileSystem:
        return PyFileSystem(DeltaStorageHandler(self.url))


def _copy(source: PyFileSystem, path: Path) -> None:
    """Whole or not at all: others may read the cache meanwhile."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with source.open_input_stream(path.name) as stream, temporary.open("wb") as file:
            shutil.copyfileobj(stream, file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


Place = Path | Remote
"""A table's folder, or the folder of all of them."""


def bytes_at(place: Place) -> int:
    """Of all Parquet files that lie there, read or not."""
    if isinstance(place, Remote):
        return sum(size for name, size in place.sizes().items() if name.endswith(".parquet"))
    total = 0
    for path in place.glob("*.parquet"):
        with suppress(FileNotFoundError):  # a vacuum is at work
            total += path.stat().st_size
    return total


def tables_of(home: Path) -> Place:
    """Where this home's tables lie."""
    address = home / ADDRESS
    if not address.is_file():
        return home / "tables"
    return Remote(checked(address.read_text(encoding="utf-8").strip()), home / "cache")


def has_tables(home: Path) -> bool:
    return (home / "tables").is_dir() or (home / ADDRESS).is_file()


def checked(url: str) -> str:
    """The address without a last slash.

    Raises:
        ConfigError: it is none that tables may lie at; it is not repeated, as it may hold a key.
    """
    if not _URL.fullmatch(url):
        raise ConfigError(
            "expected an address such as s3://bucket/prefix, of letters, digits and ._=-, with no key and no query in "
            "it (keys come from the environment); got another"
        )
    return url.rstrip("/")


def move_to(home: Path, url: str) -> Remote:
    """Have a home's tables at an address from now on; those there already are found again.

    Raises:
        ConfigError: the home has tables elsewhere, which would be lost sight of.
    """
    url = checked(url)
    known = tables_of(home)
    if isinstance(known, Remote) and known.url != url:
        raise ConfigError(f"the tables of {home} lie at {known}; take another --home for {url}")
    if isinstance(known, Path) and any(known.glob("*/_delta_log")):
        raise ConfigError(f"{home} has tables in {known}; copy them to {url} and delete them here, then say so again")
    home.mkdir(parents=True, exist_ok=True)
    temporary = home / f".{ADDRESS}.{os.getpid()}"
    temporary.write_text(url + "\n", encoding="utf-8")
    temporary.replace(home / ADDRESS)
    return Remote(url, home / "cache")
