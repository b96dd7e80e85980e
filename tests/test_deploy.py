"""`cai deploy`, triggers and automations on a real server: what is there afterwards, and what each starts."""

import contextlib
import http.server
import json
import threading
import time
from pathlib import Path

import pytest
import storage_rows
from prefect import flow, tags
from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.events import emit_event
from prefect.states import Cancelling, Paused, Pending, Running
from prefect.variables import Variable
from served import client_of, parked, scripted, serving, shipped, until, written

from cai.config import load_profile
from cai.errors import DataError
from flows.deploy import deploy
from flows.deployment_file import load
from flows.events import alert, announce, suspended
from flows.maintain import maintain
from flows.runs import create_run
from storage.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("deploy")


@pytest.fixture(scope="module")
def served(folder):
    (folder / "prompts.txt").write_text("how do i bake a cake?\nhow do i mend a shoe?\n")
    deployments = [scripted(folder, "quick", 0.0, str(folder / "prompts.txt")), *parked("evaluate")]
    with serving(folder, deployments) as served:
        yield served


@pytest.fixture(scope="module")
def api(served):
    with client_of(served) as client:
        yield client


class Project:
    """Files of their own on the one server; `said` is what the last deploy had to say."""

    def __init__(self, folder: Path, name: str, deployments: list[dict], automations: list[dict]):
        self.folder, self.name, self.deployments, self.automations = folder, name, deployments, automations
        self.said: list[str] = []

    def deploy(self, **how) -> None:
        self.said = []
        deploy(load(*written(self.folder, self.name, self.deployments, self.automations)), self.said.append, **how)


def state_of(client, project: Project) -> dict:
    """What the server has of a project, ids included for what has to stay the same thing."""
    names = {f"{load_name(entry)}/{entry['name']}" for entry in project.deployments}
    found = {}
    for deployment in client.read_deployments():
        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
        if name in names:
            schedules = sorted((s.slug, s.active, s.schedule.model_dump_json()) for s in deployment.schedules)
            found[name] = (deployment.id, deployment.paused, deployment.parameters, schedules, deployment.updated)
    automations = client.read_automations()
    ours = {entry["name"] for entry in project.automations}
    return {
        "deployments": found,
        "automations": sorted((a.name, a.id, a.enabled) for a in automations if a.name in ours),
    }


def without_dates(state: dict) -> dict:
    return {**state, "deployments": {name: facts[:-1] for name, facts in state["deployments"].items()}}


def load_name(entry: dict) -> str:
    from prefect.flows import load_flow_from_entrypoint

    return load_flow_from_entrypoint(entry["entrypoint"]).name


def test_ten_deploys_leave_what_the_files_say_and_every_pause_that_people_made(api, folder):
    project = Project(
        folder,
        "again",
        shipped("deployments", "nightly", "weekly", "maintain"),
        shipped("automations", "cai-zombie"),
    )
    Variable.set("cai_on", ["nightly", "week*"])
    project.deploy()
    first = state_of(api, project)
    assert len(first["deployments"]) == 3 and len(first["automations"]) == 1
    switched = {
        slug: active for _, _, _, schedules, _ in first["deployments"].values() for slug, active, _ in schedules
    }
    assert switched == {"nightly": True, "weekly": True, "upkeep": False}
    # As the UI does it: a schedule, a deployment and an automation are paused, one schedule is switched on.
    for name, slug, active in (("nightly", "nightly", False), ("maintain", "upkeep", True)):
        (deployment,) = [d for d in api.read_deployments() if d.name == name]
        (schedule,) = [s for s in deployment.schedules if s.slug == slug]
        api.update_deployment_schedule(deployment.id, schedule.id, active=active)
    (weekly,) = [d for d in api.read_deployments() if d.name == "weekly"]
    api.pause_deployment(weekly.id)
    api.pause_automation(Automation.read(name="cai-zombie").id)
    by_people = state_of(api, project)
    assert by_people != first
    for _ in range(10):
        project.deploy()
    assert state_of(api, project) == by_people
    assert not [line for line in project.said if "made" in line or "changed" in line], (
        "the zombie's clock would restart"
    )
    # Switched off and on again for all, what people paused stays paused.
    for names in ([], ["*"]):
        Variable.set("cai_on", names, overwrite=True)
        project.deploy()
    after = state_of(api, project)
    assert without_dates(after) == without_dates(by_people)
    api.resume_automation(Automation.read(name="cai-zombie").id)
    project.deploy()
    assert Automation.read(name="cai-zombie").enabled
    Variable.set("cai_on", [], overwrite=True)
    project.deployments, project.automations = [], []
    project.deploy()


