import json
import math
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from launch_jobs import assert_same_training, curve
from safetensors.torch import load_file
from training_fixtures import assistant, build_model, user, write_pairs

from cai.config import DPOConfig
from cai.errors import TrainingError
from cai.training import dpo
from cai.training.command import run
from cai.training.jobs import DPOJob
from cai.training.libraries import without_vllm

with without_vllm():
    from cai.training.dpo_trainer import Halves, pair_metrics

OPENING = "<|user|> {} <|end|> <|assistant|> "


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


def write_rows(path, rows):
    """Rows of (prompt, chosen, rejected, soft label), and a weight where it is not 1."""
    columns = [
        {
            "prompt": user(prompt), "chosen": assistant(chosen), "rejected": assistant(rejected), "soft_label": label,
            "is_tie": label == 0.5, "pair_id": f"pair-{i}", "prompt_id": f"prompt-{prompt}",
            "weight": weight[0] if weight else 1.0,
        }
        for i, (prompt, chosen, rejected, label, *weight) in enumerate(rows)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(columns), path)
    return path


def job_for(folder, model, rows=None, n=64, **config):
    settings = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "max_length": 40, "beta": 0.1, **config}
    data = folder / "pairs.parquet"
    data = write_pairs(data, n) if rows is None else write_rows(data, rows)
    return DPOJob(model=model, data=data, out=folder / "out", config=DPOConfig(**settings), seed=1)


def trainer_for(job, folder):
    trainer = dpo.build_trainer(job, dpo.prepare_pairs(job), folder)
    trainer.model.train()
    return trainer


def log_likelihood(model, tokenizer, prompt, response):
    """log π(response, end of turn included | prompt), in float64 NumPy from the model's logits, one row at a time."""
    opening = tokenizer(OPENING.format(prompt))["input_ids"]
    ids = opening + tokenizer(f"{response} <|end|>")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    logps = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    logps -= logits.max(1, keepdims=True)
    return sum(logps[i - 1, ids[i]] for i in range(len(opening), len(ids)))


ROWS = [
    ("how", "sorry no", "sure", 0.9, 2.5),
    ("make a cake", "sure", "no please that would hurt people", 0.3, 0.5),
    ("tea", "fine", "sorry", 0.5),
]


def test_the_loss_and_its_numbers_are_those_of_the_equation_in_float64(tmp_path, model):
    job = job_for(tmp_path, model, ROWS, beta=0.2, batch_size=3)
    trainer = trainer_for(job, tmp_path / "work")
    torch.manual_seed(5)
    with torch.no_grad():
        for weights in trainer.model.parameters():
            weights += 0.02 * torch.randn_like(weights)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
    loss = trainer._compute_loss(trainer.model, batch, return_outputs=False)

    tokenizer = trainer.processing_class
    of = {
        name: np.array([[log_likelihood(m, tokenizer, r[0], r[k]) for k in (1, 2)] for r in ROWS])
        for name, m in (("policy", trainer.model), ("reference", trainer.ref_model))
    }
    rewards = 0.2 * (of["policy"] - of["reference"])
    margins, p = rewards[:, 0] - rewards[:, 1], np.array([r[3] for r in ROWS])
    assert np.abs(margins).min() > 0.01  # else it would prove little
    sigma = 1 / (1 + np.exp(-margins))
    expected = np.average(-p * np.log(sigma) - (1 - p) * np.log(1 - sigma), weights=[2.5, 0.5, 1.0])
    assert loss.item() == pytest.approx(expected, abs=1e-6)

    found = {name: np.mean(values) for name, values in trainer._metrics["train"].items()}
    assert found["rewards/chosen"] == pytest.approx(rewards[:, 0].mean(), abs=1e-5)
    assert found["rewards/rejected"] == pytest.approx(rewards[:, 1].mean(), abs=1e-5)
    assert found["rewards/margins"] == pytest.approx(margins.mean(), abs=1e-5)
    assert found["logps/chosen"] == pytest.approx(of["policy"][:, 0].mean(), abs=1e-4)
    assert found["logps/rejected"] == pytest.approx(of["policy"][:, 1].mean(), abs=1e-4)
    assert found["rewards/accuracies"] == np.mean([margins[0] > 0, margins[1] < 0])
    assert found["drift/k3"] > 0


