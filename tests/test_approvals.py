"""People in the loop: a run that asks before it goes on, deployed and in its own process."""

import json
import os
import subprocess
import sys
import threading
from contextvars import copy_context
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.events.filters import EventFilter
from prefect.states import Cancelled
from scripted_run import run_steps
from served import children, client_of, in_state, parked, processes, scripted, serving, until

from cai.errors import DataError, NotApproved
from cai.models import META, content_digest
from cai.records import Approval, Model, Run
from flows.approvals import answer
from flows.events import SUSPENDED
from flows.pipeline import constitutional_ai
from flows.runs import create_run, open_run, profile_with
from storage.catalog import connect
from storage.named import resolve
from storage.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("approvals")


@pytest.fixture(scope="module")
def served(folder):
    (folder / "prompts.txt").write_text("how do i bake a cake?\nhow do i mend a shoe?\n")
    asking = scripted(folder, "asking", 0.0, str(folder / "prompts.txt"), until="reward_model")
    deployments = [asking, *parked("evaluate")]
    with serving(folder, deployments) as served:
        yield served


@pytest.fixture(scope="module")
def api(served):
    with client_of(served) as client:
        yield client


def asked(home: Path, flow_run_id: object) -> list[tuple[str, int, str, str]]:
    rows = [row for row in Store(home).read(Approval) if row.flow_run_id == str(flow_run_id)]
    return sorted((row.about, row.number, row.decision, row.person) for row in rows)


def told(api, flow_run_id: object) -> bool:
    """Whether the worker has said that no heartbeat of the run is to come; the zombie automation waits for one."""
    of_it = {"resource": {"id": [f"prefect.flow-run.{flow_run_id}"]}, "event": {"name": [SUSPENDED]}}
    return api.read_events(EventFilter.model_validate(of_it), limit=9).total == 1


