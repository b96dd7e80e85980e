"""`cai tables`, `cai sql` and `cai export`: what is stored, questions about it, and files for training."""

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from cai.errors import DataError

if TYPE_CHECKING:
    from storage.store import Store

CELL_WIDTH = 60
TABLE_ROWS = 50
"""Rows that `cai sql` prints as a table unless told otherwise."""

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def home_option(what: str = "Where the tables lie.") -> _Decorator:
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default="cai-home",
        envvar="CAI_HOME",
        show_default=True,
        show_envvar=True,
        help=what,
    )


class OutFile(click.Path):
    """A file to write. Its folder is made before the work, which may take hours."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = cast(Path, super().convert(value, param, ctx))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.fail(f"the folder {path.parent} cannot be made ({error.strerror}); name another", param, ctx)
        return path


def checked_home(home: Path) -> Path:
    from storage.place import has_tables

    if not has_tables(home):
        raise DataError(f"no tables under {home}; run `cai demo` or `cai run` first, or name another --home")
    return home


# cai tables


@click.group(invoke_without_command=True, epilog="\b\nExample:\n  cai tables --home cai-home")
@home_option()
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def tables(ctx: click.Context, home: Path, style: Literal["text", "json"]) -> None:
    """What is stored: rows, versions, files and bytes by table, bytes on the disk with old versions, and rejects."""
    ctx.obj = home
    if ctx.invoked_subcommand is not None:
        return
    summary = _summary(checked_home(home))
    if style == "json":
        click.echo(json.dumps(summary, indent=2, allow_nan=False))
        return
    stored = [[name, *row.values()] for name, row in summary["tables"].items()]
    click.echo(format_table(["table", "rows", "version", "files", "bytes", "on disk"], stored))
    if summary["rejects"]:
        click.echo("\n" + format_table(["rejected in", "reason", "n"], [list(r.values()) for r in summary["rejects"]]))


def _summary(home: Path) -> dict[str, Any]:
    from storage.store import Store

    store = Store(home)
    counts, versions, files, on_disk = store.counts(), store.versions(), store.files(), store.bytes_on_disk()
    rows = {
        name: {
            "rows": n,
            "version": versions.get(name),
            "files": files[name][0],
            "bytes": files[name][1],
            "bytes_on_disk": on_disk[name],
        }
        for name, n in counts.items()
    }
    rejects = store.query(
        "SELECT stage, reason, count(*) AS n FROM rejects GROUP BY ALL ORDER BY stage, n DESC, reason"
    )
    return {"home": str(home), "tables": rows, "rejects": rejects}


@tables.command(epilog="\b\nExample:\n  cai tables --home cai-home compact")
@click.pass_obj
def compact(home: Path) -> None:
    """Rewrite many small files into few, sorted by prompt. Runs may go on meanwhile."""
    from storage.store import Store

    done = Store(checked_home(home)).compact()
    for name, (before, after) in done.items():
        click.echo(f"{name}: {before} files -> {after}")
    if not done:
        click.echo("nothing to compact: every table lies in one file")


@tables.command(epilog="\b\nExample:\n  cai tables --home cai-home vacuum --keep-days 7")
@click.option("--keep-days", type=click.IntRange(min=0), default=7, show_default=True, help="Spare younger files.")
@click.pass_obj
def vacuum(home: Path, keep_days: int) -> None:
    """Delete files that no live version uses. What a stored model was trained on stays readable."""
    from datetime import timedelta

    from storage.store import Store

    n_deleted = Store(checked_home(home)).vacuum(timedelta(days=keep_days))
    click.echo(f"deleted {n_deleted} files")


@tables.command(epilog="\b\nExample:\n  cai tables --home cai-home prune --keep-days 30")
@click.option("--keep-days", type=click.IntRange(min=1), default=30, show_default=True, help="Spare younger ones.")
@click.pass_obj
def prune(home: Path, keep_days: int) -> None:
    """Delete what killed runs left: trainings that never went on, and temporary files."""
    from datetime import timedelta

    from storage.leftovers import prune

    gone = prune(checked_home(home), time.time(), timedelta(days=keep_days))
    for path in gone:
        click.echo(path)
    click.echo(f"{len(gone)} deleted")


@tables.command(epilog="\b\nExample:\n  cai tables --home cai-home verify")
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Read every stored file and check it against the log; exit 1 where something is wrong."""
    from storage.store import Store

    store = Store(checked_home(ctx.obj))
    problems = store.verify()
    for problem in problems:
        click.echo(problem)
    if problems:
        raise DataError(f"{len(problems)} problems in {store.root}; the rows of whole files can still be read")
    click.echo(f"all well: {sum(store.counts().values())} rows")


