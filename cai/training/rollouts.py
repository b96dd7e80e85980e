"""What RL leaves behind besides a model: every sampled reply with what it earned, and every step's numbers.

Both are written as the run goes, one JSON line each. A resumed run first drops the lines of steps it will do again.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROLLOUTS = "rollouts.jsonl"
METRICS = "metrics.jsonl"
ENDS = (("first", 0), ("last", -1))

SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("prompt_id", pa.string()),
        ("text", pa.string()),
        ("reward", pa.float64()),
        ("parts", pa.map_(pa.string(), pa.float64())),
        ("kl", pa.float64()),
        ("n_tokens", pa.int32()),
        ("reason", pa.string()),
    ]
)

# TRL's name of each number we keep, and ours.
NAMES = {
    "reward": "reward/mean",
    "reward_std": "reward/std",
    "frac_reward_zero_std": "reward/no_spread_rate",
    "completions/mean_length": "length/mean",
    "completions/max_length": "length/max",
    "completions/clipped_ratio": "length/cut_off_rate",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_rate",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "step_time": "step_s",
}


@dataclass(slots=True)
class Sample:
    """One reply of one step. `reward` is None where it could not be scored, and `reason` says why; `parts` are its
    terms before weighting; `kl` is nats per token (k3).
    """

    step: int
    prompt_id: str
    text: str
    reward: float | None
    parts: dict[str, float | None]
    reason: str
    kl: float | None
    n_tokens: int


def step_metrics(numbers: dict[str, float], samples: Sequence[Sample]) -> dict[str, float]:
    """TRL's numbers of a step under our names, and those of its samples: their KL, and each term of their reward.

    `reward/mean` is the reward alone. `reward/no_spread_rate` is the share of prompts whose samples all earned the
    same, and in RLOO the KL is part of what they earn.
    """
    kept = {ours: numbers[theirs] for theirs, ours in NAMES.items() if theirs in numbers}
    n_unscored = float(sum(sample.reward is None for sample in samples))
    found = {"n_unscored": n_unscored, **kept, **kl_mean(samples), **term_means(samples)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def kl_mean(samples: Sequence[Sample]) -> dict[str, float]:
    """`kl/k3`: nats per token, over all tokens of the samples. (TRL's own `kl` is k3 in GRPO and k1 in RLOO.)"""
    known = [(sample.kl, sample.n_tokens) for sample in samples if sample.kl is not None]
    n_tokens = sum(n for _, n in known)
    return {"kl/k3": math.fsum(kl * n for kl, n in known) / n_tokens} if n_tokens else {}


def term_means(samples: Sequence[Sample]) -> dict[str, float]:
    """`rewards/NAME`: the mean of each term, before weighting, over the samples it could score."""
    names = dict.fromkeys(name for sample in samples for name in sample.parts)
    scored = {name: [v for s in samples if (v := s.parts[name]) is not None] for name in names}
    return {f"rewards/{name}": math.fsum(values) / len(values) for name, values in scored.items() if values}


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The first and last value of every number that a run is judged by."""
    named = ("reward/mean", "kl/k3", "length/mean", "entropy", "loss", "gold/mean", "proxy/mean", "guard/kl")
    values = {name: [row[name] for row in rows if name in row] for name in named}
    return {f"{name}/{end}": found[at] for name, found in values.items() if found for end, at in ENDS}


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add lines and flush them to disk: a checkpoint sealed later must not outlive the lines of its steps."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def rewind(path: Path, step: int) -> None:
    """Drop every line of a step after `step`, and a line that a kill cut short."""
    temporary = path.with_name(f"tmp-{path.name}")  # a kill in here must not lose the lines of the steps before
    temporary.unlink(missing_ok=True)
    append(temporary, [row for row in read(path) if row["step"] <= step])
    temporary.rename(path)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; none where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline is a torn line
    return [json.loads(line) for line in lines]


def write_parquet(samples: list[dict[str, Any]], path: Path) -> None:
    rows = [{**sample, "parts": list(sample["parts"].items())} for sample in samples]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def as_row(sample: Sample) -> dict[str, Any]:
    return asdict(sample)
