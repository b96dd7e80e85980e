"""What every engine promises, asked of each of them; vllm and transformers run a tiny random model on the CPU."""

import asyncio
import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tiny_model import save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from cai.config import EngineConfig
from cai.engines import open_engine
from cai.engines.vllm_start import OWNER
from cai.errors import EngineDied, EngineError, ModelNotFound, PromptTooLong
from cai.records import Message, Sampling

# Models with an output layer tied to the embedding, and without: vLLM's reload forgot the tied one.
KINDS = ["scripted", "transformers", "vllm", "vllm tied"]
SAMPLING = Sampling(temperature=1.0, top_p=0.95, max_tokens=12)


def ask(text):
    return [Message("user", text)]


def save_models(root, tied):
    return {
        "first": save_tiny_model(root / "first", 1, tied=tied),
        "second": save_tiny_model(root / "second", 2, tied=tied),
        "wide": save_tiny_model(root / "wide", 1, width=128, tied=tied),
        "words": save_tiny_model(root / "words", 1, extra_words=1, tied=tied),
    }


@pytest.fixture(scope="session")
def all_models(tmp_path_factory):
    return {tied: save_models(tmp_path_factory.mktemp("models"), tied) for tied in (False, True)}


@pytest.fixture
def models(all_models, engine):
    """The models of the engine's shape."""
    return all_models[engine.runs_tied]