def test_a_run_that_waits_for_a_person_holds_nothing_and_goes_on_as_told_or_ends(api, folder):
    """The queue has one place, and of this deployment one run may be at work: a second gets as far while one waits."""
    home = folder / "home"
    asking = api.read_deployment_by_name("constitutional-ai/asking")
    parameters = {**asking.parameters, "approve": "training"}
    first = api.create_flow_run_from_deployment(asking.id, parameters=parameters).id
    in_state(api, first, "Suspended")
    until(lambda: not processes(str(first)))
    until(lambda: told(api, first))
    assert asked(home, first) == [("preferences", 1, "waiting", "")]
    (row,) = Store(home).read(Approval)
    run = open_run(home, row.run_id)
    assert Store(home).find_all(Run, [run.run_id])[run.run_id].status == "waiting"
    before = {path: path.stat().st_mtime_ns for path in (run.path / "steps").glob("*.json")}
    assert run.path / "steps" / "preferences.json" in before and not (run.path / "report.html").exists()

    short = parameters | {"limit": 1, "approve_within_h": 0.003}
    second = api.create_flow_run_from_deployment(asking.id, parameters=short).id
    assert "never resumed" in in_state(api, second, "Failed").message, "it had its time to be answered, and was not"
    shown = connect(home).execute(resolve("approvals")).fetchall()
    assert sorted(line[3] for line in shown) == ["expired", "waiting"]

    for odd in ({"approve": "maybe", "name": "Ann"}, {"approve": "yes", "name": " "}, {}):
        assert api.resume_flow_run(first, run_input=odd).status.value == "REJECT"
    yes = {"approve": "yes", "name": "Ann", "reason": "a | b"}
    assert api.resume_flow_run(first, run_input=yes).status.value == "ACCEPT"
    assert in_state(api, first, "Completed")
    assert asked(home, first) == [("preferences", 1, "approved", "Ann")] and (run.path / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing was done twice"
    of_first = FlowRunFilter(id=FlowRunFilterId(any_=[first]))
    assert "approval" in {artifact.key for artifact in api.read_artifacts(flow_run_filter=of_first)}
    assert api.read_flow_run(first).name == "asking.profile, until reward_model, in home"

    # A run that failed goes on by `prefect flow-run retry`: here, it asks again.
    command = [sys.executable, "-m", "prefect", "flow-run", "retry", str(second)]
    done = subprocess.run(command, env={**os.environ, "PREFECT_API_URL": str(api.api_url)}, capture_output=True)
    assert done.returncode == 0, done.stdout
    in_state(api, second, "Suspended")
    assert [number for _, number, _, _ in asked(home, second)] == [1, 2]
    api.set_flow_run_state(second, Cancelled(), force=True)


def answering(run, **said: object) -> threading.Thread:
    """Answer as `cai approve` does, as soon as the run asks, unless a child of it is at work."""

    def is_answered() -> bool:
        if children(run.run_id):
            return False
        try:
            answer(run.home, run.run_id, **said)
        except DataError as error:
            assert "asks nothing under" in str(error) or "isn't paused" in str(error), error
            return False
        return True

    thread = threading.Thread(target=copy_context().run, args=(until, is_answered), daemon=True)
    thread.start()
    return thread


def test_a_run_without_a_worker_waits_in_its_process_and_a_no_is_an_end_and_no_error(api, folder, caplog):
    """As `cai run` has it: there is no deployment, so nobody could start it again."""
    home = folder / "home"
    profile = str(folder / "asking.profile.yaml")
    parameters = {"profile": profile, "limit": 2, "approve": "training", "home": str(home), "until": "reward_model"}
    run = create_run(profile_with(Path(profile), limit=2), home)

    def status() -> str:
        return Store(home).find_all(Run, [run.run_id])[run.run_id].status

    with pytest.raises(NotApproved, match="nobody answered within 0.0005 h"):
        constitutional_ai(**parameters, approve_within_h=0.0005)
    assert f"cai approve {run.run_id} --home {home} --by NAME" in caplog.text
    thread = answering(run, yes=False, person="Bob", reason="the labels are thin")
    in_time = {"approve_within_h": 0.02}  # and not a day, where nothing is answered
    state = constitutional_ai(**parameters, **in_time, return_state=True)
    thread.join()
    assert (state.is_failed(), state.name) == (True, "NotApproved")
    assert "refused by Bob: the labels are thin" in state.message
    assert status() == "refused" and "Traceback" not in caplog.text
    thread = answering(run, yes=True, person="Ann", reason="")
    assert constitutional_ai(**parameters, **in_time) == run.run_id
    thread.join()
    decided = sorted((row.number, row.decision) for row in Store(home).read(Approval) if row.run_id == run.run_id)
    assert decided == [(1, "expired"), (2, "refused"), (3, "approved")] and status() == "completed"
    assert constitutional_ai(**parameters) == run.run_id, "who has said yes is not asked again"


def test_a_run_that_promotes_when_told_is_completed_and_its_report_says_so(api, folder):
    """Reported before a person was asked, it ended as running, and its report knew of no promotion."""
    home = folder / "promoting"
    profile = yaml.safe_load((folder / "asking.profile.yaml").read_text()) | {
        "evaluation": {"prompts": [{"path": "smallworld", "limit": 4}], "win_rate_prompts": 0},
        "gate": {"conditions": [{"metric": "harmful_rate", "at_most": 1.0}]},
    }
    profile["engine"]["model"] = "smallworld"  # where RL would start from is looked up, though it is not started
    (folder / "promoting.yaml").write_text(yaml.safe_dump(profile))
    run = create_run(profile_with(folder / "promoting.yaml"), home)
    run_steps(run, "prompts", "chains", "sft_set", "candidates", "labels", "preferences")
    weights = home / "models" / "rl"
    weights.mkdir(parents=True)
    (weights / "config.json").write_text("{}")
    digest = content_digest(weights)
    (weights / META).write_text(json.dumps({"model_digest": digest, "parent_digest": "5eed"}))
    Store(home).append([Model(digest, "rl_cai", "dpo", str(weights), "5eed", {}, {}, run.run_id, "2026-01-01")])
    run.finish("rl", {"model_digest": digest, "path": str(weights)})
    run_steps(run, "evaluate", models={"seed": "scripted", "rl_cai": "scripted"})

    parameters = {"profile": str(folder / "promoting.yaml"), "home": str(home), "promote": True, "approve": "promotion"}
    thread = answering(run, yes=True, person="Ann", reason="as planned")
    assert constitutional_ai(**parameters, approve_within_h=0.02) == run.run_id
    thread.join()
    assert Store(home).find_all(Run, [run.run_id])[run.run_id].status == "completed"
    page = (run.path / "report.html").read_text()
    assert "<b>Promoted</b> to production" in page and "approved by Ann; as planned" in page
