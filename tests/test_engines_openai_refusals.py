"""What the openai engine does when a server is busy, broken, gone or refuses: wait, ask otherwise, or say why."""

import asyncio
from itertools import pairwise

import httpx
import pytest
from chat_server import ASK, USAGE, reply, serving, use

from cai.config import EngineConfig
from cai.engines import openai as engine_module
from cai.errors import EngineError, EngineUnreachable, PromptTooLong
from cai.records import Sampling


@pytest.fixture
def server():
    with serving() as http:
        yield http


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


def test_a_dead_server_is_unreachable_and_its_address_is_named(port):
    url = f"http://user:secret@127.0.0.1:{port}/v1"

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
