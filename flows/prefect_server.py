"""`prefect server start` on SQLite, where every transaction that may write takes its turn before it reads.

Prefect's begin with a read. One that writes then, after another has written, fails at once (`database is locked`), and
what its error keeps alive is freed on the server's event loop, which waits for a connection that waits a minute for its
turn behind a transaction that the same loop should end: for that minute nothing is answered. Later Prefects begin the
worst of them so too (PrefectHQ/prefect#23051), and vLLM's bound on fastapi keeps them out.

    python -m flows.prefect_server --host 127.0.0.1 --port 4200
"""

import runpy
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from prefect.server.database.dependencies import temporary_database_config
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class TurnsFirst(AioSqliteConfiguration):
    """SQLite's `BEGIN IMMEDIATE` for each transaction; a read alone has none."""

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        async with super().begin_transaction(session) as transaction:
            mode = SQLITE_BEGIN_MODE.set("IMMEDIATE")
            try:
                await session.connection()  # it begins here; sessions inside the block begin as they did
            finally:
                SQLITE_BEGIN_MODE.reset(mode)
            yield transaction


def database(url: str) -> TurnsFirst | None:
    """Ours for SQLite; None leaves the choice to Prefect, which knows PostgreSQL too."""
    return TurnsFirst(url) if url.startswith("sqlite") else None


def main() -> None:
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    with temporary_database_config(database(PREFECT_API_DATABASE_CONNECTION_URL.value())):
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
