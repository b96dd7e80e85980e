"""What RL sampled, step by step: curves with intervals, and how harmlessness and helpfulness went."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cai.evaluation import last_request, rates_of
from cai.intervals import Rate, bootstrap_mean
from cai.records import Prompt
from cai.report.chains import spread
from cai.report.data import FrontierPath, FrontierPoint, Line, Results
from cai.smallworld import oracle

MEANS = {"reward/mean": "reward", "kl/k3": "kl", "length/mean": "n_tokens"}
"""Metric of the log → column of the samples that it is the mean of."""
N_WINDOWS = 6
N_READ = 20_000
"""Samples that the oracle reads, at most."""

Rows = Sequence[Mapping[str, Any]]


def read_rollouts(model: Path, *columns: str) -> Rows:
    """Step, prompt and these columns of every sample of an RL step; empty where the model has none."""
    path = model / "rollouts.parquet"
    return pq.read_table(path, columns=["step", "prompt_id", *columns]).to_pylist() if path.is_file() else []


def mean_line(rows: Rows, metric: str, title: str) -> Line | None:
    """A metric's mean by step with its 95 % interval, prompts as the unit that varies; None where it has no samples."""
    column = MEANS.get(metric, "")
    by_step: dict[int, list[tuple[float, str]]] = {}
    for row in rows:
        if row.get(column) is not None:
            by_step.setdefault(row["step"], []).append((float(row[column]), row["prompt_id"]))
    if not by_step:
        return None
    means = [bootstrap_mean(*zip(*of_step, strict=True), seed=0) for _, of_step in sorted(by_step.items())]
    value, low, high = (tuple(getattr(mean, end) for mean in means) for end in ("value", "low", "high"))
    return Line(title, tuple(map(float, sorted(by_step))), value, low, high)


def frontier(results: Results, sampled: Mapping[str, Rows], prompts: Mapping[str, Prompt]) -> Iterator[FrontierPath]:
    """The models on held-out prompts; then the samples of each RL step, by its name, on the small world's prompts that
    it trains on, in windows of steps, as the oracle reads them.
    """
    points = tuple(_point(name, metrics) for name, metrics in results.items() if _is_measured(metrics))
    if not points:
        return
    yield FrontierPath("held-out prompts", points)
    for title, rows in sampled.items():
        if windows := tuple(_windows(spread(rows, N_READ), prompts)):
            yield FrontierPath(f"{title}, its training prompts", windows, names_all=False)


def _windows(rows: Rows, prompts: Mapping[str, Prompt]) -> Iterator[FrontierPoint]:
    steps = sorted({row["step"] for row in rows})
    n = min(N_WINDOWS, len(steps))
    edges = [place * len(steps) // n for place in range(n + 1)] if n else [0]
    for start, end in zip(edges, edges[1:], strict=False):
        window = set(steps[start:end])
        inside = [row for row in rows if row["step"] in window and row["prompt_id"] in prompts]
        readings = [oracle.read(last_request(prompts[row["prompt_id"]]), row["text"]) for row in inside]
        metrics = rates_of(readings, [row["prompt_id"] for row in inside], ())
        if _is_measured(metrics):
            yield _point(f"steps {min(window)} to {max(window)}" if len(window) > 1 else f"step {min(window)}", metrics)


def _is_measured(metrics: Mapping[str, Rate]) -> bool:
    return all(name in metrics and metrics[name].n for name in ("harmful_rate", "helpful_rate"))


def _point(name: str, metrics: Mapping[str, Rate]) -> FrontierPoint:
    harm = metrics["harmful_rate"]
    return FrontierPoint(name, Rate(1 - harm.value, 1 - harm.high, 1 - harm.low, harm.n), metrics["helpful_rate"])