@tables.command(epilog="\b\nExample:\n  cai tables --home cai-home at s3://bucket/prefix")
@click.argument("url")
@click.pass_obj
def at(home: Path, url: str) -> None:
    """Have this home's tables in object storage at URL: for several machines, or beyond one's disk.

    Keys come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.
    """
    from storage.delta import open_table
    from storage.place import Remote, checked, move_to
    from storage.store import Store

    open_table(Remote(checked(url), home) / "runs")  # an address that does not answer is told before it is kept
    place = move_to(home, url)
    click.echo(f"{sum(Store(home).counts().values()):,} rows at {place}")


# cai sql


@click.command(
    epilog="\b\nExamples:\n  cai sql --list\n  cai sql funnel\n"
    '  cai sql "SELECT reason, count(*) FROM rejects GROUP BY 1" --format json'
)
@click.argument("query", required=False)
@home_option()
@click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help=f"Rows to print [default: {TABLE_ROWS} as a table, else all]")
@click.option("--list", "listing", is_flag=True, help="Print the named queries.")
def sql(query: str | None, home: Path, style: str, limit: int | None, listing: bool) -> None:
    """Ask the tables a question, by the name of a query or in SQL. Nothing can be written."""
    from storage import catalog, named

    if listing:
        click.echo(format_table(["name", "answers"], [list(item) for item in named.names().items()], width=200))
        return
    if query is None:
        raise click.UsageError("name a query or give SQL; `cai sql --list` shows the names")
    connection = catalog.connect(checked_home(home))
    names, rows = catalog.query_rows(connection, named.resolve(query))
    shown = limit or (TABLE_ROWS if style == "table" else len(rows))
    click.echo(_FORMATS[style](names, rows[:shown]), nl=style != "csv")
    if len(rows) > shown:
        click.echo(f"{len(rows) - shown} more rows; --limit {len(rows)} prints them all", err=True)


def format_table(names: Sequence[str], rows: Sequence[Sequence[Any]], width: int = CELL_WIDTH) -> str:
    """Columns side by side. Cells are cut to `width`, and control characters are spelled out: text is data."""
    cells = [[_cell(value, width) for value in row] for row in rows]
    numeric = [all(isinstance(r[i], int | float | None) for r in rows) and bool(rows) for i in range(len(names))]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [
        "  ".join(
            c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(names), ["-" * w for w in widths], *cells]
    ]
    return "\n".join(lines if rows else [*lines, "(no rows)"])


