"""A run from prompts to preference pairs, as its child does it: finished once, resumed anywhere, accounted for."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cai.cli import tables
from cai.cli.run import _show
from cai.config import load_profile
from cai.errors import ConfigError, DataError
from cai.records import Comparison, Message, PreferencePair, Prompt, Reject, Response, Revision, digest
from flows import reporting
from flows.runs import create_run, open_run
from storage.store import Store

ROOT = Path(__file__).parents[1]
KINDS = (Prompt, Response, Revision, Comparison, PreferencePair, Reject)
STEPS = (
    {"step": "prompts"},
    {"step": "chains", "shard": 0},
    {"step": "sft_set"},
    {"step": "candidates", "shard": 0, "model": "scripted"},
    {"step": "labels", "shard": 0},
    {"step": "preferences"},
)
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


@pytest.fixture
def profile(tmp_path):
    """A profile over the scripted engine; arguments change it."""

    def write(
        n_prompts: int = 40,
        latency_s: float = 0.0,
        constitution: str = CONSTITUTION,
        win_rate_prompts: int = 0,
        rules: tuple[dict, ...] = (),
    ) -> Path:
        (tmp_path / "prompts.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(n_prompts)))
        (tmp_path / "constitution.yaml").write_text(constitution)
        (tmp_path / "script.yaml").write_text(yaml.safe_dump({"latency_s": latency_s, "rules": list(rules)}))
        body = {
            "name": "small",
            "constitution": str(tmp_path / "constitution.yaml"),
            "engine": {
                "kind": "scripted",
                "model": "scripted",
                "script": str(tmp_path / "script.yaml"),
                "max_concurrency": 8,
            },
            "prompts": [{"path": str(tmp_path / "prompts.txt")}],
            "chains": {"rounds": 2},
            "sft": None,
            "evaluation": {"prompts": [{"path": str(tmp_path / "held-out.txt")}], "win_rate_prompts": win_rate_prompts},
        }
        (tmp_path / "held-out.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(35, 60)))
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
        return tmp_path / "profile.yaml"

    return write


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
        for request in STEPS:
            name = request["step"] + (f"-{request['shard']}" if "shard" in request else "")
            run.finish(name, served.ask(request))
    finally:
        served.close()
    return run


def rows(home: Path) -> dict[str, set]:
    store = Store(home)
    return {kind.__name__: {repr(row) for row in store.read(kind)} for kind in KINDS}


def test_every_step_accounts_for_its_rows(tmp_path, profile):
    run = run_to_the_end(tmp_path / "home", profile())
    steps = reporting.funnel(run)
    assert [title for title, *_ in steps] == [
        "import prompts",
        "critique and revise",
        "derive SFT set",
        "sample candidates",
        "compare",
        "read verdicts",
        "derive preferences",
    ]
    for title, n_in, n_out, n_rejected in steps:
        assert n_in == n_out + n_rejected, title
    assert run.result("labels-0")["n_requests"] == 40 * 2 * 2  # pairs × principles × orders


def test_whatever_is_dropped_on_the_way_is_in_the_funnel(tmp_path, profile):
    """A judge that answers neither letter cost no row of the step that asked it, and was in no step's account."""
    rules = (
        {"when": r"(?s)number 1\?.*kinder", "choose": [0.1, 0.1]},
        {"when": r"(?s)number 2\?.*(kinder|less harm)", "choose": [0.1, 0.1]},
        {"when": r"number 3\?$", "reply": "the same"},
        {"when": r"(?s)number 4\?.*unkind", "reply": ""},
    )
    run = run_to_the_end(tmp_path / "home", profile(rules=rules))
    rejected = {title: n_rejected for title, _, _, n_rejected in reporting.funnel(run)}
    assert rejected["read verdicts"] == 2 + 4
    assert rejected["derive preferences"] == 2
    assert sum(rejected.values()) == len(Store(tmp_path / "home").read(Reject))
    for title, n_in, n_out, n_rejected in reporting.funnel(run):
        assert n_in == n_out + n_rejected, title


def test_the_rows_of_one_run_can_be_exported_alone(tmp_path, profile):
    home, other = tmp_path / "home", CONSTITUTION.replace("kinder", "more kind")
    first, second = run_to_the_end(home, profile()), run_to_the_end(home, profile(constitution=other))
    pairs = {run.run_id: export(home, "preferences", run) for run in (first, second)}
    assert sum(map(len, pairs.values())) == len(Store(home).read(PreferencePair)) > len(pairs[first.run_id])
    assert {row["pair_id"] for row in pairs[second.run_id]} == set(second.ids("preferences"))
    assert {row["revision_id"] for row in export(home, "sft", first)} == set(first.ids("last-revisions-0"))
    assert len(export(home, "prompts", first)) == 40


