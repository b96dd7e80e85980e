"""`deployments/prefect.yaml` and `automations.yaml` as they are written, checked before a server sees them.

`prefect deploy` takes misspelled keys, unknown parameters and events that nobody sends without a word. Here they are
problems, all of them reported at once. Nothing in this module talks to a server.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import yaml
from prefect.client.schemas.schedules import SCHEDULE_TYPES, construct_schedule
from prefect.events.actions import ActionTypes
from prefect.events.schemas.automations import TriggerTypes
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.schema_tools.validation import validate
from prefect.utilities.templating import apply_values
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cai.config import Config
from cai.errors import ConfigError
from cai.yaml_files import near, read_document
from flows.events import SENT

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Limit = Annotated[int, Field(gt=0)]
AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Schedule(Config):
    """When a deployment runs by itself. The slug is how it is known from one deploy to the next."""

    slug: Name
    cron: str | None = None
    interval: Annotated[float, Field(gt=0)] | None = None
    """Seconds."""
    rrule: str | None = None
    timezone: str = "UTC"
    active: bool = False
    parameters: dict[str, Any] = {}

    def timetable(self) -> SCHEDULE_TYPES:
        every = None if self.interval is None else timedelta(seconds=self.interval)
        return construct_schedule(cron=self.cron, interval=every, rrule=self.rrule, timezone=self.timezone)


class ConcurrencyLimit(Config):
    limit: Limit
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]
    grace_period_seconds: Annotated[int, Field(ge=60)] | None = None


class PoolOfDeployment(Config):
    name: str
    work_queue_name: str = "default"
    job_variables: dict[str, Any] = {}


class Deployment(Config):
    name: Name
    description: str
    entrypoint: str
    tags: tuple[str, ...]
    parameters: dict[str, Any] = {}
    work_pool: PoolOfDeployment
    concurrency_limit: ConcurrencyLimit | None = None
    schedules: tuple[Schedule, ...] = ()

    @cached_property
    def flow(self) -> Flow[..., Any]:
        return load_flow_from_entrypoint(self.entrypoint, use_placeholder_flow=False)

    @property
    def full_name(self) -> str:
        """As `prefect deployment run` wants it: `FLOW/DEPLOYMENT`."""
        return f"{self.flow.name}/{self.name}"


class WorkPool(Config):
    name: str
    type: str
    queues: dict[str, Limit | None] = {}
    """Runs at once, by queue; null: as many as there are."""


class Definitions(Config):
    """`work_pools` is read; whatever else is here is for YAML anchors."""

    model_config = ConfigDict(extra="allow", frozen=True)
    work_pools: tuple[WorkPool, ...] = ()


class PrefectFile(Config):
    name: Name
    prefect_version: Annotated[str, Field(alias="prefect-version")]
    pull: tuple[dict[str, dict[str, Any]], ...]
    definitions: Definitions = Definitions()
    deployments: tuple[Deployment, ...]


class Automation(Config):
    """`trigger` and `actions` in Prefect's words, but for `run` and `notify`."""

    name: Name
    description: str
    enabled: bool = True
    trigger: dict[str, Any]
    actions: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


class AutomationsFile(Config):
    definitions: dict[str, Any] = {}
    automations: tuple[Automation, ...] = ()


class Declared(NamedTuple):
    """All that a server is to have of ours. `name` keeps apart what several checkouts have on one server."""

    name: str
    pull: tuple[dict[str, dict[str, Any]], ...]
    work_pools: tuple[WorkPool, ...]
    deployments: dict[str, Deployment]
    automations: tuple[Automation, ...]


def load(prefect_file: Path, automations_file: Path | None) -> Declared:
    """Read and check both files.

    Raises:
        ConfigError: whatever is wrong with them, all of it.
    """
    body = _read(prefect_file)
    resolved = {
        **body,
        "deployments": apply_values(body.get("deployments") or [], dict(os.environ), remove_notset=False),
    }
    file = _checked(PrefectFile, resolved, prefect_file)
    automations = AutomationsFile()
    if automations_file is not None:
        automations = _checked(AutomationsFile, _read(automations_file), automations_file)
    found = [f"{prefect_file}: {problem}" for problem in deployment_problems(file.deployments)]
    if not found:
        known = {deployment.full_name: deployment for deployment in file.deployments}
        found = [f"{automations_file}: {problem}" for problem in automation_problems(automations.automations, known)]
    if found:
        raise ConfigError("\n".join(found))
    return Declared(file.name, file.pull, file.definitions.work_pools, known, automations.automations)


def deployment_problems(deployments: Iterable[Deployment]) -> list[str]:
    """What `prefect deploy` would take, and nobody would notice until a run fails or never starts."""
    deployments = tuple(deployments)
    found = []
    for deployment in deployments:
        try:
            said = [*_parameter_problems(deployment), *_schedule_problems(deployment), *_placeholders(deployment)]
        except Exception as error:  # importing somebody's module may raise anything
            why = f"{type(error).__name__}: {error}"
            said = [f"entrypoint {deployment.entrypoint!r} names no flow that can be checked: {why}"]
        found += [f"deployment {deployment.name!r}: {problem}" for problem in said]
    if not found:
        found += [f"deployment {name!r} is given twice" for name in _twice(d.full_name for d in deployments)]
    return found


