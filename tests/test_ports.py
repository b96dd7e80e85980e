"""A port that is free when it is chosen and still free when the server is started there."""

import http.server
import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest
from served import CAI

from cai.errors import ConfigError
from flows.server import _wait_for, held_port
from flows.supervise import Child


def test_a_held_port_is_given_to_nobody_else_and_a_server_can_listen_at_it():
    """It was let go as soon as it was known, and whoever came first had it: another test, another run."""
    with held_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        given = set()
        for _ in range(300):
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                given.add(other.getsockname()[1])
        assert port not in given
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
            assert server.accept()


@contextmanager
def stranger(home: str):
    """A Prefect server of another home, as far as it is asked here; its port."""

    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"home": home}).encode() if self.path == "/api/admin/settings" else b"true")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_a_port_where_somebody_elses_server_answers_is_refused(tmp_path):
    """`cai ui` waited for an answer, had one from another home's server, and showed that home's runs as ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with stranger("/other/prefect") as port:
        command = [*CAI, "ui", "--home", str(tmp_path), "--port", str(port)]
        asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert asked.returncode == 1
    assert f"port {port} is taken by the Prefect server of /other/prefect" in asked.stderr
    assert "--port N" in asked.stderr
    assert not (tmp_path / "prefect" / "server.json").exists()


def test_a_server_that_took_the_port_meanwhile_is_not_taken_for_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with stranger("/other/prefect") as port:
        url = f"http://127.0.0.1:{port}/api"
        with (
            Child(["no_such_module_at_all"], logfile=tmp_path / "log", is_heard=False) as child,
            pytest.raises(ConfigError, match="did not start"),
        ):
            _wait_for(url, child)
