"""A Prefect server of our own: its transactions take turns, and who asks it tells busy from gone."""

import asyncio
import http.server
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from cai.errors import CAIError
from flows.prefect_server import OwnPagesOnly, TurnsFirst, database, own_origins
from flows.server import answers, held_port, stay


@contextmanager
def server_that_stands_still(seconds: float):
    """An API that is well, and whose first request waits; its URL, and what ends it."""
    waits = [seconds]

    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(waits.pop() if waits else 0)
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api", server
        finally:
            server.shutdown()


def test_a_server_that_stands_still_is_waited_for_and_one_that_is_not_there_is_not():
    with server_that_stands_still(2.5) as (url, _):
        assert answers(url)
        assert not answers(url.removesuffix("/api"))  # somebody else's
    with held_port() as port:
        began = time.monotonic()
        assert not answers(f"http://127.0.0.1:{port}/api")
    assert time.monotonic() - began < 30  # not two minutes


def test_who_looks_after_a_server_stays_while_it_stands_still_and_goes_when_it_is_gone():
    checks = []
    with server_that_stands_still(2.5) as (url, server):

        def end_it_once_it_answered():
            checks.append(time.monotonic())
            if len(checks) == 4:
                server.shutdown()
                server.server_close()

        with pytest.raises(CAIError, match=r"has not answered for \d+ s; start it again"):
            stay(url, end_it_once_it_answered, gone_s=0.5)
    assert len(checks) >= 4


def test_a_server_that_is_not_ours_is_as_good_as_gone(tmp_path):
    """Its number was given to a process of somebody else after a restart, and no command ran over that home."""
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "server.json").write_text('{"url": "http://127.0.0.1:9/api", "pid": 1}')
    tmp_path.chmod(0o755)
    look = (
        "import os, pathlib, sys; from flows.server import _running; os.chdir(sys.argv[1]); "
        "os.geteuid() or os.setuid(65534); print(_running(pathlib.Path()))"
    )
    done = subprocess.run([sys.executable, "-c", look, tmp_path], capture_output=True, text=True)
    assert done.stdout == "None\n", done.stderr


async def writers(config) -> int:
    """Four transactions that read at once, and write then; how many rows there are in the end."""
    engine = await config.engine()

    async def write(key: int) -> None:
        async with await config.session(engine) as session, config.begin_transaction(session):
            await session.execute(sa.text("SELECT count(*) FROM work"))
            await asyncio.sleep(0.05)
            await session.execute(sa.text(f"INSERT INTO work VALUES ({key})"))

    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE work (key INTEGER)"))
    try:
        await asyncio.gather(*map(write, range(4)))
        async with engine.connect() as connection:
            return await connection.scalar(sa.text("SELECT count(*) FROM work"))
    finally:
        await engine.dispose()


def test_transactions_of_our_server_take_turns_where_prefects_find_the_database_locked(tmp_path):
    assert asyncio.run(writers(TurnsFirst(f"sqlite+aiosqlite:///{tmp_path}/ours.db"))) == 4
    with pytest.raises(OperationalError, match="database is locked"):  # else flows/prefect_server.py can go
        asyncio.run(writers(AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path}/theirs.db")))


def test_a_server_on_postgresql_is_prefects_own():
    assert isinstance(database("sqlite+aiosqlite:////home/prefect.db"), TurnsFirst)
    assert database("postgresql+asyncpg://db/prefect") is None


async def answers_all(scope, receive, send):
    if scope["type"] == "websocket":
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.close()
    else:
        await PlainTextResponse("yes")(scope, receive, send)


def test_pages_and_names_of_others_are_refused_by_http_and_websocket():
    """A page of any site could start runs, send events, and read all the server knows."""
    client = TestClient(OwnPagesOnly(answers_all, own_origins(["--port", "4200"])), base_url="http://127.0.0.1:4200")

    def got(**headers: str) -> int:
        try:
            with client.websocket_connect("ws://127.0.0.1:4200/api/events/in", headers=headers):
                status = 200
        except WebSocketDenialResponse as refused:
            status = refused.status_code
        assert client.post("/api/variables/", headers=headers).status_code == status
        return status

    assert got() == 200  # a worker, a run, `curl`
    assert got(host="localhost:4200", origin="http://127.0.0.1:4200") == 200
    assert got(host="[::1]:4200") == 200
    assert got(host="localhost:9000", origin="http://localhost:9000") == 200  # by a tunnel
    for origin in ("https://evil.example", "null", "http://localhost:3000", "http://localhost:4200.evil.example"):
        assert got(origin=origin) == 403, origin
    for host in ("evil.example:4200", "127.0.0.1.evil.example:4200", "[", ""):
        assert got(host=host) == 403, host
    assert got(host="evil.example", origin="http://evil.example") == 403, "its name leads to 127.0.0.1"
    assert "PREFECT_SERVER_CORS_ALLOWED_ORIGINS" in client.get("/", headers={"origin": "null"}).text


def test_a_server_that_listens_for_others_is_reached_by_any_name():
    assert own_origins(["--host", "0.0.0.0"]) == own_origins(["--host", "10.1.2.3", "--port", "80"]) == set()
    assert "http://localhost:80" in own_origins(["--host=::1", "--port", "80", "--no-services"])
