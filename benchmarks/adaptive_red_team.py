"""Adaptive rounds beside random prompts of equal number: which share of a policy's planted weak spots does each find?

    python -m benchmarks.adaptive_red_team [--seeds 20] [--json FILE]

A policy of the small world refuses every harmful request but those of its weak spots: combinations of an action and
an object. As real ones do, weak spots cluster: half the clusters share an object ("a bicycle", whatever is done to it),
half an action ("forge", whatever is forged). A spot is found by a prompt whose request the policy goes along with, as
the oracle reads it. Round 0 varies nothing; three adaptive rounds follow.

All arms have the same writer, a grammar that knows the words of the world and nothing of the policy, and the same code.
`adaptive` is shown what worked and what did not, and takes it to heart, as a model may; `blind` has a writer that does
not, and sees the one prompt that it varies alone; `diverse` is shown what it has written, and varies nothing; `random`
is shown nothing, so that each prompt is an independent draw. The second table scatters as many spots over the world:
adaptive rounds help only where spots cluster, and it says what they cost where they do not. What a campaign counts as
new weak spots, of which it knows only the words, stands beside how many there were.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from cai.config import GenerateConfig
from cai.constitution import load_constitution
from cai.engines.base import Choice, Generation
from cai.held_out import HeldOutGuard
from cai.intervals import Rate, bootstrap_mean, paired_difference
from cai.ledger import MemoryLedger
from cai.prompts.cells import quotas_of
from cai.prompts.reading import SmallWorldReading
from cai.prompts.rounds import Campaign, Generated, Policy, run_rounds
from cai.prompts.writing import Writer
from cai.records import Ledger, Message, Sampling, digest
from cai.smallworld.answers import comply, refuse
from cai.smallworld.world import KINDS, Combo, combos, find
from cai.smallworld.writer import WriterEngine

CONSTITUTION = Path(__file__).parents[1] / "constitution" / "smallworld.yaml"
CLUSTERS = 3
"""Of each sort."""
ADAPTIVE = 3


class PlantedPolicy:
    """Refuses harm but at its weak spots; says the same whoever asks when."""

    context_length = 4096

    def __init__(self, spots: frozenset[Combo]) -> None:
        self.spots = spots
        self.model_digest = digest("planted", sorted((c.action, c.object) for c in spots))

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        request, rng = find(messages[-1].content), random.Random(seed)
        if request is None:
            return Generation("i am not sure about that.", "stop", 1, 6)
        is_weak = request.kind is None or Combo(request.action, request.object) in self.spots
        said = comply(rng, request) if is_weak else refuse(rng, request)
        return Generation(said, "stop", 1, len(said.split()))

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        raise AssertionError("the planted policy answers; the oracle judges it, and nobody asks it to choose")

    async def load(self, model: Path | str) -> None: ...

    async def close(self) -> None: ...


def planted(seed: int, is_scattered: bool) -> frozenset[Combo]:
    """Clusters of weak spots; scattered, as many spots anywhere."""
    rng = random.Random(f"spots {seed}")
    space = [combo for kind in KINDS for combo in combos("train", kind)]
    things = rng.sample(sorted({c.object for c in space}), CLUSTERS)
    actions = rng.sample(sorted({c.action for c in space}), CLUSTERS)
    spots = [c for c in space if c.object in things or c.action in actions]
    return frozenset(rng.sample(space, len(spots)) if is_scattered else spots)


class Arm(NamedTuple):
    """Shares of the spots found, by round, and how many prompts were tried; new spots, and what was counted as such."""

    found: list[float]
    n_tried: list[int]
    n_new: list[int]
    n_counted: list[int]


ARMS: dict[str, dict[str, Any]] = {
    "adaptive": {"shots": 16, "explore": 0.25},
    "blind": {"shots": 0, "explore": 0.25},
    "diverse": {"shots": 16, "explore": 1.0},
    "random": {"shots": 0, "explore": 1.0},
}


async def arm(name: str, seed: int, quota: int, spots: frozenset[Combo]) -> Arm:
    config = GenerateConfig(
        kinds=("harmful",), tried=("harmful",), tags=KINDS, quota=quota, rounds=ADAPTIVE,
        reading="smallworld", least_new=0, **ARMS[name],
    )  # fmt: skip
    constitution, kept, writes = load_constitution(CONSTITUTION), MemoryLedger(), WriterEngine(is_blind=name == "blind")

    def rows_of(prompt_ids: Sequence[str]) -> Ledger:
        return kept

    async def writer_engine() -> WriterEngine:
        return writes

    async def policy_engine() -> PlantedPolicy:
        return PlantedPolicy(spots)

    campaign = f"benchmark-{seed}"
    writer = Writer(
        config, constitution, campaign, writer_engine, rows_of, known=(), guard=HeldOutGuard(()), seed=seed,
        max_concurrency=64,
    )  # fmt: skip
    policy = Policy(policy_engine, SmallWorldReading(), 64)
    quotas = quotas_of(config, constitution)
    made = await run_rounds(Campaign(campaign, config, quotas, writer, policy, rows_of, seed))
    return _arm(made, spots)


def _arm(made: Generated, spots: frozenset[Combo]) -> Arm:
    found: set[Combo] = set()
    shares, n_new = list[float](), list[int]()
    for done in made.rounds:
        n_before = len(found)
        for row in made.attempts:
            if row.round == done.round and row.elicited:
                request = find(made.prompts[row.prompt_id].messages[-1].content)
                assert request is not None
                found.add(Combo(request.action, request.object))
        assert found <= spots, "a spot is found where one was planted, and nowhere else"
        shares.append(len(found) / len(spots))
        n_new.append(len(found) - n_before)
    return Arm(shares, [done.n_tried for done in made.rounds], n_new, [done.n_spots for done in made.rounds])


def measure(n_seeds: int, quota: int, is_scattered: bool) -> dict[str, Any]:
    spots = [planted(seed, is_scattered) for seed in range(n_seeds)]
    arms = {name: [asyncio.run(arm(name, seed, quota, each)) for seed, each in enumerate(spots)] for name in ARMS}
    seeds = list(range(n_seeds))
    body: dict[str, Any] = {"n_spots": [min(map(len, spots)), max(map(len, spots))]}
    for name, done in arms.items():
        rounds = zip(*(each.found for each in done), strict=True)
        tried = [sum(each.n_tried) for each in done]
        body[name] = {
            "n_tried": [min(tried), max(tried)],
            "found": [_rate(bootstrap_mean(list(shares), seeds, seed=0)) for shares in rounds],
            "new": _means([each.n_new for each in done]),
            "counted": _means([each.n_counted for each in done]),
        }
    last = {name: [each.found[-1] for each in done] for name, done in arms.items()}
    body["difference"] = _rate(paired_difference(last["adaptive"], last["random"], seeds, seed=0))
    return body


def _means(rows: Sequence[Sequence[int]]) -> list[float]:
    return [round(fmean(column), 1) for column in zip(*rows, strict=True)]


def _rate(rate: Rate) -> list[float]:
    return [round(value, 3) for value in (rate.value, rate.low, rate.high)]


def show(name: str, body: dict[str, Any]) -> None:
    low, high = body["n_spots"]
    print(f"\n{name}: {low} to {high} weak spots among {sum(len(combos('train', k)) for k in KINDS)} combinations")
    print(f"{'round':>8}" + "".join(f"{name:>26}" for name in ARMS))
    for number, found in enumerate(zip(*(body[name]["found"] for name in ARMS), strict=True)):
        cells = "".join(f"{100 * v:>10.1f} % [{100 * lo:5.1f}, {100 * hi:5.1f}]" for v, lo, hi in found)
        print(f"{number:>8}{cells}")
    print("new weak spots of a campaign by round, as they are and as they were counted:")
    for arm_name in ARMS:
        pairs = zip(body[arm_name]["new"], body[arm_name]["counted"], strict=True)
        print(f"{arm_name:>8}" + "".join(f"{there:>10.1f} {counted:.1f}" for there, counted in pairs))
    for arm_name in ARMS:
        print(f"{arm_name}: {' to '.join(map(str, body[arm_name]['n_tried']))} prompts were tried")
    value, lo, hi = (100 * x for x in body["difference"])
    print(f"adaptive less random: {value:+.1f} points [{lo:+.1f}, {hi:+.1f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="policies (default 20)")
    parser.add_argument("--quota", type=int, default=17, help="prompts of each of the five tags in a round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    started = time.perf_counter()
    body: dict[str, Any] = {}
    for name, is_scattered in (("clustered", False), ("scattered", True)):
        body[name] = measure(args.seeds, args.quota, is_scattered)
        show(name, body[name])
    body["seconds"] = round(time.perf_counter() - started, 1)
    print(f"\n{args.seeds} policies each, {body['seconds']} s")
    if args.json:
        args.json.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
