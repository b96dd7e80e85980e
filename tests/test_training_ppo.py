"""PPO on a tiny model: what is sampled, what the models see of it, and the command."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from training_fixtures import write_prompts

from cai.config import PPOConfig
from cai.errors import TrainingError
from cai.records import Sampling
from cai.rewards.base import Rewards, Term
from cai.training import ppo
from cai.training.chat import load_tokenizer
from cai.training.command import run
from cai.training.guard import Guard
from cai.training.jobs import PPOJob
from cai.training.ppo_learner import Learner, Seen
from cai.training.ppo_trainer import Run, make_experience, new_value_model
from cai.training.progress import Progress
from cai.training.prompts import prepare_prompts
from cai.training.sampling import sample_replies, sequences
from cai.training.trainer import load_policy

# --- Sampling and the models' view of it ----------------------------------------------------------------------------


PROMPTS = [[6, 7], [8, 9, 10, 11, 12], [13], [6, 7, 8]]


def test_a_reply_depends_on_seed_step_and_row_alone_and_ends_at_its_end_token(models):
    policy = load_policy(models[0]).eval()
    sampling = Sampling(1.0, 1.0, 30)
    together = sample_replies(policy, PROMPTS, sampling, {5}, seed=1, step=2)
    assert sample_replies(policy, PROMPTS, sampling, {5}, seed=1, step=2, at_once=1) == together
    assert sample_replies(policy, PROMPTS, sampling, {5}, seed=1, step=3) != together
    many = sample_replies(policy, PROMPTS * 8, sampling, {5}, seed=1, step=2)
    assert many[:4] == together and len({tuple(reply) for reply in many}) == 32
    assert all(5 not in reply[:-1] for reply in many)
    ended = [reply[-1] == 5 for reply in many]
    assert any(ended) and not all(ended)
    assert all(len(reply) == 30 for reply, has_end in zip(many, ended, strict=True) if not has_end)


def test_log_probabilities_are_those_of_the_sampling_temperature_whatever_the_padding(models):
    policy = load_policy(models[0])
    value = new_value_model(models[0])
    torch.nn.init.normal_(value.head.weight)
    config = PPOConfig(temperature=0.5)
    learner = Learner(policy, load_policy(models[0]), value, config, 0, Accelerator(cpu=True), 3)
    replies = [[9, 5], [7], [8, 8, 8, 8], [10, 11, 5]]
    rollouts = sequences(PROMPTS, replies, torch.device("cpu"))
    seen = learner.look(rollouts)
    torch.testing.assert_close(seen.logps, seen.ref_logps, rtol=0, atol=0)
    for i, (prompt, reply) in enumerate(zip(PROMPTS, replies, strict=True)):
        assert rollouts.replies[i, : len(reply)].tolist() == reply
        assert rollouts.mask[i].tolist() == [1] * len(reply) + [0] * (4 - len(reply))
        with torch.no_grad():
            ids = torch.tensor([prompt + reply])
            logps = (policy(input_ids=ids).logits[0] / 0.5).log_softmax(-1)
            values = value(input_ids=ids)[0]
        places = range(len(prompt) - 1, len(prompt) + len(reply) - 1)
        alone = [logps[place, token] for place, token in zip(places, reply, strict=True)]
        torch.testing.assert_close(seen.logps[i, : len(reply)], torch.stack(alone), rtol=0, atol=1e-5)
        entropy = -(logps.exp() * logps).sum(-1)[list(places)]
        torch.testing.assert_close(seen.entropy[i, : len(reply)], entropy, rtol=0, atol=1e-5)
        torch.testing.assert_close(seen.values[i, : len(reply)], values[list(places)], rtol=0, atol=1e-5)


# --- The command ----------------------------------------------------------------------------------------------------


def job_for(folder, models, out="out", micro_batch=None, **config):
    settings = {
        "steps": 3, "prompts_per_step": 6, "samples_per_prompt": 2, "learning_rate": 1e-3, "minibatch_size": 6,
        "max_tokens": 8, "max_prompt_tokens": 20, **config,
    }  # fmt: skip
    return PPOJob(
        model=models[0], reward_models=[models[1]], data=write_prompts(folder / "prompts.parquet", 10, 2),
        out=folder / out, config=PPOConfig(**settings), seed=1, micro_batch=micro_batch,
    )  # fmt: skip


def test_the_policy_learns_what_the_reward_model_likes(tmp_path, models):
    job = job_for(
        tmp_path, models, steps=20, prompts_per_step=10, samples_per_prompt=3, learning_rate=3e-3, kl_coef=0.02,
        minibatch_size=15, max_update_kl=None,
    )  # fmt: skip
    metrics = run(ppo.STAGE, job)["metrics"]
    assert metrics["reward/mean/last"] > metrics["reward/mean/first"] + 0.5
    assert metrics["kl/k3/first"] == 0
    assert metrics["kl/k3/last"] > 0.01
    values = [json.loads(line)["explained_variance"] for line in (job.out / "metrics.jsonl").read_text().splitlines()]
    assert values[0] == pytest.approx(0, abs=1e-6)  # the value model starts at 0 everywhere
    assert max(values[10:]) > 0.2


def test_every_sample_is_kept_and_the_numbers_of_a_step_are_those_of_its_samples(tmp_path, models):
    cut_off = {"kind": "length", "name": "missing_eos", "free_tokens": 8, "scale_tokens": 1, "unfinished": 2.0}
    job = job_for(tmp_path, models, rewards=[{"kind": "reward_model", "name": "reward_model"}, cut_off])
    meta = run(ppo.STAGE, job)
    rows = pq.read_table(job.out / "rollouts.parquet").to_pylist()
    steps = [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]
    rejects = [json.loads(line) for line in (job.out / "rejects.jsonl").read_text().splitlines()]
    assert len(rows) == meta["n_samples"] == 3 * 6 * 2
    assert [(r["reason"], r["stage"]) for r in rejects] == [("prompt_too_long", "ppo")] * 2
    for step in steps:
        mine = [row for row in rows if row["step"] == step["step"]]
        tokens = sum(row["n_tokens"] for row in mine)
        assert sum(row["reward"] for row in mine) / 12 == pytest.approx(step["reward/mean"])
        assert sum(row["kl"] * row["n_tokens"] for row in mine) / tokens == pytest.approx(step["kl/k3"], abs=1e-6)
        assert step["kl/response"] == pytest.approx(step["kl/k1"] * step["length/mean"], rel=1e-4, abs=1e-6)
        parts = [dict(row["parts"]) for row in mine]
        assert {part["missing_eos"] for part in parts} == {0.0, -2.0}
        cut = sum(part["missing_eos"] < 0 for part in parts)
        assert cut / 12 == pytest.approx(step["length/cut_off_rate"])
        assert all(row["n_tokens"] == 8 for row, part in zip(mine, parts, strict=True) if part["missing_eos"])
        for row, part in zip(mine, parts, strict=True):
            assert row["reward"] == pytest.approx(part["reward_model"] + part["missing_eos"])
    assert sorted(p.name for p in job.out.iterdir() if p.suffix == ".safetensors") == ["model.safetensors"]


class HalfBlind:
    def score(self, inputs):
        return [float("nan") if i % 2 else 5.0 + i for i in range(len(inputs))]

    def close(self):
        return None


class Blind(HalfBlind):
    def score(self, inputs):
        return [float("nan")] * len(inputs)


def one_step(job, folder, source):
    recorded = []
    made = Run(job, prepare_prompts(job), Rewards([Term("test", 1.0, source)]), folder, Progress("ppo"))
    unguarded = Guard(None, job.config.steps, folder, None)
    made.to_the_end(lambda step, numbers, samples: recorded.append((numbers, samples)), unguarded)
    return made.learner, *recorded[0]


def test_what_cannot_be_scored_is_left_out_never_zero(tmp_path, models):
    """The step learns exactly what it would have learnt from the scored half alone."""
    job = job_for(tmp_path, models, steps=1)
    learner, numbers, samples = one_step(job, tmp_path, HalfBlind())
    assert [sample.reward for sample in samples[:4]] == [5.0, None, 7.0, None]
    assert {sample.reason for sample in samples} == {"", "test: not_finite"}
    assert numbers["n_unscored"] == 6 and numbers["reward/mean"] == 10.0

    policy, value = load_policy(job.model), new_value_model(job.model)
    alone = Learner(policy, load_policy(job.model), value, job.config, job.seed, Accelerator(cpu=True))
    rows = made_rows(job)
    replies = sample_replies(policy, rows, Sampling(1.0, 1.0, 8), {5}, job.seed, 1)
    rollouts = sequences(rows, replies, torch.device("cpu"))
    scored = [i for i in range(12) if i % 2 == 0]
    seen = Seen(*(each[scored] for each in alone.look(rollouts)))
    scores = torch.tensor([5.0 + i for i in scored])
    alone.update(make_experience(rollouts.take(scored), seen, scores, job.config.kl_coef, job.config), 1)
    for name, weight in alone.unwrapped().state_dict().items():
        assert torch.equal(weight, learner.unwrapped().state_dict()[name]), name


def made_rows(job):
    """The prompts of the first step as tokens, each as often as it is sampled."""
    from cai.training.batches import prompt_order
    from cai.training.chat import render

    prepared = prepare_prompts(job)
    order = prompt_order(len(prepared.prompts), 6, 1, job.seed)
    texts = render(prepared.tokenizer, [prepared.prompts[i].prompt for i in order for _ in range(2)], ask=True)
    return load_tokenizer(job.model)(texts, add_special_tokens=False)["input_ids"]


def test_a_step_without_any_score_learns_nothing_and_says_so(tmp_path, models, capsys):
    job = job_for(tmp_path, models, steps=1)
    learner, numbers, samples = one_step(job, tmp_path, Blind())
    assert numbers["n_unscored"] == 12 and "reward/mean" not in numbers and "loss/policy" not in numbers
    assert "no reply could be scored" in capsys.readouterr().err
    for name, weight in load_policy(job.model).state_dict().items():
        assert torch.equal(weight, learner.unwrapped().state_dict()[name]), name


def test_micro_batches_change_a_run_by_rounding_alone(tmp_path, models):
    whole = run(ppo.STAGE, job_for(tmp_path, models, out="whole", steps=2))["metrics"]
    parts = run(ppo.STAGE, job_for(tmp_path, models, out="parts", steps=2, micro_batch=4))["metrics"]
    assert parts == pytest.approx(whole, rel=1e-3, abs=1e-4)


def test_the_kl_coefficient_steers_towards_its_target(tmp_path, models):
    """The KL of a policy that moves is above a tiny target and below a huge one."""
    tight = job_for(tmp_path, models, out="tight", target_kl=1e-4, kl_horizon=24, kl_coef=0.1)
    loose = job_for(tmp_path, models, out="loose", target_kl=1e4, kl_horizon=24, kl_coef=0.1)
    found = {}
    for job in (tight, loose):
        run(ppo.STAGE, job)
        lines = [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]
        found[job.out.name] = [line["kl_coef"] for line in lines]
    assert found["loose"] == pytest.approx([0.1, 0.09, 0.081])
    assert found["tight"][:2] == pytest.approx([0.1, 0.09])  # at the first step the policy is the reference
    assert found["tight"][2] > found["tight"][1]


def test_a_policy_that_blows_up_stops_with_the_step_named(tmp_path, models):
    with pytest.raises(TrainingError, match=r"step \d+: loss"):
        run(ppo.STAGE, job_for(tmp_path, models, learning_rate=1e30, max_update_kl=None))
