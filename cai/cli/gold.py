"""`cai gold`: labels that are known to be right. Every other source is measured against them; none is trained on."""

from pathlib import Path
from typing import Any

import click

from cai.cli.labels.people import import_files, import_options
from cai.cli.tables import checked_home, format_table, home_option


@click.group(epilog="\b\nExamples:\n  cai gold import gold.jsonl --source experts\n  cai gold list")
def gold() -> None:
    """Labels known to be right: import them, and see what there is. Judges and people are measured against them."""


@gold.command(
    "import",
    epilog="\b\nExample:\n  cai gold import gold.csv --source experts",
)
@import_options
@click.option(
    "--objective",
    type=click.Choice(["helpfulness", "harmlessness"]),
    default=None,
    help="What was asked, if it is known.",
)
def import_gold(files: tuple[Path, ...], objective: str | None, **options: Any) -> None:
    """Import gold labels; the files are those that `cai labels import` reads (see its --help).

    Nothing is trained on a prompt that has a gold label, whoever else labels it: runs reject such prompts with the
    reason gold_prompt, and exports leave their rows out.
    """
    import_files(files, objective=objective or "", is_gold=True, **options)


@gold.command("list", epilog="\b\nExample:\n  cai gold list")
@home_option()
def list_gold(home: Path) -> None:
    """The gold labels by source: pairs, prompts, and how many of the pairs others have labelled too."""
    from storage import catalog, named

    names, rows = catalog.query_rows(catalog.connect(checked_home(home)), named.resolve("gold"))
    click.echo(format_table(names, rows))
    if not rows:
        click.echo("none yet; `cai gold import FILE` brings them in", err=True)
