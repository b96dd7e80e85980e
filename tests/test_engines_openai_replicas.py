"""Several servers of one model: a prompt's asks stay together, and a dead one's go to the others."""

import asyncio
import time

import pytest
from chat_server import ASK, serving, use

from cai.engines.base import about
from cai.errors import EngineError
from cai.records import Message, Sampling


@pytest.fixture
def server():
    with serving() as http:
        yield http


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
