"""Put the files of `deployments/` on the server that the settings name: pools, deployments, automations.

Doing it again changes nothing. What people changed in the UI stays (`flows/switches.py` has the rule); what was
deployed before and is gone from the files is deleted. What others keep on the same server is not touched: a variable,
`NAME_deployed`, remembers what is ours; NAME is the file's.
"""

import asyncio
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.variables import Variable
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from cai.errors import ConfigError
from cai.yaml_files import near
from flows.deployment_file import (
    ACTION,
    TRIGGER,
    Automation,
    ConcurrencyLimit,
    Declared,
    Deployment,
    Schedule,
    WorkPool,
    prefect_s_own,
)
from flows.switches import Switch, brief, decide, merge

SWITCHED_ON = "cai_on"
"""The variable that switches on what the files leave off: a list of slugs and names of automations, or of patterns."""

Say = Callable[[str], None]
Remembered = dict[str, Any]


def deploy(declared: Declared, say: Say, *, chosen: Mapping[str, Any] | None = None) -> None:
    """Make the server have what is declared, and nothing else of ours.

    `chosen` are values that somebody wants for parameters that the files give another; like what is changed in the UI,
    later deploys keep them.

    Raises:
        ConfigError: the server refuses something, or is without what a deployment needs.
    """
    with get_client(sync_client=True) as client:
        try:
            _deploy(client, declared, chosen or {}, say)
        except PrefectHTTPStatusError as error:
            raise ConfigError(f"the server at {client.api_url} refuses: {error.response.text[:500]}") from error


def _deploy(client: SyncPrefectClient, declared: Declared, chosen: Mapping[str, Any], say: Say) -> None:
    memory = _recall(declared.name)
    switched_on = _switched_on()
    for pool in declared.work_pools:
        _make_pool(client, pool, say)
    remembered: Remembered = {"deployments": {}, "automations": {}}
    ids = {}
    known = _job_variables(client, declared)
    for name, deployment in declared.deployments.items():
        _check_job_variables(deployment, known)
        last = memory["deployments"].get(name)
        one = _Deploying(client, deployment, last, switched_on, chosen, say)
        ids[name] = one.apply(declared.pull)
        remembered["deployments"][name] = one.remembered
    for automation in declared.automations:
        last = memory["automations"].get(automation.name)
        switch = _automate(client, automation, ids, last and Switch.read(last), switched_on, say)
        if switch is not None:
            remembered["automations"][automation.name] = switch.written()
    _prune(client, memory, remembered, say)
    _remember(declared.name, remembered)


# What is remembered on the server


def _memory(name: str) -> str:
    return f"{name}_deployed".replace("-", "_")


def _recall(name: str) -> Remembered:
    memory: Any = Variable.get(_memory(name))
    return memory or {"deployments": {}, "automations": {}}


def _remember(name: str, remembered: Remembered) -> None:
    Variable.set(_memory(name), remembered, tags=["cai"], overwrite=True)


def _switched_on() -> tuple[str, ...]:
    patterns = Variable.get(SWITCHED_ON) or []
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise ConfigError(
            f"the variable {SWITCHED_ON} is {patterns!r}; expected a list of names, such as "
            f"`prefect variable set {SWITCHED_ON} '[\"nightly\"]' --overwrite`"
        )
    return tuple(patterns)


def _is_on(name: str, is_on_in_file: bool, switched_on: tuple[str, ...]) -> bool:
    return is_on_in_file or any(fnmatchcase(name, pattern) for pattern in switched_on)


# Work pools


def _make_pool(client: SyncPrefectClient, pool: WorkPool, say: Say) -> None:
    """Make what is missing; limits that people have changed stay as they are."""
    try:
        client.read_work_pool(pool.name)
    except ObjectNotFound:
        template = asyncio.run(get_default_base_job_template_for_infrastructure_type(pool.type))
        if template is None:
            raise ConfigError(f"work pool {pool.name!r}: the server knows no pools of type {pool.type!r}") from None
        client.create_work_pool(WorkPoolCreate(name=pool.name, type=pool.type, base_job_template=template))
        say(f"work pool {pool.name}: made, of type {pool.type}")
    there = {queue.name for queue in client.read_work_queues(work_pool_name=pool.name)}
    for name, limit in pool.queues.items():
        if name not in there:
            client.create_work_queue(name, concurrency_limit=limit, work_pool_name=pool.name)
            say(f"work queue {pool.name}/{name}: made, {'no limit' if limit is None else f'{limit} at a time'}")


def _job_variables(client: SyncPrefectClient, declared: Declared) -> dict[str, Mapping[str, Any]]:
    """What runs can be given, by the name of the pool."""
    known: dict[str, Mapping[str, Any]] = {}
    for deployment in declared.deployments.values():
        pool = deployment.work_pool.name
        try:
            known[pool] = known.get(pool) or client.read_work_pool(pool).base_job_template["variables"]["properties"]
        except ObjectNotFound as error:
            raise ConfigError(
                f"deployment {deployment.name!r}: there is no work pool {pool!r} on the server; "
                "declare it under definitions.work_pools, or make it in the UI"
            ) from error
    return known


