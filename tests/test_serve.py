"""`cai serve` and the CI script: runs that are deployed, take turns, are cancelled, and end with their server."""

import datetime
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from prefect import flow
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events.worker import EventsWorker
from prefect.states import Cancelling
from served import (
    ROOT,
    SHIPPED,
    children,
    client_of,
    parked,
    processes,
    refreshing,
    scripted,
    serving,
    shipped,
    small,
    start,
    steps_of,
    until,
)

from cai.config import load_profile
from cai.records import Prompt, Run
from cai.turns import accelerator, taken
from flows.artifacts import Progress
from flows.import_step import import_prompts
from flows.pipeline import constitutional_ai
from flows.refresh import week_of
from flows.runs import create_run, profile_with
from flows.session import Session
from flows.shards import RESTARTS
from flows.supervise import StepFailed
from flows.waiting import AWAITING
from storage.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def served(folder):
    (folder / "prompts.txt").write_text("how do i bake a cake?\nhow do i mend a shoe?\n")
    (folder / "other-prompts.txt").write_text("how do i write a letter?\n")
    (folder / "prompts-of-its-own.txt").write_text("how do i knit a scarf?\n")  # no other run answers them before
    deployments = [
        scripted(folder, "quick", 0.0, str(folder / "prompts.txt")),
        scripted(folder, "slow", 60.0, str(folder / "prompts-of-its-own.txt")),
        scripted(folder, "wrong", 0.0, str(folder / "nowhere.txt")),
        scripted(folder, "remote", 1.0, str(folder / "prompts.txt")),
        scripted(folder, "far", 1.0, str(folder / "other-prompts.txt")),
        small(folder, "heavy", str(folder / "prompts.txt")),
        *shipped("deployments", "revisions"),
        refreshing(folder, "words", 60.0),
        *parked("evaluate"),
    ]
    with serving(folder, deployments) as served:
        yield served


@pytest.fixture(scope="module")
def api(served):
    with client_of(served) as client:
        yield client


