"""How long Prefect's server on SQLite says nothing while runs begin and end: as Prefect starts it, and as we do.

    python -m benchmarks.server_silence [--seconds 60] [--clients 6]

Each client makes a run and sets it to Running and Completed, again and again. Beside them `/health` is asked twice a
second; a silence is the time until it answers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.server import held_port

SERVERS = {"prefect server start": ["prefect", "server", "start"], "flows.prefect_server": ["flows.prefect_server"]}
LONGEST_S = 100.0


@contextmanager
def started(module: list[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as home, held_port() as port:
        environment = {**os.environ, "PREFECT_HOME": home, "DO_NOT_TRACK": "1"}
        environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        command = [sys.executable, "-m", *module, "--host", "127.0.0.1", "--port", str(port)]
        with (Path(home) / "log").open("w") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}/api"
            while not answers(url, 2.0):
                assert server.poll() is None, (Path(home) / "log").read_text()
                time.sleep(0.5)
            yield url
        finally:
            server.kill()
            server.wait()


def answers(url: str, within_s: float) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=within_s):
            return True
    except OSError:
        return False


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LONGEST_S) as response:
        return json.loads(response.read() or "null")


def measured(module: list[str], seconds: float, n_clients: int) -> dict[str, float]:
    """Runs that ended, requests that were refused, and the longest silence in seconds."""
    counts: Counter[str] = Counter()
    silences = [0.0]
    with started(module) as url:
        flow = post(f"{url}/flows/", {"name": "one"})["id"]
        end = time.monotonic() + seconds

        def client() -> None:
            while time.monotonic() < end:
                try:
                    run = post(f"{url}/flow_runs/", {"flow_id": flow, "state": {"type": "PENDING"}})["id"]
                    for state in ("RUNNING", "COMPLETED"):
                        post(f"{url}/flow_runs/{run}/set_state", {"state": {"type": state}})
                    counts["runs"] += 1
                except OSError:  # refused (503), or silent
                    counts["refused"] += 1
                time.sleep(0.05)

        for _ in range(n_clients):
            threading.Thread(target=client, daemon=True).start()
        while time.monotonic() < end:
            asked = time.monotonic()
            answers(url, LONGEST_S)
            silences.append(time.monotonic() - asked)
            time.sleep(0.5)
        return {"runs": counts["runs"], "refused": counts["refused"], "silence_s": max(silences)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=6)
    arguments = parser.parse_args()
    print(f"{'server':22}{'runs':>8}{'refused':>10}{'longest silence, s':>21}")
    for name, module in SERVERS.items():
        found = measured(module, arguments.seconds, arguments.clients)
        print(f"{name:22}{found['runs']:>8}{found['refused']:>10}{found['silence_s']:>21.1f}", flush=True)


if __name__ == "__main__":
    main()