def test_a_policy_that_equals_its_reference_gets_no_gradient_at_all_from_ties(tmp_path, model):
    """Not a small gradient: Adam would make a whole step of it."""
    ties = [(f"make {word}", "sorry no", "sure fine please", 0.5) for word in ("tea", "cake", "a", "plan") * 4]
    trainer = trainer_for(job_for(tmp_path, model, ties), tmp_path / "work")
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
    loss = trainer._compute_loss(trainer.model, batch, return_outputs=False)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-7)
    assert all(not weights.grad.any() for weights in trainer.model.parameters())

    job = job_for(tmp_path, model, ties)
    metrics = run(dpo.STAGE, job)["metrics"]
    before, after = load_file(model / "model.safetensors"), load_file(job.out / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert metrics["drift/k3/last"] == 0 and "rewards/accuracies/last" not in metrics


@pytest.mark.parametrize(("label", "sign"), [(0.9, 1), (0.1, -1)])
def test_the_preferred_response_becomes_likelier_whichever_it_is(tmp_path, model, label, sign):
    rows = [(f"make {word}", "sorry no", "sure fine", label) for word in ("tea", "cake", "a", "plan") * 16]
    metrics = run(dpo.STAGE, job_for(tmp_path, model, rows, epochs=2))["metrics"]
    assert metrics["rewards/margins/first"] == 0
    assert sign * metrics["rewards/margins/last"] > 0.5
    assert metrics["rewards/accuracies/last"] == 1
    assert metrics["loss/last"] < metrics["loss/first"] == pytest.approx(math.log(2), abs=1e-6)


def test_a_soft_label_stops_where_the_implicit_margin_is_its_log_odds(tmp_path, model):
    """P = 0.9: βΔ settles at ln 9 = 2.2, where a hard label goes on."""
    margins = {}
    for label in (0.9, 1.0):
        (tmp_path / str(label)).mkdir()
        rows = [(f"make {word}", "sorry no", "sure fine", label) for word in ("tea", "cake", "a", "plan") * 8]
        job = job_for(tmp_path / str(label), model, rows, epochs=12, beta=0.3, learning_rate=2e-3)
        margins[label] = run(dpo.STAGE, job)["metrics"]["rewards/margins/last"]
    assert margins[0.9] == pytest.approx(math.log(9), abs=0.2)
    assert margins[1.0] > 4


def test_every_step_has_its_numbers(tmp_path, model):
    job = job_for(tmp_path, model)
    meta = run(dpo.STAGE, job)
    steps = [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, meta["n_steps"] + 1)) == list(range(1, 9))
    assert all(set(step) == {"step", *dpo.NAMES} for step in steps)
    assert meta["n_rows"] == 64 and meta["n_ties"] == 6
    for step in steps:
        assert step["rewards/margins"] == pytest.approx(step["rewards/chosen"] - step["rewards/rejected"], abs=1e-5)


def test_pairs_that_do_not_fit_or_cannot_be_used_are_listed_and_counted(tmp_path, model):
    rows = [*ROWS, ("how", "no " * 40, "sure", 0.9), ("how", "sure", "sure", 0.9), ("how", "no", "sure", math.nan)]
    job = job_for(tmp_path, model, rows)
    meta = run(dpo.STAGE, job)
    rejects = [json.loads(line) for line in (job.out / "rejects.jsonl").read_text().splitlines()]
    assert (meta["n_rows"], meta["n_rejected"], meta["n_truncated"]) == (3, 3, 0)
    assert {(r["parent_ids"][0], r["reason"]) for r in rejects} == {
        ("pair-3", "pair_too_long"),
        ("pair-4", "identical_responses"),
        ("pair-5", "soft_label_out_of_range"),
    }
    with pytest.raises(TrainingError, match="2 of 6 cannot be used, and 4 are longer than 5"):
        dpo.prepare_pairs(job_for(tmp_path, model, rows, max_length=5))


def test_agreement_is_with_the_labels_and_leaves_ties_and_what_teaches_nothing_out():
    logps, reference = (
        Halves(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(4)),
        Halves(torch.zeros(4), torch.zeros(4)),
    )
    labels, ties = torch.tensor([0.9, 0.2, 0.505, 0.9]), torch.tensor([False, False, True, False])
    taught = torch.tensor([True, True, True, False])
    found = pair_metrics(logps, reference, labels, ties, taught, 0.5)
    assert found["rewards/accuracies"] == [1, 0] and found["rewards/margins"] == [0.5, 1.0, 1.5]
    assert pair_metrics(logps, reference, labels, torch.tensor([True] * 4), taught, 0.5)["rewards/accuracies"] == []


def test_micro_batches_train_dpo_as_the_whole_batch_does(tmp_path, model):
    """37 pairs of several weights in batches of 16 leave a part of a batch, of which a part-batch of 4 made twice too
    much: the same job, by its digest, ended in other weights.
    """
    rng = random.Random(4)
    words = ("sorry no", "sure", "fine tea please", "no that would hurt people")
    rows = [
        (f"make {i}", *rng.sample(words, 2), rng.choice([0.9, 0.3, 0.5]), rng.choice([1.0, 2.5])) for i in range(37)
    ]
    whole = job_for(tmp_path, model, rows, batch_size=16, epochs=2)
    parts = whole.model_copy(update={"out": tmp_path / "parts", "micro_batch": 4})
    metas = [run(dpo.STAGE, job) for job in (whole, parts)]
    assert metas[0]["job_digest"] == metas[1]["job_digest"] and metas[0]["n_steps"] == metas[1]["n_steps"] == 6
    assert_same_training(whole.out, parts.out, 2e-5)
    for name in dpo.NAMES:
        assert curve(whole.out, name) == pytest.approx(curve(parts.out, name), abs=2e-5, rel=1e-4)
    assert curve(whole.out)[0] == pytest.approx(math.log(2), abs=0.2)


def test_pairs_that_make_a_batch_whole_weigh_nothing_and_the_others_1_on_average(tmp_path, model):
    job = job_for(tmp_path, model, ROWS)
    dataset = dpo.as_dataset(dpo.prepare_pairs(job).pairs)
    evened = dpo.evened(dataset, 1, job.step_rows)
    assert len(evened) == 8 and evened["chosen_ids"][:3] == dataset["chosen_ids"][:]
    assert np.mean(evened["weight"]) == pytest.approx(1) and evened["weight"][3:] == [0] * 5
    assert np.divide(evened["weight"][:3], dataset["weight"][:]) == pytest.approx(2)  # 8 / (2.5 + 0.5 + 1)
    # So a set smaller than a batch has the loss of its pairs, not a share of it; five of its eight parts have no pair.
    parts = job.model_copy(update={"micro_batch": 1})
    assert run(dpo.STAGE, parts)["metrics"]["loss/first"] == pytest.approx(math.log(2), abs=1e-6)
