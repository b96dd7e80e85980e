"""Reward models trained on soft labels against hard ones: held-out accuracy, Brier score and calibration error.

python -m benchmarks.soft_vs_hard --home HOME [--run ID] [--seeds 5] [--json result.json]

HOME holds a small-world run (`cai demo --home HOME`); its pairs, SL-CAI model and settings are used. Each seed has its
own first weights, order and split by prompt, and trains three models that differ in nothing else: `soft`, `hard`
(labels rounded, ties left out), and `soft_decided` (soft labels on exactly the pairs that `hard` has). All are measured
on the same held-out pairs, (a) against the judge's soft labels, and (b) against the truth: the oracle reads both
responses, and one is better where it has fewer faults and none that the other lacks. Means with 95 % t-intervals over
the seeds, and the differences seed by seed.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cai.config import RewardModelConfig
from cai.labels.calibration import ece_floor
from cai.smallworld import oracle
from cai.training import reward_model
from cai.training.command import run
from cai.training.jobs import RewardModelJob
from cai.training.reward_metrics import HeldOut, quality
from cai.training.reward_pairs import scored, split_rows
from cai.training.rows import PairRow, read_pairs
from cai.training.scoring import RewardModel

ARMS = ("soft", "hard", "soft_decided")
HELD_OUT = 0.3
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's 97.5 % quantile by degrees of freedom."""


def write_split(table: pa.Table, seed: int, folder: Path) -> dict[str, Path]:
    """The same pairs for every arm, under prompt ids that split differently for every seed."""
    ids = pa.array([f"{seed}/{name}" for name in table["prompt_id"].to_pylist()])
    whole = table.set_column(table.schema.get_field_index("prompt_id"), "prompt_id", ids)
    decided = whole.filter(pa.array([not tie for tie in table["is_tie"].to_pylist()]))
    paths = {name: folder / f"{name}-{seed}.parquet" for name in ("whole", "decided")}
    pq.write_table(whole, paths["whole"])
    pq.write_table(decided, paths["decided"])
    return {"soft": paths["whole"], "hard": paths["whole"], "soft_decided": paths["decided"]}


def truth(pair: PairRow) -> float | None:
    """1 where chosen is better, 0 where rejected is, None where neither has fewer faults of the same kinds."""
    chosen, rejected = (faults(pair.prompt[-1].content, side[-1].content) for side in (pair.chosen, pair.rejected))
    if chosen == rejected or not (chosen < rejected or rejected < chosen):
        return None
    return float(chosen < rejected)


def faults(request: str, answer: str) -> frozenset[str]:
    """A harmful request may only be refused with a reason, a benign one only be done; and nobody should be rude."""
    reading = oracle.read(request, answer)
    found = {"rude"} if reading.is_rude else set()
    if reading.kind is None:
        found |= set() if reading.is_helpful and reading.on_topic else {"not done"}
    elif reading.act != "refuse":
        found |= {"no refusal", "harm"} if reading.is_harmful else {"no refusal"}
    return frozenset(found)


def score_both(model: RewardModel, pairs: Sequence[PairRow]) -> HeldOut:
    chosen, rejected = [p.prompt + p.chosen for p in pairs], [p.prompt + p.rejected for p in pairs]
    return scored(pairs, model.score(chosen), model.score(rejected))


def measure(model: RewardModel, pairs: Sequence[PairRow]) -> dict[str, float]:
    """Against the judge on all held-out pairs, and against the truth where there is one."""
    known = [(pair, better) for pair in pairs if (better := truth(pair)) is not None]
    true_pairs = [pair._replace(soft_label=better, is_tie=False) for pair, better in known]
    found: dict[str, float] = {}
    for name, both in {"judge": score_both(model, pairs), "truth": score_both(model, true_pairs)}.items():
        found |= {f"{name}/{metric}": value for metric, value in quality(both).items()}
        found[f"{name}/ece_floor"] = ece_floor(both.probability, both.soft_label).mean
    found["truth/judge_accuracy"] = statistics.fmean((p.soft_label > 0.5) == (better > 0.5) for p, better in known)
    return found


def train(arm: str, data: Path, model: Path, config: dict[str, Any], seed: int, folder: Path) -> RewardModel:
    labels = "hard" if arm == "hard" else "soft"
    settings = RewardModelConfig.model_validate({**config, "held_out": HELD_OUT, "labels": labels})
    job = RewardModelJob(model=model, data=data, out=folder / f"{arm}-{seed}", seed=seed, config=settings)
    run(reward_model.STAGE, job)
    return RewardModel.load(job.out)


def mean_and_interval(values: Sequence[float]) -> dict[str, float]:
    mean = statistics.fmean(values)
    half = T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    ends = {"mean": mean, "low": mean - half, "high": mean + half}
    return {name: float(f"{value:.4g}") for name, value in ends.items()}


def summarize(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    metrics = list(found["soft"][0])
    arms = {arm: {m: mean_and_interval([one[m] for one in found[arm]]) for m in metrics} for arm in ARMS}
    differences = {
        f"{arm} - hard": {
            m: mean_and_interval([a[m] - b[m] for a, b in zip(found[arm], found["hard"], strict=True)])
            for m in metrics
            if m.split("/")[1] in ("accuracy", "brier", "ece")
        }
        for arm in ("soft", "soft_decided")
    }
    return {"arms": arms, "differences": differences}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", default="", help="one of HOME/runs; the first with pairs if not given")
    parser.add_argument("--seeds", type=int, choices=range(2, 11), default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = sorted(options.home.glob(f"runs/{options.run or '*'}/jobs/reward_model.json"))
    if not runs:
        parser.error(f"no run with a reward model in {options.home}/runs; make one with `cai demo --home HOME`")
    job = json.loads(runs[0].read_text(encoding="utf-8"))
    start = options.home / "models" / Path(job["model"]).name  # a home may have been moved
    table = pq.read_table(runs[0].parents[1] / "preferences.parquet")
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.seeds):
            data = write_split(table, seed, Path(name))
            pairs = split_rows(read_pairs(data["soft"])[0], HELD_OUT).held_out
            for arm in ARMS:
                model = train(arm, data[arm], start, job["config"], seed, Path(name))
                found[arm].append(measure(model, pairs))
                print(json.dumps({"seed": seed, "arm": arm, **found[arm][-1]}), flush=True)
    result = {"run": runs[0].parents[1].name, "seeds": options.seeds, **summarize(found)}
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
