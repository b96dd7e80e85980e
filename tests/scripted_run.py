"""Runs over the scripted engine: their profile, and their steps, done in the test's own process by the code that the
generation child runs.
"""

import asyncio
import json
from pathlib import Path

import yaml
from click.testing import CliRunner

from cai.cli import tables
from cai.config import load_profile
from flows.runs import RunFolder, create_run
from flows.session import Session
from flows.steps import dispatch

CONSTITUTION = """\
name: small
principles:
  - id: kind
    title: Be kind
    tags: [tone]
    stages: [critique, preference]
    critique: Was the response unkind?
    revision: Make it kind.
    preference: Which response is kinder?
  - id: safe
    title: Do no harm
    tags: [harm]
    stages: [critique, preference]
    critique: Does the response help do harm?
    revision: Take out the harm.
    preference: Which response does less harm?
"""
TO_PREFERENCES = (
    {"step": "prompts"},
    {"step": "chains", "shard": 0},
    {"step": "sft_set"},
    {"step": "candidates", "shard": 0, "model": "scripted"},
    {"step": "labels", "shard": 0},
    {"step": "preferences"},
)


def write_profile(
    folder: Path,
    n_prompts: int = 40,
    latency_s: float = 0.0,
    constitution: str = CONSTITUTION,
    win_rate_prompts: int = 0,
    rules: tuple[dict, ...] = (),
) -> Path:
    """A profile over the scripted engine, with what it names beside it."""
    (folder / "prompts.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(n_prompts)))
    (folder / "held-out.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(40, 60)))
    (folder / "constitution.yaml").write_text(constitution)
    (folder / "script.yaml").write_text(yaml.safe_dump({"latency_s": latency_s, "rules": list(rules)}))
    body = {
        "name": "small",
        "constitution": str(folder / "constitution.yaml"),
        "engine": {
            "kind": "scripted",
            "model": "scripted",
            "script": str(folder / "script.yaml"),
            "max_concurrency": 8,
        },
        "prompts": [{"path": str(folder / "prompts.txt")}],
        "chains": {"rounds": 2},
        "sft": None,
        "evaluation": {
            "prompts": [{"path": str(folder / "held-out.txt")}],
            "win_rate_prompts": win_rate_prompts,
            "harm_scale_prompts": 0,
        },
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(body))
    return folder / "profile.yaml"


def changed(profile: Path, **settings: object) -> Path:
    profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | settings))
    return profile


def run_to_preferences(home: Path, profile: Path) -> RunFolder:
    return serve(create_run(load_profile(profile), home), *TO_PREFERENCES)


def run_steps(run: RunFolder, *steps: str, models: dict[str, str] | None = None) -> RunFolder:
    """Steps of the first shard by their names; the candidates are the seed model's."""
    requests: list[dict] = []
    for step in steps:
        requests.append({"step": step, "shard": 0} if step in {"chains", "candidates", "labels"} else {"step": step})
        requests[-1] |= {"model": "scripted"} if step == "candidates" else {}
        requests[-1] |= {"models": models} if step == "evaluate" else {}
    return serve(run, *requests)


def serve(run: RunFolder, *requests: dict) -> RunFolder:
    """Steps as the flow asks for them, results written as it writes them, under the `name` that a request may have."""

    async def each() -> None:
        session = Session(run)
        try:
            for request in requests:
                name = request["step"] + (f"-{request['shard']}" if "shard" in request else "")
                asked = {key: value for key, value in request.items() if key != "name"}
                run.finish(request.get("name", name), await dispatch(session, asked))
        finally:
            await session.engines.close()

    asyncio.run(each())
    return run


def export(home: Path, what: str, run: RunFolder) -> list[dict]:
    """What `cai export` writes of the rows of one run."""
    out = home / f"{what}-{run.run_id}.jsonl"
    done = CliRunner().invoke(tables.export, [what, str(out), "--home", str(home), "--run", run.run_id])
    if done.exception:
        raise done.exception
    return [json.loads(line) for line in out.read_text().splitlines()]