def ci(served, *arguments: object, **environment: str) -> subprocess.Popen:
    """`deployments/ci/run.sh`, with the commands of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["sh", SHIPPED / "ci" / "run.sh", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PREFECT_API_URL": served.url, "PATH": path, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_ci_script_ends_as_the_run_does_and_cancels_what_takes_too_long(api, served):
    """The third waits for a queue that is paused."""
    late = ci(served, "evaluate/evaluate", 8, "--param", "run_id=any")
    good, bad = ci(served, "constitutional-ai/quick", 120), ci(served, "constitutional-ai/wrong", 120)
    out, err = good.communicate()
    assert good.returncode == 0, out + err
    assert "finished successfully" in out
    out, err = bad.communicate()
    assert bad.returncode == 1, out + err
    assert "constitutional-ai/wrong is FAILED" in err and "no prompts at" in err
    out, err = late.communicate()
    assert late.returncode == 124, out + err
    assert "evaluate/evaluate was still SCHEDULED after 8 s" in err
    deployment = api.read_deployment_by_name("evaluate/evaluate")
    (run,) = api.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])))
    assert run.state.is_cancelled() and "ci" in run.tags


def at_work(api, flow_run_id) -> tuple[float, float]:
    """From when to when a run asked its engine, as the server has it: it may have waited before, and says so."""
    states = sorted(api.read_flow_run_states(flow_run_id), key=lambda state: state.timestamp)
    family = [flow_run_id, *(run.id for run in api.read_flow_runs(flow_run_filter=children_of(flow_run_id)))]
    of_family = FlowRunFilter(id=FlowRunFilterId(any_=family))
    chains = [task for task in api.read_task_runs(flow_run_filter=of_family) if task.name.startswith("chains-")]
    waits = [after.timestamp for before, after in pairwise(states) if before.name == AWAITING]
    assert states[-1].name == "Completed", states[-1].message
    return max([*(task.start_time for task in chains), *waits]).timestamp(), max(t.end_time for t in chains).timestamp()


def children_of(flow_run_id) -> FlowRunFilter:
    return FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))


def test_what_needs_the_accelerator_never_overlaps_and_what_does_not_goes_on_beside_it(api, folder):
    """Two different flows over one home, and a turn that somebody without any server holds before them."""
    run = create_run(load_profile(folder / "heavy.profile.yaml"), folder / "home")
    mine = create_run(profile_with(folder / "heavy.profile.yaml", limit=1), folder / "home")
    mine.finish("prompts", import_prompts(Session(mine)))
    assert run.run_id != mine.run_id
    with taken(accelerator("a test")):
        started = {
            name: api.create_flow_run_from_deployment(api.read_deployment_by_name(name).id, parameters=parameters).id
            for name, parameters in {
                "constitutional-ai/remote": {},
                "constitutional-ai/far": {},
                "constitutional-ai/heavy": {},
                "sl-cai-data/revisions": {"home": str(folder / "home"), "run_id": mine.run_id},
            }.items()
        }
        remote, far, heavy, other = started.values()
        for flow_run_id in (heavy, other):
            state = until(lambda i=flow_run_id: (s := api.read_flow_run(i).state).name == AWAITING and s)
            assert "the accelerator is with a test (process" in state.message
        for flow_run_id in (remote, far):
            until(lambda i=flow_run_id: api.read_flow_run(i).state.is_completed())
    for flow_run_id in (heavy, other):
        until(lambda i=flow_run_id: api.read_flow_run(i).state.is_final())
    first, second = sorted(at_work(api, i) for i in (heavy, other))
    assert first[1] <= second[0], "the second began before the first had ended"
    for flow_run_id in (remote, far):
        assert AWAITING not in {state.name for state in api.read_flow_run_states(flow_run_id)}, "neither needs it"


def test_the_ci_script_cancels_a_run_that_is_at_work_when_its_time_is_up(api, served, folder):
    late = ci(served, "constitutional-ai/slow", 40)
    slow = api.read_deployment_by_name("constitutional-ai/slow")
    of_this = DeploymentFilter(id=DeploymentFilterId(any_=[slow.id]))
    until(lambda: steps_of(folder, "slow"))
    out, err = late.communicate()
    assert late.returncode == 124, out + err
    assert "constitutional-ai/slow was still RUNNING after 40 s" in err and "cancelled " in err
    (run,) = api.read_flow_runs(deployment_filter=of_this)
    until(lambda: api.read_flow_run(run.id).state.is_cancelled())
    until(lambda: not steps_of(folder, "slow"))


def test_a_scheduled_refresh_is_cancelled_and_the_next_goes_on_and_says_what_came(api, folder):
    """The schedule is the server's, which looks at all of them once a minute: it makes the run, for whose week the
    prompts are. What it sees too late beside other work it makes no run for, and then the next one counts.
    """
    words = api.read_deployment_by_name("refresh-prompts/words")
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=75)
    often = IntervalSchedule(interval=datetime.timedelta(minutes=3), anchor_date=at)
    (schedule,) = api.create_deployment_schedules(words.id, [(often, True)])
    of_this = DeploymentFilter(id=DeploymentFilterId(any_=[words.id]))

    def begun():
        return next((run for run in api.read_flow_runs(deployment_filter=of_this) if run.state.is_running()), None)

    def written():
        return Store(folder / "home").read(Prompt, "source = 'generated'")

    run = until(begun, within_s=480.0)
    api.delete_deployment_schedule(words.id, schedule.id)
    assert run.auto_scheduled
    until(written)
    api.set_flow_run_state(run.id, Cancelling())
    until(lambda: api.read_flow_run(run.id).state.is_cancelled())
    until(lambda: not processes("words.profile.yaml"))
    assert len(written()) == 3, "the first round, of which none was tried"
    (folder / "words.script.yaml").write_text("latency_s: 0.0\n")
    week = week_of(at)
    again = api.create_flow_run_from_deployment(words.id, parameters={"edition": week})
    until(lambda: api.read_flow_run(again.id).state.is_completed())
    of_again = FlowRunFilter(id=FlowRunFilterId(any_=[again.id]))
    (shown,) = [a for a in api.read_artifacts(flow_run_filter=of_again) if a.key == "prompts-written"]
    assert shown.data.startswith(f"## words\\-{week.replace('-', chr(92) + '-')}\\-")
    assert "\\(3 of them found\\)" in shown.data, "what the cancelled run had asked for"
    assert "### What is covered, by tag" in shown.data and "| theft | 3 of 3 | " in shown.data
    assert "none drew out harm from this policy" in shown.data and "### Some of what was kept" in shown.data


def test_the_ci_script_starts_nothing_where_the_constitution_is_wrong(served, folder):
    (folder / "bad.yaml").write_text("name: bad\n")
    refused = ci(served, "constitutional-ai/quick", 60, CAI_LINT=str(folder / "bad.yaml"))
    out, _ = refused.communicate()
    assert refused.returncode == 2
    assert "principles" in out and "flow run" not in out


def test_an_engine_that_dies_is_started_again_so_often_and_no_more(api, folder):
    """Its whole process group is killed each time that it is at work; what is stored by then is not asked again."""
    home = folder / "home"
    scripted(folder, "dying", 0.2, str(folder / "prompts.txt"))
    parameters = {"profile": str(folder / "dying.profile.yaml"), "home": str(home), "until": "revisions"}
    run = create_run(load_profile(Path(parameters["profile"])), home)
    killed: set[int] = set()
    is_over = threading.Event()

    def kill_each() -> None:
        while not is_over.wait(0.05):
            for pid in children(run.run_id) - killed:
                if run.result("prompts") is not None:
                    killed.add(pid)
                    os.killpg(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_each, daemon=True)
    killer.start()
    with pytest.raises(StepFailed, match="the step was ended by SIGKILL"):
        constitutional_ai(**parameters)
    is_over.set()
    killer.join()
    assert len(killed) == 1 + RESTARTS
    assert Store(home).find_all(Run, [run.run_id])[run.run_id].status == "failed"
    assert constitutional_ai(**parameters) == run.run_id
    assert Store(home).find_all(Run, [run.run_id])[run.run_id].status == "completed"
    of_run = [a for a in api.read_artifacts() if a.key == "chains"]
    assert of_run and "### Chain 1" in of_run[-1].data


def test_a_page_of_another_site_cannot_ask_the_server(served, api):
    ui = served.url.removesuffix("/api")
    assert httpx.get(f"{ui}/runs", headers={"Origin": ui}).status_code == 200
    assert httpx.get(f"{served.url}/health", headers={"Origin": ui.replace("127.0.0.1", "localhost")}).text == "true"
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert httpx.get(f"{served.url}/health", headers=headers).status_code == 403


def test_progress_is_shown_every_five_seconds_and_no_oftener(api, caplog):
    @flow
    def works() -> None:
        clock = iter(i * 0.1 for i in range(1_000))
        with Progress("sampling", clock=lambda: next(clock)) as progress:
            for n in range(600):  # a minute of them
                progress.update({"n_done": n, "n_total": 600})

    with caplog.at_level(logging.INFO, logger="prefect"):
        works()
    assert 10 <= caplog.text.count("sampling: ") <= 12
    (bar,) = [artifact for artifact in api.read_artifacts() if artifact.key == "sampling"]
    assert float(bar.data) == 100.0


def slow_at_work(api, folder) -> object:
    """The id of a run whose step is asking its engine."""
    run = api.create_flow_run_from_deployment(api.read_deployment_by_name("constitutional-ai/slow").id)
    until(lambda: api.read_flow_run(run.id).state.is_running())
    until(lambda: steps_of(folder, "slow"))
    assert len(processes(str(folder / "home"))) >= 4, "serve, server, worker, flow, step"
    return run.id


def test_no_request_before_this_found_the_servers_database_locked(served, folder):
    assert "database is locked" not in (folder / "home" / "prefect" / "server.log").read_text()


def test_serve_that_is_killed_takes_all_with_it_and_the_next_one_settles_its_runs(api, served, folder):
    run_id = slow_at_work(api, folder)
    served.process.kill()
    served.process.wait()
    until(lambda: not processes(str(folder / "home")))
    served.process = start(served.command, folder)
    until(lambda: api.read_flow_run(run_id).state.is_final())
    assert not steps_of(folder, "slow")


def test_serve_ends_whole_and_leaves_no_run_that_says_it_is_running(api, served, folder):
    """The last one: a run is at work in its children."""
    slow_at_work(api, folder)
    EventsWorker.drain_all(timeout=5)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(60) == 0
    until(lambda: not processes(str(folder / "home")))
    with sqlite3.connect(folder / "home" / "prefect" / "prefect.db") as database:
        states = dict(database.execute("SELECT id, state_type FROM flow_run").fetchall())
    assert not {"RUNNING", "PENDING", "CANCELLING"} & set(states.values())
