"""`cai demo`, `cai run`, `cai ui`: start the flow of `flows/pipeline.py` over a Prefect server, show its result."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from cai.cli import tables
from cai.errors import CAIError, ConfigError, without_password
from cai.until import ORDER

PROFILES = Path(__file__).parents[2] / "deployments" / "profiles"

home_option = tables.home_option("Folder of the tables, models and runs.")


class Asked(NamedTuple):
    """What a run is asked for on the command line."""

    profile: Path
    home: Path
    without: str
    prompts: tuple[str, ...]
    limit: int | None
    until: str
    constitution: Path | None


@click.command()
@home_option
@click.option("--without", default="", metavar="TAG", help="Leave out every principle that bears this tag.")
@click.option("--json", "json_file", type=tables.OutFile(), help="Also write the measured rates here.")
@click.option("--constitution", type=click.Path(path_type=Path), help="Another constitution for the small world.")
@click.option("--limit", type=click.IntRange(min=1), help="Fewer (or more) training prompts than the profile's.")
def demo(home: Path, without: str, json_file: Path | None, constitution: Path | None, limit: int | None) -> None:
    """Align the built-in small model to its constitution, and show that it worked.

    The whole method on a laptop's CPU, in minutes: critique and revision, SFT, AI labels, reward model, RL, and a
    before/after table on held-out requests in a world where the truth is known.

    \b
    cai demo
    cai demo --without violence      # the principles against violence are gone, and only violence stays
    cai demo --json rates.json
    """
    _run(Asked(PROFILES / "demo.yaml", home, without, (), limit, "report", constitution), json_file, {})


@click.command()
@click.argument("profile", type=click.Path(path_type=Path))
@home_option
@click.option("--without", default="", metavar="TAG", help="Leave out every principle that bears this tag.")
@click.option("--prompts", multiple=True, metavar="FILE", help="Prompts, in place of the profile's; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Take so many prompts of each source, drawn by the profile's seed."
)
@click.option("--until", type=click.Choice(ORDER), default="report", show_default=True, help="The last stage to run.")
@click.option("--constitution", type=click.Path(path_type=Path), help="In place of the profile's.")
@click.option("--json", "json_file", type=tables.OutFile(), help="Also write the measured rates here.")
@click.option(
    "--approve",
    type=click.Choice(["never", "training", "promotion", "both"]),
    default="never",
    show_default=True,
    help="Ask a person before this; the question is in the UI, and `cai approve` answers it too.",
)
@click.option(
    "--promote",
    is_flag=True,
    help="Put the policy to use where its gate says PASS; with --approve, or where a person overrides it.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done; ask no model.")
def run(
    profile: Path,
    home: Path,
    without: str,
    prompts: tuple[str, ...],
    limit: int | None,
    until: str,
    constitution: Path | None,
    json_file: Path | None,
    approve: str,
    promote: bool,
    dry_run: bool,
) -> None:
    """Run a profile: prompts to preference pairs, models and a report.

    PROFILE is a YAML file such as those in deployments/profiles. Stopped anywhere, the same command goes on from
    there; finished, it does nothing and shows the result again.

    \b
    cai run deployments/profiles/laptop.yaml --prompts prompts.jsonl --until preferences
    cai run deployments/profiles/laptop.yaml --dry-run
    """
    asked = Asked(profile, home, without, prompts, limit, until, constitution)
    if dry_run:
        _dry_run(asked)
    else:
        _run(asked, json_file, {"approve": approve, "promote": promote})


@click.command(epilog='\b\nExample:\n  cai approve laptop-3f2a91c05e --by Ada --reason "the labels agree with ours"')
@click.argument("run_id", metavar="RUN")
@home_option
@click.option("--by", required=True, help="Who you are; kept with the answer.")
@click.option("--reason", default="", help="Kept with the answer.")
@click.option("--no", "refuse", is_flag=True, help="Refuse: the run ends.")
def approve(run_id: str, home: Path, by: str, reason: str, refuse: bool) -> None:
    """Answer what a run asks before training or promotion, as the form in the UI does.

    `cai sql approvals` lists what was asked and answered.
    """
    from flows.runs import open_run
    from flows.server import prefect_api

    if not by.strip():
        raise click.UsageError("--by is empty; who approves?")
    open_run(home, run_id)  # before a server is started in a home that may not be there
    with prefect_api(home):
        from flows.approvals import answer

        asked = answer(home, run_id, yes=not refuse, person=by, reason=reason)
    click.echo(f"{run_id}, {asked.about}: {'refused' if refuse else 'approved'} by {by}")


@click.command()
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=4200, show_default=True)
def ui(home: Path, port: int) -> None:
    """Browse the runs of a home in the Prefect UI, until Ctrl-C.

    \b
    cai ui --home cai-home
    """
    from flows.server import serve_forever

    serve_forever(home, port)


def _run(asked: Asked, json_file: Path | None, people: Mapping[str, object]) -> None:
    if json_file is not None and asked.until != "report":
        raise click.UsageError(f"--json writes what the evaluation measured, and --until {asked.until} ends before it")
    _check(asked)  # before a server and an engine are paid for
    with _one_at_a_time(asked.home):
        run_id = _start_flow(asked, people)
    _show(asked.home, run_id, asked.until, json_file)


def _plan(asked: Asked) -> Any:
    from flows.runs import plan_run, profile_with

    plan = profile_with(asked.profile, prompts=asked.prompts, limit=asked.limit, constitution=asked.constitution)
    return plan_run(plan, asked.home, without=asked.without, fetch=False)


def _check(asked: Asked) -> None:
    """Everything that can be wrong with the request itself, found before anything is started."""
    from flows.preflight import check

    check(_plan(asked), asked.until)


def _dry_run(asked: Asked) -> None:
    from cai.models import look_up

    _check(asked)
    run = _plan(asked)
    stages = ORDER[: ORDER.index(asked.until) + 1]
    finished = sorted(p.stem for p in (run.path / "steps").glob("*.json"))
    engines = (run.profile.engine, *run.profile.judges)
    absent = {engine.model for engine in engines if engine.has_weights and look_up(engine.model) is None}
    to_fetch = f"named when {' and '.join(sorted(absent))} has been fetched from the hub, which the run does"
    click.echo(f"run           {to_fetch if absent else run.run_id}")
    click.echo(f"constitution  {run.constitution.name}: {len(run.constitution.principles)} principles")
    click.echo(f"engine        {run.profile.engine.kind}, model {run.profile.engine.model}")
    click.echo(f"prompts       {', '.join(source.path for source in run.profile.prompts)}")
    click.echo(f"stages        {' → '.join(stages)}")
    click.echo(f"finished      {', '.join(finished) or 'nothing yet'}")


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Two runs over one home at once would ask for the same rows twice; the second is refused."""
    import fcntl

    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another run is at work in {home}; wait for it, or give this one its own --home"
            ) from error
        yield


