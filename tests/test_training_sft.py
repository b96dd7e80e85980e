import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from training_fixtures import assistant, build_model, user, write_sft
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM

from cai.config import SFTConfig
from cai.errors import ConfigError, DataError, TrainingError
from cai.models import content_digest
from cai.records import Message
from cai.training import sft
from cai.training.chat import IGNORED, encode_replies, load_tokenizer
from cai.training.command import run
from cai.training.jobs import SFTJob


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


def job_for(tmp_path, model, rows=None, n=40, **config):
    data = write_sft(tmp_path / "sft.parquet", n)
    if rows is not None:
        pq.write_table(pa.Table.from_pylist(rows), data)
    settings = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 32, **config}
    return SFTJob(model=model, data=data, out=tmp_path / "out", config=SFTConfig(**settings))


def test_loss_is_on_the_replys_tokens_and_its_end_of_turn_alone(model):
    tokenizer = load_tokenizer(model)
    turns = (Message("user", "how do i"), Message("assistant", "no sorry"), Message("user", "please"))
    (example,) = encode_replies(tokenizer, [turns], [(Message("assistant", "make tea"),)], max_length=64)
    trained = [i for i, label in zip(example.input_ids, example.labels, strict=True) if label != IGNORED]
    assert tokenizer.convert_ids_to_tokens(trained) == ["make", "tea", "<|end|>"]
    assert all(label in (i, IGNORED) for i, label in zip(example.input_ids, example.labels, strict=True))
    asked = tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in turns], tokenize=True)
    assert example.input_ids[: len(asked["input_ids"])] == asked["input_ids"]


def test_of_a_reply_in_several_turns_the_assistants_alone_are_trained(model):
    """What the user says between two replies was trained too, as whatever stands behind the first prompt was."""
    tokenizer = load_tokenizer(model)
    asked = (Message("user", "how do i"),)
    said = (Message("assistant", "make tea"), Message("user", "a plan please"), Message("assistant", "sure"))
    (example,) = encode_replies(tokenizer, [asked], [said], max_length=64)
    trained = [i for i, label in zip(example.input_ids, example.labels, strict=True) if label != IGNORED]
    assert tokenizer.convert_ids_to_tokens(trained) == ["make", "tea", "<|end|>", "sure", "<|end|>"]


def test_the_trainer_is_given_exactly_those_labels(tmp_path, model):
    job = job_for(tmp_path, model)
    prepared = sft.prepare_rows(job)
    trainer = sft.build_trainer(job, prepared, tmp_path / "work")
    seen = sum(int((batch["labels"] != IGNORED).sum()) for batch in trainer.get_train_dataloader())
    assert seen == prepared.facts["n_trained_tokens"] == sum(e.n_trained for e in prepared.examples)


def test_truncation_is_counted_and_a_reply_cut_away_is_a_reject(tmp_path, model):
    rows = [
        {"prompt": user("how"), "completion": assistant("tea")},
        {"prompt": user("how"), "completion": assistant("tea " * 20)},
        {"prompt": user("how " * 30), "completion": assistant("tea")},
    ]
    rows.append({"prompt": user("how"), "completion": user("please")})
    rows = [{**row, "prompt_id": f"p{i}", "response_id": f"r{i}", "revision_id": None} for i, row in enumerate(rows)]
    rows = [{**row, "source": "helpful" if i == 1 else "revision"} for i, row in enumerate(rows)]
    meta = run(sft.STAGE, job_for(tmp_path, model, rows, max_length=16, batch_size=2))
    assert (meta["n_rows"], meta["n_truncated"], meta["n_rejected"]) == (2, 1, 2)
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["reason"]) for r in rejects] == [("sft", "reply_beyond_max_length"), ("sft", "no_reply")]
    assert [(r["prompt_id"], r["parent_ids"]) for r in rejects] == [("p2", ["r2"]), ("p3", ["r3"])]
    # `<|user|> how <|end|> <|assistant|> tea <|end|>`: the reply and its end are trained; the other is cut at 16.
    assert meta["by_source"] == {
        "helpful": {"n_rows": 1, "n_truncated": 1, "n_tokens": 16, "n_trained_tokens": 12},
        "revision": {"n_rows": 1, "n_truncated": 0, "n_tokens": 6, "n_trained_tokens": 2},
    }
    assert (meta["n_tokens"], meta["n_trained_tokens"]) == (22, 14)


def test_training_lowers_the_loss_and_the_result_is_a_whole_model(tmp_path, model):
    job = job_for(tmp_path, model, epochs=8, learning_rate=1e-2, save_steps=1000)
    meta = run(sft.STAGE, job)
    assert meta["metrics"]["loss/last"] < meta["metrics"]["loss/first"] - 0.2
    assert meta["model_digest"] == content_digest(job.out)
    assert meta["parent_digest"] == content_digest(model) != meta["model_digest"]
    assert meta["code"]["version"] and meta["code"]["digest"]
    assert not job.out.with_name("out.unfinished").exists()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        assert (job.out / name).read_bytes() == (model / name).read_bytes()
    reply = AutoModelForCausalLM.from_pretrained(job.out).generate(torch.tensor([[3, 7, 5, 4]]), max_new_tokens=4)
    assert reply.shape[1] > 4
    assert AutoTokenizer.from_pretrained(job.out).chat_template


