"""`cai labels import` and what `cai gold import` shares with it: files of preferences into the tables."""

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai.cli.tables import format_table, home_option
from cai.errors import ConfigError, DataError

if TYPE_CHECKING:
    from storage.annotations import Imported
    from storage.store import Store

_SHAPES = ("auto", "hh", "pairs", "ranked", "csv")
_OBJECTIVES = click.Choice(["helpfulness", "harmlessness"])
_SHOWN_EVERY_S = 2.0
_HELP_OF_SHAPES = """\b
    hh      chosen, rejected: two transcripts ("\\n\\nHuman: …\\n\\nAssistant: …") that part at the last answer
    pairs   prompt, chosen, rejected: texts, or lists of messages
    ranked  prompt, responses (the best first; or with ranks, 1 for the best, where some are tied): all their pairs
    csv     prompt, response_a, response_b, label (a, b, tie, 1, 2; p_a for a probability), annotator, group, objective
"""


def import_options(command: Callable[..., None]) -> Callable[..., None]:
    """What both imports ask."""
    options = (
        click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)),
        home_option(),
        click.option("--source", help="What the tables call it [default: "
                     "the file's name]"),
        click.option("--format", "shape", type=click.Choice(_SHAPES), default="auto", show_default=True,
                     help="auto goes by the columns of each row."),
        click.option("--licence", default="", help="Kept with the prompts."),
        click.option("--salt-env", metavar="NAME", help="Hash annotators with the salt in this environment variable "
                     "[default: a file in the home, made once]."),
        click.option("--profile", type=click.Path(path_type=Path, dir_okay=False),
                     help="Its `privacy` says what becomes of personal items [default: placeholders]."),
        click.option("--dry-run", is_flag=True, help="Read and count; write nothing."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    "import",
    epilog="\b\nExamples:\n  cai labels import helpful.jsonl.gz --objective helpfulness\n"
    "  cai labels import team.csv --source team --objective harmlessness --dry-run",
    help=f"""Import what people prefer: JSONL, CSV or Parquet, text also as .gz. Rows have one of four shapes:

    {_HELP_OF_SHAPES}
    A row that cannot be used is a reject with its reason, and so is one whose prompt repeats a held-out one
    (`cai sql contaminations`). Several annotators of a pair stay apart. Their ids are
    hashed with a salt before anything is written; e-mail addresses, phone numbers, keys and the like get placeholders,
    or what the profile's `privacy` says. The same file twice adds nothing; a stopped import goes on.
    """,
)
@import_options
@click.option("--objective", type=_OBJECTIVES, required=True, help="What was asked, where a row does not say.")
def import_people(files: tuple[Path, ...], objective: str, **options: Any) -> None:
    import_files(files, objective=objective, is_gold=False, **options)


def import_files(
    files: Sequence[Path],
    *,
    home: Path,
    source: str | None,
    shape: Any,
    licence: str,
    salt_env: str | None,
    profile: Path | None,
    dry_run: bool,
    objective: str,
    is_gold: bool,
) -> None:
    """Import file after file, say how far it is, and what became of the rows.

    Raises:
        DataError: a file cannot be read, or no row of all of them could be used.
    """
    from cai.config import load_profile
    from cai.privacy import Guard, in_words
    from flows.held_out import guard_of
    from storage.annotations import Import, Imported, import_annotations
    from storage.store import Store

    settings = None if profile is None else load_profile(profile)
    guard = Guard(None if settings is None else settings.privacy)
    store = Store(home)
    held_out = None if is_gold else guard_of(store, settings)
    salt = _salt(store, salt_env, dry_run)
    total = Imported(0, 0, 0, 0, Counter())
    for path in files:
        asked = Import(source or path.name, salt, objective, None if shape == "auto" else shape, is_gold, licence)
        done = import_annotations(
            store, path, asked, guard=guard, held_out=held_out, dry_run=dry_run, progress=_on_stderr(path.name)
        )
        total = total.plus(done)
    click.echo(summary(total, "would be stored" if dry_run else "stored"))
    if tally := guard.tally():
        click.echo(f"personal items: {in_words(tally)}")
    if total.n_new + total.n_known == 0:
        raise DataError(f"none of the {total.n_rows} rows could be used: {dict(total.rejects)}")


def summary(done: "Imported", stored: str) -> str:
    """Rows read, pairs stored, rejects by reason."""
    lines = [["rows read", done.n_rows], ["pairs in them", done.n_pairs], [f"new, {stored}", done.n_new]]
    lines += [["stored before", done.n_known], ["rejected", done.rejects.total()]]
    lines += [[f"  {reason}", n] for reason, n in sorted(done.rejects.items())]
    return format_table(["what", "n"], lines)


def _salt(store: "Store", salt_env: str | None, dry_run: bool) -> bytes:
    """The variable's, or the home's. A dry run makes none, and takes any where there is none yet.

    Raises:
        ConfigError: the variable holds too little, or the home has lost its salt.
    """
    from cai.labels.pseudonym import N_BYTES, SALT_FILE, load_salt

    if salt_env is not None:
        value = os.environ.get(salt_env, "")
        if len(value) < N_BYTES:
            raise ConfigError(f"{salt_env} holds {len(value)} characters, expected a salt of {N_BYTES} or more; set it")
        return value.encode()
    if not (store.home / SALT_FILE).is_file():
        if store.query("SELECT 1 FROM annotations WHERE annotator <> '' LIMIT 1"):
            raise ConfigError(
                f"{store.home / SALT_FILE} is gone, or annotators were hashed with --salt-env: restore it, or name the "
                "variable; with another salt the same people would count twice"
            )
        if dry_run:
            return secrets.token_bytes(N_BYTES)
    return load_salt(store.home)


def _on_stderr(name: str) -> "Callable[[Imported], None]":
    shown_s = time.monotonic()

    def show(done: "Imported") -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s >= _SHOWN_EVERY_S:
            shown_s = time.monotonic()
            click.echo(f"  {name}: {done.n_rows:,} rows, {done.rejects.total():,} rejected", err=True)

    return show
