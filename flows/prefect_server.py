"""`prefect server start` on SQLite, where every transaction that may write takes its turn before it reads.

Prefect's begin with a read. One that writes then, after another has written, fails at once (`database is locked`), and
what its error keeps alive is freed on the server's event loop, which waits for a connection that waits a minute for its
turn behind a transaction that the same loop should end: for that minute nothing is answered. Later Prefects begin the
worst of them so too (PrefectHQ/prefect#23051), and vLLM's bound on fastapi keeps them out.

Prefect's answers the page of any site that is open in a browser beside it, and has no password. On loopback this one
answers its own pages only; pages and names that PREFECT_SERVER_CORS_ALLOWED_ORIGINS lists count as its own.

    python -m flows.prefect_server --host 127.0.0.1 --port 4200
"""

import argparse
import runpy
import sys
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from prefect.server.api import server
from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from prefect.server.database.dependencies import temporary_database_config
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_API_HOST,
    PREFECT_SERVER_API_PORT,
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
)
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")


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


class OwnPagesOnly:
    """Refuses what a browser sends for a page of another origin, by HTTP or WebSocket, and what asks for another host:
    so does a page whose own name was made to lead here. A request that no page sends has no origin.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._hosts = frozenset(urlsplit(origin).hostname for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (problem := self._problem(Headers(scope=scope))):
            await PlainTextResponse(problem, status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            is_ours = urlsplit(f"//{host}").hostname in self._hosts
        except ValueError:
            is_ours = False
        if is_ours and (origin is None or origin in self._origins or urlsplit(origin).netloc == host):
            return None
        return (
            f"expected a request to and from one of {sorted(self._origins)}, got one to {host!r} from {origin!r}; list "
            "the address in PREFECT_SERVER_CORS_ALLOWED_ORIGINS (comma-separated) where this server starts"
        )


def own_origins(arguments: list[str]) -> set[str]:
    """Of a server that is started with these; none where it listens on more than loopback, by names we cannot know."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default=PREFECT_SERVER_API_HOST.value())
    parser.add_argument("--port", default=PREFECT_SERVER_API_PORT.value())
    listens, _ = parser.parse_known_args(arguments)
    if listens.host not in LOOPBACK:
        return set()
    named = set(PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value().split(",")) - {"*"}
    return named | {f"http://{host}:{listens.port}" for host in ("127.0.0.1", "localhost", "[::1]")}


def main() -> None:
    if origins := own_origins(sys.argv[1:]):
        create_app = server.create_app

        def guarded(*args: Any, **kwargs: Any) -> ASGIApp:
            """Final is what listens; by the others the server asks itself."""
            app = create_app(*args, **kwargs)
            return OwnPagesOnly(app, origins) if kwargs.get("final") else app

        server.create_app = guarded  # type: ignore[assignment]
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    with temporary_database_config(database(PREFECT_API_DATABASE_CONNECTION_URL.value())):
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
