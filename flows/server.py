"""A Prefect API to talk to: the one that is configured, else a server of our own on loopback, its SQLite under home.

cai ui --home cai-home        # the same server, in the foreground, to browse past runs
"""

import contextlib
import importlib
import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn

from cai.errors import CAIError, ConfigError, without_password
from flows.supervise import Child, StepFailed

START_S = 180.0
DRAIN_S = 10.0
POLL_S = 1.0
ANSWER_S = 2.0
GONE_S = 30.0
SILENCE_S = 120.0
"""On SQLite a server of Prefect's can stand still for a minute (`flows/prefect_server.py`); its runs go on then."""
HEARTBEAT = ("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
"""Seconds. The automation that finds dead runs waits for three and a half; with Prefect's own 180 it would
find live ones."""


@contextlib.contextmanager
def prefect_api(home: Path, *, port: int | None = None) -> Iterator[str]:
    """The URL of a Prefect API, set in the environment for this process and its children.

    `PREFECT_API_URL` wins where it is set. Otherwise a server is started on loopback and ended with the block; it is
    also gone when this process is killed.

    Raises:
        ConfigError: the configured API does not answer, the port is taken, or the server does not start.
    """
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        if not answers(configured):
            raise ConfigError(
                f"PREFECT_API_URL is {without_password(configured)!r} and nothing answers there; start that server, "
                "or unset the variable to have one started for this run"
            )
        os.environ.setdefault(*HEARTBEAT)
        yield configured
        return
    settings = _settings(home)
    os.environ.update(settings)
    if running := _running(home):
        os.environ["PREFECT_API_URL"] = running
        os.environ.setdefault(*HEARTBEAT)  # it may outlive us, and `cai serve` has what waits for heartbeats
        yield running
        return
    with contextlib.ExitStack() as held:
        yield from _started(home, _free(port) if port else held.enter_context(held_port()))


def _started(home: Path, port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}/api"
    server = Child(
        ["flows.prefect_server", "--host", "127.0.0.1", "--port", str(port)],
        logfile=home / "prefect" / "server.log",
        env={"PREFECT_SERVER_UI_API_URL": url},  # else its pages look for the API at port 4200
        is_heard=False,
    )
    address = home / "prefect" / "server.json"
    os.environ["PREFECT_API_URL"] = url  # before the import, which reads it
    with server:
        try:
            importlib.import_module("prefect")  # takes seconds, as does the server's start
            _wait_for(url, server)
            address.write_text(json.dumps({"url": url, "pid": server.pid}), encoding="utf-8")
            with _without_heartbeat():
                yield url
        finally:
            _drain()
            address.unlink(missing_ok=True)
            del os.environ["PREFECT_API_URL"]


def answering_api() -> str:
    """The URL of the Prefect API that the settings name: environment, `prefect.toml`, profile, in this order.

    Raises:
        ConfigError: they name none, or nothing answers there.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        raise ConfigError("no Prefect server is named; set PREFECT_API_URL, or start one with `cai serve`")
    if not answers(url):
        raise ConfigError(
            f"nothing answers at {without_password(url)!r}; start that server (`cai serve`), or name another"
        )
    return url


def _settings(home: Path) -> dict[str, str]:
    """Everything Prefect keeps goes under home, and nothing is reported to anybody."""
    folder = (home / "prefect").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "PREFECT_HOME": str(folder),
        # Neither of these follows PREFECT_HOME.
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(folder / "results"),
        "PREFECT_MEMO_STORE_PATH": str(folder / "memo_store.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def _running(home: Path) -> str | None:
    """The URL of a server that another command has started over the same home, if it still answers."""
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        server = json.loads((home / "prefect" / "server.json").read_text(encoding="utf-8"))
        try:
            os.kill(server["pid"], 0)
        except (ProcessLookupError, PermissionError):  # gone; or its number is that of somebody else's process by now
            return None
        return str(server["url"]) if answers(server["url"]) else None
    return None


def _free(port: int) -> int:
    """The port, if a server can listen there: one that somebody else has would be waited for, and talked to."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            theirs = _home_of(f"http://127.0.0.1:{port}/api")
            by = f" by the Prefect server of {theirs}" if theirs else ""
            raise ConfigError(f"port {port} is taken{by} ({error.strerror}); --port N names another") from error
    return port


def _home_of(url: str) -> str | None:
    """The PREFECT_HOME of the server that answers there; None where it does not say."""
    try:
        with urllib.request.urlopen(f"{url}/admin/settings", timeout=ANSWER_S) as response:  # noqa: S310
            return str(json.load(response)["home"])
    except (OSError, ValueError, KeyError, TypeError):  # it wants a password, or is none of Prefect's
        return None


def _wait_for(url: str, server: Child) -> None:
    """Until our own server answers, not one that took its port meanwhile: ours ends then, and says why."""
    ours = (None, os.environ["PREFECT_HOME"])
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            server.raise_if_dead()
        except StepFailed as error:
            raise ConfigError(f"the Prefect server did not start: {error}") from error
        if _hear(url) == "well" and _home_of(url) in ours:
            return
        time.sleep(0.1)
    raise ConfigError(f"the Prefect server did not answer at {url} within {START_S:.0f} s")


def _without_heartbeat() -> contextlib.AbstractContextManager[object]:
    """A heartbeat tells a server that outlives us whether we still run; joining its thread costs each flow a second."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    url = os.environ["PREFECT_API_URL"]
    return temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_API_URL: url})


def _drain() -> None:
    """Let Prefect send what it still holds; otherwise it keeps trying to reach the server that is about to end."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=DRAIN_S)
        EventsWorker.drain_all(timeout=DRAIN_S)


def answers(url: str) -> bool:
    """Whether a Prefect API is there and well; for one that is busy it waits up to `SILENCE_S`."""
    deadline = time.monotonic() + SILENCE_S
    while (heard := _hear(url)) == "busy" and time.monotonic() < deadline:
        pass
    return heard == "well"


def stay(
    url: str, check: Callable[[], object] = lambda: None, *, silence_s: float = SILENCE_S, gone_s: float = GONE_S
) -> NoReturn:
    """Look after a server until there is none: whether it answers, and what `check` raises.

    Raises:
        CAIError: it has been away for `gone_s` seconds, or busy for `silence_s`.
    """
    last = time.monotonic()
    while True:
        check()
        heard, silent_s = _hear(url), time.monotonic() - last
        if heard == "well":
            last = time.monotonic()
        elif silent_s > (silence_s if heard == "busy" else gone_s):
            raise CAIError(
                f"the server at {without_password(url)} has not answered for {silent_s:.0f} s; start it again"
            )
        time.sleep(POLL_S)


def _hear(url: str) -> Literal["well", "busy", "away"]:
    """Busy is who takes a connection and says nothing within `ANSWER_S`."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=ANSWER_S) as response:  # noqa: S310
            return "well" if response.status == 200 else "away"
    except TimeoutError:
        return "busy"
    except (OSError, ValueError):  # refused, unknown, unreachable; or an answer that is none of Prefect's
        return "away"


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """Any free port: two runs that start together must not both take the usual one and talk to one server.

    It is bound while the block lasts, and nobody listens at it: the kernel gives it to nobody who wants any port, and
    a server that is told to listen there can (both sides say SO_REUSEADDR, as servers do).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def serve_forever(home: Path, port: int) -> None:
    """Run the server until Ctrl-C."""
    with prefect_api(home, port=port) as url:
        sys.stderr.write(f"Prefect UI: {url.removesuffix('/api')}   (Ctrl-C ends it)\n")
        with contextlib.suppress(KeyboardInterrupt):
            stay(url)
