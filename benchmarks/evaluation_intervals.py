"""Do the intervals of the evaluation hold the truth, and does length control keep still when answers grow?

    python benchmarks/evaluation_intervals.py [--runs 1000] [--json FILE]

Prints a table. `covered` is the share of simulated data sets whose 95 % interval holds the truth, which is known in
closed form or the same estimate on a very large data set; outcomes of one prompt share its difficulty. Where it comes
within a point of a bound, so that chance may decide, five times as many data sets say. Then, for judges
that like length in several ways, how far the raw and the length-controlled win rate move when one model's responses
become 1.5 and 2 times as long and no better. Exit status 1 where a coverage leaves 93 to 97 %, or the controlled win
rate moves by more than a quarter of the raw one.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cai.intervals import Rate, bootstrap_mean, paired_difference, rate, share
from cai.metrics.best_of_n import Sample, frontier
from cai.metrics.diversity import Text, distinct, repetition, self_repetition
from cai.metrics.elo import Game, elo
from cai.metrics.harmfulness import harmfulness
from cai.metrics.kl import Scored, kl
from cai.metrics.length_controlled import Match, length_controlled
from cai.probes.drift import Reply, length_drift, repetition_drift
from cai.probes.refusal_style import refusal_style
from cai.probes.reward_bias import Rewarded, reward_bias
from cai.probes.sycophancy import Answered, sycophancy
from cai.records import Rating

RESAMPLES = 1_000
LOW, HIGH = 0.93, 0.97
CLEAR = 0.01
"""1,000 data sets tell a coverage to ±1.4 points, 5,000 to ±0.6."""
FACTORS = (1.5, 2.0)

Rng = np.random.Generator
Estimates = dict[str, Rate]


class Simulation(NamedTuple):
    """`estimate(rng, n)` draws `n` prompts and measures them. The truth is `exact`, or the estimate of `n_truth`."""

    title: str
    estimate: Callable[[Rng, int], Estimates]
    n_prompts: tuple[int, ...]
    n_truth: int = 100_000
    exact: dict[str, float] | None = None


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def names(n: int, each: int = 1) -> list[str]:
    return [str(i) for i in range(n) for _ in range(each)]


def outcomes(rng: Rng, n: int, each: int, log_odds: float, ties: float = 0.0) -> Any:
    """`each` outcomes of `n` prompts, whose log-odds have a standard deviation of 1; `ties` of them are 0.5."""
    p = sigmoid(np.repeat(rng.normal(log_odds, 1, n), each))
    return np.where(rng.random(n * each) < ties, 0.5, rng.random(n * each) < p)


# Rates and win rates


def rates(log_odds: float, each: int) -> Callable[[Rng, int], Estimates]:
    def estimate(rng: Rng, n: int) -> Estimates:
        return {"rate": rate((outcomes(rng, n, each, log_odds) > 0.5).tolist(), names(n, each))}

    return estimate


def win_rates(log_odds: float, each: int, ties: float) -> Callable[[Rng, int], Estimates]:
    def estimate(rng: Rng, n: int) -> Estimates:
        return {"win rate": share(outcomes(rng, n, each, log_odds, ties).tolist(), names(n, each))}

    return estimate


def differences(rng: Rng, n: int) -> Estimates:
    hard = rng.normal(0, 1, n)
    a, b = (rng.random(n) < sigmoid(hard + merit) for merit in (0.8, 0.3))
    return {"paired difference": paired_difference(a.astype(float), b.astype(float), names(n), seed=0)}


def drawn_matches(rng: Rng, n: int, factor: float, taste: Callable[[Any, Any], Any], merit: float = 0.3) -> list[Match]:
    usual = np.exp(rng.normal(5, 0.5, n))
    own, other = usual * np.exp(rng.normal(0, 0.4, n)) * factor, usual * np.exp(rng.normal(0, 0.4, n))
    won = rng.random(n) < sigmoid(merit + rng.normal(0, 1, n) + taste(own, other))
    wins = np.where(rng.random(n) < 0.1, 0.5, won)
    return [Match(str(i), *row) for i, row in enumerate(zip(wins.tolist(), own.tolist(), other.tolist(), strict=True))]


TASTES: dict[str, Callable[[Any, Any], Any]] = {
    "saturating": lambda own, other: np.tanh((own - other) / 150),
    "by ratio": lambda own, other: np.log(own / other),
    "by difference": lambda own, other: np.clip((own - other) / 250, -3, 3),
    "which is longer": lambda own, other: 0.7 * np.sign(own - other),
}


def controlled(factor: float, merit: float = 0.3, judge: str = "saturating") -> Callable[[Rng, int], Estimates]:
    def estimate(rng: Rng, n: int) -> Estimates:
        found = length_controlled(drawn_matches(rng, n, factor, TASTES[judge], merit))
        effect = Rate(*found.length_effect, found.rate.n)
        return {"length-controlled win rate": found.rate, "length effect": effect}

    return estimate


def ratings(rng: Rng, n: int) -> Estimates:
    """Four models, every pair on every prompt; a model has its better and worse prompts."""
    strength = np.array([0.0, 0.4, 0.8, 1.6]) + rng.normal(0, 0.7, (n, 4))
    games = []
    for i in range(4):
        for j in range(i + 1, 4):
            won = rng.random(n) < sigmoid(strength[:, i] - strength[:, j])
            wins = np.where(rng.random(n) < 0.1, 0.5, won).tolist()
            games += [Game(str(prompt), f"m{i}", f"m{j}", win) for prompt, win in enumerate(wins)]
    found = elo(games, seed=0, n_resamples=RESAMPLES if n < 10_000 else 2)
    return {f"Elo of {name}": measured for name, measured in found.items()}


# Rewards, KL


def best_of(rng: Rng, n: int) -> Estimates:
    """Eight samples a prompt: what chooses is the reward and noise. Standard normals, so what is expected is exact."""
    merit = rng.normal(0, 1, (n, 1)) + rng.normal(0, 1, (n, 8))
    proxy = merit + rng.normal(0, 1, (n, 8))
    rows = {str(i): [Sample(*pair) for pair in zip(proxy[i], merit[i], strict=True)] for i in range(n)}
    return {f"best of {row.n}": row.reward for row in frontier(rows, seed=0)}


def divergence(rng: Rng, n: int) -> Estimates:
    """Two distributions over three tokens, another policy for each prompt; 30 tokens, one response."""
    base = np.array([0.6, 0.3, 0.1])
    tilt = rng.normal(0.4, 0.2, (n, 1)) * np.array([1.0, 0.0, -1.0])
    policy = base * np.exp(tilt)
    policy /= policy.sum(axis=1, keepdims=True)
    drawn = (rng.random((n, 30, 1)) > policy.cumsum(axis=1)[:, None, :2]).sum(axis=2)
    logps, ref = np.log(policy)[np.arange(n)[:, None], drawn], np.log(base)[drawn]
    found = kl([Scored(str(i), logps[i], ref[i]) for i in range(n)], seed=0)
    return {"KL by k1": found.k1, "KL by k3": found.k3, "KL per response": found.per_response}


def biases(rng: Rng, n: int) -> Estimates:
    usual = rng.normal(100, 30, (n, 1))
    words = usual + rng.normal(0, 10, (n, 4))
    reward = usual / 10 + 0.05 * (words - usual) + rng.normal(0, 1, (n, 1)) + rng.normal(0, 1, (n, 4))
    rows = [Rewarded(str(i), reward[i, j], words[i, j]) for i in range(n) for j in range(4)]
    found = reward_bias(rows, seed=0)
    return {"slope of reward on length": found.slope, "correlation of reward and length": found.correlation}


# Texts

VOCABULARY = np.array([f"w{i}" for i in range(400)])


def written(rng: Rng, n: int, each: int, words: int = 30) -> list[Text]:
    """Words by a power law; a stock phrase opens a share of responses that differs by prompt, and one in five
    stammers.
    """
    weights = 1 / np.arange(2, 402)
    drawn = VOCABULARY[rng.choice(400, (n * each, words), p=weights / weights.sum())]
    opens = rng.random(n * each) < np.repeat(rng.beta(1, 3, n), each)
    stammers = np.where(rng.random(n * each) < 0.2, rng.integers(1, 4, n * each), 0)
    return [
        Text(str(i // each), ("I am sorry but that is " if o else "") + " ".join(line) + " so it is" * s)
        for i, (line, o, s) in enumerate(zip(drawn.tolist(), opens, stammers, strict=True))
    ]


def diversity(rng: Rng, n: int) -> Estimates:
    texts = written(rng, n, 2)
    return {
        "distinct-2": distinct(texts),
        "repetition": repetition(texts),
        "self-repetition": self_repetition(texts),
    }


def drift(rng: Rng, n: int) -> Estimates:
    usual = rng.lognormal(4, 0.5, n)
    own, other = (usual * factor * rng.lognormal(0, 0.4, n) + 1 for factor in (1.3, 1.0))
    texts, ref = written(rng, n, 1), written(rng, n, 1)
    rows = [
        Reply(str(i), t.text + " so it is so it is", round(a), r.text, round(b))
        for i, (t, r, a, b) in enumerate(zip(texts, ref, own, other, strict=True))
    ]
    return {"length drift": length_drift(rows, seed=0), "repetition drift": repetition_drift(rows, seed=0)}


# Judge and rules


def harm(rng: Rng, n: int) -> Estimates:
    """Marks of 0 mostly, some near 3; a judge that spreads itself, twice a prompt."""
    high = np.repeat(rng.random(n) < 0.15, 2)
    centre = np.where(high, 3.0, 0.2) + rng.normal(0, 0.4, 2 * n)
    logits = -2.0 * np.abs(np.arange(5) - centre[:, None])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mass = rng.uniform(0, 0.1, 2 * n)
    logps = np.log(p * (1 - mass[:, None])).tolist()
    rows = [
        Rating(str(i), str(i // 2), str(i), "harmfulness", "t", "j", tuple(logps[i]), float(mass[i]), True, 1)
        for i in range(2 * n)
    ]
    found = harmfulness(rows)
    return {"harmfulness, 0 to 4": found.mean, "harmful rate": found.harmful_rate, "mass outside": found.mass_outside}


def flattery(rng: Rng, n: int) -> Estimates:
    """Three people ask each question; a quarter of the answers against them turn, and 5 % turn by chance."""
    before = np.repeat(rng.random(n) < 0.5, 3)
    turned = before | (rng.random(3 * n) < np.repeat(rng.beta(1, 3, n), 3))
    after = np.where(rng.random(3 * n) < 0.05, ~turned, turned)
    rows = zip(before.tolist(), after.tolist(), strict=True)
    found = sycophancy([Answered(str(i // 3), float(b), float(a)) for i, (b, a) in enumerate(rows)])
    return {"flip rate": found.flip_rate, "flips away": found.away_rate, "net flips": found.net}


REFUSALS = np.array(["I cannot.", "No, because it could hurt you.", "No. It is important to respect everyone."])


def refusals(rng: Rng, n: int) -> Estimates:
    texts = REFUSALS[rng.choice(3, n, p=[0.5, 0.4, 0.1])].tolist()
    found = refusal_style(texts, names(n))
    return {"bare refusals": found.bare, "preaching": found.preaching}


def means(rng: Rng, n: int) -> Estimates:
    values = np.repeat(rng.exponential(1, n), 2) + rng.normal(0, 1, 2 * n)
    return {"mean of skewed values": bootstrap_mean(values.tolist(), names(n, 2), seed=0)}


EXPECTED_BEST = {1: 0.0, 2: 0.5641896, 4: 1.0293754, 8: 1.4236003}
"""Of n standard normals (David and Nagaraja 2003, table)."""

SIMULATIONS = (
    Simulation("a rate of 10 %, one response", rates(-2.6, 1), (200,)),
    Simulation("a rate of 50 %, two responses", rates(0.0, 2), (100, 400)),
    Simulation("a rate of 90 %, two responses", rates(2.6, 2), (200,)),
    Simulation("win rate about 50 %, a fifth ties", win_rates(0.0, 1, 0.2), (25, 50, 200)),
    Simulation("win rate about 50 %, most ties", win_rates(0.0, 2, 0.7), (100,)),
    Simulation("win rate about 90 %", win_rates(3.0, 1, 0.1), (100, 300)),
    Simulation("win rate about 3 %", win_rates(-4.5, 2, 0.02), (200,)),
    Simulation("two models on the same prompts", differences, (100,)),
    Simulation("at equal length", controlled(1.0), (50, 200)),
    Simulation("at equal length, half as long again", controlled(1.5), (50, 200)),
    Simulation("at equal length, a strong model", controlled(1.5, 2.5), (200,)),
    Simulation("at equal length, longer is better", controlled(1.5, judge="which is longer"), (50, 200)),
    Simulation("twice as long, longer is better", controlled(2.0, judge="which is longer"), (50, 200)),
    Simulation("four models", ratings, (50, 150), 40_000),
    Simulation(
        "best of n of eight", best_of, (100,), exact={f"best of {n}": e / 2**0.5 for n, e in EXPECTED_BEST.items()}
    ),
    Simulation("KL to the reference", divergence, (100,), 60_000),
    Simulation(
        "four responses a prompt",
        biases,
        (50, 200),
        exact={"slope of reward on length": 0.05, "correlation of reward and length": 0.2**0.5},
    ),
    Simulation("two responses a prompt", diversity, (100,), 15_000),
    Simulation("against the reference", drift, (100,), 30_000),
    Simulation("a judge's marks", harm, (100,), 60_000),
    Simulation("three people a question", flattery, (60, 200)),
    Simulation("refusals", refusals, (100,), exact={"bare refusals": 0.6, "preaching": 0.1}),
    Simulation("two values a prompt", means, (60,), exact={"mean of skewed values": 1.0}),
)


class Row(NamedTuple):
    simulation: str
    n_prompts: int
    metric: str
    n_runs: int
    truth: float
    covered: float
    width: float

    @property
    def holds(self) -> bool:
        return LOW <= self.covered <= HIGH

    @property
    def is_clear(self) -> bool:
        return LOW + CLEAR <= self.covered <= HIGH - CLEAR


def coverage(simulation: Simulation, n_runs: int) -> list[Row]:
    truth = simulation.exact
    if truth is None:
        estimates = simulation.estimate(np.random.default_rng(0), simulation.n_truth)
        truth = {name: measured.value for name, measured in estimates.items()}
    rows: list[Row] = []
    for n_prompts in simulation.n_prompts:
        runs: list[Estimates] = []
        for n in (n_runs, 5 * n_runs):
            runs += [
                simulation.estimate(np.random.default_rng((n_prompts, run)), n_prompts) for run in range(len(runs), n)
            ]
            found = [covered(simulation.title, n_prompts, name, value, runs) for name, value in truth.items()]
            if all(row.is_clear for row in found):
                break
        rows += found
    return rows


def covered(title: str, n_prompts: int, metric: str, truth: float, runs: list[Estimates]) -> Row:
    held = np.mean([run[metric].low <= truth <= run[metric].high for run in runs])
    width = np.median([run[metric].high - run[metric].low for run in runs])
    return Row(title, n_prompts, metric, len(runs), truth, float(held), float(width))


class Moved(NamedTuple):
    """How far win rates move when one model's responses grow by `factor`."""

    judge: str
    factor: float
    raw: float
    controlled: float

    @property
    def holds(self) -> bool:
        return abs(self.controlled) <= abs(self.raw) / 4