def _check_job_variables(deployment: Deployment, known: Mapping[str, Mapping[str, Any]]) -> None:
    pool = deployment.work_pool
    for name in pool.job_variables:
        if name not in known[pool.name]:
            raise ConfigError(
                f"deployment {deployment.name!r}: work pool {pool.name!r} has no job variable {name!r}; "
                f"{near(name, known[pool.name])}"
            )


# Deployments


class _Deploying:
    """One deployment on its way to the server; `remembered` is what the next deploy has to know of it."""

    def __init__(
        self,
        client: SyncPrefectClient,
        deployment: Deployment,
        last: Remembered | None,
        switched_on: tuple[str, ...],
        chosen: Mapping[str, Any],
        say: Say,
    ) -> None:
        self._client, self._deployment, self._last, self._switched_on = client, deployment, last, switched_on
        self._chosen = {name: value for name, value in chosen.items() if name in deployment.parameters}
        self._say = say
        self._live = _read_deployment(client, deployment.full_name)
        self.remembered: Remembered = {
            "parameters": {name: brief(value) for name, value in deployment.parameters.items()},
            "schedules": {},
        }

    def apply(self, pull: tuple[dict[str, dict[str, Any]], ...]) -> str:
        """Create it, or update it in one transaction: at no moment is a paused schedule active. Returns its id.

        `paused` is not sent, so that a deployment that people have paused stays so. One that is as it should be is not
        written again: that would take back the runs that are scheduled.
        """
        deployment, flow, limit = self._deployment, self._deployment.flow, self._deployment.concurrency_limit
        wanted: dict[str, Any] = {
            "schedules": [self._schedule(schedule) for schedule in deployment.schedules],
            "concurrency_limit": None if limit is None else limit.limit,
            "concurrency_options": _options(limit),
            "parameters": self._parameters(),
            "description": deployment.description,
            "work_pool_name": deployment.work_pool.name,
            "work_queue_name": deployment.work_pool.work_queue_name,
            "tags": list(deployment.tags),
            "path": ".",
            "entrypoint": deployment.entrypoint,
            "parameter_openapi_schema": flow.parameters.model_dump_for_openapi(),
            "pull_steps": list(pull),
            "enforce_parameter_schema": True,
            "job_variables": deployment.work_pool.job_variables,
        }
        if self._live is not None and self._live.paused:
            self._keep("it is paused")
        if self._live is not None and _is_as(self._live, wanted):
            return str(self._live.id)
        self._say(f"deployment {deployment.full_name}: {'made' if self._live is None else 'changed'}")
        return str(self._client.create_deployment(self._client.create_flow(flow), deployment.name, **wanted))

    def _parameters(self) -> dict[str, Any]:
        properties = self._deployment.flow.parameters.properties
        values, kept = merge(
            self._deployment.parameters,
            None if self._live is None else self._live.parameters,
            None if self._last is None else self._last["parameters"],
            {name: described.get("default") for name, described in properties.items()},
        )
        for name, value in kept.items():
            if name in self._chosen:
                continue
            in_file = self._deployment.parameters.get(name)
            self._keep(f"{name} is {value!r}" + ("" if in_file is None else f", and {in_file!r} in the file"))
        return values | self._chosen

    def _schedule(self, schedule: Schedule) -> DeploymentScheduleCreate:
        live = self._live_schedules().get(schedule.slug)
        last = None if self._last is None else self._last["schedules"].get(schedule.slug)
        wanted = _is_on(schedule.slug, schedule.active, self._switched_on)
        switch = decide(wanted, None if live is None else live.active, last and Switch.read(last[0]))
        timetable, parameters = schedule.timetable(), schedule.parameters
        in_file = _brief_of(timetable, parameters)
        if live is not None and last is not None and in_file == last[1] != _brief_of(live.schedule, live.parameters):
            timetable, parameters = live.schedule, live.parameters
            self._keep(f"the timetable of schedule {schedule.slug}")
        if switch.is_kept:
            self._keep(f"schedule {schedule.slug} is {'on' if switch.on else 'paused'}")
        self.remembered["schedules"][schedule.slug] = [switch.written(), in_file]
        return DeploymentScheduleCreate(schedule=timetable, active=switch.on, parameters=parameters, slug=schedule.slug)

    def _live_schedules(self) -> dict[str, DeploymentSchedule]:
        return {} if self._live is None else {s.slug: s for s in self._live.schedules if s.slug is not None}

    def _keep(self, what: str) -> None:
        self._say(f"deployment {self._deployment.full_name}: kept as set in the UI: {what}")


