"""`cai prompts dedup`: which prompts of files or of a home repeat others in other words."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai.cli.tables import OutFile, checked_home, format_table, home_option

if TYPE_CHECKING:
    from cai.records import Prompt, Reject

N_SHOWN = 10
_STATED = ("messages", "licence", "origin", "kind", "tags")


@click.command("dedup")
@click.argument("files", nargs=-1, metavar="[FILE]…")
@home_option()
@click.option("--out", type=OutFile(), help="Write the prompts that stay, as JSONL.")
@click.option("--rejects", "rejects_file", type=OutFile(), help="Write the others.")
@click.option(
    "--expected-column", help="Of FILEs: the column of the known answer; else `expected`, where a row has it."
)
@click.option("--show", type=click.IntRange(min=0), default=N_SHOWN, show_default=True, help="Repeats to print.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    files: tuple[str, ...],
    home: Path,
    out: Path | None,
    rejects_file: Path | None,
    expected_column: str | None,
    show: int,
    style: str,
) -> None:
    """Find prompts that say what another says but for case, punctuation, a word's place, or a sentence of many.

    Of those that repeat each other the first stays: of FILEs in their order, of a home by id. Short prompts must have
    the same words, and what more than twenty prompts share but for a few words is a template: those all stay.

    Without FILE the prompts to train on in --home are compared; what repeats another is written to the table `rejects`
    with what it repeats, and nothing is deleted. A run compares its own prompts (`near_duplicates` in the profile).

    \b
    cai prompts dedup prompts.jsonl more.csv --out kept.jsonl --rejects repeats.jsonl
    cai prompts dedup --home cai-home
    """
    from cai.coverage.near import NearDuplicates
    from cai.training.rows import write_rejects
    from flows.near_duplicates import rejects_of

    if expected_column is not None and not files:
        raise click.UsageError(
            "--expected-column names a column of FILEs, and none is given; leave it out, or name one"
        )
    prompts, unfit = _of_files(files, expected_column) if files else (_of_home(home), [])
    finder = NearDuplicates()
    for prompt in prompts:
        finder.add(prompt)
    repeats = finder.repeats()
    rejects = rejects_of(repeats, "dedup")
    if not files:
        _store(home, rejects)
    gone = {repeat.prompt_id for repeat in repeats}
    kept = [prompt for prompt in prompts if prompt.prompt_id not in gone]
    if out is not None:
        names = (*_STATED, "expected") if any(prompt.expected is not None for prompt in kept) else _STATED
        out.write_text("".join(_line(prompt, names) for prompt in kept), encoding="utf-8")
    if rejects_file is not None:
        write_rejects(rejects_file, [*unfit, *rejects])
    counts = {"rows": len(prompts) + len(unfit), "not imported": len(unfit)}
    for kind, n in Counter(repeat.kind for repeat in repeats).items():
        counts[kind] = n
    counts["kept"] = len(kept)
    if finder.n_of_templates:
        counts["of these, of a template"] = finder.n_of_templates
    text = {prompt.prompt_id: prompt.messages[-1].content for prompt in prompts}
    rows = [[r.kind, round(r.similarity, 3), text[r.prompt_id], text[r.of]] for r in repeats[:show]]
    if style == "json":
        body = {"counts": counts, "repeats": [repeat._asdict() for repeat in repeats]}
        click.echo(json.dumps(body, indent=1, ensure_ascii=False))
        return
    click.echo(format_table(list(counts), [list(counts.values())]))
    if rows:
        click.echo("\n" + format_table(["how", "similarity", "repeats", "what stays"], rows))


def _of_files(files: Sequence[str], expected_column: str | None) -> "tuple[list[Prompt], list[Reject]]":
    """Prompts of either split, with the answers known of them, also where a later row knows it, and what is none."""
    from cai.config import PromptSource
    from cai.records import Reject
    from storage.imports import Seen, read_prompts

    seen: Seen = {}
    sources = [PromptSource(path=file, expected_column=expected_column) for file in files]
    rows = [row for source in sources for row in read_prompts(source, 0, seen, split="eval", own_expected=True)]
    prompts = [replace(row, expected=seen[row.prompt_id]) for row in rows if not isinstance(row, Reject)]
    return prompts, [row for row in rows if isinstance(row, Reject)]


def _of_home(home: Path) -> "list[Prompt]":
    from cai.records import Prompt
    from storage.store import Store

    return Store(checked_home(home)).read(Prompt, "split = 'train'")


def _store(home: Path, rejects: "Sequence[Reject]") -> None:
    from storage.store import Store

    Store(home).append(rejects)


def _line(prompt: "Prompt", names: Sequence[str]) -> str:
    """What `cai prompts import` and a profile read again; what is not stated is left out, but that no answer is known
    of one prompt among others is said: an `expected_column` is there in every row.
    """
    body: dict[str, Any] = asdict(prompt)
    stated = {name: body[name] for name in names if body[name] or name == "expected"}
    if prompt.split == "eval":
        stated["split"] = prompt.split
    return json.dumps(stated, ensure_ascii=False) + "\n"