def test_a_deploy_keeps_what_people_set_takes_what_files_change_and_deletes_what_is_gone(api, folder):
    nightly, maintain = shipped("deployments", "nightly", "maintain")
    nightly["name"], maintain["name"] = "kept", "gone"
    nightly["parameters"]["limit"] = 1000
    project = Project(folder, "change", [nightly, maintain], shipped("automations", "cai-chain-rl"))
    project.automations[0]["actions"] = [{"type": "cancel-flow-run"}]
    project.deploy()
    theirs = api.read_deployment_by_name("constitutional-ai/kept")
    (schedule,) = theirs.schedules
    edited = {**theirs.parameters, "limit": 5, "without": "violence", "prompts": None}
    api._client.patch(f"/deployments/{theirs.id}", json={"parameters": edited}).raise_for_status()
    api.update_deployment_schedule(theirs.id, schedule.id, schedule={"cron": "0 4 * * *", "timezone": "UTC"})
    # Somebody else's, on the same server.
    other = api.create_deployment(theirs.flow_id, "somebody-else-s", tags=["cai"])

    project.deploy()
    found = api.read_deployment_by_name("constitutional-ai/kept")
    assert (found.parameters["limit"], found.parameters["without"]) == (5, "violence")
    assert "prompts" not in found.parameters, "the UI fills in every default; that is nobody's wish"
    assert found.schedules[0].schedule.cron == "0 4 * * *"
    said = "\n".join(project.said)
    assert "limit is 5, and 1000 in the file" in said and "timetable of schedule nightly" in said

    nightly["parameters"]["limit"] = 2000
    nightly["schedules"][0]["cron"] = "30 1 * * *"
    project.deployments = [nightly]
    project.automations = []
    project.deploy()
    found = api.read_deployment_by_name("constitutional-ai/kept")
    assert (found.parameters["limit"], found.parameters["without"]) == (2000, "violence"), "the file changed the one"
    assert found.schedules[0].schedule.cron == "30 1 * * *"
    assert not [d for d in api.read_deployments() if d.name == "gone"]
    assert not api.read_automations_by_name("cai-chain-rl")
    assert api.read_deployment(other).name == "somebody-else-s"
    assert api.read_deployment_by_name("constitutional-ai/quick"), "of another project"
    api.delete_deployment(other)
    project.deployments = []
    project.deploy()


def test_the_home_of_cai_serve_is_kept_by_a_plain_deploy_until_it_is_chosen_again_or_the_file_has_another(api, folder):
    (entry,) = shipped("deployments", "maintain")
    entry["name"] = "at-home"
    project = Project(folder, "homes", [entry], [])

    def home() -> str:
        return api.read_deployment_by_name("maintain/at-home").parameters["home"]

    for chosen in ("elsewhere", "another"):
        project.deploy(chosen={"home": chosen, "no_parameter_of_it": 1})
        assert home() == chosen and not [line for line in project.said if "kept" in line]
        for _ in range(2):
            project.deploy()
            assert home() == chosen
            assert f"home is {chosen!r}, and 'cai-home' in the file" in "\n".join(project.said)
    entry["parameters"]["home"] = "moved"
    project.deploy()
    assert home() == "moved", "the file has changed it"
    project.deployments = []
    project.deploy()


def test_each_link_of_the_chain_starts_the_next_with_what_it_was_about(api, folder):
    chain = [a for a in shipped("automations") if "chain" in a["name"]]
    for automation in chain:
        automation["enabled"] = True
    project = Project(folder, "chain", [*parked("train-reward-model", "train-rl", "evaluate")], chain)
    project.deployments[-1]["name"] = "chained"
    project.automations[-1]["actions"][0]["run"] = "evaluate/chained"
    project.deploy()
    run = create_run(load_profile(folder / "quick.profile.yaml"), folder / "home")
    links = {
        "preferences": "train-reward-model/train-reward-model",
        "reward_model": "train-rl/train-rl",
        "rl_cai": "evaluate/chained",
    }

    @flow
    def inner(stage: str) -> None:
        announce(run, stage, 1)

    @flow
    def whole() -> None:
        inner("rl_cai")

    @flow
    def stages() -> None:
        for stage in links:
            announce(run, stage, 1)

    whole()
    stages()
    for name in links.values():
        deployment = api.read_deployment_by_name(name)
        of_this = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        started = until(lambda of_this=of_this: api.read_flow_runs(deployment_filter=of_this))
        expected = {"home": str(run.home), "run_id": run.run_id}
        (found,) = started
        assert {name: found.parameters[name] for name in expected} == expected
        assert found.parameters.get("round", 1) == 1
    time.sleep(1)
    assert len(api.read_flow_runs(deployment_filter=of_this)) == 1, "a stage within a whole run starts nothing"
    project.deployments, project.automations = [], []
    project.deploy()


@contextlib.contextmanager
def inbox(block: str):
    """The letters that come in by way of a notification block of this name."""
    letters: list[dict] = []

    class Inbox(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            letters.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inbox)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    CustomWebhookNotificationBlock(name="mine", url=url, json_data={"title": "{{subject}}", "text": "{{body}}"}).save(
        block
    )
    try:
        yield letters
    finally:
        server.shutdown()
        server.server_close()


