"""PPO: one whole update against a second implementation, written from the equations in NumPy; then the command."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from training_fixtures import build_model, write_pairs, write_prompts

from cai.config import PPOConfig, RewardModelConfig
from cai.errors import TrainingError
from cai.records import Sampling
from cai.rewards.base import Rewards, Term
from cai.training import ppo, reward_model
from cai.training.chat import load_tokenizer
from cai.training.command import run
from cai.training.guard import Guard
from cai.training.jobs import PPOJob, RewardModelJob
from cai.training.ppo_learner import Learner, Seen, minibatches
from cai.training.ppo_trainer import Run, make_experience, new_value_model
from cai.training.progress import Progress
from cai.training.prompts import prepare_prompts
from cai.training.sampling import sample_replies, sequences
from cai.training.trainer import load_policy

# --- One whole update, number by number -----------------------------------------------------------------------------

PROMPT = 2  # tokens; the first is the number of the row
LENGTHS = [4, 1, 3, 4, 2, 3, 4]
WORDS = 5


class PolicyTable(torch.nn.Module):
    """A policy whose logits are its parameters: fixed, whatever the tokens are."""

    def __init__(self, logits):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, input_ids, logits_to_keep, **_):
        return SimpleNamespace(logits=self.table[input_ids[:, 0]][:, -logits_to_keep:])


class ValueTable(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(values))

    def forward(self, input_ids, **_):
        return self.table[input_ids[:, 0]]


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum())


class Adam:
    """Kingma and Ba 2015, algorithm 1, after the gradient's norm is bounded by 1."""

    def __init__(self, rate):
        self.rate, self.m, self.v, self.t = rate, 0.0, 0.0, 0

    def step(self, weights, gradient):
        norm = math.sqrt((gradient**2).sum())
        gradient = gradient * min(1.0, 1.0 / (norm + 1e-6))
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        mean, square = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return weights - self.rate * mean / (np.sqrt(square) + 1e-8), norm


def second_implementation(world, config, plan):
    """Response by response and token by token, gradients by hand; float64. Returns the tables after it, and numbers."""
    heat = config.temperature
    policy, value = world.policy.copy(), world.value.copy()
    steps = [(i, t) for i, n in enumerate(LENGTHS) for t in range(n)]
    # Logits at column c are of the token at column c + 1; the first reply token is at column PROMPT.
    before = {(i, t): (i, PROMPT + t - 1) for i, t in steps}

    def logp(table, i, t):
        return log_softmax(table[before[i, t]] / heat)[world.replies[i][t]]

    old = {s: logp(policy, *s) for s in steps}
    old_value = {s: value[before[s]] for s in steps}
    # Ziegler et al. 2019, equation 2.
    reward = {s: -config.kl_coef * (old[s] - logp(world.reference, *s)) for s in steps}
    for i, n in enumerate(LENGTHS):
        reward[i, n - 1] += world.scores[i]
    if config.whiten_rewards:
        deviation = math.sqrt(np.var(list(reward.values())) + 1e-8)
        mean = np.mean(list(reward.values()))
        reward = {s: (r - mean) / deviation + mean for s, r in reward.items()}
    # Schulman et al. 2016, equations 11 and 16, as the sum they are.
    advantage, target = {}, {}
    for i, n in enumerate(LENGTHS):
        values = [old_value[i, t] for t in range(n)] + [0.0]
        delta = [reward[i, t] + config.gamma * values[t + 1] - values[t] for t in range(n)]
        for t in range(n):
            decay = config.gamma * config.gae_lambda
            advantage[i, t] = sum(decay**k * delta[t + k] for k in range(n - t))
            target[i, t] = advantage[i, t] + values[t]
    mean, deviation = np.mean(list(advantage.values())), math.sqrt(np.var(list(advantage.values())) + 1e-8)
    advantage = {s: (a - mean) / deviation for s, a in advantage.items()}

    policy_adam, value_adam = Adam(config.learning_rate), Adam(config.value_learning_rate)
    learnt = []
    for rows in plan:
        batch = [s for s in steps if s[0] in rows]
        up, down = np.zeros_like(policy), np.zeros_like(value)
        numbers = dict.fromkeys(("loss/policy", "loss/value", "clip_rate", "value_clip_rate"), 0.0)
        moved = 0.0
        for s in batch:
            i, t = s
            here, token, weight = before[s], world.replies[i][t], 1 / len(batch)
            logps = log_softmax(policy[here] / heat)
            p, onehot = np.exp(logps), np.eye(WORDS)[token]
            ratio = math.exp(logps[token] - old[s])
            moved += weight * (ratio - 1 - math.log(ratio))
            # Schulman et al. 2017, equation 7, turned into a loss.
            kept = np.clip(ratio, 1 - config.clip, 1 + config.clip)
            is_clipped = kept * advantage[s] < ratio * advantage[s]
            numbers["loss/policy"] += -weight * min(ratio * advantage[s], kept * advantage[s])
            numbers["clip_rate"] += weight * is_clipped
            if not is_clipped:
                up[here] += -weight * advantage[s] * ratio * (onehot - p) / heat
            entropy = -(p * logps).sum()
            up[here] += -config.entropy_coef * weight * -p * (logps + entropy) / heat
            # Equation 9's squared error, clipped.
            v, free = value[here], (value[here] - target[s]) ** 2
            near = old_value[s] + np.clip(v - old_value[s], -config.value_clip, config.value_clip)
            is_clipped = abs(v - old_value[s]) > config.value_clip and (near - target[s]) ** 2 > free
            numbers["loss/value"] += weight * 0.5 * max(free, (near - target[s]) ** 2)
            numbers["value_clip_rate"] += weight * is_clipped
            if not is_clipped:
                down[here] += weight * (v - target[s])
        if config.max_update_kl is not None and moved > config.max_update_kl:
            break
        policy, numbers["grad_norm"] = policy_adam.step(policy, up)
        value, numbers["grad_norm/value"] = value_adam.step(value, down)
        learnt.append(numbers)
    means = {name: np.mean([n[name] for n in learnt]) for name in learnt[0]}
    done = config.epochs * len(learnt) / len(plan)
    return policy, value, {**means, "kl/update": moved, "n_epochs_done": done}


