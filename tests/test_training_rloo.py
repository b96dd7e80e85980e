import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from training_fixtures import write_prompts

from cai.config import GRPOConfig, RLOOConfig
from cai.errors import ConfigError
from cai.rewards.base import Rewards, Term
from cai.training import grpo, rloo
from cai.training.command import run
from cai.training.jobs import GRPOJob, RLOOJob
from cai.training.prompts import prepare_prompts
from cai.verdict import Unscored


def job_for(folder, models, kind=RLOOJob, settings=RLOOConfig, **config):
    given = {
        "steps": 4, "prompts_per_step": 3, "samples_per_prompt": 4, "learning_rate": 1e-3, "max_tokens": 8,
        "max_prompt_tokens": 20, **config,
    }  # fmt: skip
    return kind(
        model=models[0], reward_models=[models[1]], data=write_prompts(folder / "prompts.parquet", 10),
        out=folder / "out", config=settings(**given), seed=1,
    )  # fmt: skip


class Given:
    """The rewards of one step, as written in the test; None: unscored."""

    def __init__(self, values):
        self.values = values

    def score(self, inputs):
        assert len(inputs) == len(self.values)
        return [Unscored("unparsed", "no verdict") if v is None else v for v in self.values]


def kl_of(policy, reference, batch, i):
    """Σ and mean over the reply of sample `i` of k1 = log π/π_ref, and of k3, in float64 NumPy."""
    n_prompt = batch["prompt_ids"].shape[1]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)[i : i + 1]
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)[i : i + 1]
    logps = []
    for model in (policy, reference):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[0].double().numpy()
        logits -= logits.max(1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(1, keepdims=True))
        where = [t for t in range(n_prompt, ids.shape[1]) if mask[0, t]]
        logps.append(np.array([logits[t - 1, ids[0, t]] for t in where]))
    k1 = logps[0] - logps[1]
    return k1.sum(), np.mean(np.exp(-k1) - 1 + k1)


def test_advantages_leave_one_out_and_leave_out_what_was_not_scored(tmp_path, models):
    """Against NumPy, for groups with all four samples scored, three, two, one and none."""
    scored = [
        [1.0, 2.0, -1.0, 4.0],
        [1.0, None, 3.0, 0.5],
        [None, 2.0, None, -2.0],
        [None, None, 9.0, None],
        [None, None, None, None],
    ]
    beta = 0.3
    job = job_for(tmp_path, models, prompts_per_step=5, beta=beta)
    trainer = rloo.build_trainer(job, prepare_prompts(job), tmp_path / "work")
    torch.manual_seed(5)
    with torch.no_grad():
        for weights in trainer.model.parameters():
            weights += 0.02 * torch.randn_like(weights)
    (reward,) = trainer.reward_funcs
    reward._rewards = Rewards([Term("given", 1.0, Given([value for group in scored for value in group]))])
    trainer.model.train()
    batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))

    kl = [kl_of(trainer.model, trainer.ref_model, batch, i) for i in range(20)]
    assert max(abs(k1) for k1, _ in kl) > 0.05  # else the KL in the reward would not show
    expected = np.zeros((5, 4))
    for g, group in enumerate(scored):
        earned = {i: value - beta * kl[4 * g + i][0] for i, value in enumerate(group) if value is not None}
        for i, value in earned.items():
            others = [other for j, other in earned.items() if j != i]
            expected[g, i] = value - np.mean(others) if others else 0.0
    np.testing.assert_allclose(batch["advantages"].view(5, 4).numpy(), expected, atol=1e-4)
    assert (expected[3:] == 0).all() and (expected[:3] != 0).any(1).all()

    # The policy has not moved since it sampled, so every ratio is 1 and the loss is −mean(advantage).
    loss = trainer._compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(-expected.mean(), abs=1e-4)
    assert [s.kl for s in trainer.samples] == pytest.approx([k3 for _, k3 in kl], abs=1e-5)
    assert [s.reward for s in trainer.samples] == [value for group in scored for value in group]


def test_the_policy_learns_what_the_reward_model_likes(tmp_path, models):
    job = job_for(tmp_path, models, steps=25, samples_per_prompt=8, learning_rate=5e-3, beta=0.02, save_steps=100)
    metrics = run(rloo.STAGE, job)["metrics"]
    assert metrics["reward/mean/last"] > metrics["reward/mean/first"] + 0.5
    assert metrics["kl/k3/first"] == pytest.approx(0, abs=1e-6)
    assert metrics["kl/k3/last"] > 0.01


def test_every_sample_and_step_is_recorded_under_the_names_that_grpo_uses(tmp_path, models):
    (tmp_path / "grpo").mkdir()
    job = job_for(tmp_path, models)
    other = job_for(tmp_path / "grpo", models, GRPOJob, GRPOConfig, steps=1)
    meta = run(rloo.STAGE, job)
    assert meta["trl"] == rloo.SETTINGS and run(grpo.STAGE, other)["trl"] == grpo.SETTINGS
    rows = pq.read_table(job.out / "rollouts.parquet").to_pylist()
    steps, theirs = (
        [json.loads(line) for line in (j.out / "metrics.jsonl").read_text().splitlines()] for j in (job, other)
    )
    assert set(steps[0]) == set(theirs[0])
    assert len(rows) == meta["n_samples"] == 4 * 3 * 4 and meta["n_unscored"] == 0
    for step in steps:
        mine = [row for row in rows if row["step"] == step["step"]]
        assert sum(row["reward"] for row in mine) / 12 == pytest.approx(step["reward/mean"], abs=1e-5)
        assert all(row["kl"] >= 0 for row in mine)
    assert steps[-1]["kl/k3"] > 0


@pytest.mark.parametrize(("stage", "kind", "settings"), [(grpo, GRPOJob, GRPOConfig), (rloo, RLOOJob, RLOOConfig)])
def test_what_decides_the_algorithm_does_not_hang_on_trls_defaults(tmp_path, models, stage, kind, settings):
    """Those of GRPO make its loss another one than the paper's, and another version of TRL may have others."""
    job = job_for(tmp_path, models, kind, settings, beta=0.2)
    trainer = stage.build_trainer(job, prepare_prompts(job), tmp_path / "work")
    assert {name: getattr(trainer.args, name) for name in stage.SETTINGS} == stage.SETTINGS
    assert (trainer.args.beta, trainer.args.top_p, trainer.args.top_k) == (0.2, 1.0, 0)
    trainer.rewards.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what a GPU has")
@pytest.mark.parametrize(
    ("stage", "kind", "settings"), [(grpo.STAGE, GRPOJob, GRPOConfig), (rloo.STAGE, RLOOJob, RLOOConfig)]
)
def test_vllm_beside_training_is_refused_where_it_cannot_run(tmp_path, models, stage, kind, settings):
    job = job_for(tmp_path, models, kind, settings, use_vllm=True)
    with pytest.raises(ConfigError, match="use_vllm .* no CUDA device.*set use_vllm to false"):
        stage.plan(job)
    with pytest.raises(ConfigError, match="no CUDA device"):
        run(stage, job)
    assert not (tmp_path / "out.unfinished").exists()
