"""One whole PPO update against a second implementation, written from the equations in NumPy, number by number."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from cai.config import PPOConfig
from cai.training.ppo_learner import Learner, minibatches
from cai.training.ppo_trainer import make_experience
from cai.training.sampling import sequences

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
