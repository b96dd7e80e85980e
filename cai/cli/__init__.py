"""The `cai` command: a door that imports nothing heavy until a command is chosen. Results on stdout, logs on stderr."""

import importlib
import os
import sys

import click

from cai import __version__
from cai.errors import CAIError

# Each command lives in a module of its own and is imported when it is called: (module, attribute, what help says).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("cai.cli.run", "demo", "Align the built-in small model to its constitution, and show it worked."),
    "run": ("cai.cli.run", "run", "Run a profile: prompts to preference pairs, models and a report."),
    "ui": ("cai.cli.run", "ui", "Browse the runs in the Prefect UI."),
    "evaluate": ("cai.cli.evaluate", "evaluate", "Measure models on held-out prompts."),
    "models": ("cai.cli.models", "models", "The trained models: list, show, compare, promote, and write a card."),
    "constitution": ("cai.cli.constitution", "constitution", "Lint, show, compare and import constitutions."),
    "tables": ("cai.cli.tables", "tables", "What is stored: rows, rejects, versions; compact and verify."),
    "sql": ("cai.cli.tables", "sql", "Ask the tables a question, read-only; named queries included."),
    "export": ("cai.cli.tables", "export", "Write SFT or preference sets in the format TRL reads."),
    "doctor": ("cai.cli.doctor", "doctor", "What is installed, which engine would be used and why, what is missing."),
}


class Door(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cai")
def door() -> None:
    """Align a language model to a written constitution, and know whether it worked.

    \b
    Try it:      cai demo
    Your own:    cai run deployments/profiles/laptop.yaml --prompts prompts.jsonl
    Look at it:  cai sql preferences
    """


def main() -> None:
    """Exit 0 on success, 1 where the work failed, 2 where the command line is wrong, 130 on Ctrl-C."""
    try:
        door(standalone_mode=False)
    except CAIError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `cai sql … | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error}; is the disk full, or the folder not yours to write?", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; run the same command again to go on from here", err=True)
        sys.exit(130)
