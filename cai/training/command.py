"""What the training commands share: the command line, the check for finished work, errors, and the summary."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn

import click

from cai.errors import CAIError, ConfigError
from cai.training.jobs import J, load_job
from cai.training.libraries import prepare, versions
from cai.training.progress import Progress
from cai.training.workspace import Workspace


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
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("training runs in one process; start it with `python -m`, not with `accelerate launch`")
    progress = progress or Progress(job.stage)
    workspace = Workspace(job)
    if (done := workspace.finished()) is not None:
        workspace.tidy()
        return {**done, "status": "already done"}
    prepare()
    started = time.monotonic()
    trained = stage.train(job, workspace, progress)
    meta = {
        "stage": job.stage,
        "job_digest": workspace.digest,
        "parent_digest": workspace.inputs["model"],
        "inputs": workspace.inputs,
        "config": job.config.model_dump(mode="json"),
        "seed": job.seed,
        "versions": versions(),
        **trained.facts,
        "seconds": round(time.monotonic() - started, 2),
    }
    return {**workspace.publish(trained.fill, meta), "status": "trained"}


def run_command(stage: Stage[J], help: str) -> NoReturn:
    """The command line of a stage. Exits as `cai` does: 0 on success, 1 where the work failed, 2, 130."""

    @click.command(help=help, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("--job", "path", type=click.Path(path_type=Path), required=True, help="JSON or YAML job file.")
    @click.option("--dry-run", is_flag=True, help="Check the job, count rows, tokens and steps, and stop.")
    def command(path: Path, dry_run: bool) -> None:
        try:
            summary = _summary(stage, load_job(path, stage.kind), dry_run)
        except CAIError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("stopped; run the same command again to go on from the last whole checkpoint", err=True)
            sys.exit(130)
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
