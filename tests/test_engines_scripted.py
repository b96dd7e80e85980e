"""The scripted engine: the same request gives the same reply, scripts are read strictly, failures come when told."""

import asyncio
import math

import pytest

from cai.config import EngineConfig
from cai.engines import open_engine
from cai.engines.options import NEVER
from cai.engines.scripted import Rule, ScriptedEngine
from cai.errors import ConfigError, EngineDied, PromptTooLong
from cai.records import Message, Sampling

ASK = [Message("user", "Critique request: is it harmful?")]


def test_a_reply_depends_on_messages_sampling_seed_and_model_alone():
    async def run():
        engine = ScriptedEngine()
        first = await engine.complete(ASK, Sampling(), 1)
        assert first == await ScriptedEngine().complete(ASK, Sampling(), 1)
        assert first.text != (await engine.complete(ASK, Sampling(), 2)).text
        greedy = [(await engine.complete(ASK, Sampling(temperature=0), seed)).text for seed in (1, 2)]
        assert greedy[0] == greedy[1]
        before = engine.model_digest
        await engine.load("other")
        assert engine.model_digest != before
        assert first.text != (await engine.complete(ASK, Sampling(), 1)).text

    asyncio.run(run())


def test_rules_answer_by_the_last_user_message_and_digests_answer_the_rest(tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text("rules:\n  - {when: '^Critique', reply: It is.}\n  - {when: letter, choose: [0.75, 0.0]}\n")

    async def run():
        engine = await open_engine(EngineConfig(kind="scripted", script=script))
        assert (await engine.complete(ASK, Sampling(), 1)).text == "It is."
        assert (await engine.complete([*ASK, Message("user", "no rule")], Sampling(), 1)).text != "It is."
        choice = await engine.choose([Message("user", "a letter")], ["A", "B"])
        assert choice.logps == (math.log(0.75), NEVER)
        assert choice.mass_outside == pytest.approx(0.25)

    asyncio.run(run())


def test_a_function_answers_and_a_long_reply_is_cut_at_max_tokens():
    async def run():
        engine = ScriptedEngine(lambda messages, sampling, seed: f"seed is {seed} here", lambda m, o: [0.1] * len(o))
        reply = await engine.complete(ASK, Sampling(max_tokens=3), 7)
        assert (reply.text, reply.finish_reason, reply.n_tokens) == ("seed is 7", "length", 3)
        assert (await engine.choose(ASK, "ABC")).mass_outside == pytest.approx(0.7)
        assert (engine.n_complete, engine.n_choose) == (1, 1)

    asyncio.run(run())


def test_the_nth_call_fails_and_the_next_one_works():
    async def run():
        engine = ScriptedEngine(failures={2: EngineDied("out of memory")})
        await engine.complete(ASK, Sampling(), 1)
        with pytest.raises(EngineDied, match="out of memory"):
            await engine.choose(ASK, "AB")
        await engine.choose(ASK, "AB")

    asyncio.run(run())


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers():
    async def run():
        engine = ScriptedEngine(context_length=5)
        with pytest.raises(PromptTooLong, match="5 tokens and the context holds 5"):
            await engine.complete(ASK, Sampling(), 1)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rules: [{when: x}]", "rule 1: it has neither"),
        ("rules: [{when: '(', reply: x}]", "rule 1: '\\(' is no regular"),
        ("rules: [{if: x}]", "if"),
        ("rules: [", "cannot be used"),
    ],
)
def test_a_wrong_script_is_refused(tmp_path, text, complaint):
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        asyncio.run(open_engine(EngineConfig(kind="scripted", script=path)))


def test_choices_that_are_no_probabilities_are_refused():
    with pytest.raises(ConfigError, match="sum <= 1"):
        asyncio.run(ScriptedEngine([Rule(when="", choose=(0.9, 0.9))]).choose(ASK, "AB"))
