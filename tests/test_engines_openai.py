"""The openai engine against a scripted HTTP server on the loopback: retries, refusals, log-probabilities or none."""

import asyncio
import json
import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import httpx
import pytest
from tiny_model import save_tiny_model

from cai.config import EngineConfig
from cai.engines import open_engine
from cai.engines import openai as engine_module
from cai.engines.base import about
from cai.engines.options import NEVER
from cai.engines.slot import EngineSlot
from cai.errors import ConfigError, EngineError, EngineUnreachable, ModelNotFound, PromptTooLong
from cai.records import Message, Sampling

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


@pytest.fixture
def server():
    with serving() as http:
        yield http


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


def test_a_reply_carries_text_reason_and_counts_and_the_request_the_seed(server):
    server.script = [reply("cut", "length")]
    got = use(server, lambda e: e.complete(ASK, Sampling(0.7, 0.9, 33), 5))
    assert (got.text, got.finish_reason, got.n_prompt_tokens, got.n_tokens, got.n_cached_tokens) == (
        "cut",
        "length",
        9,
        3,
        4,
    )
    body = server.seen[0][0]
    assert {k: body[k] for k in ("model", "seed", "temperature", "top_p", "max_tokens")} == {
        "model": "small",
        "seed": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 33,
    }


def test_top_log_probabilities_are_added_up_per_option_and_never_called_exact(server):
    server.script = [reply("A", top={"A": 0.4, " A": 0.1, "B": 0.2, "(": 0.1})]
    choice = use(server, lambda e: e.choose(ASK, ["A", "B", "C"]))
    assert [math.exp(p) for p in choice.logps] == pytest.approx([0.5, 0.2, 0.0])
    assert choice.logps[2] == NEVER and choice.mass_outside == pytest.approx(0.3) and not choice.exact


@pytest.mark.parametrize(
    ("text", "logps", "outside"),
    [("B", [NEVER, 0.0], 0.0), (" (A).", [0.0, NEVER], 0.0), ("A or B", [NEVER, NEVER], 1.0), ("", [NEVER] * 2, 1.0)],
)
def test_without_log_probabilities_the_whole_reply_must_be_an_option(server, text, logps, outside, caplog):
    server.script = [reply(text)]
    with caplog.at_level(logging.WARNING):
        choice = use(server, lambda e: e.choose(ASK, ["A", "B"]))
    assert [*choice.logps] == logps and choice.mass_outside == pytest.approx(outside) and not choice.exact
    assert "no log-probabilities" in caplog.text


def test_a_server_that_refuses_log_probabilities_is_asked_without_them_from_then_on(server):
    no = (400, {"error": "logprobs is not supported with this model"}, {})
    server.script = lambda body: no if "logprobs" in body else reply("B")

    async def twice(engine):
        return [await engine.choose(ASK, "AB"), await engine.choose(ASK, "AB")]

    assert [c.logps for c in use(server, twice)] == [(NEVER, 0.0)] * 2
    assert ["logprobs" in body for body, *_ in server.seen] == [True, False, False]


def test_busy_and_broken_answers_are_tried_again(server):
    server.script = [(429, {}, {}), (503, {}, {}), reply("at last")]
    assert use(server, lambda e: e.complete(ASK, Sampling(), 1)).text == "at last"
    assert len(server.seen) == 3


def test_the_wait_a_server_asks_for_is_kept(server):
    server.script = [(429, {}, {"Retry-After": "0.4"}), reply("ok")]
    use(server, lambda e: e.complete(ASK, Sampling(), 1))
    assert server.seen[1][2] - server.seen[0][2] >= 0.4


def test_requests_that_are_sent_away_together_do_not_come_back_together(server):
    """All of them waited for exactly as long as the server had asked, and it refused them all again."""
    replies = [(429, {}, {"Retry-After": "0.3"})] * 8 + [reply("ok")]
    server.script = replies

    async def at_once(engine):
        return await asyncio.gather(*(engine.complete(ASK, Sampling(), seed) for seed in range(8)))

    assert [got.text for got in use(server, at_once)] == ["ok"] * 8
    times = {seed: [at for body, _, at in server.seen if body["seed"] == seed] for seed in range(8)}
    waits = [again - first for each in times.values() for first, again in pairwise(each)]
    assert len(waits) == 8, "one for each refusal"
    assert min(waits) >= 0.3 and max(waits) - min(waits) > 0.03