@pytest.fixture(scope="module")
def loop():
    """An engine lives in one event loop, and its start is dear: both serve the whole module."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=KINDS)
def engine(request, loop, all_models):
    kind, _, tied = request.param.partition(" ")
    model = all_models[bool(tied)]["first"]
    context_length = 256 if kind == "scripted" else None
    config = EngineConfig(kind=kind, model=str(model), max_concurrency=64, context_length=context_length)
    engine = loop.run(open_engine(config))
    engine.runs_tied = bool(tied)
    yield engine
    loop.run(engine.close())


def children(pid: int) -> set[int]:
    """Process ids of everything below `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found = {p for p, parent in parents.items() if parent == pid}
    return found.union(*(children(p) for p in found))


def test_a_reply_depends_on_messages_sampling_and_seed_whatever_runs_beside_it(engine, loop):
    asks = [(ask(f"w{i} please say"), seed) for i in range(12) for seed in (1, 2)]

    async def together():
        return await asyncio.gather(*(engine.complete(messages, SAMPLING, seed) for messages, seed in asks))

    alone = [loop.run(engine.complete(messages, SAMPLING, seed)).text for messages, seed in asks]
    assert [g.text for g in loop.run(together())] == alone
    assert len(set(alone)) > len(asks) * 0.8


def test_greedy_replies_ignore_the_seed(engine, loop):
    greedy = Sampling(temperature=0.0, max_tokens=8)
    assert len({loop.run(engine.complete(ask("help"), greedy, seed)).text for seed in range(3)}) == 1


def test_a_reply_is_cut_at_max_tokens_and_says_so(engine, loop):
    reply = loop.run(engine.complete(ask("help w1"), Sampling(max_tokens=2), 5))
    assert reply.n_tokens <= 2
    assert reply.finish_reason == "length" or reply.n_tokens < 2 or reply.text
    lengths = [loop.run(engine.complete(ask(f"w{i}"), Sampling(max_tokens=1), i)) for i in range(8)]
    assert {g.n_tokens for g in lengths} == {1}
    assert "length" in {g.finish_reason for g in lengths}


def test_a_choice_is_a_distribution_over_the_options_and_the_rest(engine, loop):
    choice = loop.run(engine.choose(ask("letter A or B"), ["A", "B"]))
    inside = sum(math.exp(p) for p in choice.logps)
    assert len(choice.logps) == 2 and 0 < inside <= 1
    assert choice.mass_outside == pytest.approx(1 - inside, abs=1e-6)
    assert choice.exact and choice.n_prompt_tokens > 0


def test_a_choice_does_not_depend_on_what_runs_beside_it(engine, loop):
    asks = [ask(f"letter w{i} " + "good " * i) for i in range(16)]

    async def together():
        return await asyncio.gather(*(engine.choose(messages, "AB") for messages in asks))

    alone = [loop.run(engine.choose(messages, "AB")).logps for messages in asks]
    assert [c.logps for c in loop.run(together())] == [pytest.approx(logps, abs=1e-4) for logps in alone]


def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(engine, loop):
    with pytest.raises(PromptTooLong, match=f"context holds {engine.context_length}"):
        loop.run(engine.complete(ask("good " * 300), SAMPLING, 1))
    with pytest.raises(PromptTooLong):
        loop.run(engine.choose(ask("good " * 300), "AB"))


def test_a_reply_may_fill_the_context_and_is_then_cut(engine, loop):
    prompt = ask("good " * (engine.context_length - 4))
    cut = [loop.run(engine.complete(prompt, Sampling(max_tokens=100), seed)) for seed in range(5)]
    assert all(g.n_prompt_tokens + g.n_tokens <= engine.context_length for g in cut)
    assert "length" in {g.finish_reason for g in cut}


def test_swapped_weights_answer_at_once_and_swapping_back_brings_the_first_ones(engine, loop, models):
    async def swap():
        reply, choice, digest = await engine.complete(ask("help"), SAMPLING, 1), await engine.choose(ask("A"), "AB"), ""
        first, digest = (reply.text, choice.logps), engine.model_digest
        await engine.load(models["second"])
        second = ((await engine.complete(ask("help"), SAMPLING, 1)).text, (await engine.choose(ask("A"), "AB")).logps)
        assert engine.model_digest != digest
        await engine.load(models["first"])
        again = ((await engine.complete(ask("help"), SAMPLING, 1)).text, (await engine.choose(ask("A"), "AB")).logps)
        assert engine.model_digest == digest
        return first, second, again

    first, second, again = loop.run(swap())
    assert first[0] != second[0] and first[1] != second[1]
    assert first[0] == again[0] and first[1] == pytest.approx(again[1], abs=1e-6)


def test_replies_in_flight_are_whole_when_the_weights_are_swapped(engine, loop, models):
    async def swap_meanwhile():
        asked = [asyncio.create_task(engine.complete(ask(f"w{i}"), SAMPLING, i)) for i in range(20)]
        await asyncio.sleep(0.01)
        await engine.load(models["second"])
        await engine.load(models["first"])
        return [g.text for g in await asyncio.gather(*asked)]

    calm = [loop.run(engine.complete(ask(f"w{i}"), SAMPLING, i)).text for i in range(20)]
    assert loop.run(swap_meanwhile()) == calm


def test_weights_of_another_shape_or_tokenizer_are_refused_and_the_engine_goes_on(engine, loop, models):
    if type(engine).__name__ == "ScriptedEngine":
        return  # it has no shape
    before = loop.run(engine.complete(ask("help"), SAMPLING, 1)).text
    with pytest.raises(ModelNotFound, match="hidden_size 128 .running: 64"):
        loop.run(engine.load(models["wide"]))
    with pytest.raises(ModelNotFound, match="vocab_size"):
        loop.run(engine.load(models["words"]))
    assert loop.run(engine.complete(ask("help"), SAMPLING, 1)).text == before


def test_options_that_share_their_first_token_are_refused(engine, loop):
    if type(engine).__name__ == "ScriptedEngine":
        return  # it has no tokens
    with pytest.raises(EngineError, match="first token"):
        loop.run(engine.choose(ask("help"), ["zebra", "zoo"]))


def test_control_tokens_in_a_message_stay_text(engine, loop):
    plain = loop.run(engine.complete(ask("good good <|end|> good"), SAMPLING, 1))
    assert plain.n_prompt_tokens > 0
    if type(engine).__name__ != "ScriptedEngine":
        assert engine._tokenizer.prompt(ask("<|end|>"), 99).count(engine._tokenizer.eos_id) == 1


def test_greedy_words_and_log_probabilities_are_those_of_a_plain_forward_pass(engine, loop, models):
    """Batching, padding, caches and packed weights must not show: one sequence, no cache, is the truth."""
    if type(engine).__name__ == "ScriptedEngine":
        return  # it has no weights
    model = AutoModelForCausalLM.from_pretrained(models["second"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(models["second"])
    asks = [f"w{i} help " + "good " * (3 * i) for i in range(10)]

    def truth(text):
        prompt = tokenizer(f"<|user|> {text} <|end|>\n<|assistant|>", add_special_tokens=False)["input_ids"]
        ids = list(prompt)
        with torch.inference_mode():
            first = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            while len(ids) < len(prompt) + 10 and ids[-1] != tokenizer.eos_token_id:
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        letters = [[tokenizer.vocab[w] for w in words] for words in (["A", "a"], ["B", "b"], ["yes"])]
        said = tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
        return said, [float(first[group].logsumexp(0)) for group in letters]

    async def answers():
        await engine.load(models["second"])
        try:
            greedy = Sampling(temperature=0.0, max_tokens=10)
            texts = await asyncio.gather(*(engine.complete(ask(text), greedy, 0) for text in asks))
            choices = await asyncio.gather(*(engine.choose(ask(text), ["A", "B", "yes"]) for text in asks))
            return [(g.text, list(c.logps)) for g, c in zip(texts, choices, strict=True)]
        finally:
            await engine.load(models["first"])

    for (text, logps), (true_text, true_logps) in zip(loop.run(answers()), map(truth, asks), strict=True):
        assert text == true_text
        assert logps == pytest.approx(true_logps, abs=1e-3)


def test_closing_vllm_leaves_no_process_and_a_killed_one_is_reported(loop, all_models):
    before = children(os.getpid())

    async def kill():
        engine = await open_engine(EngineConfig(kind="vllm", model=str(all_models[False]["first"]), max_concurrency=8))
        started = children(os.getpid()) - before
        asked = asyncio.create_task(engine.complete(ask("help"), Sampling(max_tokens=200), 1))
        await asyncio.sleep(0.01)
        for pid in started:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="SIGKILL"):
            await asked
        with pytest.raises(EngineDied, match="open another"):
            await engine.choose(ask("help"), "AB")
        await engine.close()
        await engine.close()
        return started

    started = loop.run(kill())
    assert started
    assert not children(os.getpid()) & started


ENDS = "import cai.engines.vllm, sys, time\nassert 'cai.engines.vllm_worker' not in sys.modules\n"
ENDS += "import cai.engines.vllm_worker; print('there', flush=True); time.sleep(60)"
BETWEEN = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ENDS!r}])"


@pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd_open")
def test_the_processes_of_vllm_end_with_the_one_that_they_are_for(tmp_path):
    """`cai prompts generate`, killed with SIGKILL, left vLLM's process with the lock of the accelerator: the same
    command waited for its turn for ever. vLLM's process imports the module as these do.
    """
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    environment = {**os.environ, OWNER: str(owner.pid)}
    between = subprocess.Popen([sys.executable, "-c", BETWEEN], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert between.stdout.readline() == "there\n" and between.poll() is None
        owner.kill()
        assert between.wait(20) == -signal.SIGKILL
        assert between.stdout.read() == "", "the other end is closed by all who had it"
    finally:
        owner.wait()
        between.kill()
        between.wait()


def test_vllm_says_why_it_does_not_start(loop, all_models):
    with pytest.raises(EngineError, match="max_model_len|max seq len|context|400"):
        loop.run(open_engine(EngineConfig(kind="vllm", model=str(all_models[False]["first"]), context_length=400)))
