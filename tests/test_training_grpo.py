import json

import pyarrow.parquet as pq
import pytest
import torch
from training_fixtures import write_prompts

from cai.config import GRPOConfig
from cai.errors import TrainingError
from cai.rewards.base import Rewards, Term
from cai.training import grpo
from cai.training.command import run
from cai.training.jobs import GRPOJob
from cai.training.prompts import as_dataset, prepare_prompts
from cai.training.rollouts import append, read, rewind


def job_for(folder, models, long_ones=0, **config):
    settings = {
        "steps": 4, "prompts_per_step": 3, "samples_per_prompt": 4, "learning_rate": 1e-3, "max_tokens": 8,
        "max_prompt_tokens": 20, **config,
    }  # fmt: skip
    return GRPOJob(
        model=models[0], reward_models=[models[1]], data=write_prompts(folder / "prompts.parquet", 10, long_ones),
        out=folder / "out", config=GRPOConfig(**settings), seed=1,
    )  # fmt: skip


def test_the_policy_learns_what_the_reward_model_likes(tmp_path, models):
    job = job_for(tmp_path, models, steps=30, samples_per_prompt=8, learning_rate=5e-3, beta=0.02, save_steps=100)
    metrics = run(grpo.STAGE, job)["metrics"]
    assert metrics["reward/mean/last"] > metrics["reward/mean/first"] + 0.5
    assert metrics["kl/k3/first"] == pytest.approx(0, abs=1e-6)
    assert metrics["kl/k3/last"] > 0.01


def test_every_sample_is_kept_with_its_reward_and_kl(tmp_path, models):
    job = job_for(tmp_path, models)
    meta = run(grpo.STAGE, job)
    rows = pq.read_table(job.out / "rollouts.parquet").to_pylist()
    steps = [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == meta["n_samples"] == 4 * 3 * 4
    assert [s["step"] for s in steps] == [1, 2, 3, 4]
    for step in steps:
        mine = [row for row in rows if row["step"] == step["step"]]
        assert len({row["prompt_id"] for row in mine}) == 3
        assert sum(row["reward"] for row in mine) / 12 == pytest.approx(step["reward/mean"], abs=1e-5)
        tokens = sum(row["n_tokens"] for row in mine)
        by_token = sum(row["kl"] * row["n_tokens"] for row in mine) / tokens
        assert by_token == pytest.approx(step["kl/k3"], abs=1e-5)


def test_prompts_that_are_too_long_are_listed_and_counted(tmp_path, models):
    job = job_for(tmp_path, models, long_ones=2, steps=1)
    meta = run(grpo.STAGE, job)
    rejects = [json.loads(line) for line in (job.out / "rejects.jsonl").read_text().splitlines()]
    assert (meta["n_rows"], meta["n_rejected"]) == (10, 2)
    assert {r["reason"] for r in rejects} == {"prompt_too_long"}
    with pytest.raises(TrainingError, match="all 12 prompts|all 10 prompts"):
        prepare_prompts(job_for(tmp_path, models, max_prompt_tokens=1))


def test_what_cannot_be_scored_is_left_out_never_zero(tmp_path, models):
    """Half of the scores are NaN: their advantage is 0 and the group's mean is that of the other half."""
    job = job_for(tmp_path, models)
    trainer = grpo.build_trainer(job, prepare_prompts(job), tmp_path / "work")

    class HalfBlind:
        def score(self, inputs):
            return [float("nan") if i % 2 else 5.0 + i for i in range(len(inputs))]

    (reward,) = trainer.reward_funcs
    reward._rewards = Rewards([Term("half", 1.0, HalfBlind())])
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    found = trainer._generate_and_score_completions(batch)
    assert [s.reward is None for s in trainer.samples] == [False, True] * 6
    assert {s.reason for s in trainer.samples} == {"", "half: not_finite"}
    torch.testing.assert_close(found["advantages"][1::2], torch.zeros(6))
    groups = found["advantages"].view(3, 4)[:, ::2]
    torch.testing.assert_close(groups.sum(1), torch.zeros(3), atol=1e-5, rtol=0)
    assert (groups[:, 1] > 0.5).all()


def test_prompts_come_in_our_order_so_that_a_resumed_run_finds_its_place(tmp_path, models):
    job = job_for(tmp_path, models, steps=7)
    prepared = prepare_prompts(job)
    names = as_dataset(job, prepared.prompts)["prompt_id"]
    assert len(names) == 21
    assert len(set(names[:10])) == len(set(names[10:20])) == 10


def test_rewinding_drops_later_steps_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, [{"step": 1}, {"step": 2}, {"step": 3}])
    with path.open("a") as file:
        file.write('{"step": 4, "rew')
    rewind(path, 2)
    assert read(path) == [{"step": 1}, {"step": 2}]
    rewind(tmp_path / "none.jsonl", 2)
    assert read(tmp_path / "none.jsonl") == []