def test_a_server_that_is_never_ready_is_unreachable_after_a_bounded_number_of_tries(server):
    server.script = [(500, {"error": "no memory"}, {})]
    with pytest.raises(EngineUnreachable, match="no memory.*start the server"):
        use(server, lambda e: e.complete(ASK, Sampling(), 1))
    assert len(server.seen) == EngineConfig().tries


def test_a_dead_server_is_unreachable_and_its_address_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}/v1"

    async def go():
        client = httpx.AsyncClient(base_url=url)
        engine = engine_module.OpenAIEngine(EngineConfig(kind="openai", model="small"), client, backoff_s=0.001)
        try:
            await engine.connect()
        finally:
            await engine.close()

    with pytest.raises(EngineUnreachable, match="127.0.0.1") as caught:
        asyncio.run(go())
    assert "secret" not in str(caught.value)


def test_a_prompt_the_server_finds_too_long_is_one_rows_problem(server):
    text = "This model's maximum context length is 99 tokens. However, your request has 120 input tokens."
    server.script = [(400, {"error": {"message": text}}, {})]
    with pytest.raises(PromptTooLong, match="120 input tokens"):
        use(server, lambda e: e.complete(ASK, Sampling(), 1))
    with pytest.raises(PromptTooLong, match="120 input tokens"):
        use(server, lambda e: e.choose(ASK, "AB"))


def test_a_reply_longer_than_the_room_left_is_asked_for_again_within_it(server):
    text = "This model's maximum context length is 12 tokens; your prompt contains at least 1 input tokens"
    no = (400, {"error": {"message": text}}, {})
    server.script = lambda body: no if body["max_tokens"] > 12 - USAGE["prompt_tokens"] else reply("short", "length")
    assert use(server, lambda e: e.complete(ASK, Sampling(), 1)).finish_reason == "length"
    assert [body["max_tokens"] for body, *_ in server.seen] == [256, 1, 3]


def test_a_server_that_wants_the_newer_name_of_the_length_gets_it(server):
    no = (400, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}, {})
    server.script = lambda body: no if "max_tokens" in body else reply("fine")
    assert use(server, lambda e: e.complete(ASK, Sampling(max_tokens=5), 1)).text == "fine"
    assert server.seen[-1][0]["max_completion_tokens"] == 5


def test_other_refusals_are_not_tried_again(server):
    server.script = [(422, {"error": "no such role"}, {})]
    with pytest.raises(EngineError, match="no such role"):
        use(server, lambda e: e.complete(ASK, Sampling(), 1))
    assert len(server.seen) == 1


def test_the_key_comes_from_the_environment_and_is_in_no_message(server, monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", "s3cret")
    server.script = [(401, {"error": "bad key"}, {})]
    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError, match=r"\$SOME_KEY is set but not") as caught:
        use(server, lambda e: e.complete(ASK, Sampling(), 1), api_key_env="SOME_KEY")
    assert server.seen[0][1] == "Bearer s3cret"
    assert "s3cret" not in caplog.text + str(caught.value)


def test_only_a_served_model_can_be_loaded_and_its_root_is_in_the_digest(server):
    async def swap(engine):
        first = engine.model_digest
        with pytest.raises(ModelNotFound, match="it serves other, small"):
            await engine.load("missing")
        assert engine.model_digest == first and engine.context_length == 99
        await engine.load("other")
        await engine.complete(ASK, Sampling(), 1)
        return first, engine.model_digest

    first, second = use(server, swap)
    assert first != second and server.seen[-1][0]["model"] == "other"
    server.models = (200, {"data": [{"id": "small", "root": "/m/retrained"}]}, {})
    assert use(server, _digest) != first


async def _digest(engine):
    return engine.model_digest


def test_a_server_without_a_list_of_models_can_be_used(server):
    server.models = (404, {}, {})
    assert use(server, lambda e: e.complete(ASK, Sampling(), 1)).text == "fine"


def test_a_configuration_without_an_address_is_refused():
    with pytest.raises(ConfigError, match="base_url"):
        asyncio.run(open_engine(EngineConfig(kind="openai", model="small")))


def test_no_more_requests_are_in_flight_than_configured(server):
    inside, most, lock = 0, 0, threading.Lock()

    def slow(body):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        return reply("ok")

    server.script = slow

    async def many(engine):
        await asyncio.gather(*(engine.complete(ASK, Sampling(), i) for i in range(9)))

    use(server, many, max_concurrency=3)
    assert most == 3


