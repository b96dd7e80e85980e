"""What training logged, as the curves of a report: by step, with the guard's stop, and a reward model's reliability."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.models import read_meta
from cai.report.curves import overoptimisation
from cai.report.data import Curve, Line, Reliability, ReliabilityBin
from flows.accounts import step_results, steps, titled
from flows.report_rollouts import MEANS, mean_line, read_rollouts
from flows.rounds import round_of
from flows.runs import RunFolder

# Of what a training step logs, what tells people whether it went well: metric, what it is called, its unit.
CURVES = (
    ("sft", "SL-CAI", (("loss", "loss", "nats per token"), ("mean_token_accuracy", "token accuracy", "share"))),
    ("reward_model", "Reward model", (("loss", "loss", "nats per pair"),)),
    (
        "rl",
        "RL-CAI",
        (
            ("reward/mean", "reward", "mean of the step"),
            ("kl/k3", "KL to SL-CAI", "nats per token"),
            ("entropy", "entropy", "nats per token"),
            ("length/mean", "length", "tokens"),
        ),
    ),
)


def curves(run: RunFolder) -> Iterable[Curve]:
    """Of each training step, in the order of the rounds; the models of an ensemble share their axes."""
    for step, _ in steps(run):
        found = step_results(run, step)
        yield from curves_of(step, [Path(result["path"]) for result in found if "path" in result])


def curves_of(step: str, models: Sequence[Path]) -> Iterable[Curve]:
    """What the models of one training step logged, and where gold and proxy parted."""
    known = {name: (group, metrics) for name, group, metrics in CURVES}
    group, metrics = known.get(re.split(r"-r?\d", step)[0], ("", ()))
    logs = [_log(model) for model in models] if metrics else []
    rollouts = read_rollouts(models[0], *MEANS.values()) if group == "RL-CAI" and models else []
    for name, title, unit in metrics:
        names = [title] if len(logs) == 1 else [f"model {i}" for i in range(len(logs))]
        lines = [_line(log, name, each) for log, each in zip(logs, names, strict=True)]
        if (measured := mean_line(rollouts, name, title)) is not None:
            lines = [measured]
        if drawn := tuple(line for line in lines if len(line.x) > 1):
            yield Curve(titled(group, round_of(step)), title, "step", unit, drawn)
    for model, log in zip(models, logs, strict=False):
        guard = (read_meta(model) or {}).get("guard")
        if guard and (parted := overoptimisation(titled(group, round_of(step)), log, guard)) is not None:
            yield parted


def _log(model: Path) -> list[dict[str, Any]]:
    path = model / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _line(log: Sequence[Mapping[str, Any]], metric: str, title: str) -> Line:
    points = [(float(r["step"]), float(r[metric])) for r in log if isinstance(r.get(metric), int | float)]
    return Line(title, tuple(x for x, _ in points), tuple(y for _, y in points))


def reliability(run: RunFolder) -> Reliability | None:
    """Of the first round's reward model, the first where there are several."""
    result = run.result("reward_model")
    meta = read_meta(Path(result["path"])) if result else None
    bins = (meta or {}).get("reliability")
    if not meta or not bins:
        return None
    return Reliability(tuple(ReliabilityBin(**b) for b in bins), float(meta["metrics"]["held_out/ece"]))
