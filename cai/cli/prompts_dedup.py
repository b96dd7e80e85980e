"""`cai prompts dedup`: which prompts of files or of a home repeat others in other words."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai.cli.tables import OutFile, checked_home, format_table, home_option

if TYPE_CHECKING:
    from cai.records import Prompt, Reject

N_SHOWN = 10


@click.command("dedup")
@click.argument("files", nargs=-1, metavar="[FILE]…")
@home_option()
@click.option("--out", type=OutFile(), help="Write the prompts that stay, as JSONL.")
@click.option("--rejects", "rejects_file", type=OutFile(), help="Write the others.")
@click.option("--show", type=click.IntRange(min=0), default=N_SHOWN, show_default=True, help="Repeats to print.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    files: tuple[str, ...], home: Path, out: Path | None, rejects_file: Path | None, show: int, style: str
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

    prompts, unfit = _of_files(files) if files else (_of_home(home), [])
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
        out.write_text("".join(_line(prompt) for prompt in kept), encoding="utf-8")
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


def _of_files(files: Sequence[str]) -> "tuple[list[Prompt], list[Reject]]":
    from cai.config import PromptSource
    from cai.records import Prompt, Reject
    from storage.imports import read_sources

    rows = list(read_sources([PromptSource(path=file) for file in files], "train", 0))
    return [row for row in rows if isinstance(row, Prompt)], [row for row in rows if isinstance(row, Reject)]


def _of_home(home: Path) -> "list[Prompt]":
    from cai.records import Prompt
    from storage.store import Store

    return Store(checked_home(home)).read(Prompt, "split = 'train'")


def _store(home: Path, rejects: "Sequence[Reject]") -> None:
    from storage.store import Store

    Store(home).append(rejects)


def _line(prompt: "Prompt") -> str:
    """What `cai prompts import` and a profile read again; what is not stated is left out."""
    body: dict[str, Any] = asdict(prompt)
    stated = {name: body[name] for name in ("messages", "licence", "origin", "kind", "tags", "expected") if body[name]}
    return json.dumps(stated, ensure_ascii=False) + "\n"
