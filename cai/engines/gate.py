"""A gate that requests pass through, and that a change of weights closes: no reply is half of another model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Any number of requests inside at once, or one change and nobody else."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._change = asyncio.Lock()
        self._n_inside = 0

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        while not self._open.is_set():
            await self._open.wait()
        self._n_inside += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._idle.set()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[None]:
        """Let those inside finish, keep new ones out meanwhile."""
        async with self._change:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()
