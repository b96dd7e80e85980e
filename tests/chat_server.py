"""A scripted chat server on the loopback, and engines for it: what the tests of the openai engine share."""

import asyncio
import json
import math
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cai.config import EngineConfig
from cai.engines import open_engine
from cai.records import Message

ASK = [Message("user", "Which one?")]
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
MODELS = {"data": [{"id": "small", "root": "/m/small", "max_model_len": 99}, {"id": "other", "root": "/m/other"}]}


def reply(text, finish_reason="stop", top=None):
    choice = {"message": {"content": text}, "finish_reason": finish_reason}
    if top is not None:
        top = [{"token": token, "logprob": math.log(p)} for token, p in top.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": -1.0, "top_logprobs": top}]}
    return 200, {"choices": [choice], "usage": USAGE}, {}


@contextmanager
def serving():
    """Answers chat requests from `script`, a list, or a function of the body; the last entry is repeated."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def send(self, status, body, headers):
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.send(*self.server.models)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.server.is_dead:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.server.seen.append((body, self.headers.get("Authorization"), time.monotonic()))
            script = self.server.script
            answer = script(body) if callable(script) else script.pop(0) if len(script) > 1 else script[0]
            self.send(*answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads, http.is_dead = True, False
        http.models, http.script, http.seen = (200, MODELS, {}), [reply("fine")], []
        http.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def use(server, work, **settings):
    """Run `await work(engine)` on an engine for `server` whose waits are short."""

    async def go():
        engine = await open_engine(
            EngineConfig(kind="openai", **{"model": "small", "base_url": server.url, "timeout_s": 5, **settings})
        )
        engine._backoff_s = 0.01
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(go())
