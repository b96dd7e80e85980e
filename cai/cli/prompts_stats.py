"""`cai prompts stats`: what prompts cover, how diverse they are, and what the policy has mastered."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.cli.tables import OutFile, checked_home, home_option
from cai.errors import ConfigError

if TYPE_CHECKING:
    from cai.coverage.stats import PromptStats


@click.command("stats")
@click.argument("files", nargs=-1, metavar="[FILE]…")
@home_option()
@click.option("--run", "run_id", help="The prompts of this run of the home, in place of all.")
@click.option("--html", "html_file", type=OutFile(), help="Also write a page.")
@click.option("--json", "json_file", type=OutFile(), help="Also write it as JSON.")
def command(
    files: tuple[str, ...], home: Path, run_id: str | None, html_file: Path | None, json_file: Path | None
) -> None:
    """Count prompts by source, licence, tag, kind, split, turns and length; say what they are about and how alike.

    Exact and near duplicates, distinct n-grams, topics (named by their words), which principles change a response or
    decide a label, and how often the policy answers well already. Of FILEs nobody has the last two.

    \b
    cai prompts stats --home cai-home --html prompts.html
    cai prompts stats prompts.jsonl --json prompts.json
    """
    from cai.coverage.text import to_json, to_text
    from cai.report.prompts_page import to_page

    if files and run_id is not None:
        raise ConfigError(f"give files, or --run {run_id} and none; a run has its own prompts")
    stats = _of_files(files) if files else _of_home(home, run_id)
    if json_file is not None:
        json_file.write_text(json.dumps(to_json(stats), indent=1, ensure_ascii=False), encoding="utf-8")
    if html_file is not None:
        html_file.write_text(to_page(stats, ", ".join(files) or run_id or str(home)), encoding="utf-8")
    click.echo(to_text(stats), nl=False)


def _of_files(files: tuple[str, ...]) -> "PromptStats":
    from cai.config import PromptSource
    from cai.coverage.stats import stats_of
    from cai.records import Prompt, Reject
    from storage.imports import Seen, read_prompts

    seen: Seen = {}
    # To measure with is every row good; `split` of each stays what it says of itself.
    rows = [row for file in files for row in read_prompts(PromptSource(path=file), 0, seen, split="eval")]
    rejects = Counter(row.reason for row in rows if isinstance(row, Reject))
    n_exact = rejects.pop("duplicate_prompt", 0)
    found = stats_of([row for row in rows if isinstance(row, Prompt)], n_exact=n_exact)
    return replace(found, unread=dict(rejects.most_common()))


def _of_home(home: Path, run_id: str | None) -> "PromptStats":
    from flows.prompt_stats import of_home, of_run
    from flows.runs import open_run
    from storage.store import Store

    store = Store(checked_home(home))
    return of_home(home, store) if run_id is None else of_run(open_run(home, run_id), store)