@pytest.mark.slow
def test_vllm_serve_answers_as_the_engine_in_process_does(tmp_path):
    """The same weights behind a real server: same greedy words, log-probabilities within the top 20."""
    path = save_tiny_model(tmp_path / "model", 3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(path), "--dtype", "float32"),
        *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny", "--enforce-eager"),
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096", "--kv-cache-memory-bytes", str(2**28)),
    ]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    greedy, ask = Sampling(temperature=0.0, max_tokens=8), [Message("user", "help w1")]

    async def answers(config):
        engine = await open_engine(config)
        try:
            with pytest.raises(PromptTooLong):
                await engine.complete([Message("user", "good " * 400)], greedy, 0)
            choice = await engine.choose(ask, ["A", "B"])
            full = await engine.complete([Message("user", "good " * 240)], Sampling(max_tokens=100), 0)
            return (await engine.complete(ask, greedy, 0)).text, choice, full.n_prompt_tokens + full.n_tokens
        finally:
            await engine.close()

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        url = f"http://127.0.0.1:{port}/v1"
        text, served, n_full = asyncio.run(answers(EngineConfig(kind="openai", model="tiny", base_url=url)))
    finally:
        process.terminate()
        process.wait(30)
    own_text, own, n_own = asyncio.run(answers(EngineConfig(kind="transformers", model=str(path))))
    # The server decodes token by token, which leaves a space in front.
    assert text.strip() == own_text.strip() and max(n_full, n_own) <= 256
    for seen, true in zip(served.logps, own.logps, strict=True):
        assert seen == NEVER or seen <= true + 1e-3


def test_a_slot_asks_the_server_for_another_of_its_models(server):
    """A served name is no directory: a slot that looked for its weights found none at the second stage of every run."""

    async def go():
        slot, config = EngineSlot(), EngineConfig(kind="openai", base_url=server.url, timeout_s=5)
        try:
            for name in ("small", "small", "other"):
                await (await slot.get(config, name)).complete(ASK, Sampling(), 0)
        finally:
            await slot.close()

    asyncio.run(go())
    assert [body["model"] for body, *_ in server.seen] == ["small", "small", "other"]


# Several servers of one model


@pytest.fixture
def other():
    with serving() as http:
        yield http


async def ask_about(engine, prompts, n_asks=3):
    """As the stages ask: several coroutines, each about one prompt, whatever the messages are."""

    async def chain(prompt_id):
        for step in range(n_asks):
            about.set(prompt_id)
            await engine.complete([Message("user", f"{prompt_id}, step {step}")], Sampling(), 1)

    await asyncio.gather(*map(chain, prompts))


def prompts_seen_by(server):
    return {body["messages"][0]["content"].split(",")[0] for body, _, _ in server.seen}


def test_all_asks_about_a_prompt_go_to_one_replica_and_prompts_to_both(server, other):
    prompts = [f"prompt {i}" for i in range(40)]
    use(server, lambda e: ask_about(e, prompts), replicas=(other.url,))
    here, there = prompts_seen_by(server), prompts_seen_by(other)
    assert here | there == set(prompts) and not here & there
    assert min(len(here), len(there)) > 8 and len(server.seen) + len(other.seen) == 120


def test_what_a_dead_replica_was_asked_the_other_answers_and_it_is_left_alone(server, other):
    prompts = [f"prompt {i}" for i in range(20)]

    async def work(engine):
        await ask_about(engine, prompts, n_asks=1)
        before = prompts_seen_by(other)
        other.is_dead = True
        other.shutdown()
        other.server_close()
        started = time.monotonic()
        await ask_about(engine, prompts, n_asks=2)
        assert time.monotonic() - started < 4, "a replica that is gone is not waited for at every ask"
        assert before == prompts_seen_by(other)

    use(server, work, replicas=(other.url,))
    assert prompts_seen_by(other) and prompts_seen_by(server) == set(prompts)


def test_replicas_of_different_models_are_refused(server, other):
    other.models = (200, {"data": [{"id": "small", "root": "/m/another"}]}, {})
    with pytest.raises(EngineError, match="must all serve one model"):
        use(server, lambda e: e.complete(ASK, Sampling(), 1), replicas=(other.url,))
