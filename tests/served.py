"""`cai serve` over deployments of a test's own, as a person starts it, and what the tests of it look at."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from flows.server import held_port

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "deployments"
CAI = [sys.executable, "-c", "from cai.cli import main; main()"]


@dataclasses.dataclass
class Served:
    """Started again after a test has ended it, it has another process."""

    process: subprocess.Popen
    url: str
    command: list[str]


@contextlib.contextmanager
def serving(folder: Path, deployments: list[dict]) -> Iterator[Served]:
    """`cai serve` over `folder / "home"`. With the block all of it is killed."""
    file, automations = written(folder, "trial", deployments, [])
    with held_port() as port:
        arguments = ["serve", "--home", folder / "home", "--port", port, "--file", file, "--automations", automations]
        command = [*CAI, *map(str, arguments)]
        served = Served(start(command, folder), f"http://127.0.0.1:{port}/api", command)
        try:
            yield served
        finally:
            served.process.kill()
            served.process.wait()


def start(command: list[str], folder: Path) -> subprocess.Popen:
    """Until its server answers."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment["PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY"] = "PT1S"
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log, env=environment)
    try:
        until(lambda: process.poll() is not None or "UI: " in (folder / "serve.log").read_text(), 240)
        assert process.poll() is None, (folder / "serve.log").read_text()
    except BaseException:
        process.kill()
        raise
    return process


@contextlib.contextmanager
def client_of(served: Served) -> Iterator[SyncPrefectClient]:
    """The server's client, and the settings of this process; the queue `parked` is paused."""
    settings = {
        PREFECT_API_URL: served.url,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(settings), get_client(sync_client=True) as client:
        client.update_work_queue(client.read_work_queue_by_name("parked", "cai").id, is_paused=True)
        yield client
        APILogWorker.drain_all(timeout=5)
        EventsWorker.drain_all(timeout=5)


def until(holds, within_s: float = 180.0):
    """What `holds` returns, once it is something. Processes start slowly beside two demos."""
    deadline = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.3)
    return value


def written(folder: Path, name: str, deployments: list[dict], automations: list[dict]) -> tuple[Path, Path]:
    """The shipped files with other contents."""
    body = yaml.safe_load((SHIPPED / "prefect.yaml").read_text())
    body |= {"name": name, "deployments": deployments}
    body["definitions"]["work_pools"][0]["queues"]["parked"] = None
    files = folder / f"{name}.yaml", folder / f"{name}-automations.yaml"
    files[0].write_text(yaml.safe_dump(body, sort_keys=False))
    files[1].write_text(yaml.safe_dump({"automations": automations}))
    return files


def shipped(kind: str, *names: str) -> list[dict]:
    file = {"deployments": "prefect.yaml", "automations": "automations.yaml"}[kind]
    return [
        entry for entry in yaml.safe_load((SHIPPED / file).read_text())[kind] if not names or entry["name"] in names
    ]


def parked(*names: str) -> list[dict]:
    """Deployments whose runs nobody takes: the queue is paused."""
    entries = shipped("deployments", *names)
    for entry in entries:
        entry["work_pool"] = {**entry["work_pool"], "work_queue_name": "parked"}
    return entries


def scripted(folder: Path, name: str, latency_s: float, prompts: str, until: str = "preferences") -> dict:
    """A deployment of the whole flow up to a stage that trains nothing, over an engine that needs no model, nor a
    turn.
    """
    (folder / f"{name}.script.yaml").write_text(yaml.safe_dump({"latency_s": latency_s}))
    profile = {
        "name": name,
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted", "script": str(folder / f"{name}.script.yaml")},
        "prompts": [{"path": prompts}],
        "sft": None,
        "chains": {"rounds": 1},
        "feedback": {"principles": 1, "self_test": False},  # it prefers at random
        "rl": {"algorithm": "dpo"},  # it trains no reward model
    }
    return whole(folder, name, profile, until)


def small(folder: Path, name: str, prompts: str) -> dict:
    """The same over the small model, whose weights need the accelerator: on a machine without a GPU, the machine."""
    reply = {"max_tokens": 48}
    profile = {
        "name": name,
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "transformers", "model": "smallworld"},
        "prompts": [{"path": prompts}],
        "sft": None,
        "chains": {"rounds": 1, "response": reply, "critique": reply, "revision": reply},
        "candidates": {"response": reply},
        "feedback": {"principles": 1, "self_test": False},
    }
    return whole(folder, name, profile)


def whole(folder: Path, name: str, profile: dict, until: str = "preferences") -> dict:
    (folder / f"{name}.profile.yaml").write_text(yaml.safe_dump(profile))
    (entry,) = shipped("deployments", "nightly")
    parameters = {"profile": str(folder / f"{name}.profile.yaml"), "home": "replaced", "until": until}
    return {**entry, "name": name, "parameters": parameters, "schedules": []}


def refreshing(folder: Path, name: str, latency_s: float) -> dict:
    """A deployment that has the small world's grammar write a few prompts, and tries them on a policy that is slow."""
    (folder / f"{name}.script.yaml").write_text(yaml.safe_dump({"latency_s": latency_s}))
    wanted = {"kinds": ["harmful"], "tried": ["harmful"], "tags": ["theft"], "quota": 3}
    profile = {
        "name": name,
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted", "script": str(folder / f"{name}.script.yaml")},
        "prompts": [{"path": "smallworld", "limit": 4}],
        "generate": {"engine": {"kind": "writer"}, "reading": "smallworld", "least_new": 0, **wanted},
    }
    (folder / f"{name}.profile.yaml").write_text(yaml.safe_dump(profile))
    (entry,) = shipped("deployments", "refresh")
    parameters = {"profile": str(folder / f"{name}.profile.yaml"), "home": "replaced"}
    return {**entry, "name": name, "parameters": parameters, "schedules": []}


def processes(of: str) -> set[int]:
    """Those whose command line or environment has this."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if of.encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.add(int(entry.name))
        except OSError:
            continue
    return found - {os.getpid()}


def steps_of(folder: Path, profile: str) -> set[int]:
    """The children that do the steps of this profile's runs; tests beside this one have children too."""
    return processes("\0".join(("flows.steps", str(folder / "home"), f"{profile}-")))


def children(run_id: str) -> set[int]:
    """The leaders of the process groups that serve steps of a run."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"flows.steps" in words and run_id.encode() in words and os.getpgid(int(entry.name)) == int(entry.name):
            found.add(int(entry.name))
    return found


def in_state(client, flow_run_id, name: str):
    """The state of a run, once it has that name."""

    def found():
        state = client.read_flow_run(flow_run_id).state
        assert state.name == name or not state.is_final(), state
        return state if state.name == name else None

    return until(found)
