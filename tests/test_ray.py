"""Shards on a real Ray cluster of two workers on this machine, one of them killed: the same rows, none twice."""

import asyncio
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import psutil
import pytest
import yaml

from cai.config import load_profile
from cai.records import Comparison, PreferencePair, Reject, Response, Revision
from flows.runs import create_run
from flows.session import Session
from flows.steps import dispatch
from flows.supervise import StepFailed
from storage.store import Store

ROOT = Path(__file__).parents[1]
LATENCY_S = 0.6  # of each ask: a shard is then at work for longer than rows wait to be committed
KINDS = (Response, Revision, Comparison, PreferencePair, Reject)
SHARDS, SIZE = 2, 6
PRINCIPLE = {"stages": ["critique", "preference"], "critique": "Is it?", "revision": "Mend it.", "preference": "Which?"}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; pip install -e '.[ray]'"
)


def write_profile(folder: Path, ray: dict | None, latency_s: float) -> Path:
    folder.mkdir()
    (folder / "prompts.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(SIZE * SHARDS)))
    principles = [PRINCIPLE | {"id": name, "title": name} for name in ("kind", "safe")]
    (folder / "constitution.yaml").write_text(yaml.safe_dump({"name": "small", "principles": principles}))
    (folder / "script.yaml").write_text(yaml.safe_dump({"latency_s": latency_s}))
    engine = {"kind": "scripted", "model": "scripted", "script": str(folder / "script.yaml"), "max_concurrency": 2}
    body = {
        "name": "small",
        "constitution": str(folder / "constitution.yaml"),
        "engine": engine,
        "prompts": [{"path": str(folder / "prompts.txt")}],
        "chains": {"rounds": 2},
        "sft": None,
        "feedback": {"self_test": False},
        "ray": ray,
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(body))
    return folder / "profile.yaml"


def start(profile: Path, home: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        "from cai.cli import main; main()",
        "run",
        str(profile),
        "--home",
        str(home),
        "--until",
        "preferences",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    with (home.parent / f"{home.name}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)


def engines_of(flow: subprocess.Popen) -> list[psutil.Process]:
    """The supervised children whose parent is a worker of Ray's."""
    found = []
    for process in psutil.Process(flow.pid).children(recursive=True):
        try:
            if "flows.steps" in process.cmdline() and process.parent().name().startswith("ray::"):
                found.append(process)
        except (psutil.NoSuchProcess, AttributeError):
            continue
    return found


def run_plain(profile: Path, home: Path) -> None:
    """What the flow has its one child do, here and now."""
    run = create_run(load_profile(profile), home)

    async def steps() -> None:
        session = Session(run)
        run.finish("prompts", await dispatch(session, {"step": "prompts"}))
        await dispatch(session, {"step": "chains", "shard": 0})
        await dispatch(session, {"step": "candidates", "shard": 0, "model": "scripted"})
        run.finish("labels-0", await dispatch(session, {"step": "labels", "shard": 0}))
        await dispatch(session, {"step": "preferences"})

    asyncio.run(steps())


def both_have_rows(store: Store) -> bool:
    """Whether each shard has committed rows: their prompts are numbered as the file has them."""
    if store.counts()["revisions"] < 2:
        return False
    found = store.query("SELECT messages[1].content AS text FROM prompts SEMI JOIN revisions USING (prompt_id)")
    return len({int(row["text"].split()[-1].rstrip("?")) // SIZE for row in found}) == SHARDS


def rows(home: Path) -> dict:
    store = Store(home)
    assert store.verify() == [], "among other things: no id twice"
    return {kind: store.read(kind) for kind in KINDS}


def test_a_killed_worker_loses_nothing_and_the_rows_are_those_of_a_run_without_ray(tmp_path):
    """The engine dies with its worker, the shard is done again, and what was committed of it is not asked for again."""
    home, store = tmp_path / "home", Store(tmp_path / "home")
    profile = write_profile(tmp_path / "with", {"workers": 2, "shard": SIZE}, LATENCY_S)
    flow = start(profile, home)
    try:
        run_plain(write_profile(tmp_path / "without", None, 0.0), tmp_path / "plain")
        deadline = time.monotonic() + 240
        while len(engines := engines_of(flow)) < 2 or not both_have_rows(store):
            assert flow.poll() is None and time.monotonic() < deadline, (tmp_path / "home.log").read_text()
            time.sleep(0.2)
        engines[0].parent().kill()
        psutil.wait_procs(engines[:1], timeout=10)
        assert not engines[0].is_running(), "the engine outlived its worker"
        assert flow.wait(120) == 0, (tmp_path / "home.log").read_text()
    finally:
        flow.kill()
    assert rows(home) == rows(tmp_path / "plain")
    run = create_run(load_profile(profile), home)
    results = [run.result(f"chains-{shard}") for shard in range(SHARDS)]
    assert [result["n_in"] for result in results] == [SIZE] * SHARDS
    assert any(result["n_reused"] for result in results), "a shard was begun again from nothing"


def test_a_step_that_failed_on_another_machine_says_so_here():
    """It comes back pickled; an exception whose arguments are not its message's would be a TypeError instead."""
    failed = StepFailed("EngineDied", "no answer", ["last line"])
    back = cloudpickle.loads(cloudpickle.dumps(failed))
    assert (back.kind, str(back), back.is_transient) == ("EngineDied", "no answer\nlast line", True)
