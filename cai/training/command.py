"""What the training commands share: the command line, the check for finished work, errors, and the summary."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn

import click

from cai.errors import CAIError, OutOfMemory
from cai.source import code_version
from cai.training import processes
from cai.training.jobs import AnyJob, J, load_job
from cai.training.libraries import prepare, versions
from cai.training.progress import Progress, report_failure
from cai.training.workspace import Workspace

NO_CPU_MEMORY = "can't allocate memory"
"""What torch's CPU allocator says; it has no error class of its own."""


class Trained(NamedTuple):
    """What a stage hands back: how to write the model, and what to say about it in `meta.json`."""

    fill: Callable[[Path], None]
    facts: dict[str, Any]
    """`metrics`, `n_rows`, `n_truncated` and the like."""


class Stage(NamedTuple, Generic[J]):
    """One training command."""

    kind: type[J]
    plan: Callable[[J], dict[str, Any]]
    """What would be done, without doing it: rows, tokens, steps."""
    train: Callable[[J, Workspace, Progress], Trained]


def run(stage: Stage[J], job: J, progress: Progress | None = None) -> dict[str, Any]:
    """Do the job, or find it done. Returns its `meta.json` with `status` "trained" or "already done".

    Raises:
        CAIError: see `cai.errors`.
    """
    processes.begin(job)
    progress = progress or Progress(job.stage)
    workspace = Workspace(job)
    if (done := workspace.finished()) is not None:
        if processes.is_main():
            workspace.tidy()
        return {**done, "status": "already done"}
    prepare()
    processes.meet()
    started = time.monotonic()
    with memory_errors(job):
        trained = stage.train(job, workspace, progress)
    meta = {
        "stage": job.stage,
        "job_digest": workspace.digest,
        "parent_digest": workspace.inputs["model"],
        "inputs": workspace.inputs,
        "config": job.config.model_dump(mode="json"),
        "seed": job.seed,
        "versions": versions(),
        "code": code_version(),
        **trained.facts,
        "seconds": round(time.monotonic() - started, 2),
    }
    if processes.is_main():
        meta = workspace.publish(trained.fill, meta)
    processes.wait()
    processes.part()
    return {**meta, "status": "trained"}


@contextmanager
def memory_errors(job: AnyJob) -> Iterator[None]:
    """Turn an allocation that failed, on a GPU or not, into `OutOfMemory`."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(job, error) from error
    except RuntimeError as error:
        if NO_CPU_MEMORY not in str(error):
            raise
        raise _out_of_memory(job, error) from error


def _out_of_memory(job: AnyJob, error: Exception) -> OutOfMemory:
    at_once = job.micro_batch or job.step_rows // processes.count()
    return OutOfMemory(
        f"out of memory with {at_once} rows at once ({str(error).splitlines()[0][:200]}); set a lower `micro_batch` in "
        "the job: the result is the same, and the work goes on from the last whole checkpoint"
    )


def run_command(stage: Stage[J], help: str) -> NoReturn:
    """The command line of a stage. Exits as `cai` does: 0 on success, 1 where the work failed, 2, 130."""

    @click.command(help=help, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("--job", "path", type=click.Path(path_type=Path), required=True, help="JSON or YAML job file.")
    @click.option("--dry-run", is_flag=True, help="Check the job, count rows, tokens and steps, and stop.")
    def command(path: Path, dry_run: bool) -> None:
        try:
            summary = _summary(stage, load_job(path, stage.kind), dry_run)
        except CAIError as error:
            report_failure(error)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("stopped; run the same command again to go on from the last whole checkpoint", err=True)
            sys.exit(130)
        if processes.is_main():
            sys.stdout.write(json.dumps(summary, ensure_ascii=False) + "\n")

    command(prog_name=f"python -m cai.training.{stage.kind.stage}")
    raise SystemExit(0)  # click has exited already; this tells the type checker so


def _summary(stage: Stage[J], job: J, dry_run: bool) -> dict[str, Any]:
    if not dry_run:
        meta = run(stage, job)
        named = ("status", "stage", "model_digest", "metrics", "seconds")
        shown = {name: value for name, value in meta.items() if name in named or name.startswith("n_")}
        return {"out": str(job.out), **shown}
    workspace = Workspace(job)
    done = workspace.finished() is not None
    prepare()
    return {
        "status": "already done" if done else "dry run",
        "stage": job.stage,
        "out": str(job.out),
        "job_digest": workspace.digest,
        **stage.plan(job),
    }
