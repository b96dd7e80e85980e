"""`prefect deploy` takes misspelled keys and unknown parameters without a word; these tests do not."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from prefect.server.api import collections

from cai.cli.run import run
from cai.config import load_profile
from cai.errors import ConfigError
from flows import events, workdir
from flows.deployment_file import load
from flows.server import HEARTBEAT
from flows.switches import Switch, brief, decide, merge

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deployments"
FILES = (FOLDER / "prefect.yaml", FOLDER / "automations.yaml")
DECLARED = load(*FILES)
AUTOMATIONS = {automation.name: automation for automation in DECLARED.automations}
FLOWS = {deployment.flow.name: deployment.flow for deployment in DECLARED.deployments.values()}


def test_schedules_and_what_starts_training_by_itself_wait_for_people():
    schedules = [s for deployment in DECLARED.deployments.values() for s in deployment.schedules]
    assert {s.slug for s in schedules} == {"nightly", "weekly", "smoke", "upkeep", "monitor", "refresh"}
    assert not [s.slug for s in schedules if s.active]
    assert not [a.name for a in DECLARED.automations if a.enabled and any("run" in action for action in a.actions)]


def test_every_profile_that_a_deployment_names_can_be_loaded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # a worker's folder: the shipped ones are found all the same
    profiles = [d.parameters["profile"] for d in DECLARED.deployments.values() if "profile" in d.parameters]
    assert len(profiles) >= 5
    for profile in profiles:
        load_profile(Path(profile))


@pytest.mark.parametrize("path", sorted((FOLDER / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_profile_loads_and_names_a_constitution_that_is_there(path):
    profile = load_profile(path)
    assert (ROOT / profile.constitution).is_file()
    assert profile.name == path.stem


def test_the_profile_to_copy_needs_a_model_and_prompts_of_one_s_own_and_no_more(tmp_path, monkeypatch):
    text = (FOLDER / "profiles" / "gpu.yaml").read_text()
    (tmp_path / "my.yaml").write_text(text.replace("Qwen/Qwen3-1.7B", "smallworld").replace("4096", "2048"))
    for name in ("prompts", "held-out"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name}) + "\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(run, ["my.yaml", "--dry-run", "--home", "home"])
    assert done.exit_code == 0 and "harmlessness: 20 principles" in done.output, done.output


def test_there_is_a_profile_for_each_size_of_machine():
    assert {p.stem for p in (FOLDER / "profiles").glob("*.yaml")} >= {"laptop", "gpu", "multi-gpu", "cluster"}


@pytest.mark.parametrize("name", sorted(FLOWS))
def test_every_flow_parameter_is_explained(name):
    for parameter, described in FLOWS[name].parameters.properties.items():
        assert described.get("description"), parameter


def test_everything_that_can_be_deployed_names_its_pool_s_queue():
    (pool,) = DECLARED.work_pools
    for deployment in DECLARED.deployments.values():
        assert (deployment.work_pool.name, deployment.work_pool.work_queue_name in pool.queues) == (pool.name, True)
        assert deployment.work_pool.job_variables["env"] == dict([HEARTBEAT])


def test_the_zombie_automation_waits_for_more_than_three_heartbeats_of_every_flow():
    """At three or less, live runs have been marked as crashed: research of 2026, and Prefect's issue 16459."""
    zombie = AUTOMATIONS["cai-zombie"].trigger
    assert zombie["within"] > 3 * int(HEARTBEAT[1])
    assert zombie["match_related"] == AUTOMATIONS["cai-stuck"].trigger["match_related"]
    watched = set(zombie["match_related"]["prefect.resource.name"])
    written = {
        name for file in ROOT.glob("flows/*.py") for name in re.findall(r'@flow\(\s*name="([^"]+)"', file.read_text())
    }
    assert watched == written, "a flow that is not listed is Running for ever"
    assert {*FLOWS, "shards-on-ray"} < written


def test_the_chain_has_a_link_for_each_event_that_a_stage_sends():
    expected = [event for a in DECLARED.automations for event in a.trigger["expect"] if event.startswith("cai.")]
    assert sorted(expected) == sorted(events.SENT)


def planted(tmp_path: Path, change) -> tuple[Path, Path]:
    """The shipped files with one mistake."""
    bodies = [yaml.safe_load(file.read_text()) for file in FILES]
    change(*bodies)
    files = tmp_path / "prefect.yaml", tmp_path / "automations.yaml"
    for file, body in zip(files, bodies, strict=True):
        file.write_text(yaml.safe_dump(body))
    return files


def first(body: dict, name: str) -> dict:
    return next(entry for entry in body.get("deployments", body.get("automations")) if entry["name"] == name)


