"""A run started again: nothing is asked twice, and killed anywhere it ends with the same rows."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from scripted_run import TO_PREFERENCES, run_to_preferences, write_profile

from cai.config import load_profile
from cai.records import Comparison, PreferencePair, Prompt, Reject, Response, Revision
from flows.runs import create_run
from storage.store import Store

ROOT = Path(__file__).parents[1]
KINDS = (Prompt, Response, Revision, Comparison, PreferencePair, Reject)


@pytest.fixture
def profile(tmp_path):
    return partial(write_profile, tmp_path)


class Served:
    """The generation child of a run, driven line by line as a flow does."""

    def __init__(self, home: Path, run_id: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.steps", str(home), run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )

    def ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("result "):
                return json.loads(line.removeprefix("result "))
        raise EOFError

    def close(self) -> None:
        self.process.communicate()


def run_to_the_end(home: Path, profile: Path):
    """All steps, results written as the flow writes them."""
    run = create_run(load_profile(profile), home)
    served = Served(home, run.run_id)
    try:
        for request in TO_PREFERENCES:
            name = request["step"] + (f"-{request['shard']}" if "shard" in request else "")
            run.finish(name, served.ask(request))
    finally:
        served.close()
    return run


def rows(home: Path) -> dict[str, set]:
    store = Store(home)
    return {kind.__name__: {repr(row) for row in store.read(kind)} for kind in KINDS}


def test_a_second_run_asks_the_model_nothing(tmp_path, profile):
    first = run_to_the_end(tmp_path / "home", profile())
    before = rows(tmp_path / "home")
    again = run_to_the_end(tmp_path / "home", profile())
    assert again.run_id == first.run_id
    assert [again.result(f"{s}-0")["n_requests"] for s in ("chains", "labels")] == [0, 0]
    assert rows(tmp_path / "home") == before


def test_killed_anywhere_and_started_again_it_ends_with_the_same_rows(tmp_path, profile):
    """`kill -9` of the whole group at random moments once rows are durable; every row as if nothing had happened."""
    run_to_preferences(tmp_path / "whole", profile(n_prompts=60))
    path = profile(n_prompts=60, latency_s=0.05)
    run = create_run(load_profile(path), tmp_path / "killed")
    chance = random.Random(7)
    for table, at_least in (("responses", 1), ("revisions", 60), ("comparisons", 1)):
        served = Served(tmp_path / "killed", run.run_id)
        run.finish("prompts", served.ask(TO_PREFERENCES[0]))
        for request in TO_PREFERENCES[1:5]:
            served.process.stdin.write(json.dumps(request) + "\n")
        served.process.stdin.flush()
        while Store(tmp_path / "killed").counts().get(table, 0) < at_least:
            assert served.process.poll() is None
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.5))
        os.killpg(served.process.pid, signal.SIGKILL)
        served.close()
    resumed = run_to_the_end(tmp_path / "killed", path)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    n_asked = sum(resumed.result(f"{s}-0")["n_requests"] for s in ("chains", "labels"))
    assert n_asked < 60 * (5 + 4), "nothing of what was finished before the kills was used"
    assert Store(tmp_path / "killed").verify() == []
