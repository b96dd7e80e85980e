"""What RL leaves behind besides a model: every sampled reply with what it earned, and every step's numbers.

Both are written as the run goes, one JSON line each. A resumed run first drops the lines of steps it will do again.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROLLOUTS = "rollouts.jsonl"
METRICS = "metrics.jsonl"

SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("prompt_id", pa.string()),
        ("text", pa.string()),
        ("reward", pa.float64()),
        ("kl", pa.float64()),
        ("n_tokens", pa.int32()),
    ]
)

# TRL's name of each number we keep, and ours.
NAMES = {
    "reward": "reward/mean",
    "reward_std": "reward/std",
    "frac_reward_zero_std": "reward/no_spread_rate",
    "kl": "kl/k3",
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
    """One reply of one step. `reward` is None where it could not be scored; `kl` is nats per token (k3)."""

    step: int
    prompt_id: str
    text: str
    reward: float | None
    kl: float | None
    n_tokens: int


def step_metrics(numbers: dict[str, float], n_unscored: int) -> dict[str, float]:
    kept = {ours: numbers[theirs] for theirs, ours in NAMES.items() if theirs in numbers}
    return {"n_unscored": n_unscored, **{k: v for k, v in kept.items() if math.isfinite(v)}}


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add lines and flush them to disk: a checkpoint sealed later must not outlive the lines of its steps."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def rewind(path: Path, step: int) -> None:
    """Drop every line of a step after `step`, and a line that a kill cut short."""
    kept = [row for row in read(path) if row["step"] <= step]
    path.unlink(missing_ok=True)
    append(path, kept)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; none where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline is a torn line
    return [json.loads(line) for line in lines]


def write_parquet(samples: list[dict[str, Any]], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(samples, schema=SCHEMA), path, compression="zstd")


def as_row(sample: Sample) -> dict[str, Any]:
    return asdict(sample)
