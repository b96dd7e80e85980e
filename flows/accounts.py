"""What the steps of a run left: their results, the ids of their rows, and the account of rows in, out and rejected."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.rounds import at_round, round_of
from flows.runs import RunFolder

ITEMS = "evaluation-items"
"""The ids of the items that a run measured with."""
# What the steps of a run make, in the order they make it: step name, what a person calls it.
SL_STEPS = (
    ("prompts", "import prompts"),
    ("chains", "critique and revise"),
    ("helpful", "sample helpful replies"),
    ("sft_set", "derive SFT set"),
    ("sft", "train SL-CAI"),
)
ROUND_STEPS = (
    ("candidates", "sample candidates"),
    ("labels", "compare"),
    ("preferences", "derive preferences"),
    ("reward_model", "train reward model"),
    ("rl", "train RL-CAI"),
)


def funnel(run: RunFolder) -> list[tuple[str, int, int, int]]:
    """Each step that turns rows into rows: what it is called, rows in, rows out, rows rejected. In = out + rejected."""
    lines = []
    for step, title in steps(run):
        results = step_results(run, step)
        verdicts = titled("read verdicts", round_of(step))
        lines += _account(verdicts, [r["verdicts"] for r in results if "verdicts" in r])
        lines += _account(title, [r for r in results if "n_in" in r] or _trained_on(results))
    return lines


def steps(run: RunFolder) -> Iterator[tuple[str, str]]:
    """The steps of a run with its rounds, as they are called in its folder and by a person."""
    yield from SL_STEPS
    for number in range(run.profile.rounds):
        yield from ((at_round(step, number), titled(title, number)) for step, title in ROUND_STEPS)
    yield "evaluate", "evaluate"


def titled(title: str, round: int) -> str:
    return title if round == 0 else f"{title}, round {round}"


def _trained_on(results: Sequence[Mapping[str, Any]]) -> list[dict[str, int]]:
    """The account of a training step; the models of an ensemble read the same rows, so they have one between them."""
    for result in results:
        if {"n_rows", "n_rejected"} <= set(result):
            n_out = result["n_rows"] + result.get("n_held_out", 0)
            return [{"n_in": n_out + result["n_rejected"], "n_out": n_out, "n_rejected": result["n_rejected"]}]
    return []


def _account(title: str, results: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int, int]]:
    """The line of a step, or none where it counted nothing."""
    n_in, n_out, n_rejected = (sum(int(r.get(key, 0)) for r in results) for key in ("n_in", "n_out", "n_rejected"))
    return [(title, n_in, n_out, n_rejected)] if results else []


def step_results(run: RunFolder, step: str) -> list[dict[str, Any]]:
    """A step's result, or those of its shards or of the members of an ensemble, in their order."""
    folder = run.path / "steps"
    names = [*folder.glob(f"{step}.json"), *sorted(folder.glob(f"{step}-[0-9]*.json"), key=_number)]
    return [json.loads(path.read_text(encoding="utf-8")) for path in names]


def trained_revisions(run: RunFolder) -> str:
    """The name of the ids of the revisions that SFT learns from, or would."""
    sft = run.profile.sft
    return "last-revisions" if sft is None or sft.rounds == "last" else "revisions"


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def ids_of(run: RunFolder, name: str) -> list[str]:
    """The row ids that a step has left so far, one shard after the other."""
    folder = run.path / "ids"
    names = [p.stem for p in (*folder.glob(f"{name}.parquet"), *sorted(folder.glob(f"{name}-[0-9]*"), key=_number))]
    return [row_id for stem in names for row_id in run.ids(stem)]