def automation_problems(automations: Iterable[Automation], deployments: Mapping[str, Deployment]) -> list[str]:
    automations = tuple(automations)
    found = [f"automation {name!r} is given twice" for name in _twice(a.name for a in automations)]
    for automation in automations:
        said = [*_trigger_problems(automation), *_action_problems(automation, deployments)]
        found += [f"automation {automation.name!r}: {problem}" for problem in said]
    return found


def prefect_s_own(adapter: TypeAdapter[Any], given: dict[str, Any]) -> Any:
    """Parsed as Prefect does; a key that it would ignore is an error.

    Raises:
        ValueError: it cannot be parsed, or has an unknown key.
    """
    parsed = adapter.validate_python(given)
    for key in given:
        if key not in type(parsed).model_fields:
            raise ValueError(f"unknown key {key!r}; {near(key, type(parsed).model_fields)}")
    return parsed


TRIGGER: TypeAdapter[Any] = TypeAdapter(TriggerTypes)
ACTION: TypeAdapter[Any] = TypeAdapter(ActionTypes)


def _parameter_problems(deployment: Deployment) -> Iterable[str]:
    names = deployment.flow.parameters.properties
    for where, given in (
        ("", deployment.parameters),
        *((f"schedule {s.slug!r}: ", s.parameters) for s in deployment.schedules),
    ):
        for name in given:
            if name not in names:
                yield f"{where}flow {deployment.flow.name!r} has no parameter {name!r}; {near(name, names)}"
        schema = deployment.flow.parameters.model_dump_for_openapi()
        for error in validate(given, schema, ignore_required=True):
            yield f"{where}parameter {'.'.join(map(str, error.path))!r}: {error.message}"


def _schedule_problems(deployment: Deployment) -> Iterable[str]:
    yield from (f"schedule {slug!r} is given twice" for slug in _twice(s.slug for s in deployment.schedules))
    required = set(deployment.flow.parameters.required) - set(deployment.parameters)
    for schedule in deployment.schedules:
        try:
            schedule.timetable()
        except (ValueError, TypeError) as error:
            yield f"schedule {schedule.slug!r}: {error}"
        if missing := sorted(required - set(schedule.parameters)):
            yield f"schedule {schedule.slug!r}: nobody gives the parameter {missing[0]!r}, which has no default"


def _placeholders(deployment: Deployment) -> Iterable[str]:
    """What the environment did not fill in."""
    text = yaml.safe_dump(deployment.model_dump(mode="json", exclude={"flow"}))
    if "{{" in text:
        name = text.partition("{{")[2].partition("}}")[0].strip()
        yield f"{name} is not set in the environment; a template here is an environment variable: '{{{{ $NAME }}}}'"


def _trigger_problems(automation: Automation) -> Iterable[str]:
    try:
        trigger = prefect_s_own(TRIGGER, {"type": "event", **automation.trigger})
    except ValueError as error:
        yield f"trigger: {_in_short(error)}"
        return
    sent = sorted(SENT)
    for event in sorted(automation.trigger.get("expect", ())):
        if trigger.type == "event" and event.startswith("cai.") and event not in sent:
            yield f"trigger: nobody sends the event {event!r}; {near(event, sent)}"


def _action_problems(automation: Automation, deployments: Mapping[str, Deployment]) -> Iterable[str]:
    for action in automation.actions:
        if "run" in action:
            yield from (f"action: unknown key {key!r}" for key in set(action) - {"run", "parameters"})
            if (deployment := deployments.get(action["run"])) is None:
                yield f"action: there is no deployment {action['run']!r}; {near(str(action['run']), deployments)}"
                continue
            names = deployment.flow.parameters.properties
            for name in set(action.get("parameters", ())) - set(names):
                yield f"action: flow {deployment.flow.name!r} has no parameter {name!r}; {near(name, names)}"
        elif "notify" in action:
            yield from (f"action: unknown key {key!r}" for key in set(action) - {"notify", "subject", "body"})
        else:
            try:
                prefect_s_own(ACTION, action)
            except ValueError as error:
                yield f"action: {_in_short(error)}"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, n in Counter(names).items() if n > 1]


def _in_short(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()[:3])


def _checked(model: type[AnyModel], body: dict[str, Any], path: Path) -> AnyModel:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = [
            f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}"[:300] for e in error.errors()
        ]
        raise ConfigError("\n".join(problems)) from error


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no file at {path}; run this at the top of the checkout, or name the file")
    body = read_document(path).body
    if not isinstance(body, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, got {type(body).__name__}")
    return body
