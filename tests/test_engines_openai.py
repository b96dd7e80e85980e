"""The openai engine against a scripted HTTP server: replies, log-probabilities or none, keys, and models."""

import asyncio
import logging
import math
import threading
import time
import traceback

import httpx
import pytest
from chat_server import ASK, reply, serving, use
from pydantic import ValidationError

from cai.config import EngineConfig, Profile
from cai.config.base import problems
from cai.engines import open_engine
from cai.engines.openai import OpenAIEngine
from cai.engines.options import NEVER
from cai.engines.slot import EngineSlot
from cai.errors import ConfigError, EngineError, ModelNotFound
from cai.records import Sampling


@pytest.fixture
def server():
    with serving() as http:
        yield http


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


def test_a_key_from_a_file_is_sent_without_its_line_end(server, monkeypatch):
    """The client refused the header and quoted it, so that the key stood in the error, seven times tried."""
    monkeypatch.setenv("SOME_KEY", "s3cret\n")
    use(server, lambda e: e.complete(ASK, Sampling(), 1), api_key_env="SOME_KEY")
    assert server.seen[0][1] == "Bearer s3cret"


@pytest.mark.parametrize("key", ["s3cret…", "s3\ncret", "s3cret\x7f"])
def test_a_key_that_cannot_be_sent_is_told_by_the_name_of_its_variable(server, monkeypatch, caplog, key):
    monkeypatch.setenv("SOME_KEY", key)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError, match=r"\$SOME_KEY .*printable ASCII") as caught:
        use(server, lambda e: e.complete(ASK, Sampling(), 1), api_key_env="SOME_KEY")
    assert "s3" not in caplog.text + str(caught.value)


def test_a_header_that_cannot_be_sent_is_neither_quoted_nor_tried_again(server):
    async def go():
        client = httpx.AsyncClient(base_url=server.url, headers={"Authorization": "Bearer s3cret\n"})
        engine = OpenAIEngine(EngineConfig(kind="openai", model="small"), client, backoff_s=60)
        try:
            await engine.connect()
        finally:
            await engine.close()

    with pytest.raises(EngineError, match="a header is not as HTTP has it") as caught:
        asyncio.run(go())
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


SECRETS = [
    {"api_key_env": "sk-s3cret-0123456789"},
    {"api_key_env": "gsk_s3cretEFGH1234ijklMNOP5678qrstUV"},
    {"base_url": "http://me:s3cret@127.0.0.1:9/v1"},
    {"base_url": "htttp://127.0.0.1:9/v1?key=s3cret"},
    {"replicas": ["http://me:s3cret@127.0.0.1:9/v1"]},
    {"api_key": "s3cret"},
]


@pytest.mark.parametrize("typed", SECRETS)
def test_a_key_that_is_typed_into_a_profile_is_refused_and_not_repeated(typed):
    """It was stored with the run, and stood in the error."""
    with pytest.raises(ValidationError) as caught:
        Profile.model_validate({"constitution": "c.yaml", "engine": typed, "prompts": []})
    said = problems(caught.value)
    assert f"engine.{next(iter(typed))}" in said and "name: Field required" in said and "s3cret" not in said
    with pytest.raises(ValidationError) as caught:
        EngineConfig(**typed)
    assert "s3cret" not in str(caught.value)
