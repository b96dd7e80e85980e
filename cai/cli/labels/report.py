"""`cai labels report`: how far the stored labels can be trusted."""

import json
from pathlib import Path
from typing import Literal

import click

from cai.cli.tables import checked_home, home_option, plain


@click.command(
    epilog="\b\nExamples:\n  cai labels report\n  cai labels report --run demo-1f2e3d4c5b --since demo-0a1b2c3d4e"
)
@home_option()
@click.option("--run", "run_id", metavar="RUN", help="Only the prompts and judges of this run; `cai sql runs`.")
@click.option("--since", metavar="RUN", help="An earlier run: say what has drifted since. Needs --run.")
@click.option("--objective", help="Only annotations of this objective, such as harmlessness.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def report(
    home: Path, run_id: str | None, since: str | None, objective: str | None, style: Literal["text", "json"]
) -> None:
    """Bias, agreement, calibration and sources of labels, with warnings that say what to do."""
    from cai.labels.report import label_report
    from cai.labels.report_text import report_text
    from flows.label_quality import report_of
    from flows.runs import open_run
    from storage.store import Store
    from storage.verdicts import read_labels

    store = Store(checked_home(home))
    if run_id is not None:
        earlier = None if since is None else open_run(home, since)
        measured = report_of(store, open_run(home, run_id), since=earlier, objective=objective)
    elif since is not None:
        raise click.UsageError("--since compares with a run; name that one with --run")
    else:
        labels = read_labels(store, objective=objective)
        measured = label_report(labels.verdicts, labels.annotated)
    click.echo(json.dumps(as_json(measured), indent=1, allow_nan=False) if style == "json" else report_text(measured))


def as_json(value: object) -> object:
    """Named tuples and dataclasses as objects; what is unknown (NaN) or has no end as null."""
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: as_json(item) for name, item in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return plain(value)
