"""A real Prefect server, a real worker and a small deployment in a folder, and every process that comes of them.

For `kills.py`, beside this file, and its test. Needs Linux: processes are found in /proc.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from flows.server import held_port

ROOT = Path(__file__).parents[1]
MARK = "CAI_KILLS"
START_S, FINISH_S = 120.0, 300.0
CAI = ("-c", "from cai.cli import main; main()")
AT_WORK = ["RUNNING", "PENDING", "CANCELLING"]
ENGINES: dict[str, dict[str, Any]] = {
    "vllm": {"kind": "vllm", "model": "smallworld", "dtype": "float32", "context_length": 2048, "max_concurrency": 4},
    "scripted": {"kind": "scripted", "model": "scripted", "max_concurrency": 4},
}
PROMPTS = {"vllm": 160, "scripted": 60}
"""Enough for ten seconds at work: the harm must come in the middle."""


class Seen(NamedTuple):
    """A process, as /proc has it."""

    pid: int
    parent: int
    group: int
    started: str
    command: str


def processes() -> dict[int, Seen]:
    """All that live; what has ended and waits to be read by its parent does not."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if fields[0] not in "ZX":
            found[int(entry.name)] = Seen(int(entry.name), int(fields[1]), int(fields[2]), fields[19], command)
    return found


class Family:
    """The processes of ours: those that bear the mark in their environment, and those that were ever seen below one
    (vLLM's write their title over their environment).
    """

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._known: set[tuple[int, str]] = set()

    def now(self) -> dict[int, Seen]:
        everyone = processes()
        self._known |= {(p.pid, p.started) for p in everyone.values() if self._is_marked(p.pid)}
        while True:
            mine = {p.pid for p in everyone.values() if (p.pid, p.started) in self._known}
            new = {(p.pid, p.started) for p in everyone.values() if p.parent in mine or p.group in mine} - self._known
            if not new:
                return {pid: everyone[pid] for pid in mine}
            self._known |= new

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


