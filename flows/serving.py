"""Prefect for a laptop, in the foreground: a server on loopback, the deployments, a worker; all gone with the block.

cai serve       # or `make serve`; then, in another shell: prefect deployment run constitutional-ai/smallworld --watch
"""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cai.errors import CAIError
from flows.server import HEARTBEAT, prefect_api, stay
from flows.supervise import GRACE_S, RUNS_GRACE_S, Child, StepFailed


def serve(home: Path, port: int, prefect_file: Path, automations: Path, say: Callable[[str], None]) -> None:
    """Until Ctrl-C or SIGTERM. Runs that are at work then end with it, and are marked as crashed; where nobody could
    mark them, the next worker of the same name does.

    Raises:
        CAIError: the server or the worker ended by itself.
    """
    with _interruptible(), contextlib.suppress(KeyboardInterrupt), prefect_api(home, port=port) as url:
        pools = _deploy(home, prefect_file, automations, say)
        workers = [start_worker(pool, home) for pool in pools]
        try:
            say(f"UI: {url.removesuffix('/api')}   worker: {home / 'prefect'}/worker-*.log   (Ctrl-C ends both)")
            if url != "http://127.0.0.1:4200/api":
                say(f"in another shell: export PREFECT_API_URL={url}")
            stay(url, lambda: _raise_if_gone(workers))
        finally:
            for worker in workers:
                worker.stop(RUNS_GRACE_S + GRACE_S)


def start_worker(pool: str, home: Path) -> Child:
    """A worker in a process group of its own: a signal to the group reaches its flows too, which say how they end."""
    environment = {
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # a laptop's server is not asked by many
        "CAI_WORKDIR": str(Path.cwd()),
        HEARTBEAT[0]: HEARTBEAT[1],
    }
    return Child(
        ["flows.worker", pool, f"{pool}-serve"],
        logfile=home / "prefect" / f"worker-{pool}.log",
        env=environment,
        is_heard=False,
    )


def _deploy(home: Path, prefect_file: Path, automations: Path, say: Callable[[str], None]) -> list[str]:
    """Deploy, every deployment at this home; the names of the pools that want a worker here."""
    from flows.deploy import deploy
    from flows.deployment_file import load

    declared = load(prefect_file, automations)
    deploy(declared, say, chosen={"home": str(home)})
    return [pool.name for pool in declared.work_pools if pool.type == "process"]


def _raise_if_gone(workers: Sequence[Child]) -> None:
    for worker in workers:
        try:
            worker.raise_if_dead()
        except StepFailed as error:
            raise CAIError(f"the worker ended: {error}") from error
        if not worker.is_alive():
            raise CAIError("the worker ended by itself; its log says why")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # A shell without job control starts what it puts into the background deaf to SIGINT, and all its children with it.
    before = {sig: signal.signal(sig, interrupt) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
