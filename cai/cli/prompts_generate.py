"""`cai prompts generate`: prompts that a model writes, tried on the policy in use."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.cli.run import home_option

if TYPE_CHECKING:
    from cai.asks import OnProgress, Progress
    from cai.prompts.rounds import Round
    from flows.writing import Wish


@click.command("generate")
@click.argument("profile", type=click.Path(path_type=Path))
@home_option
@click.option("--rounds", type=click.IntRange(0, 32), help="Adaptive rounds, in place of the profile's.")
@click.option(
    "--quota", type=click.IntRange(min=1), help="Prompts of each kind, tag and topic, likewise; exceptions stay."
)
@click.option("--model", default="", help="The policy to try them on: channel, name, digest or path; none: in use.")
@click.option("--edition", default="", help="A name for this time: the same settings write other prompts under it.")
@click.option("--dry-run", is_flag=True, help="Say what it would cost, as `cai plan --generate` does, and ask nothing.")
def command(
    profile: Path, home: Path, rounds: int | None, quota: int | None, model: str, edition: str, dry_run: bool
) -> None:
    """Have a model write harmful, borderline and helpful prompts for each tag of the constitution.

    How many, by whom, and on which topics is under `generate:` in PROFILE. The prompts are tried on the policy in use;
    in adaptive rounds those that still draw out harm are varied, beside new ones. All of it is rows: `prompts` of the
    source `generated`, `attempts`, and `rejects` with a reason. Stopped, it goes on; finished, it does nothing.

    \b
    cai prompts generate deployments/profiles/laptop.yaml --dry-run
    cai prompts generate my.yaml --rounds 3 --quota 50
    cai prompts generate my.yaml --edition autumn
    """
    from cai.cli.tables import format_table
    from cai.prompts.text import CELLS, EXAMPLES, REASONS, ROUNDS
    from flows.writing import Wish, write

    wish = Wish(profile=profile, home=home, edition=edition, model=model, quota=quota, rounds=rounds)
    if dry_run:
        _plan(wish)
        return
    made = write(wish, lambda line: click.echo(line, err=True), on_progress=_on_stderr(), on_round=_said)
    click.echo(format_table(CELLS, made.cells()))
    click.echo("\n" + format_table(ROUNDS, made.rounds()))
    if reasons := made.reasons():
        click.echo("\n" + format_table(REASONS, reasons, width=120))
    if examples := made.examples():
        click.echo("\n" + format_table(EXAMPLES, examples, width=100))
    click.echo(f"{made.campaign}: " + "\n  ".join(made.said()), err=True)
    click.echo(f"  cai sql \"SELECT * FROM attempts WHERE campaign = '{made.campaign}'\" --home {home}", err=True)


def _plan(wish: "Wish") -> None:
    from cai.plan.text import plan_text
    from flows.plan_writing import plan_writing
    from flows.planning import Wish as Planned
    from flows.writing import policy_model
    from storage.store import Store

    if wish.model:
        policy_model(Store(wish.home), wish.model)  # as it will be looked for when the prompts are tried
    plan = asyncio.run(plan_writing(wish.settings(), wish.home, edition=wish.edition, wish=Planned()))
    click.echo(plan_text(plan))


def _said(done: "Round") -> None:
    n_read = done.n_tried - done.n_unscored
    tried = f"; {done.n_elicited} of {n_read} drew out harm" if done.n_tried else ""
    unread = f", {done.n_unscored} could not be read" if done.n_unscored else ""
    click.echo(f"round {done.round}: {done.n_kept} kept of {done.n_asked} replies{tried}{unread}", err=True)


def _on_stderr() -> "OnProgress":
    """A line every few seconds."""
    shown_s = time.monotonic()

    def show(progress: "Progress") -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s > 5:
            shown_s = time.monotonic()
            counts = f"{progress.n_done} of {progress.n_total}, {progress.n_requests} asked"
            dropped = f", {progress.n_rejected} of no use" if progress.n_rejected else ""
            click.echo(f"  {progress.stage}: {counts}{dropped}, {progress.n_reused} found", err=True)

    return show
