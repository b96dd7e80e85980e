"""Judges made with known bias, noise and calibration: do the intervals hold, is a bias found, is a flipping source?

    python benchmarks/simulated_judges.py [--runs 1000] [--json FILE]

Prints one JSON object. `coverage` is the share of runs whose 95 % interval holds the truth, which is the same estimate
on half a million pairs; `power` that of a first-place bias of 3 points at 4,000 pairs; `flips` how often a source that
flips 10 % of its labels is flagged among five, 1,000 overlapping items, and how often anyone is where nobody does.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cai.intervals import Rate
from cai.labels.agreement import judge_quality, principle_agreement
from cai.labels.opinions import Annotated, Source, opinions_of
from cai.labels.sources import against_gold, flip_tests
from cai.labels.verdicts import Verdicts

PROMPTS, PER_PROMPT, TRUTH_PROMPTS = 250, 2, 250_000
BIAS, NOISE, TOO_SURE, FOR_LENGTH = 0.25, 0.7, 1.8, 0.3
ITEMS, FLIPPED, RATERS = 1_000, 0.1, 5


def judge(rng: np.random.Generator, n_prompts: int) -> tuple[Verdicts, Annotated]:
    """Two principles in both orders, two pairs a prompt that share its difficulty, and gold for every pair.

    Gold prefers a with probability σ(quality). The judge is too sure by a factor, adds noise to each principle, leans
    to the place shown first, and to the longer text.
    """
    n = n_prompts * PER_PROMPT
    prompt = np.repeat(np.arange(n_prompts), PER_PROMPT)
    quality = np.repeat(rng.normal(0, 1, n_prompts), PER_PROMPT) + rng.normal(0, 1, n)
    longer = rng.choice([-1.0, 0.0, 1.0], n, p=[0.45, 0.1, 0.45])
    pair, principle = np.tile(np.arange(n), 2), np.repeat([0, 1], n)
    logit = TOO_SURE * quality[pair] + FOR_LENGTH * longer[pair]
    ab, ba = (sigmoid(logit + NOISE * rng.normal(size=2 * n) + place) for place in (BIAS, -BIAS))
    prompts, pairs = names("prompt", n_prompts), names("pair", n)
    mass = rng.uniform(0, 0.1, 2 * n)
    codes = (np.zeros(2 * n, dtype=int), principle, prompt[pair], pair)
    verdicts = Verdicts(*codes, ab, ba, mass, longer[pair], ["judge"], ["kind", "safe"], prompts, pairs)
    gold = (rng.random(n) < sigmoid(quality)).astype(float)
    of_prompt = [prompts[p] for p in prompt]
    return verdicts, Annotated(of_prompt, pairs, ["gold"] * n, [""] * n, gold, np.ones(n, dtype=bool))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def names(of: str, n: int) -> list[str]:
    return [f"{of} {i:07d}" for i in range(n)]


def estimates(verdicts: Verdicts, said: Annotated, seed: int) -> dict[str, Rate]:
    overall = judge_quality(verdicts, seed=seed)[0]
    agreed = principle_agreement(verdicts, seed=seed)[0]
    right = next(g for g in against_gold(opinions_of(verdicts, said), seed=seed) if g.source.kind == "judge")
    assert right.calibration is not None
    return {
        "position bias": overall.position_bias,
        "consistency": overall.consistency,
        "label entropy": overall.entropy,
        "mass outside": overall.mass_outside,
        "length bias": overall.length_bias,
        "length bias against gold": right.length_bias,
        "accuracy": right.accuracy,
        "kappa against gold": right.kappa,
        "ECE": right.calibration.ece,
        "Brier": right.calibration.brier,
        "agreement of two principles": agreed.pairs[0].agreement,
        "kappa of two principles": agreed.pairs[0].kappa,
        "Krippendorff's alpha": agreed.alpha,
        "Fleiss' kappa": agreed.fleiss,
    }


def coverage(n_runs: int, n_prompts: int = PROMPTS, truth_prompts: int = TRUTH_PROMPTS) -> dict[str, float]:
    truth = {name: rate.value for name, rate in estimates(*judge(np.random.default_rng(0), truth_prompts), 0).items()}
    held = Counter[str]()
    for run in range(1, n_runs + 1):
        for name, rate in estimates(*judge(np.random.default_rng(run), n_prompts), run).items():
            held[name] += rate.low <= truth[name] <= rate.high
    return {name: held[name] / n_runs for name in truth}


def bias_found(n_runs: int, bias: float, n_pairs: int = 4_000) -> float:
    """Share of runs whose interval leaves out 0. The judge says A or B and nothing else, and half its verdicts are
    coins, so that its position bias hides in as much noise as such a judge can have.
    """
    found = 0
    for run in range(n_runs):
        rng = np.random.default_rng(run)
        truth, known = rng.random(n_pairs) < 0.5, rng.random(n_pairs) < 0.5
        first = 0.5 + 2 * bias  # of the coins; they are half of all
        ab = np.where(known, truth, rng.random(n_pairs) < first).astype(float)
        ba = np.where(known, truth, rng.random(n_pairs) >= first).astype(float)
        zero, each = np.zeros(n_pairs, dtype=int), np.arange(n_pairs)
        prompts = names("p", n_pairs)
        nothing = np.full(n_pairs, np.nan)
        rows = Verdicts(zero, zero, each, each, ab, ba, zero * 0.0, nothing, ["judge"], ["kind"], prompts, prompts)
        measured = judge_quality(rows, seed=run)[0].position_bias
        found += measured.low > 0 or measured.high < 0
    return found / n_runs


def flags(n_runs: int, accuracy: Any, flipped: float, n_items: int = ITEMS) -> Iterator[list[bool]]:
    """Who of five is flagged; the first flips. `accuracy` draws the chance of being right on each item, which all
    share: then errors fall on the same, difficult items. A number: every error is its rater's own.
    """
    sources = [Source("person", str(k)) for k in range(RATERS)]
    for run in range(n_runs):
        rng = np.random.default_rng(run)
        truth = rng.choice([-1.0, 1.0], n_items)
        is_right = rng.random((RATERS, n_items)) < (accuracy if isinstance(accuracy, float) else accuracy(rng, n_items))
        labels = np.where(is_right, truth, -truth)
        labels[0] *= np.where(rng.random(n_items) < flipped, -1, 1)
        item = np.tile(np.arange(n_items), RATERS)
        tests = flip_tests(sources, np.repeat(np.arange(RATERS), n_items), labels.ravel(), item, item)
        yield [bool(test.is_flagged) for test in tests]


def shared_difficulty(rng: np.random.Generator, n_items: int) -> Any:
    """Right on 80 % of items, and two raters agree on 76 %, as is reported of judges (Beta with variance 0.04)."""
    return rng.beta(2.4, 0.6, n_items)


def flips(n_runs: int, accuracy: Any, n_items: int = ITEMS) -> dict[str, float]:
    dirty, clean = (list(flags(n_runs, accuracy, flipped, n_items)) for flipped in (FLIPPED, 0.0))
    return {
        "flagged": sum(each[0] for each in dirty) / n_runs,
        "an honest source flagged beside it": sum(any(each[1:]) for each in dirty) / n_runs,
        "anyone flagged where nobody flips": sum(any(each) for each in clean) / n_runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    n_runs, started = arguments.runs, time.perf_counter()
    body = {
        "n_runs": n_runs,
        "coverage": coverage(n_runs),
        "power": {"bias of 3 points found": bias_found(n_runs, 0.03), "no bias, found": bias_found(n_runs, 0.0)},
        "flips": {
            "items differ in difficulty": flips(n_runs, shared_difficulty),
            "independent errors, the hardest case": flips(n_runs, 0.8),
            "independent errors, 2,000 items": flips(n_runs, 0.8, 2 * ITEMS),
        },
    }
    report = json.dumps(body | {"seconds": round(time.perf_counter() - started, 1)}, indent=2)
    print(report)
    if arguments.json:
        arguments.json.write_text(report + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
