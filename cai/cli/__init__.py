"""The `cai` command: a door that imports nothing heavy until a command is chosen. Results on stdout, logs on stderr."""

import errno
import os
import sys

import click

from cai import __version__
from cai.cli.lazy import Lazy, LazyGroup
from cai.errors import CAIError

# Each command lives in a module of its own and is imported when it is called.
COMMANDS: dict[str, Lazy] = {
    "demo": Lazy("cai.cli.run", "demo", "Align the built-in small model to its constitution, and show it worked."),
    "run": Lazy("cai.cli.run", "run", "Run a profile: prompts to preference pairs, models and a report."),
    "plan": Lazy("cai.cli.plan", "plan", "What a run will cost, before it runs; afterwards, how far that was off."),
    "approve": Lazy("cai.cli.run", "approve", "Answer what a run asks before training or promotion."),
    "ui": Lazy("cai.cli.run", "ui", "Browse the runs in the Prefect UI."),
    "serve": Lazy("cai.cli.deploy", "serve", "A Prefect server, a worker and the deployments, until Ctrl-C."),
    "worker": Lazy("cai.cli.deploy", "worker", "A worker for this machine, which leaves nothing behind."),
    "deploy": Lazy("cai.cli.deploy", "deploy", "Put deployments and automations on a Prefect server, and prune."),
    "compare": Lazy("cai.cli.compare", "compare", "Two runs: what changed, and is it better, worse or undecided."),
    "evaluate": Lazy("cai.cli.evaluate", "evaluate", "Measure models on held-out prompts."),
    "monitor": Lazy("cai.cli.monitor", "monitor", "Production traffic beside what a model was evaluated on."),
    "models": Lazy("cai.cli.models", "models", "The trained models: list, show, compare, promote, and write a card."),
    "constitution": Lazy("cai.cli.constitution", "constitution", "Lint, show, compare and import constitutions."),
    "prompts": Lazy("cai.cli.prompts", "prompts", "Import prompts, and know what they cover."),
    "labels": Lazy("cai.cli.labels", "labels", "Test the judge, measure labels, and label pairs yourself."),
    "gold": Lazy("cai.cli.gold", "gold", "Labels known to be right: import them, and see what there is."),
    "tables": Lazy("cai.cli.tables", "tables", "What is stored: rows, rejects, versions; compact and verify."),
    "sql": Lazy("cai.cli.tables", "sql", "Ask the tables a question, read-only; named queries included."),
    "export": Lazy("cai.cli.tables", "export", "Write SFT or preference sets in the format TRL reads."),
    "doctor": Lazy("cai.cli.doctor", "doctor", "What is installed, what is missing, which engine would be used."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cai")
def door() -> None:
    """Align a language model to a written constitution, and know whether it worked.

    \b
    Try it:      cai demo
    Your own:    cai run my.yaml                # a copy of deployments/profiles/gpu.yaml
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
        refused = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
        hint = "; is the disk full, or the folder not yours to write?" if refused else ""
        click.echo(f"error: {error}{hint}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; run the same command again to go on from here", err=True)
        sys.exit(130)