def _cell(value: Any, width: int) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else _json_text(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
    return text if len(text) <= width else text[: width - 1] + "…"


def _json_text(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """`value` as JSON has it: NaN and infinities become null, whatever JSON has no word for becomes text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)


def _as_json(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [_json_text(dict(zip(names, row, strict=True))) for row in rows]
    return "[" + ",\n ".join(lines) + "]"


def _as_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_json_text(v) if isinstance(v, list | tuple | dict) else plain(v) for v in row])
    return out.getvalue()


_FORMATS: dict[str, Callable[[Sequence[str], Sequence[Sequence[Any]]], str]] = {
    "table": format_table,
    "json": _as_json,
    "csv": _as_csv,
}


# cai export


@click.group(epilog="\b\nExample:\n  cai export preferences pairs.parquet --no-ties")
def export() -> None:
    """Write a training set that TRL and `datasets` read as it is: .parquet or .jsonl."""


_OUT = click.argument("out", type=OutFile())
_IDS = click.option(
    "--ids",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Only the rows whose ids stand in this file, one a line; without it and --run, all that were ever stored.",
)


_RUN = click.option("--run", "run_id", metavar="RUN", help="Only the rows of this run; `cai sql runs` names them.")


def _chosen(home: Path, ids: Path | None, run_id: str | None, name: str) -> list[str] | None:
    """The ids to export: those of a file, those that a run left as `name`, or None for all that were ever stored."""
    if ids is not None and run_id is not None:
        raise click.UsageError("--ids and --run both say which rows; give one of them")
    if run_id is not None:
        from flows.rounds import at_round
        from flows.runs import open_run

        run = open_run(home, run_id)
        n_rounds = run.profile.rounds if name == "preferences" else 1  # the rest is made once, before the rounds
        return [row_id for number in range(n_rounds) for row_id in run.ids_of(at_round(name, number))]
    return None if ids is None else ids.read_text(encoding="utf-8").split()


def _held_out(store: "Store", home: Path, run_id: str | None, table: str) -> list[str]:
    """The prompts of a table that must not be trained on, as a run decides it when it derives its sets; says how many.

    They may have been held out since: then no run has a say any more in what is exported.
    """
    from flows.held_out import held_out_now
    from flows.runs import open_run

    profile = None if run_id is None else open_run(home, run_id).profile
    asked = [row["prompt_id"] for row in store.query(f"SELECT DISTINCT prompt_id FROM {table} ORDER BY prompt_id")]
    refused = held_out_now(store, profile, asked)
    for reason, n in sorted(Counter(why.reason for why in refused.values()).items()):
        click.echo(f"{n:,} prompt{'s' * (n > 1)} of {table} left out: {reason}", err=True)
    return list(refused)


def _report(result: Any) -> None:
    versions = " ".join(f"{name}@{version}" for name, version in result.versions.items())
    click.echo(f"{result.path}: {result.n_rows} rows, digest {result.digest}, from {versions}")


@export.command("sft", epilog="\b\nExample:\n  cai export sft sft.parquet --rounds all")
@_OUT
@home_option()
@click.option("--rounds", type=click.Choice(["all", "last"]), default="last", show_default=True)
@click.option("--model", "model_digest", help="Only what the model with this digest wrote.")
@_IDS
@_RUN
def export_sft(
    out: Path,
    home: Path,
    rounds: Literal["all", "last"],
    model_digest: str | None,
    ids: Path | None,
    run_id: str | None,
) -> None:
    """Revisions as `prompt` and `completion`, both lists of messages; those that were cut off are left out."""
    from storage import exports
    from storage.store import Store

    store = Store(checked_home(home))
    chosen = _chosen(home, ids, run_id, "revisions")
    gone = _held_out(store, home, run_id, "revisions")
    done = exports.export_sft(store, out, rounds=rounds, revision_ids=chosen, model_digest=model_digest, held_out=gone)
    if done.n_cut_off:
        click.echo(f"{done.n_cut_off:,} revision{'s' * (done.n_cut_off > 1)} left out: cut_off", err=True)
    _report(done)


@export.command(
    "preferences", epilog="\b\nExample:\n  cai export preferences pairs.jsonl --run demo-1f2e3d4c5b --no-ties"
)
@_OUT
@home_option()
@click.option("--include-ties/--no-ties", default=True, show_default=True, help="DPO wants none.")
@_IDS
@_RUN
def export_preferences(out: Path, home: Path, include_ties: bool, ids: Path | None, run_id: str | None) -> None:
    """Pairs as `prompt`, `chosen` and `rejected`, lists of messages, with `soft_label`."""
    from storage import exports
    from storage.store import Store

    store = Store(checked_home(home))
    chosen = _chosen(home, ids, run_id, "preferences")
    gone = _held_out(store, home, run_id, "preferences")
    _report(exports.export_preferences(store, out, pair_ids=chosen, include_ties=include_ties, held_out=gone))


@export.command("prompts", epilog="\b\nExample:\n  cai export prompts prompts.jsonl --split eval")
@_OUT
@home_option()
@click.option("--split", type=click.Choice(["train", "eval"]), help="Only this split.")
@_IDS
@_RUN
def export_prompts(
    out: Path, home: Path, split: Literal["train", "eval"] | None, ids: Path | None, run_id: str | None
) -> None:
    """Prompts as `prompt`, a list of messages; `cai run --prompts` reads the file again.

    What is measured with is left out, and so is what repeats it, unless --split eval asks for the former.
    """
    from storage import exports
    from storage.store import Store

    store = Store(checked_home(home))
    chosen = _chosen(home, ids, run_id, "prompts")
    gone = [] if split == "eval" else _held_out(store, home, run_id, "prompts")
    _report(exports.export_prompts(store, out, prompt_ids=chosen, split=split, held_out=gone))
