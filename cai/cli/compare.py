"""`cai compare`: two runs, what differs between them, and whether it is better."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai.cli.run import home_option
from cai.cli.tables import OutFile

if TYPE_CHECKING:
    from cai.comparison.data import Comparison


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@home_option
@click.option("--home-b", type=click.Path(path_type=Path, file_okay=False), help="Where RUN_B is, if in another home.")
@click.option("--json", "json_file", type=OutFile(), help="Also write everything as JSON.")
@click.option("--html", "html_file", type=OutFile(), help="Also write a page that stands alone.")
@click.option("--examples", type=click.IntRange(min=0), default=10, show_default=True, help="Answers to show.")
@click.option(
    "--judge", type=click.IntRange(min=1), metavar="N", help="Have B's judge compare the answers to N held-out prompts."
)
def compare(
    run_a: str,
    run_b: str,
    home: Path,
    home_b: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    examples: int,
    judge: int | None,
) -> None:
    """Two runs side by side: what changed, and whether B is better, worse or undecided.

    What they were made of (constitution, engine, model, code, settings), labels of the same pairs, reward models,
    policies on the held-out prompts that both answered, rows and rejects by step, and the answers that changed most.
    Every difference is B less A with its 95 % interval. Runs may be unfinished: what is missing is said.

    Without --judge no model is asked. With it B's judge, under B's constitution, says in both orders which answer is
    better; what it says is stored, and found the next time.

    \b
    cai compare demo-381f5300ad demo-without-violence-9354dec050
    cai compare RUN_A RUN_B --judge 200 --html compared.html
    cai compare RUN_A RUN_B --home last-week --home-b cai-home --json compared.json
    """
    from cai.cli.tables import plain
    from cai.comparison.conclusion import conclusion, outcome
    from cai.comparison.text import to_text
    from flows.comparing import ask_judge, gather
    from flows.runs import open_run

    a, b = open_run(home, run_a), open_run(home_b or home, run_b)
    if judge is not None:
        asyncio.run(ask_judge(a, b, judge))
    compared = gather(a, b, n_examples=examples)
    if json_file is not None:
        body = _as_json(compared) | {"outcome": outcome(compared), "conclusion": conclusion(compared)}
        json_file.write_text(json.dumps(plain(body), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    if html_file is not None:
        from cai.comparison.page import to_page

        html_file.write_text(to_page(compared), encoding="utf-8")
    click.echo(to_text(compared))


def _as_json(compared: "Comparison") -> dict[str, Any]:
    """Every value, and what each difference comes to."""
    body = asdict(compared)
    for row, measure in zip(body["measures"], compared.measures, strict=True):
        row["effect"] = measure.effect
    body["head_to_head"]["effect"] = compared.head_to_head.effect
    return body
