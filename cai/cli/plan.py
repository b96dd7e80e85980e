"""`cai plan`: what a run will cost, before it runs; and after it, how far that was off."""

import asyncio
import json
from collections.abc import Set
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cai.cli.run import home_option

if TYPE_CHECKING:
    from cai.plan.lines import Plan


@click.command()
@click.argument("profile", type=click.Path(path_type=Path), required=False)
@home_option
@click.option("--run", "run_id", metavar="RUN_ID", help="Hold the plan of a finished run against what it did cost.")
@click.option("--without", default="", metavar="TAG", help="Leave out every principle that bears this tag.")
@click.option("--prompts", multiple=True, metavar="FILE", help="Prompts, in place of the profile's; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Take so many prompts of each source, drawn by the profile's seed."
)
@click.option("--constitution", type=click.Path(path_type=Path), help="In place of the profile's.")
@click.option(
    "--probe",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Where HOME has no run of this model: ask the engine about so many prompts first; 0: assume.",
)
@click.option(
    "--tokens-per-second", type=click.FloatRange(min=0, min_open=True), help="Speed of the engine, where you know it."
)
@click.option("--generate", is_flag=True, help="Plan what `cai prompts generate` does with PROFILE, and no run.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def plan(
    profile: Path | None,
    home: Path,
    run_id: str | None,
    without: str,
    prompts: tuple[str, ...],
    limit: int | None,
    constitution: Path | None,
    probe: int,
    tokens_per_second: float | None,
    generate: bool,
    form: str,
) -> None:
    """Say what a run of PROFILE will ask, read, write, train and store, and how long it takes.

    The run's own code renders its prompts, over a sample of them. How long replies are is taken from an earlier run of
    the same model in HOME, else from a probe: the engine is asked about a few prompts. The plan is kept in HOME.

    \b
    cai plan deployments/profiles/laptop.yaml --prompts prompts.jsonl
    cai plan deployments/profiles/laptop.yaml --limit 100000 --probe 0 --tokens-per-second 20000
    cai plan deployments/profiles/laptop.yaml --generate      # the prompts that a model is to write
    cai plan --run laptop-0123456789        # afterwards: prediction and fact
    """
    from flows.planning import Wish, keep, make_plan
    from flows.runs import profile_with

    if (profile is None) == (run_id is None):
        raise click.UsageError("give a PROFILE to plan, or --run RUN_ID to compare; one of the two")
    if generate and run_id is None:
        _refuse("--generate, which plans what PROFILE says", {"without", "prompts", "limit", "constitution", "probe"})
    if run_id is not None:
        _refuse("--run, which has a plan of its own", {"without", "prompts", "limit", "constitution", "generate"})
    wish = Wish(probe, tokens_per_second)
    if profile is None:
        assert run_id is not None, "one of the two was given"
        _compare(home, run_id, wish, form)
        return
    if generate:
        from cai.config import load_profile
        from flows.plan_writing import plan_writing

        _say(asyncio.run(plan_writing(load_profile(profile), home, wish=wish)), form)
        return
    wanted = profile_with(profile, prompts=prompts, limit=limit, constitution=constitution)
    made = asyncio.run(make_plan(wanted, home, without=without, wish=wish))
    _say(made, form)
    click.echo(f"kept    {keep(made, home)}", err=True)


def _refuse(beside: str, options: Set[str]) -> None:
    """What was typed and would change nothing."""
    context = click.get_current_context()
    typed = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if idle := [f"--{name}" for name in typed if name in options]:
        raise click.UsageError(f"nothing comes of {', '.join(idle)} beside {beside}; leave that out")


def _compare(home: Path, run_id: str, wish: "object", form: str) -> None:
    """The kept plan of a run, or one made now as if the run were not there, beside what it did."""
    from cai.plan.predict import at_once
    from cai.plan.text import comparison_text
    from flows.plan_facts import facts
    from flows.planning import Wish, block_of, counters_of, kept, make_plan
    from flows.runs import open_run
    from storage.store import Store

    assert isinstance(wish, Wish)
    run = open_run(home, run_id)
    made = kept(home, run_id)
    if made is None:
        click.echo(f"no plan of {run_id} was kept; it is made now, without a look at that run", err=True)
        made = asyncio.run(make_plan(run.profile, home, without=run.without, wish=wish))
    spent = asyncio.run(facts(run, Store(home), counters_of(run.profile), block_of(run.profile.engine)))
    became = at_once(spent, run.profile, len(run.ids("prompts")))
    if form == "json":
        click.echo(json.dumps({"plan": asdict(made), "facts": [asdict(line) for line in became]}, indent=1))
    else:
        click.echo(comparison_text(made, became))


def _say(made: "Plan", form: str) -> None:
    from cai.plan.text import plan_text

    if form == "json":
        click.echo(json.dumps(asdict(made) | {"total": asdict(made.total())}, indent=1))
    else:
        click.echo(plan_text(made))
