"""Steps of the generation child as Prefect tasks: here, one after the other, or on a Ray cluster, several at once.

On Ray each step has a child, and so an engine, of its own, which lives and dies with the Ray worker that runs it. Rows
are committed from there: ids decide what is new, so whoever does a shard again finds what was done of it.
"""

import contextlib
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prefect import flow, task
from prefect.logging import get_run_logger

from cai.config import RayConfig
from cai.errors import ConfigError
from cai.turns import taken
from flows import artifacts
from flows.generation import generation, stop_engine
from flows.runs import RunFolder, open_run
from flows.supervise import Child, StepFailed
from flows.waiting import turn_of, waiting

LOST_WORKERS = 3
"""How often a step is done again elsewhere because its Ray worker or its machine was lost."""
RESTARTS = 2
"""Of an engine that died, in one step; a step goes on with the rows that are stored."""
START_S = 240.0
POLL_S = 0.2


class Ask(NamedTuple):
    """A step of the generation child, and what its result is called."""

    name: str
    step: str
    arguments: dict[str, Any] = {}  # noqa: RUF012


def is_transient(_task: object, _task_run: object, state: Any) -> bool:
    """Retry what may pass by itself (a dead engine, an unreachable server), never what a person must mend."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StepFailed) and error.is_transient


@task(task_run_name="{name}", retries=RESTARTS, retry_delay_seconds=5, retry_condition_fn=is_transient)
def generate(home: str, run_id: str, name: str, step: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One step of the generation child; its result is kept, so that a finished step is never run again."""
    run = open_run(Path(home), run_id)
    with generation(run) as host:

        def ask() -> dict[str, Any]:
            with artifacts.Progress(name) as progress:
                return host.ask(step, log=artifacts.child_log(), on_progress=progress.update, **arguments)

        result = once(run, name, lambda: host.prepare(step, waiting(host.accelerator)), ask)
    for warning in result.get("warnings", ()):
        get_run_logger().warning("%s: %s", name, warning)
    return result


def once(run: RunFolder, name: str, prepare: Callable[[], None], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the step reported, done now or before, perhaps by another flow that is at work on the same run.

    Only who has what the step needs (`prepare`) takes its turn, so that no two flows wait for each other.
    """
    log = get_run_logger()
    done = run.result(name)
    if done is None:
        prepare()
        with taken(turn := turn_of(run, name), waiting(turn)):
            done = run.result(name)
            if done is None:
                result = work()
                artifacts.show(result.pop("shown", ()))
                run.finish(name, result)
                log.info("%s: done; %s", name, artifacts.in_words(result))
                return result
    log.info("%s is finished already: %s", name, artifacts.in_words(done))
    return done


def generate_all(run: RunFolder, asks: Sequence[Ask]) -> None:
    """Steps that need an engine and not each other.

    Raises:
        StepFailed: one failed, or its Ray worker was lost once too often. What the others finished is kept.
    """
    if run.profile.ray is None:
        for ask in asks:
            generate(str(run.home), run.run_id, *ask)
    elif todo := [ask for ask in asks if run.result(ask.name) is None]:
        stop_engine()  # what it holds is Ray's to give away
        with ray_cluster(run):
            from prefect_ray import RayTaskRunner

            on_ray.with_options(task_runner=RayTaskRunner())(str(run.home), run.run_id, todo)


@flow(name="shards-on-ray", flow_run_name="shards-{run_id}", validate_parameters=False)
def on_ray(home: str, run_id: str, asks: Sequence[Ask]) -> None:
    """Steps on a Ray cluster, so many at once as the profile has workers.

    Args:
        home: folder of the tables, models and runs; the same on every machine of the cluster
        run_id: the run, as `cai run` printed it
        asks: the steps
    """
    import ray
    from prefect_ray.context import remote_options

    config = open_run(Path(home), run_id).profile.ray
    assert config is not None, "whoever starts this flow has looked"
    todo, running = deque(asks), dict[Any, tuple[str, Any]]()
    with remote_options(num_cpus=config.cpus, num_gpus=config.gpus, max_retries=LOST_WORKERS):
        while todo or running:
            while todo and len(running) < config.workers:
                ask = todo.popleft()
                future: Any = generate.submit(str(Path(home).resolve()), run_id, *ask)
                running[future.wrapped_future] = ask.name, future
            time.sleep(POLL_S)  # here, and not in Ray, whose C turns a signal that stops the flow into a SystemError
            for done in ray.wait(list(running), num_returns=len(running), timeout=0)[0]:
                name, future = running.pop(done)
                try:
                    future.result()
                except ray.exceptions.RayError as error:
                    raise StepFailed(
                        "killed", f"{name} lost its Ray worker {LOST_WORKERS + 1} times: {error}"
                    ) from None


@contextlib.contextmanager
def ray_cluster(run: RunFolder) -> Iterator[None]:
    """The cluster of this block: the one that is connected already, the one at the profile's address, else one on this
    machine, which ends with the block, or with this process, however it goes.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
        StepFailed: the cluster on this machine did not start.
    """
    config = run.profile.ray
    if config is None:
        yield
        return
    ray = _ray(is_local=not config.address)
    if ray.is_initialized():
        yield
        return
    with contextlib.nullcontext(config.address) if config.address else _head(run, config) as address:
        try:
            ray.init(address, log_to_driver=False, logging_level="WARNING")
        except (ConnectionError, RuntimeError) as error:
            raise ConfigError(f"no Ray cluster answers at {address!r}: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _ray(is_local: bool) -> Any:
    """The library. Ray listens on every interface whatever it is told: a cluster of ours wants a token, its own."""
    if is_local:
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"})
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import prefect_ray  # noqa: F401
        import ray
    except ImportError as error:
        raise ConfigError(
            f"`ray` in the profile needs libraries that are not installed ({error}); in the checkout: "
            "pip install -e '.[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def _head(run: RunFolder, config: RayConfig) -> Iterator[str]:
    """The address of a cluster on this machine."""
    command = ["flows.ray_head", *map(str, (config.workers, config.cpus, config.gpus))]
    with Child(command, logfile=run.logs / "ray.log") as head:
        started = next((mark for mark in head.listen(lambda _: None, START_S) if mark.name == "result"), None)
        assert started is not None, "it ends well only after it was stopped"
        yield str(started.fields["address"])