@pytest.fixture
def world():
    rng = np.random.default_rng(7)
    width = PROMPT + max(LENGTHS)
    return SimpleNamespace(
        policy=rng.normal(size=(7, width, WORDS)),
        reference=rng.normal(size=(7, width, WORDS)),
        value=rng.normal(size=(7, width)),
        scores=rng.normal(size=7),
        replies=[rng.integers(0, WORDS, n).tolist() for n in LENGTHS],
    )


SETTINGS = {
    "plain": {},
    "everything": {"entropy_coef": 0.3, "whiten_rewards": True, "temperature": 0.7, "gamma": 0.9},
    "stops early": {"max_update_kl": 0.02},
}


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_whole_update_equals_the_second_implementation(world, tmp_path, name, micro_batch):
    """Three passes in minibatches of 3, 3 and 1 responses: rewards, advantages, losses, gradients, Adam, early stop.

    In micro-batches of two responses the gradients add up to the same.
    """
    config = PPOConfig(
        **{
            "epochs": 3, "minibatch_size": 3, "learning_rate": 0.05, "value_learning_rate": 0.1, "kl_coef": 0.1,
            "max_update_kl": None, **SETTINGS[name],
        }
    )  # fmt: skip
    tables = PolicyTable(world.policy), PolicyTable(world.reference), ValueTable(world.value)
    learner = Learner(*tables, config, 11, Accelerator(cpu=True), micro_batch)
    rollouts = sequences([[i] * PROMPT for i in range(7)], world.replies, torch.device("cpu"))
    seen = learner.look(rollouts)
    experience = make_experience(rollouts, seen, torch.tensor(world.scores), config.kl_coef, config)
    found = learner.update(experience, 5)

    plan = minibatches(7, 3, 3, seed=11, step=5)
    policy, value, expected = second_implementation(world, config, plan)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(tables[0].table.detach(), policy, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(tables[2].table.detach(), value, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(tables[1].table.detach(), world.reference)
    if name == "stops early":
        assert 0 < found["n_epochs_done"] < 3 and found["kl/update"] > 0.02
    else:
        assert found["n_epochs_done"] == 3 and found["clip_rate"] > 0 and found["value_clip_rate"] > 0


def test_minibatches_hold_every_row_once_a_pass_in_orders_of_their_own():
    plan = minibatches(10, 4, 2, seed=1, step=3)
    assert [len(rows) for rows in plan] == [4, 4, 2] * 2
    passes = [sum(plan[:3], []), sum(plan[3:], [])]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10)) and passes[0] != passes[1]
    assert plan == minibatches(10, 4, 2, seed=1, step=3) != minibatches(10, 4, 2, seed=1, step=4)


# --- Sampling and the models' view of it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A policy, and a reward model that likes "sorry"."""
    folder = tmp_path_factory.mktemp("models")
    policy = build_model(folder / "tiny")
    config = RewardModelConfig(epochs=6, learning_rate=3e-3, batch_size=16, max_length=40)
    data = write_pairs(folder / "pairs.parquet", 200)
    run(reward_model.STAGE, RewardModelJob(model=policy, data=data, out=folder / "reward", config=config))
    return policy, folder / "reward"


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