def _start_flow(asked: Asked, people: Mapping[str, object]) -> str:
    """Run the flow in this process and return the run's id."""
    from flows.server import prefect_api
    from flows.supervise import StepFailed

    for runs in ("FLOW", "TASK"):
        os.environ.setdefault(f"PREFECT_LOGGING_FORMATTERS_STANDARD_{runs}_RUN_FMT", "%(asctime)s | %(message)s")
    with prefect_api(asked.home) as url:
        click.echo(f"watch it at {without_password(url).removesuffix('/api')}", err=True)
        from flows.pipeline import constitutional_ai

        _quiet_console()

        try:
            run_id = constitutional_ai(  # type: ignore[call-overload]  # click has checked what can be chosen
                profile=str(asked.profile),
                home=str(asked.home),
                without=asked.without,
                prompts=list(asked.prompts) or None,
                limit=asked.limit,
                until=asked.until,
                constitution=str(asked.constitution or ""),
                **people,
            )
        except StepFailed as error:
            raise CAIError(
                f"{error}\nlogs: {asked.home}/runs; run the same command again to go on from here"
            ) from error
    return str(run_id)


def _quiet_console() -> None:
    """Leave Prefect's own narration and tracebacks to its UI; the terminal shows what the steps say."""
    narration = ("Beginning ", "View at ", "Finished in state ", "Encountered exception", "│")

    def is_ours(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(narration)

    for handler in logging.getLogger().handlers:
        handler.addFilter(is_ours)


def _show(home: Path, run_id: str, until: str, json_file: Path | None) -> None:
    """The result: on stdout what was measured or made, on stderr where to look further."""
    from flows.runs import open_run

    run = open_run(home, run_id)
    measured, results = run.result("evaluate"), run.path / "results.txt"
    shown = results if until == "report" and results.is_file() else run.path / "funnel.txt"
    click.echo(shown.read_text(encoding="utf-8"))
    if measured is not None and until == "report" and json_file is not None:
        json_file.write_text(json.dumps(measured["rates"], indent=1), encoding="utf-8")
    click.echo(f"report  {run.path / 'report.html'}", err=True)
    click.echo(f"tables  cai sql funnel --home {home}", err=True)
    click.echo(f"runs    cai ui --home {home}", err=True)