def _is_as(live: DeploymentResponse, wanted: Mapping[str, Any]) -> bool:
    """Whether the server has it so already; where it writes something in its own way, it is only written once more."""
    limit = live.global_concurrency_limit
    different = {"schedules", "concurrency_limit", "concurrency_options"}
    return (
        all(getattr(live, field) == value for field, value in wanted.items() if field not in different)
        and sorted(map(_schedule_as_sent, live.schedules)) == sorted(map(_schedule_as_sent, wanted["schedules"]))
        and (None if limit is None else limit.limit) == wanted["concurrency_limit"]
        and _options_as_sent(live.concurrency_options) == _options_as_sent(wanted["concurrency_options"])
    )


def _schedule_as_sent(schedule: DeploymentSchedule | DeploymentScheduleCreate) -> tuple[Any, ...]:
    return schedule.slug or "", schedule.active, _brief_of(schedule.schedule, schedule.parameters)


def _options_as_sent(options: ConcurrencyOptions | None) -> Any:
    return options and options.model_dump(exclude_unset=True, exclude_none=True)


def _options(limit: ConcurrencyLimit | None) -> ConcurrencyOptions | None:
    return None if limit is None else ConcurrencyOptions(**limit.model_dump(exclude={"limit"}, exclude_none=True))


def _read_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _brief_of(timetable: Any, parameters: Mapping[str, Any]) -> str:
    """Of an interval, the day that it is counted from is the server's to choose."""
    return brief([timetable.model_dump(mode="json", exclude={"anchor_date"}), dict(parameters)])


# Automations


def _automate(
    client: SyncPrefectClient,
    automation: Automation,
    ids: Mapping[str, str],
    last: Switch | None,
    switched_on: tuple[str, ...],
    say: Say,
) -> Switch | None:
    """Create or update it; None where it has to be left out. One that is as it should be is not written again: that
    would make the server forget what it waits for.
    """
    actions = [_action(client, action, ids) for action in automation.actions]
    if any(action is None for action in actions):
        names = [str(action["notify"]) for action in automation.actions if "notify" in action]
        say(f"automation {automation.name}: left out, there is no notification block {names[0]!r} on the server")
        return None
    live = next(iter(client.read_automations_by_name(automation.name)), None)
    wanted = _is_on(automation.name, automation.enabled, switched_on)
    switch = decide(wanted, None if live is None else live.enabled, last)
    core = AutomationCore(
        name=automation.name,
        description=automation.description,
        enabled=switch.on,
        trigger=prefect_s_own(TRIGGER, {"type": "event", **automation.trigger}),
        actions=[prefect_s_own(ACTION, action) for action in actions if action is not None],
    )
    if live is None:
        client.create_automation(core)
        say(f"automation {automation.name}: made{'' if switch.on else ', off'}")
    elif _essence(live) != _essence(core):
        client.update_automation(live.id, AutomationCore.model_validate(core.model_dump()))  # it sends what was set
        say(f"automation {automation.name}: changed")
    elif live.enabled != switch.on:
        (client.resume_automation if switch.on else client.pause_automation)(live.id)
        say(f"automation {automation.name}: {'on' if switch.on else 'off'}")
    if switch.is_kept:
        say(f"automation {automation.name}: kept as set in the UI: it is {'on' if switch.on else 'paused'}")
    return switch


def _essence(automation: AutomationCore) -> tuple[Any, ...]:
    return automation.description, automation.trigger, automation.actions


def _action(client: SyncPrefectClient, action: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any] | None:
    """The action in Prefect's words; None where the block that it notifies is not there."""
    if "run" in action:
        parameters = action.get("parameters", {})
        return {"type": "run-deployment", "deployment_id": ids[action["run"]], "parameters": parameters}
    if "notify" in action:
        block = _block_id(client, action["notify"])
        more = {key: action[key] for key in ("subject", "body") if key in action}
        return None if block is None else {"type": "send-notification", "block_document_id": block, **more}
    return dict(action)


def _block_id(client: SyncPrefectClient, name: str) -> str | None:
    """The block document of this name, of whatever type."""
    offset = 0
    while page := client.read_block_documents(offset=offset, limit=200, include_secrets=False):
        for block in page:
            if block.name == name:
                return str(block.id)
        offset += len(page)
    return None


# What is gone


def _prune(client: SyncPrefectClient, memory: Remembered, remembered: Remembered, say: Say) -> None:
    for name in memory["deployments"].keys() - remembered["deployments"].keys():
        if (gone := _read_deployment(client, name)) is not None:
            client.delete_deployment(gone.id)
            say(f"deployment {name}: deleted, it is gone from the file")
    for name in memory["automations"].keys() - remembered["automations"].keys():
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)
            say(f"automation {name}: deleted, it is gone from the file")
