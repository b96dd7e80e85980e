"""How a training command is started: plain or under `accelerate launch`, and with how many rows in memory at once.

The job file in `runs/ID/jobs/` is what was tried last, and can be run by hand.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cai.config import found
from cai.errors import ConfigError
from cai.training.jobs import AnyJob, halved
from flows.runs import RunFolder, write_atomically
from flows.supervise import Log, StepFailed, run_step

MOST_HALVINGS = 20
"""From a million rows to one."""


def run_training(
    run: RunFolder,
    name: str,
    job: AnyJob,
    *,
    log: Log,
    on_progress: Callable[[dict[str, Any]], None],
    holds: Sequence[int] = (),
) -> None:
    """Run the command of `job` in a child. Where it runs out of memory, the job file is left with half the rows at
    once for whoever tries again; the result is the same, and the next try goes on from the last checkpoint. The child
    holds the locked files `holds` with us.

    Raises:
        StepFailed: it ended otherwise than well; `is_out_of_memory` where another try may fit.
        ConfigError: the profile's `accelerate` is no configuration to launch with.
    """
    path = run.path / "jobs" / f"{name}.json"
    launcher = Launcher(run.profile.accelerate, job)
    job = as_last_tried(job, path)
    write_atomically(path, job.model_dump_json(indent=1))
    try:
        run_step(
            [*launcher.argv(), f"cai.training.{job.stage}", "--job", str(path)],
            log=log,
            logfile=run.logs / f"{name}.log",
            on_progress=on_progress,
            holds=holds,
        )
    except StepFailed as error:
        if not error.is_out_of_memory:
            raise
        smaller = halved(job, launcher.n_processes)
        if smaller is None:
            raise StepFailed("too_large", f"{name} does not fit with one row at once: {error}") from error
        write_atomically(path, smaller.model_dump_json(indent=1))
        again = f"the next try has {smaller.micro_batch} rows at once, of {job.step_rows} a step as before"
        raise StepFailed(error.kind, f"{error}\n{again}") from error


def as_last_tried(job: AnyJob, path: Path) -> AnyJob:
    """The job with the `micro_batch` of the file at `path`, if that is the same job; one of a version with other
    settings is another.
    """
    if not path.is_file():
        return job
    try:
        tried = type(job).model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError:
        return job
    return tried if tried.model_copy(update={"micro_batch": job.micro_batch}) == job else job


class Launcher:
    """What stands before a training module on the command line, and how many processes come of it.

    A configuration that splits the model is left aside for a job that wants the whole of it.
    """

    def __init__(self, config: Path | None, job: AnyJob) -> None:
        self._config = None if config is None else found(config)
        settings = {} if config is None else _settings(config)
        self.n_processes = settings.get("num_processes", 1)
        if settings.get("distributed_type") in ("FSDP", "DEEPSPEED") and not job.is_splittable:
            self._config, self.n_processes = None, 1

    def argv(self) -> list[str]:
        if self._config is None:
            return []
        return ["accelerate.commands.launch", "--config_file", str(self._config), "--module"]


def processes_of(config: Path) -> int:
    """How many processes a file for `accelerate launch` starts.

    Raises:
        ConfigError: it is no such file.
    """
    return int(_settings(config)["num_processes"])


def _settings(config: Path) -> dict[str, Any]:
    config = found(config)
    if not config.is_file():
        raise ConfigError(f"no accelerate configuration at {config}; `ls deployments/accelerate` shows those shipped")
    settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    n = settings.get("num_processes")
    if not isinstance(n, int) or n < 1:
        raise ConfigError(f"{config}: expected num_processes to be a positive number, got {n!r}; say how many")
    return settings
