"""`cai prompts import`: prompts from files, datasets and logs into the tables of a home."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cai.cli.tables import format_table, home_option

if TYPE_CHECKING:
    from cai.config import PromptSource
    from storage.import_report import ImportReport

N_TAGS = 15
"""Tags that the report names; `--format json` has all that were counted."""


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@home_option()
@click.option("--licence", default="", help="Of all rows; without it, a row's own `licence` counts.")
@click.option("--origin", default="", help="The dataset or maker behind FILE, such as anthropics/hh-rlhf.")
@click.option("--tags", default="", help="For every row, separated by commas, beside the row's own.")
@click.option(
    "--kind", type=click.Choice(["harmful", "borderline", "helpful"]), help="What the prompts are meant to draw out."
)
@click.option(
    "--split",
    type=click.Choice(["train", "eval"]),
    help="eval: to measure with, and never to train on.  [default: train]",
)
@click.option(
    "--eval-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Hold out this share by the hash of the prompt, in place of --split.",
)
@click.option("--column", help="The column of the prompt; else `prompt`, `Behavior`, `messages` or `chosen`.")
@click.option("--expected-column", help="The column of the known answer that a verifier checks against.")
@click.option(
    "--max-chars",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="A longer conversation is a reject.",
)
@click.option("--limit", type=click.IntRange(min=1), help="So many rows of each FILE, drawn by --seed.")
@click.option("--seed", type=int, default=0, show_default=True, help="What --limit draws by.")
@click.option(
    "--profile",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep out what this profile measures with, too; its `privacy` says what becomes of personal items.",
)
@click.option("--dry-run", is_flag=True, help="Read everything and report; write nothing.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    files: tuple[str, ...],
    home: Path,
    tags: str,
    split: Literal["train", "eval"] | None,
    seed: int,
    profile: Path | None,
    dry_run: bool,
    style: str,
    **settings: Any,
) -> None:
    """Bring in prompts, whole conversations up to the assistant's turn; say what came in and what did not, and why.

    \b
    A FILE is one of
      .jsonl, .ndjson   rows of `prompt`, `messages` or `chosen` (HH transcripts); production logs
      .csv, .tsv        a header, and one of these columns or --column
      .parquet          the same; what `cai export prompts` writes
      .txt              one prompt a line            (all text also as .gz)
      a folder          a dataset that `save_to_disk` of the library `datasets` made
      hf:OWNER/NAME[:CONFIG][@SPLIT]   a dataset of the Hugging Face hub, or of its cache

    \b
    What comes last from the assistant is an answer and is left out; every turn before it is kept. A conversation that
    then does not end in a user turn, an empty one, a longer one than --max-chars, one met before, and one that repeats
    a held-out prompt are rejects: `cai sql rejects` and `cai sql contaminations` say which. E-mail addresses, phone
    numbers, keys and the like get placeholders, or what the profile's `privacy` says.

    Killed anywhere, the same command goes on where it was. Done twice, it changes nothing.

    \b
    Examples:
      cai prompts import harmless.jsonl.gz --licence MIT --origin anthropics/hh-rlhf --kind harmful
      cai prompts import questions.csv --column question --kind helpful --eval-share 0.05
      cai prompts import hf:owner/name@train --dry-run
    """
    from cai.config import PrivacyConfig, load_profile
    from cai.errors import DataError
    from flows.held_out import guard_of
    from flows.importing import Import, import_folder, run_import
    from storage.dialogues import COLUMNS
    from storage.store import Store

    sources = [_source(path, tags, settings) for path in files]
    _check_names(sources)
    if split is not None and settings["eval_share"] is not None:
        raise click.UsageError("--split and --eval-share both say what is held out; give one of them")
    sides = None if settings["eval_share"] is not None else split or "train"
    store = Store(home)
    settings_of = None if profile is None else load_profile(profile)
    guard = guard_of(store, settings_of)
    privacy = PrivacyConfig() if settings_of is None else settings_of.privacy
    folder = None if dry_run else import_folder(home, sources, sides, seed, privacy)
    wish = Import(sources, guard, sides, seed, folder, dry_run, privacy=privacy)
    before = store.counts()["prompts"]
    report = run_import(store, wish, progress=_progress())
    body = report.to_json() | {"n_stored_before": before, "n_stored": store.counts()["prompts"], "dry_run": dry_run}
    click.echo(json.dumps(body, indent=2) if style == "json" else _text(report, body, settings["eval_share"]))
    if 0 < report.n_rows == report.rejects["no_prompt"]:
        names = " or ".join(map(repr, COLUMNS if settings["column"] is None else (settings["column"],)))
        raise DataError(f"none of the {report.n_rows:,} rows has a value under {names}; name the column as --column")


def _source(path: str, tags: str, settings: dict[str, Any]) -> "PromptSource":
    from cai.config import PromptSource

    given = {name: value for name, value in settings.items() if value is not None}
    return PromptSource(path=path, tags=tuple(filter(None, map(str.strip, tags.split(",")))), **given)


def _check_names(sources: "Sequence[PromptSource]") -> None:
    """Of what is no file: that it means something here, and that every setting has an effect."""
    from cai.config.prompts import GENERATED

    for source in sources:
        if source.path == GENERATED:
            raise click.UsageError(
                f"`{GENERATED}` means something in a profile only: there it is what `cai prompts generate` wrote, "
                f"which the home has already; for a file of this name write ./{GENERATED}"
            )
        if strays := source.without_effect():
            options = ", ".join(f"--{name.replace('_', '-')}" for name in strays)
            raise click.UsageError(
                f"`{source.path}` makes its own prompts, and {options} would change nothing there; drop that, or "
                "import other files by a command of their own"
            )


def _progress() -> "Callable[[ImportReport], None]":
    """One line a second at most: rows so far, and rows a second of this process."""
    started = latest = 0.0
    first: int | None = None

    def tell(report: "ImportReport") -> None:
        nonlocal started, latest, first
        now = time.monotonic()
        if first is None:
            started, latest, first = now, now, report.n_rows
        if now - latest >= 1.0:
            latest = now
            speed = (report.n_rows - first) / (now - started)
            click.echo(f"{report.n_rows:,} rows, {speed:,.0f} rows/s", err=True)

    return tell


def _text(report: "ImportReport", body: dict[str, Any], eval_share: float | None) -> str:
    """What to know at the end of an import."""
    from cai.privacy import in_words

    done = "would come in" if body["dry_run"] else "in the import"
    lines = [
        f"{report.n_rows:,} rows: {report.n_prompts:,} prompts {done}, {report.n_rejected:,} rejects",
        f"{body['n_stored']:,} prompts in the home, {body['n_stored_before']:,} when this command began",
    ]
    if report.n_contaminations:
        lines.append(f"{report.n_contaminations:,} repeats of held-out prompts kept out; `cai sql contaminations`")
    if report.otherwise:
        others = ", ".join(f"another {name} of {n:,}" for name, n in report.otherwise.items())
        lines.append(f"the home states {others}, and keeps it")
    if report.personal:
        lines.append(f"personal items: {in_words(report.personal)}")
    counted = [
        ("rejects, by reason", "reason", report.rejects),
        ("prompts, by turns of the user", "turns", _in_order(report.turns)),
        ("prompts, by kind", "kind", _named(report.kinds)),
        ("prompts, by licence", "licence", _named(report.licences)),
        ("prompts, by split", "split", report.splits),
    ]
    lines += [f"\n{title}\n{_table(name, counts)}" for title, name, counts in counted if counts]
    if report.tags:
        lines.append(f"\nprompts, by tag\n{_tags(report, eval_share)}")
    return "\n".join(lines)


def _named(counts: Counter[str]) -> Counter[str]:
    return Counter({name or "(not stated)": n for name, n in counts.items()})


def _in_order(turns: Counter[str]) -> Counter[str]:
    from storage.import_report import MAX_TURNS

    return Counter({f"{n} or more" if n == str(MAX_TURNS) else n: turns[n] for n in sorted(turns, key=int)})


def _table(name: str, counts: Counter[str]) -> str:
    total = counts.total()
    rows = counts.items() if name == "turns" else counts.most_common()
    return format_table([name, "n", "share"], [[key, n, f"{n / total:.1%}"] for key, n in rows])


def _tags(report: "ImportReport", eval_share: float | None) -> str:
    """The most frequent tags; with a split by hash, what it held out of each beside what it may differ by."""
    from cai.splits import split_error

    rows: list[list[object]] = []
    for tag, n in report.tags.most_common(N_TAGS):
        row: list[object] = [tag, n, f"{n / report.n_prompts:.1%}"]
        if eval_share is not None:
            error = split_error(eval_share, n)
            row.append(f"{report.held_out[tag] / n:.1%} ({eval_share:.1%} ± {error:.1%})")
        rows.append(row)
    header = ["tag", "n", "share", *([] if eval_share is None else ["held out (stated)"])]
    more = len(report.tags) - N_TAGS
    return format_table(header, rows) + (f"\nand {more} more tags" if more > 0 else "")