class Site:
    """A server and a worker as a team runs them, each to be started again by itself; use as a context manager."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder, self.engine = folder, engine
        mark = uuid.uuid4().hex
        self.family = Family(mark)
        self._held = contextlib.ExitStack()
        self.port = self._held.enter_context(held_port())
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self._env |= {
            MARK: mark,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "CAI_WORKDIR": str(ROOT),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self._ended: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self.start_server()
            self._run("deploy", *CAI, "deploy", "--file", *map(str, self._files()))
            self.start_worker()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._held.close()
        for pid in self.family.now():
            kill(pid)
        for process in (self.server, self.worker, *self._ended):
            if process is not None:
                process.wait()

    def start_server(self) -> None:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.server = self._start("server", "-m", "flows.prefect_server", *address)
        until(self._answers, START_S, "the server answers")

    def start_worker(self) -> None:
        self.worker = self._start("worker", *CAI, "worker", "--name", "kills")
        since = (self.folder / "worker.log").stat().st_size
        until(lambda: b"started!" in (self.folder / "worker.log").read_bytes()[since:], START_S, "the worker starts")

    def meant_to_be(self) -> set[int]:
        """The server's and the worker's own processes, those that are up."""
        roots = {process.pid for process in (self.server, self.worker) if process is not None}
        servers = {p.pid for p in self.family.now().values() if self.server is not None and p.parent == self.server.pid}
        return roots | servers

    def forget(self, pids: set[int]) -> None:
        """These are not meant to be any more, if they are the server's or the worker's; they are read when they end."""
        self._ended += [p for p in (self.server, self.worker) if p is not None and p.pid in pids]
        self.server = None if self.server in self._ended else self.server
        self.worker = None if self.worker in self._ended else self.worker

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                env=self._env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _run(self, name: str, *command: str) -> None:
        if self._start(name, *command).wait(START_S):
            sys.exit((self.folder / f"{name}.log").read_text())

    def _answers(self) -> bool:
        try:
            return bool(self.ask("health"))
        except OSError:
            return False

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the API answers; a request with a body is a POST, as the pages of the UI send it."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, {"content-type": "application/json"})
        for is_last in (False, False, False, True):
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                if error.code != 503 or is_last:
                    raise
                time.sleep(1)  # SQLite is locked

    def _files(self) -> tuple[Path, str, Path]:
        """The shipped deployments and automations, with a profile of our own to run."""
        (self.folder / "script.yaml").write_text("latency_s: 0.25\n")
        engine = ENGINES[self.engine] | (
            {"script": str(self.folder / "script.yaml")} if self.engine == "scripted" else {}
        )
        text = {"temperature": 1.0, "max_tokens": 48}
        profile = {
            "name": "kills",
            "constitution": "constitution/smallworld.yaml",
            "engine": engine,
            "prompts": [{"path": "smallworld", "limit": PROMPTS[self.engine]}],
            "chains": {"rounds": 1, "response": text, "critique": text, "revision": text},
            "sft": None,
        }
        (self.folder / "profile.yaml").write_text(yaml.safe_dump(profile))
        body = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
        (nightly,) = [entry for entry in body["deployments"] if entry["name"] == "nightly"]
        parameters = {"profile": str(self.folder / "profile.yaml"), "until": "revisions", "home": "given with each run"}
        body["deployments"] = [{**nightly, "name": "kills", "parameters": parameters, "schedules": []}]
        (self.folder / "prefect.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
        zombie = yaml.safe_load((ROOT / "deployments" / "automations.yaml").read_text())
        zombie["automations"] = [a for a in zombie["automations"] if a["name"] in ("cai-zombie", "cai-cancelled")]
        (self.folder / "automations.yaml").write_text(yaml.safe_dump(zombie))
        return self.folder / "prefect.yaml", "--automations", self.folder / "automations.yaml"

    # Runs

    def start_run(self, home: Path, in_s: float = 0.0) -> str:
        deployment = self.ask("deployments/name/constitutional-ai/kills")
        body: dict[str, Any] = {"parameters": {"home": str(home)}}
        if in_s:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + in_s))
            body["state"] = {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}
        return str(self.ask(f"deployments/{deployment['id']}/create_flow_run", body)["id"])

    def finish(self, run: str) -> str:
        """How it ended."""
        until(lambda: self.state(run) in ("Completed", "Failed", "Crashed", "Cancelled"), FINISH_S, f"the end of {run}")
        return self.state(run)

    def state(self, run: str) -> str:
        """`Running`, `Crashed` and so on; `?` while the server is away."""
        try:
            return str(self.ask(f"flow_runs/{run}")["state"]["name"])
        except OSError:
            return "?"

    def at_work(self) -> list[str]:
        """The runs, and stages of runs, that the server believes to be at work."""
        try:
            found = self.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": AT_WORK}}}})
        except OSError:
            return ["?"]
        return [f"{run['name']} is {run['state']['name']}" for run in found]

    def cancel(self, run: str) -> None:
        """As the button of the UI does it."""
        self.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def find(self, role: str) -> list[int]:
        """The processes that play a part in the run."""
        family = self.family.now()
        flows = {p.pid for p in family.values() if "prefect.engine" in p.command}
        children = {p.pid for p in family.values() if p.pid == p.group and p.parent in flows}
        match role:
            case "server":
                assert self.server is not None
                return [p.pid for p in family.values() if self.server.pid in (p.pid, p.parent)]
            case "worker":
                assert self.worker is not None
                return [self.worker.pid]
            case "flow":
                return sorted(flows)
            case "child":
                return sorted(children)
            case "engine":
                return [p.pid for p in family.values() if p.parent in children]
            case _:
                return list(family)


def kill(pid: int, sig: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


def until(holds: Callable[[], Any], within_s: float, what: str) -> float:
    """Wait; returns the seconds it took."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > within_s:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - started
