"""New prompts on a schedule, before the run that uses them: written by a model, tried on the policy in use.

prefect deployment run refresh-prompts/refresh --watch
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from cai.prompts.text import EXAMPLES, example_rows
from cai.records import Attempt, Prompt
from flows import artifacts
from flows.markdown import escaped, table
from flows.supervise import run_step
from storage.store import Store

NOTE = (
    "*Quota*: prompts wanted in the first round, and how many of them it brought; all other columns are of all rounds. "
    "*Read*: tried on the policy, and the response could be read. *Elicited*: of those, the share that drew out harm, "
    "with its 95 % interval. A reply that was dropped is a row of `rejects`; every prompt is a row of `attempts`:"
)


@flow(name="refresh-prompts", flow_run_name="refresh-prompts-{home}")
def refresh_prompts(
    profile: str = "deployments/profiles/laptop.yaml", home: str = "cai-home", edition: str = "", model: str = ""
) -> str:
    """Have a model write prompts as the profile says under `generate`, and store them.

    A run reads them where its profile names the prompt source `generated`. Run again with the same edition, it goes on
    where it was stopped, and does nothing where it was finished.

    Args:
        profile: YAML file that says how to write; see deployments/profiles
        home: folder of the tables, models and runs
        edition: tells this week's prompts from the last one's; none: the week that it was scheduled in, from Sunday on
        model: the policy that the prompts are tried on, by its channel, name, digest or path; none: the one in use

    Returns:
        The campaign's name.
    """
    from flows.writing import Wish

    wish = Wish(profile=Path(profile), home=Path(home), edition=edition or week_of(_scheduled()), model=model)
    logfile = Path(home) / "logs" / "refresh.log"
    with artifacts.Progress("prompts") as progress:
        made = run_step(
            ["flows.writing", wish.model_dump_json()],
            log=artifacts.child_log(),
            logfile=logfile,
            on_progress=progress.update,
        )
    artifacts.markdown("prompts-written", written(made, Store(Path(home))), "Prompts written")
    get_run_logger().info("%s: %s", made["campaign"], "; ".join(made["said"]))
    return str(made["campaign"])


def written(made: Mapping[str, Any], store: Store) -> str:
    """What came, what was dropped and why, what is covered, and some of it, as the UI shows it."""
    said = "\n".join(f"- {escaped(line)}" for line in made["said"])
    attempts = store.find_all(Attempt, made["examples"])
    prompts = store.find_all(Prompt, [row.prompt_id for row in attempts.values()])
    rows = example_rows([attempts[attempt_id] for attempt_id in made["examples"]], prompts)
    all_tables = [*made["tables"], ("Some of what was kept", EXAMPLES, rows)]
    tables = [f"### {title}\n\n{table(columns, rows)}" for title, columns, rows in all_tables if rows]
    query = f"    cai sql \"SELECT * FROM attempts WHERE campaign = '{made['campaign']}'\""
    return "\n\n".join([f"## {escaped(made['campaign'])}", said, *tables, NOTE, query]) + "\n"


def week_of(at: datetime.datetime) -> str:
    """The week from Sunday to Saturday, by the ISO number of its Monday: the schedule is on Sundays, and a run that is
    started again on the days after goes on with the same prompts.
    """
    year, week, _ = (at + datetime.timedelta(days=1)).isocalendar()
    return f"{year}-w{week:02d}"


def _scheduled() -> datetime.datetime:
    """The time that the run was scheduled for, however late it is."""
    return flow_run.scheduled_start_time or datetime.datetime.now(datetime.UTC)
