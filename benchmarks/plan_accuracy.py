"""How far `cai plan` is off: plan, run to preference pairs, compare; on the small world and on HH-RLHF's dialogues.

python -m benchmarks.plan_accuracy --hh ../shared/data/hh-rlhf/harmless-base-test.jsonl.gz
python -m benchmarks.plan_accuracy --hh FILE --prompts 100 --dialogues 40 --json plan_accuracy.json

The shipped model answers, by the transformers engine. Of each run two plans are made before it: in an empty home, from
a probe of 16 prompts; and from a run over a quarter as many prompts, drawn otherwise. It fails where asks or tokens are
off by more than 10 % (small world) or 25 % (HH-RLHF). Nothing is trained: the candidates are the shipped model's.
"""

import argparse
import asyncio
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cai.config import Profile, load_profile
from cai.plan.lines import Line, Plan, total
from cai.plan.text import comparison_text, error, tokens_of
from flows.plan_facts import facts
from flows.planning import Wish, block_of, counters_of, make_plan
from flows.runs import RunFolder, create_run
from flows.session import Session
from flows.steps import dispatch
from storage.store import Store

PROFILES = Path(__file__).parents[1] / "deployments" / "profiles"
ALLOWED = {"small world": 0.10, "HH-RLHF": 0.25}


class Off(NamedTuple):
    """Shares of the fact."""

    asks: float
    tokens: float
    seconds: float | None


def profile_of(name: str, prompts: Path | None, n: int, seed: int, folder: Path) -> Profile:
    """A shipped profile as far as preference pairs, on the transformers engine, over `n` prompts drawn by `seed`."""
    body = yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))
    body["engine"] |= {"kind": "transformers", "max_concurrency": 64}
    source = {"path": "smallworld", "limit": n} if prompts is None else {"path": str(prompts), "limit": n}
    body |= {"prompts": [source], "sft": None, "seed": seed, "evaluation": {"prompts": []}}
    path = folder / f"{name}-{seed}.yaml"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return load_profile(path)


async def run_to_preferences(profile: Profile, home: Path) -> RunFolder:
    """The steps that a flow would ask of its child, one after the other."""
    run = create_run(profile, home)
    session = Session(run)
    model = profile.engine.model
    steps: list[tuple[str, dict[str, Any]]] = [
        ("prompts", {"step": "prompts"}),
        ("chains-0", {"step": "chains", "shard": 0}),
        ("sft_set", {"step": "sft_set"}),
        ("candidates-0", {"step": "candidates", "shard": 0, "model": model}),
        ("self_test", {"step": "self_test"}),
        ("labels-0", {"step": "labels", "shard": 0}),
        ("preferences", {"step": "preferences"}),
    ]
    await session.engines.get(profile.engine, model)  # its start is in no step's time
    try:
        for name, request in steps:
            started = time.monotonic()
            result = await dispatch(session, request)
            run.finish(name, result | {"seconds": round(time.monotonic() - started, 2)})
    finally:
        await session.engines.close()
    return run


async def measure(data: str, profile: str, prompts: Path | None, n: int, there: Path) -> dict[str, Off]:
    """Plan twice, run, compare; the tables are printed."""
    home, wanted = there / profile, profile_of(profile, prompts, n, 0, there)
    with contextlib.redirect_stdout(io.StringIO()):  # the steps speak to a flow
        plans = {"a probe": await make_plan(wanted, there / "nothing", wish=Wish())}
        await run_to_preferences(profile_of(profile, prompts, max(2, n // 4), 1, there), home)
        plans["an earlier run"] = await make_plan(wanted, home, wish=Wish())
        run = await run_to_preferences(wanted, home)
    became = await facts(run, Store(home), counters_of(wanted), block_of(wanted.engine))
    stages = {line.stage for line in became}
    found = {}
    for source, plan in plans.items():
        planned = Plan(plan.run_id, tuple(line for line in plan.lines if line.stage in stages), plan.assumptions)
        print(f"\n== {data}, from {source}\n{comparison_text(planned, became)}", flush=True)
        found[f"{data}, from {source}"] = _off(planned.lines, became)
    return found


def _off(planned: tuple[Line, ...], became: tuple[Line, ...]) -> Off:
    before, after = total(planned), total(became)
    asks, tokens = error(before.n_asks, after.n_asks), error(tokens_of(before), tokens_of(after))
    assert asks is not None and tokens is not None, "a run that is finished has asked"
    seconds = None if before.seconds is None else error(before.seconds, after.seconds or 0.0)
    return Off(asks, tokens, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hh", type=Path, required=True, help="a file of HH-RLHF")
    parser.add_argument("--prompts", type=int, default=100, help="of the small world")
    parser.add_argument("--dialogues", type=int, default=40, help="of HH-RLHF")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Off] = {}
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        for data, profile, path, n in (
            ("small world", "demo", None, options.prompts),
            ("HH-RLHF", "laptop", options.hh, options.dialogues),
        ):
            found |= asyncio.run(measure(data, profile, path, n, there))
    print(f"\n{'plan':32}{'asks':>8}{'tokens':>8}{'time':>8}")
    for name, off in found.items():
        print(f"{name:32}{off.asks:+8.1%}{off.tokens:+8.1%}" + ("" if off.seconds is None else f"{off.seconds:+8.0%}"))
    if options.json is not None:
        options.json.write_text(json.dumps({name: off._asdict() for name, off in found.items()}, indent=1))
    bad = [n for n, off in found.items() if max(abs(off.asks), abs(off.tokens)) > ALLOWED[n.partition(",")[0]]]
    sys.exit(f"too far off: {', '.join(bad)}" if bad else 0)


if __name__ == "__main__":
    main()