MISTAKES = {
    "a misspelled key": (lambda d, a: first(d, "demo").update(paramters={}), r"deployments.0.paramters: Extra inputs"),
    "a misspelled key of a schedule": (
        lambda d, a: first(d, "weekly")["schedules"][0].update(activ=True),
        r"schedules.0.activ: Extra inputs",
    ),
    "an unknown parameter": (
        lambda d, a: first(d, "demo")["parameters"].update(profil="x"),
        r"'demo': flow 'constitutional-ai' has no parameter 'profil'; did you mean 'profile'\?",
    ),
    "a wrong type": (lambda d, a: first(d, "demo")["parameters"].update(limit="many"), r"'demo': parameter 'limit'"),
    "a choice that is none": (
        lambda d, a: first(d, "nightly")["parameters"].update(until="prefrences"),
        r"'nightly': parameter 'until': 'prefrences' is not one of",
    ),
    "an entrypoint that is gone": (
        lambda d, a: first(d, "label").update(entrypoint="flows.stages.labels"),
        r"'label': entrypoint 'flows.stages.labels' names no flow",
    ),
    "a bad cron": (lambda d, a: first(d, "weekly")["schedules"][0].update(cron="0 25 * * *"), r"schedule 'weekly'"),
    "a bad timezone": (
        lambda d, a: first(d, "weekly")["schedules"][0].update(timezone="Europe/Nowhere"),
        r"schedule 'weekly'",
    ),
    "two timetables": (lambda d, a: first(d, "weekly")["schedules"][0].update(interval=60), r"schedule 'weekly'"),
    "a schedule without what its flow needs": (
        lambda d, a: first(d, "label").update(schedules=[{"slug": "x", "cron": "0 1 * * *"}]),
        r"'label': schedule 'x': nobody gives the parameter 'run_id'",
    ),
    "a name twice": (
        lambda d, a: first(d, "weekly").update(name="nightly"),
        r"deployment 'constitutional-ai/nightly' is given twice",
    ),
    "a template that nothing fills": (
        lambda d, a: first(d, "demo")["parameters"].update(profile="{{ $NOBODY_SETS_THIS }}"),
        r"\$NOBODY_SETS_THIS is not set",
    ),
    "an event that nobody sends": (
        lambda d, a: first(a, "cai-chain-rl")["trigger"].update(expect=["cai.reward-model.comitted"]),
        r"nobody sends the event 'cai.reward-model.comitted'; did you mean 'cai.reward-model.committed'\?",
    ),
    "a misspelled key of a trigger": (
        lambda d, a: first(a, "cai-zombie")["trigger"].update(forEach=[]),
        r"'cai-zombie': trigger: unknown key 'forEach'; did you mean 'for_each'\?",
    ),
    "a misspelled key of an action": (
        lambda d, a: first(a, "cai-zombie")["actions"][0].update(mesage="x"),
        r"'cai-zombie': action: unknown key 'mesage'",
    ),
    "a deployment that is not there": (
        lambda d, a: first(a, "cai-chain-rl")["actions"][0].update(run="train-rl/train_rl"),
        r"there is no deployment 'train-rl/train_rl'; did you mean 'train-rl/train-rl'\?",
    ),
    "a parameter that the started flow has not": (
        lambda d, a: first(a, "cai-chain-evaluate")["actions"][0]["parameters"].update(round=1),
        r"flow 'evaluate' has no parameter 'round'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_files_is_found_before_a_server_sees_it(mistake, tmp_path):
    change, said = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=said):
        load(*planted(tmp_path, change))


def test_a_key_given_twice_is_found_though_yaml_takes_it(tmp_path):
    text = FILES[0].read_text().replace("  - name: demo\n", "  - name: demo\n    name: demon\n")
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(ConfigError, match="the key 'name' is given twice"):
        load(tmp_path / "prefect.yaml", None)


def test_what_the_environment_fills_in_is_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("PROFILE_OF_OURS", "ours.yaml")
    files = planted(tmp_path, lambda d, a: first(d, "demo")["parameters"].update(profile="{{ $PROFILE_OF_OURS }}"))
    assert load(*files).deployments["constitutional-ai/demo"].parameters["profile"] == "ours.yaml"


def test_a_worker_goes_to_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAI_WORKDIR", raising=False)
    assert workdir.enter() == {"directory": str(ROOT)} and Path.cwd() == ROOT
    monkeypatch.setenv("CAI_WORKDIR", str(tmp_path))
    assert workdir.enter() == {"directory": str(tmp_path)} and Path.cwd() == tmp_path
    monkeypatch.setenv("CAI_WORKDIR", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such folder on this machine"):
        workdir.enter()


def test_a_switch_is_the_file_s_until_people_touch_it_and_then_theirs():
    on, off = Switch(True), Switch(False)
    assert decide(True, None, None) == on, "it is new"
    assert decide(True, False, off) == on and decide(False, True, on) == off, "nobody has touched it"
    paused = decide(True, False, on)
    assert paused == Switch(False, is_kept=True)
    assert decide(False, False, paused) == decide(True, False, paused) == paused
    assert decide(True, True, paused) == on, "people have switched it on again"
    assert decide(False, True, None) == Switch(True, is_kept=True), "made by another way: as it is"
    for switch in (on, off, paused, Switch(True, True)):
        assert Switch.read(switch.written()) == switch


def test_of_a_value_that_only_one_side_has_changed_that_side_is_taken():
    last = {"n": brief(1), "m": brief(1)}
    assert merge({"n": 1, "m": 1}, {"n": 2, "m": 1}, last, {}) == ({"n": 2, "m": 1}, {"n": 2})
    assert merge({"n": 3, "m": 1}, {"n": 2, "m": 1}, last, {}) == ({"n": 3, "m": 1}, {}), "both have: the file"
    assert merge({"n": 1}, {"n": 1, "m": 1}, last, {"m": 0}) == ({"n": 1}, {}), "the file has dropped it"
    assert merge({"n": 1}, {"n": 1, "x": 5}, last, {"x": 0}).values == {"n": 1, "x": 5}
    assert merge({"n": 1}, {"n": 1, "x": 0, "y": 1}, last, {"x": 0}).values == {"n": 1}, "a default; no parameter"


# What cannot be run here is checked for its form.


def test_the_compose_file_is_whole():
    body = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services = body["services"]
    known = set("image build command environment depends_on ports volumes healthcheck restart".split())
    known |= set("init stop_grace_period shm_size".split())
    for name, service in services.items():
        assert set(service) <= known, name
        assert set(service.get("depends_on", {})) <= set(services)
        for dependency, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"} and "healthcheck" in services[dependency]
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in body["volumes"]
    assert {"database", "server", "worker", "deploy"} == set(services)
    assert services["server"]["ports"] == ["${CAI_BIND:-127.0.0.1}:4200:4200"], "on loopback unless told otherwise"
    assert services["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == "${CAI_AUTH}"
    assert ":?" in services["worker"]["environment"]["PREFECT_API_AUTH_STRING"], "without it nothing starts"
    assert "3.7.7" in services["server"]["image"], "the Prefect of pyproject.toml"
    assert services["worker"]["build"]["dockerfile"] == "deployments/Dockerfile"
    copied = re.findall(r"^COPY (.+) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert copied and all((ROOT / name).exists() for line in copied for name in line.split())


def test_the_kubernetes_template_is_one_that_prefect_can_fill_in():
    template = json.loads((FOLDER / "kubernetes" / "work-pool.json").read_text())
    shipped = Path(collections.__file__).parent / "collections_data" / "views" / "aggregate-worker-metadata.json"
    theirs = json.loads(shipped.read_text())["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    assert set(template) == set(theirs)
    assert set(template["job_configuration"]) == set(theirs["job_configuration"]) - {"cluster_config"}
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"]), "a variable is used that is none, or none uses it"
    for deployment in DECLARED.deployments.values():
        assert set(deployment.work_pool.job_variables) <= used


def test_the_workflow_names_what_is_there():
    body = yaml.safe_load((FOLDER / "ci" / "github-actions.yml").read_text())
    assert set(body) == {"name", True, "permissions", "jobs"}, "`on` is a boolean in YAML 1.1"
    assert body["permissions"] == {"contents": "read"}
    for name, job in body["jobs"].items():
        assert set(job) <= {"if", "runs-on", "timeout-minutes", "permissions", "concurrency", "env", "steps"}, name
        for step in job["steps"]:
            assert set(step) <= {"uses", "with", "run", "name", "env", "if"}, step
            assert "${{" not in step.get("run", ""), "what others type is given by the environment, never into a script"
            for path in re.findall(r"deployments/\S+\.(?:sh|py)", step.get("run", "")):
                assert (ROOT / path).is_file()
    assert "secrets." not in json.dumps(body["jobs"]["constitution"]), "it runs what a pull request says"


def test_the_comment_on_a_pull_request_has_the_difference_and_the_effect(tmp_path):
    import sys

    old = ROOT / "constitution" / "smallworld.yaml"
    new = tmp_path / "smallworld.yaml"
    new.write_text(re.sub(r"(title: )(.+)", r"\1A ``` in \2", old.read_text(), count=1))
    for name, value in (("old", 0.5), ("new", 0.25)):
        rate = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 100}
        nothing = {"value": None, "low": None, "high": None, "n": 0}
        (tmp_path / f"{name}.json").write_text(json.dumps({"rl_cai": {"harmful_rate": rate, "rude_rate": nothing}}))
    command = [sys.executable, FOLDER / "ci" / "comment.py", old, new, tmp_path / "old.json", tmp_path / "new.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| harmful_rate | 50.0% (40.0% – 60.0%) | 25.0% (15.0% – 35.0%) |" in done.stdout
    assert "| rude_rate | not measured | not measured |" in done.stdout
    assert "````diff" in done.stdout and "A ``` in" in done.stdout, "no text of the file ends its block"
