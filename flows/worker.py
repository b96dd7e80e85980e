"""A worker of a process pool that leaves nothing behind: Prefect's own, and what it does not do.

Ended, it ends its runs first, so that they say how they end. A run whose process is gone, however it went, is settled
with all its stages. Started, it settles what a former life of the same name has left.

    cai worker --pool cai        # on each machine that works
"""

import contextlib
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import anyio
import httpx
import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed
from prefect.workers.process import ProcessWorker

from cai.errors import CAIError
from flows.events import suspended
from flows.orphan import FLOW_RUN_ID
from flows.supervise import RUNS_GRACE_S

LABEL = "prefect.worker.name"
AT_WORK = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
)
GONE = "its process is gone; started again it goes on from what is committed"


def default_name(pool: str) -> str:
    """One name a machine: what a worker of this name has left is known to be its own."""
    return f"{pool}-{socket.gethostname()}"


class Worker(ProcessWorker):
    """Prefect's, which takes no more runs once `is_ending`, and settles each run whose process has ended."""

    type = "cai-process"
    """For Prefect's register of workers alone, where `process` is taken."""
    is_ending = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.type = ProcessWorker.type

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        return [] if self.is_ending else await super().get_and_submit_flow_runs()

    async def run(self, flow_run: FlowRun, *args: Any, **kwargs: Any) -> Any:
        """See `ProcessWorker.run`. It says itself that a run crashed, but nothing of its stages; and of a run that was
        cancelled before it had begun nothing at all. A heart beats until the process ends, also after the run was
        suspended: that the last beat is no reason to wait for another is said here.
        """
        result = await super().run(flow_run, *args, **kwargs)
        now = await self.client.read_flow_run(flow_run.id)
        await settle(self.client, await _at_work_below(self.client, [now]))
        if not _is_over(now) and (result.status_code == 0 or _is_cancelling(now)):
            await settle(self.client, [now])
        if now.state is not None and now.state.is_paused():
            suspended(now, (await self.client.read_flow(now.flow_id)).name)
        return result


def work(pool: str, name: str, limit: int | None = None, with_healthcheck: bool = False) -> None:
    """Until SIGTERM or Ctrl-C; a second one does not wait for the runs to end.

    Raises:
        CAIError: the worker ended by itself.
    """
    worker = Worker(work_pool_name=pool, name=name, limit=limit)
    try:
        anyio.run(_work, worker, with_healthcheck)
    except Exception as error:
        raise CAIError(f"the worker {name!r} of pool {pool!r} ended by itself: {_first(error)!r}") from error


def _first(error: BaseException) -> BaseException:
    """What was the matter, of all that came of it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _work(worker: Worker, with_healthcheck: bool) -> None:
    await bury(worker.name)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_end_on_signal, worker, group.cancel_scope)
            await worker.start(with_healthcheck=with_healthcheck, printer=_say)
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await bury(worker.name)
            except httpx.TransportError:
                _say("the server is away: the next worker of this name will say how the runs of this one ended")


def _say(line: object) -> None:
    sys.stderr.write(f"{line}\n")


async def _end_on_signal(worker: Worker, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            async for number in signals:
                if worker.is_ending:
                    break
                _say(f"{signal.Signals(number).name}: ending the runs first")
                worker.is_ending = True
                group.start_soon(_end_runs, scope)
            scope.cancel()


async def _end_runs(scope: anyio.CancelScope) -> None:
    """SIGTERM to each flow; Prefect's worker would end them with SIGKILL, and nobody would say so."""
    told: set[int] = set()
    with anyio.move_on_after(RUNS_GRACE_S):
        while flows := psutil.Process().children():
            for flow in flows:
                if flow.pid not in told:
                    told.add(flow.pid)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        flow.terminate()
            await anyio.sleep(0.2)
    scope.cancel()


async def bury(name: str) -> None:
    """Settle the runs that a worker of this name took and that have no process any more."""
    async with get_client() as client:
        left = [run for run in await _read(client) if run.labels.get(LABEL) == name and not _is_alive(run)]
        await settle(client, [*left, *await _at_work_below(client, left)])


async def settle(client: PrefectClient, runs: Sequence[FlowRun]) -> None:
    """Mark as cancelled what was to be, and the rest as crashed."""
    for run in runs:
        state: State[Any] = Cancelled(message=GONE) if _is_cancelling(run) else Crashed(message=GONE)
        await client.set_flow_run_state(run.id, state, force=True)


async def _at_work_below(client: PrefectClient, runs: Sequence[FlowRun]) -> list[FlowRun]:
    """The stages of these runs, at any depth, that the server believes to be at work."""
    if not runs:
        return []
    parents = FlowRunFilterParentFlowRunId(any_=[run.id for run in runs])
    stages = await client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parents))
    return [stage for stage in [*stages, *await _at_work_below(client, stages)] if not _is_over(stage)]


async def _read(client: PrefectClient) -> list[FlowRun]:
    return await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=AT_WORK))


def _is_over(run: FlowRun) -> bool:
    return run.state is None or run.state.type not in (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


def _is_cancelling(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_cancelling()


def _is_alive(run: FlowRun) -> bool:
    """Whether the process that the server knows the run by is there, and is that run's."""
    try:
        return psutil.Process(int(run.infrastructure_pid or -1)).environ().get(FLOW_RUN_ID) == str(run.id)
    except (ValueError, psutil.Error):
        return False


if __name__ == "__main__":
    work(pool=sys.argv[1], name=sys.argv[2])
