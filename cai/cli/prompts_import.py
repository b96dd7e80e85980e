"""`cai prompts import`: prompts from files, datasets and logs into the tables of a home."""

from pathlib import Path

import click

from cai.cli.tables import home_option


@click.command("import")
@click.argument("files", nargs=-1, required=True)
@home_option()
def command(files: tuple[str, ...], home: Path) -> None:
    """Bring in prompts from FILES."""
    raise click.ClickException("not yet")
