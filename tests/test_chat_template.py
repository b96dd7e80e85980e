"""What engines and training make of a conversation through the model's own template: the same, and without thoughts."""

import asyncio
import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_server import ASK, MODELS, reply, serving, use
from training_fixtures import assistant, build_model, build_thinking_model, user, write_prompts

from cai.config import EngineConfig, GRPOConfig, RLOOConfig, SFTConfig
from cai.config.rewards import LengthTerm
from cai.engines import open_engine
from cai.engines.chat import ChatTokenizer
from cai.errors import DataError
from cai.records import Message, Sampling
from cai.training import grpo, rloo, sft
from cai.training.chat import IGNORED, encode_replies, load_tokenizer, render
from cai.training.jobs import GRPOJob, RLOOJob, SFTJob
from cai.training.prompts import prepare_prompts

OPENING = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
ONE = (Message("user", "Q1"),)
TWO = (*ONE, Message("assistant", "A1"), Message("user", "Q2"))


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    return build_thinking_model(tmp_path_factory.mktemp("models") / "thinking")


@pytest.mark.parametrize("prompt", [ONE, TWO, (Message("system", "S"), *TWO)], ids=["one", "two", "system"])
def test_what_is_trained_follows_exactly_the_prompt_an_engine_answers(thinking, prompt):
    """Of a model that thinks an engine's prompt ended before the thought, and training's behind an empty one: the judge
    was asked for its first thought, and replies were thoughts, cut off.
    """
    tokenizer = load_tokenizer(thinking)
    asked = ChatTokenizer(thinking).prompt(prompt, 10_000)
    assert tokenizer.decode(asked).endswith(OPENING), "the next token is the answer's first"
    (example,) = encode_replies(tokenizer, [prompt], [(Message("assistant", "A2"),)], 10_000)
    assert example.input_ids[: len(asked)] == asked and set(example.labels[: len(asked)]) == {IGNORED}
    assert tokenizer.decode(example.labels[len(asked) :]) == "A2<|im_end|>\n"


@pytest.mark.parametrize(("kind", "settings"), [(GRPOJob, GRPOConfig), (RLOOJob, RLOOConfig)])
def test_trl_samples_from_the_same_prompt(tmp_path, thinking, kind, settings):
    reward = LengthTerm(name="length", free_tokens=4, scale_tokens=4)
    config = settings(
        steps=1, prompts_per_step=2, samples_per_prompt=2, max_tokens=4, max_prompt_tokens=200, rewards=(reward,)
    )
    data = write_prompts(tmp_path / "prompts.parquet", 2)
    job = kind(model=thinking, data=data, out=tmp_path / "out", config=config)
    prepared = prepare_prompts(job)
    stage = {GRPOJob: grpo, RLOOJob: rloo}[kind]
    trainer = stage.build_trainer(job, prepared, tmp_path / "work")
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    engine = ChatTokenizer(thinking)
    expected = {tuple(engine.prompt(row.prompt, 10_000)) for row in prepared.prompts}
    pairs = zip(batch["prompt_ids"].tolist(), batch["prompt_mask"].tolist(), strict=True)
    assert {tuple(i for i, seen in zip(ids, mask, strict=True) if seen) for ids, mask in pairs} == expected
    trainer.rewards.close()


def test_a_template_that_rewrites_an_answer_later_says_what_to_do(thinking):
    """The thought before A1 is gone once Q2 is asked, so a row of both replies has no text that was sampled from."""
    with pytest.raises(DataError, match="give each reply a row of its own"):
        encode_replies(load_tokenizer(thinking), [ONE], [(*TWO[1:], Message("assistant", "A2"))], 10_000)


def test_a_template_that_knows_no_such_variable_writes_what_it_did(tmp_path):
    tokenizer = load_tokenizer(build_model(tmp_path / "tiny"))
    messages = [dataclasses.asdict(message) for message in TWO]
    plain = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert render(tokenizer, [TWO], ask=True) == [plain]


def test_vllm_is_told_not_to_think_and_a_server_that_may_refuse_is_not():
    def bodies(owner, script):
        with serving() as server:
            server.models = (200, {"data": [{**MODELS["data"][0], "owned_by": owner}]}, {})
            server.script = script
            use(server, lambda engine: twice(engine))
            return [body for body, _, _ in server.seen]

    async def twice(engine):
        await engine.complete(ASK, Sampling(max_tokens=3), 0)
        return await engine.complete(ASK, Sampling(max_tokens=3), 1)

    assert [body["chat_template_kwargs"] for body in bodies("vllm", [reply("A")])] == [{"enable_thinking": False}] * 2
    assert not any("chat_template_kwargs" in body for body in bodies("openai", [reply("A")]))
    refusal = (400, {"error": {"message": "chat_template is not supported for Mistral tokenizers."}}, {})
    told = ["chat_template_kwargs" in body for body in bodies("vllm", [refusal, reply("A")])]
    assert told == [True, False, False], "asked again without, and not told any more"


NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def test_a_role_that_the_template_refuses_names_the_row_and_the_way_out(tmp_path):
    """As Gemma's does; it came up as a jinja error from deep inside."""
    model = build_model(tmp_path / "gemma")
    template = model / "chat_template.jinja"
    template.write_text(NO_SYSTEM + template.read_text())
    rows = [{"prompt": user("how"), "completion": assistant("tea")}] * 2
    rows[1] = {**rows[1], "prompt": [{"role": "system", "content": "no tea"}, *user("how")]}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sft.parquet")
    job = SFTJob(model=model, data=tmp_path / "sft.parquet", out=tmp_path / "out", config=SFTConfig())
    said = "conversation 1 of 2.*the roles system, user, assistant .*'no tea': System role not supported; leave"
    with pytest.raises(DataError, match=said):
        sft.prepare_rows(job)

    async def ask():
        engine = await open_engine(EngineConfig(kind="transformers", model=str(model)))
        try:
            await engine.complete([Message("system", "no tea"), Message("user", "how")], Sampling(max_tokens=1), 0)
        finally:
            await engine.close()

    with pytest.raises(DataError, match="the chat template of .*gemma refuses .* roles system, user that begins 'no"):
        asyncio.run(ask())