def test_a_run_that_is_not_so_far_has_nothing_to_export(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    Store(run.home).append([Prompt.make([Message("user", "hello")], "test")])
    with pytest.raises(DataError, match="has not made all its preferences yet"):
        export(run.home, "preferences", run)


def export(home: Path, what: str, run) -> list[dict]:
    out = home / f"{what}-{run.run_id}.jsonl"
    done = CliRunner().invoke(tables.export, [what, str(out), "--home", str(home), "--run", run.run_id])
    if done.exception:
        raise done.exception
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_second_run_asks_the_model_nothing(tmp_path, profile):
    first = run_to_the_end(tmp_path / "home", profile())
    before = rows(tmp_path / "home")
    again = run_to_the_end(tmp_path / "home", profile())
    assert again.run_id == first.run_id
    assert [again.result(f"{s}-0")["n_requests"] for s in ("chains", "labels")] == [0, 0]
    assert rows(tmp_path / "home") == before


def test_killed_anywhere_and_started_again_it_ends_with_the_same_rows(tmp_path, profile):
    """`kill -9` of the whole group at random moments; every row as if nothing had happened, none twice."""
    path = profile(n_prompts=60, latency_s=0.05)
    run_to_the_end(tmp_path / "whole", path)
    run = create_run(load_profile(path), tmp_path / "killed")
    chance = random.Random(7)
    for _ in range(3):
        served = Served(tmp_path / "killed", run.run_id)
        served.ask(STEPS[0])
        for request in STEPS[1:5]:
            served.process.stdin.write(json.dumps(request) + "\n")
        served.process.stdin.flush()
        time.sleep(chance.uniform(0.5, 3.5))  # a run takes about five seconds
        os.killpg(served.process.pid, signal.SIGKILL)
        served.close()
    resumed = run_to_the_end(tmp_path / "killed", path)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    n_asked = sum(resumed.result(f"{s}-0")["n_requests"] for s in ("chains", "labels"))
    assert n_asked < 60 * (5 + 4), "nothing of what was finished before the kills was used"
    assert Store(tmp_path / "killed").verify() == []


def test_editing_one_principle_asks_again_only_for_what_used_it(tmp_path, profile):
    home = tmp_path / "home"
    first = run_to_the_end(home, profile())
    revisions = Store(home).read(Revision)
    direct = {r.revision_id for r in revisions if r.principle_id == "kind"}
    stale = direct | {r.revision_id for r in revisions if r.parent_id in direct}
    edited = CONSTITUTION.replace("Was the response unkind?", "Did the response lack kindness?")
    second = run_to_the_end(home, profile(constitution=edited))
    assert second.run_id != first.run_id
    assert second.result("chains-0")["n_requests"] == 2 * len(stale)
    assert second.result("labels-0")["n_requests"] == 0, "the comparisons do not depend on a critique's text"


def evaluated(home: Path, profile: Path):
    """Two models measured on held-out prompts of no known truth, five of which were trained on, and the report."""
    run = create_run(load_profile(profile), home)
    served = Served(home, run.run_id)
    models = {"seed": "scripted", "sl_cai": "trained"}
    try:
        for request in ({"step": "prompts"}, {"step": "evaluate", "models": models}, {"step": "report"}):
            run.finish(request["step"], served.ask(request))
    finally:
        served.close()
    return run


def test_win_rates_are_shown_where_no_oracle_knows_the_truth(tmp_path, profile, capsys):
    run = evaluated(tmp_path / "home", profile(win_rate_prompts=12))
    step = run.result("evaluate")
    assert (step["n_in"], step["n_prompts_rejected"], step["rates"]) == (2 * 20, 5, {})
    assert step["win_rates"]["sl_cai/seed"]["n"] == 12
    judges = {row.judge_digest for row in Store(tmp_path / "home").read(Comparison)}
    assert judges == {digest("scripted", "scripted")}, "the seed model judges, not the one that was sampled last"
    _show(tmp_path / "home", run.run_id, "report", None)
    assert "SL-CAI over seed" in capsys.readouterr().out
    page = (run.path / "report.html").read_text()
    assert "SL-CAI over seed" in page and "The truth about these requests is not known" in page


def test_a_run_that_measured_nothing_shows_its_funnel(tmp_path, profile, capsys):
    """Without an oracle and without a judge there is no `results.txt`; showing the run read it all the same."""
    run = evaluated(tmp_path / "home", profile(win_rate_prompts=0))
    _show(tmp_path / "home", run.run_id, "report", None)
    assert "import prompts" in capsys.readouterr().out


def test_a_run_keeps_the_constitution_it_was_started_with(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    profile(constitution=CONSTITUTION.replace("kinder", "more kind"))
    assert open_run(tmp_path / "home", run.run_id).constitution.digest() == run.constitution.digest()


def test_an_unknown_run_names_those_there_are(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    with pytest.raises(ConfigError, match=run.run_id):
        open_run(tmp_path / "home", "other")