def test_a_failed_run_is_told_to_the_block_that_people_made_and_until_then_it_is_left_out(api, folder):
    project = Project(folder, "alerts", [], shipped("automations", "cai-failed", "cai-monitor-alert"))
    project.deploy()
    assert "no notification block 'cai-alerts'" in project.said[0]
    assert not api.read_automations_by_name("cai-failed")

    @flow(name="constitutional-ai", flow_run_name="weekly")
    def fails() -> None:
        raise ValueError("the prompts are gone")

    with inbox("cai-alerts") as letters:
        project.deploy()
        with tags("cai"), pytest.raises(ValueError, match="gone"):
            fails()
        letter = until(lambda: letters)[0]
        letters.clear()
        alert("digest-of-it", "production", "traffic.jsonl: ALARM: score/judge", ["score/judge"], "traffic.jsonl")
        drifted = until(lambda: letters)[0]
    assert letter["title"] == "constitutional-ai: weekly is Failed"
    assert "the prompts are gone" in letter["text"]
    expected = {"title": "production beside production: score/judge", "text": "traffic.jsonl: ALARM: score/judge"}
    assert drifted == expected
    project.automations = []
    project.deploy()


def test_a_run_whose_heart_has_stopped_is_marked_as_crashed_and_only_of_our_flows(api, folder):
    (zombie,) = shipped("automations", "cai-zombie")
    zombie["trigger"]["within"] = 10  # the least that Prefect allows
    project = Project(folder, "zombie", [], [zombie])
    project.deploy()

    def dead(flow_name: str, state=Running):
        run = api.create_flow_run(flow(lambda: None, name=flow_name), state=Running())
        api.set_flow_run_state(run.id, state())
        resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
        related = {"prefect.resource.role": "flow", "prefect.resource.name": flow_name}
        related["prefect.resource.id"] = f"prefect.flow.{run.flow_id}"
        emit_event("prefect.flow-run.heartbeat", resource=resource, related=[related])
        return run.id

    # Two whose hearts beat once more after they were told to wait for a person, in the moment before the process ends.
    waiting = dead("constitutional-ai", Paused)
    unsaid = dead("constitutional-ai", Paused)
    ours, another = dead("train-rl"), dead("somebody-else-s")
    time.sleep(1)  # in life as long: the heart sleeps for a second before it sees that it is to stop
    suspended(api.read_flow_run(waiting), "constitutional-ai")
    until(lambda: api.read_flow_run(ours).state.is_crashed())
    until(lambda: api.read_flow_run(unsaid).state.is_crashed())
    assert "no heartbeat" in api.read_flow_run(ours).state.message
    assert api.read_flow_run(another).state.is_running()
    assert api.read_flow_run(waiting).state.is_paused(), "its heart has stopped because it waits"
    for left in (another, waiting):
        api.delete_flow_run(left)
    project.automations = []
    project.deploy()


def test_a_run_that_was_to_be_cancelled_with_nobody_there_to_do_it_is_marked_as_cancelled(api, folder):
    """It stayed Cancelling: Prefect accepts no other end of such a run, the zombie automation's least of all."""
    (nobody,) = shipped("automations", "cai-cancelled")
    nobody["trigger"]["within"] = 10
    project = Project(folder, "nobody", [], [nobody])
    project.deploy()
    run = api.create_flow_run(flow(lambda: None, name="train-sft"), state=Running())
    api.set_flow_run_state(run.id, Cancelling())
    until(lambda: api.read_flow_run(run.id).state.is_cancelled())
    assert "did not cancel it" in api.read_flow_run(run.id).state.message
    project.automations = []
    project.deploy()


def test_a_run_that_does_not_begin_is_told_to_people_and_one_that_begins_is_not(api, folder):
    (stuck,) = shipped("automations", "cai-stuck")
    stuck["trigger"]["within"] = 10
    with inbox("stuck-alerts") as letters:
        stuck["actions"][0]["notify"] = "stuck-alerts"
        project = Project(folder, "stuck", [], [stuck])
        project.deploy()
        train = flow(lambda: None, name="train-rl")
        begun = api.create_flow_run(train, name="begun", state=Pending())
        waits = api.create_flow_run(train, name="waits", state=Pending())
        api.set_flow_run_state(begun.id, Running())
        until(lambda: letters)
        time.sleep(2)
    assert [letter["title"] for letter in letters] == ["waits has not begun"]
    assert "is there a worker" in letters[0]["text"]
    for run in (begun, waits):
        api.delete_flow_run(run.id)
    project.automations = []
    project.deploy()


def test_upkeep_leaves_each_table_in_one_file_and_refuses_a_home_without_any(api, folder):
    home = folder / "upkeep"
    for n in range(3):
        Store(home).append([storage_rows.prompt(n)])
    assert Store(home).files()["prompts"][0] == 3
    maintain(str(home))
    assert Store(home).files()["prompts"][0] == 1
    with pytest.raises(DataError, match="no tables under"):
        maintain(str(folder / "nowhere"))