def test_done_work_is_found_and_another_jobs_result_is_never_overwritten(tmp_path, model):
    job = job_for(tmp_path, model, n=8)
    first = run(sft.STAGE, job)
    again = run(sft.STAGE, job)
    assert (first.pop("status"), again.pop("status")) == ("trained", "already done")
    assert first == again
    with pytest.raises(ConfigError, match="holds the result of another job"):
        run(sft.STAGE, job.model_copy(update={"seed": 5}))


def test_the_same_job_gives_the_same_bytes_wherever_it_runs(tmp_path, model):
    job = job_for(tmp_path, model, n=16)
    shutil.copytree(model, tmp_path / "moved-model")
    moved = job.model_copy(update={"model": tmp_path / "moved-model", "out": tmp_path / "elsewhere"})
    torch.manual_seed(99)
    assert run(sft.STAGE, job)["model_digest"] == run(sft.STAGE, moved)["model_digest"]


def test_packed_rows_do_not_see_each_other(tmp_path, model):
    """The packed loss of a batch is the padded loss of the same rows, and is not that of rows that see each other."""
    losses = {}
    for packing in (False, True):
        folder = tmp_path / str(packing)
        folder.mkdir()
        job = job_for(folder, model, n=6, packing=packing, batch_size=6, max_length=64)
        prepared = sft.prepare_rows(job)
        trainer = sft.build_trainer(job, prepared, folder / "work")
        (batch,) = list(trainer.get_train_dataloader())
        assert batch["input_ids"].shape[0] == (1 if packing else 6)
        with torch.no_grad():
            losses[packing] = float(trainer.compute_loss(trainer.model, dict(batch)))
            batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
            mixed = float(trainer.compute_loss(trainer.model, batch))
    assert losses[True] == pytest.approx(losses[False], abs=1e-5)
    assert abs(mixed - losses[False]) > 1e-4


def test_packing_is_refused_where_the_model_lets_rows_see_each_other(tmp_path, model):
    """Bloom places tokens by their distance, and its mask knows no positions to keep rows apart by."""
    leaky = tmp_path / "leaky"
    shutil.copytree(model, leaky)
    BloomForCausalLM(BloomConfig(vocab_size=24, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(leaky)
    with pytest.raises(ConfigError, match=r"in a bloom model packed rows see each other .* set `packing: false`"):
        run(sft.STAGE, job_for(tmp_path, leaky, n=4, packing=True))
    assert run(sft.STAGE, job_for(tmp_path, leaky, n=4))["n_rows"] == 4


def test_lora_is_merged_so_that_the_result_is_a_plain_model(tmp_path, model):
    job = job_for(tmp_path, model, n=16, lora_rank=4, learning_rate=1e-2, epochs=3)
    run(sft.STAGE, job)
    assert not list(job.out.glob("adapter*"))
    before, after = (AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (model, job.out))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_merged_model_says_what_the_adapter_did(tmp_path, model):
    job = job_for(tmp_path, model, n=8, lora_rank=4, learning_rate=1e-1, epochs=6)
    trainer = sft.build_trainer(job, sft.prepare_rows(job), tmp_path / "work")
    trainer.train()
    ids = torch.tensor([[3, 6, 7, 5, 4]])
    with torch.no_grad():
        adapted = trainer.model.eval()(ids).logits
        merged = trainer.model.merge_and_unload()(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(model)(ids).logits
    assert torch.allclose(adapted, merged, atol=1e-5) and not torch.allclose(adapted, plain, atol=1e-3)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, model):
    with pytest.raises(TrainingError, match="step .*there is no good checkpoint; lower the learning rate"):
        run(sft.STAGE, job_for(tmp_path, model, learning_rate=1e30, epochs=20))
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_usable_chat_template_is_refused(tmp_path, model):
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        run(sft.STAGE, job_for(tmp_path, bare))
    endless = "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' ' }}{% endfor %}"
    (bare / "chat_template.jinja").write_text(
        endless + "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
    )
    with pytest.raises(DataError, match="no reply ends with a token that stops generation"):
        run(sft.STAGE, job_for(tmp_path, bare))


def test_trl_is_imported_without_vllm():
    """In a process of its own: another test may have loaded it here."""
    code = (
        "import importlib.util, sys; from cai.training.libraries import without_vllm\n"
        "with without_vllm(): print(importlib.util.find_spec('vllm'))\n"
        "print('vllm' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["None", "False"]