def verbosity(n: int = 100_000) -> list[Moved]:
    moves = []
    for judge, taste in TASTES.items():
        plain = length_controlled(drawn_matches(np.random.default_rng(1), n, 1.0, taste))
        for factor in FACTORS:
            wordy = length_controlled(drawn_matches(np.random.default_rng(2), n, factor, taste))
            raw, kept = wordy.raw.value - plain.raw.value, wordy.rate.value - plain.rate.value
            moves.append(Moved(judge, factor, raw, kept))
    return moves


def table(rows: list[Row], moves: list[Moved]) -> str:
    lines = [f"{'':2}{'simulated':<38}{'prompts':>8}  {'metric':<34}{'sets':>6}{'truth':>9}{'covered':>9}{'width':>8}"]
    for r in rows:
        mark = "  " if r.holds else "! "
        lines.append(
            f"{mark}{r.simulation:<38}{r.n_prompts:>8}  {r.metric:<34}{r.n_runs:>6}{r.truth:>9.3f}{r.covered:>9.3f}"
            f"{r.width:>8.3g}"
        )
    lines.append(
        f"\n{'':2}{'a judge that likes length':<38}{'longer':>8}  {'raw moves':>12}{'controlled':>12}{'share':>8}"
    )
    for m in moves:
        mark = "  " if m.holds else "! "
        lines.append(
            f"{mark}{m.judge:<38}{m.factor:>8g}  {m.raw:>+12.3f}{m.controlled:>+12.3f}{abs(m.controlled / m.raw):>8.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows: list[Row] = []
    for simulation in SIMULATIONS:
        rows += coverage(simulation, arguments.runs)
        print(f"{simulation.title}: {time.perf_counter() - started:.1f} s so far", file=sys.stderr)
    moves = verbosity()
    print(table(rows, moves))
    holds = [*(row.holds for row in rows), *(move.holds for move in moves)]
    print(f"\n{sum(holds)} of {len(holds)} hold")
    if arguments.json:
        body = {"coverage": [r._asdict() for r in rows], "verbosity": [m._asdict() for m in moves]}
        arguments.json.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    sys.exit(not all(holds))


if __name__ == "__main__":
    main()
