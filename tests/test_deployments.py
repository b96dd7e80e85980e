"""`prefect deploy` takes misspelled keys and unknown parameters without a word; these tests do not."""

from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.schedules import construct_schedule
from prefect.flows import load_flow_from_entrypoint

from cai.cli.run import UNTIL
from cai.config import load_profile
from flows.pipeline import ORDER

ROOT = Path(__file__).parents[1]
FILE = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
KEYS = {
    "name",
    "description",
    "entrypoint",
    "tags",
    "parameters",
    "work_pool",
    "concurrency_limit",
    "schedules",
    "triggers",
}


@pytest.mark.parametrize("deployment", FILE["deployments"], ids=lambda d: d["name"])
def test_a_deployment_has_known_keys_and_parameters_its_flow_takes(deployment, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert set(deployment) <= KEYS
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    assert set(deployment["parameters"]) <= set(flow.parameters.properties)
    flow.validate_parameters(deployment["parameters"])
    for schedule in deployment.get("schedules", []):
        assert schedule["active"] is False, "a schedule is switched on by people"
        construct_schedule(cron=schedule["cron"], timezone=schedule["timezone"])


@pytest.mark.parametrize("path", sorted((ROOT / "deployments" / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_profile_loads_and_names_a_constitution_that_is_there(path):
    profile = load_profile(path)
    assert (ROOT / profile.constitution).is_file()
    assert profile.name == path.stem


def test_every_flow_parameter_is_explained():
    flow = load_flow_from_entrypoint("flows.pipeline.constitutional_ai")
    for name, described in flow.parameters.properties.items():
        assert described.get("description"), name


def test_the_command_and_the_flow_know_the_same_stages():
    assert tuple(UNTIL) == ORDER
