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

from flows import artifacts
from flows.markdown import escaped, table
from flows.supervise import run_step

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
        edition: tells this week's prompts from the last one's; none: the ISO week that the run was scheduled in
        model: the policy that the prompts are tried on, by its channel, name, digest or path; none: the one in use

    Returns:
        The campaign's name.
    """
    from flows.writing import Wish

    wish = Wish(profile=Path(profile), home=Path(home), edition=edition or _week(), model=model)
    logfile = Path(home) / "logs" / "refresh.log"
    with artifacts.Progress("prompts") as progress:
        made = run_step(
            ["flows.writing", wish.model_dump_json()],
            log=artifacts.child_log(),
            logfile=logfile,
            on_progress=progress.update,
        )
    artifacts.markdown("prompts-written", written(made), "Prompts written")
    get_run_logger().info("%s: %s", made["campaign"], "; ".join(made["said"]))
    return str(made["campaign"])


def written(made: Mapping[str, Any]) -> str:
    """What came, what was dropped and why, and what is covered, as the UI shows it."""
    said = "\n".join(f"- {escaped(line)}" for line in made["said"])
    tables = [f"### {title}\n\n{table(columns, rows)}" for title, columns, rows in made["tables"] if rows]
    query = f"    cai sql \"SELECT * FROM attempts WHERE campaign = '{made['campaign']}'\""
    return "\n\n".join([f"## {escaped(made['campaign'])}", said, *tables, NOTE, query]) + "\n"


def _week() -> str:
    """The ISO week of the time that the run was scheduled for, so that a late retry goes on with the same prompts."""
    at: datetime.datetime = flow_run.scheduled_start_time or datetime.datetime.now(datetime.UTC)
    year, week, _ = at.isocalendar()
    return f"{year}-w{week:02d}"
