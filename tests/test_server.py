"""Who asks a Prefect server whether it is well tells one that stands still from one that is gone."""

import http.server
import threading
import time
from contextlib import contextmanager

import pytest

from cai.errors import CAIError
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
    assert time.monotonic() - began < 2


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
