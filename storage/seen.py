"""Ids on disk: 16 bytes each in a file that only grows, read through in bounded memory."""

import os
import tempfile
import weakref
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BYTES = 16
_CHUNK = 65_536
_BITS = 22
"""Of 40,000 ids one in 100 strangers shares such a prefix, and only these are compared whole."""


class IdsOnDisk:
    """Ids of 32 hex digits, in the order they were added.

    Args:
        path: where they are kept for a later process; None keeps them in a file that is gone with this one.
        n: how many of the file count; what lies behind them was written by an import that was killed.
    """

    def __init__(self, path: Path | None, n: int = 0) -> None:
        self._file: Any = tempfile.TemporaryFile() if path is None else path.open("a+b")  # noqa: SIM115
        self._file.truncate(n * _BYTES)
        self._is_kept = path is not None
        weakref.finalize(self, self._file.close)
        self.n = n

    def add(self, ids: Collection[str]) -> None:
        self._file.seek(0, 2)
        self._file.write(bytes.fromhex("".join(ids)))
        self._file.flush()
        if self._is_kept:
            os.fsync(self._file.fileno())
        self.n += len(ids)

    def groups(self, size: int) -> Iterator[list[str]]:
        """Those that are there when it is asked, so many at a time."""
        for start in range(0, self.n, size):
            self._file.seek(start * _BYTES)
            text = self._file.read(min(size, self.n - start) * _BYTES).hex()
            yield [text[at : at + 2 * _BYTES] for at in range(0, len(text), 2 * _BYTES)]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.groups(_CHUNK))

    def close(self) -> None:
        self._file.close()


class SeenIds(IdsOnDisk):
    """Ids that were met before. Looking for a batch reads the file once, at some 40 million ids a second."""

    def find(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that were added before."""
        if not ids or not self.n:
            return set()
        wanted = {bytes.fromhex(key) for key in ids}
        marked = np.zeros(2**_BITS, dtype=np.bool_)
        marked[_prefixes(np.frombuffer(b"".join(wanted), dtype=np.uint64))] = True
        found = set[bytes]()
        for chunk in self._chunks():
            alike = chunk.reshape(-1, 2)[marked[_prefixes(chunk)]]
            found.update(wanted.intersection(map(bytes, alike.view(np.uint8).reshape(-1, _BYTES))))
        return {key.hex() for key in found}

    def _chunks(self) -> Iterator[NDArray[np.uint64]]:
        self._file.seek(0)
        while block := self._file.read(_CHUNK * _BYTES):
            yield np.frombuffer(block, dtype=np.uint64)


def _prefixes(pairs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Of each id its first bits; two words are an id."""
    return pairs[::2] >> np.uint64(64 - _BITS)
