"""`cai constitution`: lint, show, compare and import constitutions. No model is loaded or asked."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import click

from cai.cli.constitution_home import Cost, predict
from cai.cli.tables import OutFile, home_option
from cai.config import found
from cai.constitution import Constitution, load_constitution
from cai.constitution.diff import ConstitutionDiff, FieldChange, PrincipleChange, diff
from cai.constitution.dump import to_yaml
from cai.constitution.importers import import_json
from cai.constitution.lint import lint
from cai.errors import ConfigError

Format = Literal["text", "json"]
_FILE = click.Path(path_type=Path, dir_okay=False)


class _Constitution(click.Path):
    """A file, or the shipped one of that name, as a profile's `constitution` is found."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return found(cast(Path, super().convert(value, param, ctx)))


_READ = _Constitution(path_type=Path, dir_okay=False)
_FORMAT = click.option("--format", "format", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.group()
def constitution() -> None:
    """Lint, show, compare and import constitutions.

    \b
    Example:  cai constitution lint constitution/harmlessness.yaml
    """


@constitution.command("lint")
@click.argument("files", nargs=-1, required=True, type=_READ)
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
def lint_command(files: tuple[Path, ...], strict: bool) -> None:
    """Say what is wrong with constitution FILES, line by line.

    Errors keep a file from loading; warnings are legal but unwise. Exit code 1 where there is an error.

    \b
    Example:  cai constitution lint constitution/*.yaml
              cai constitution lint --strict my.yaml
    """
    n = {"error": 0, "warning": 0}
    for file in files:
        for problem in lint(file):
            n[problem.level] += 1
            where = f"{file}:{problem.line}" if problem.line is not None else str(file)
            click.echo(f"{where}: {problem.level}: {problem.message}")
    said = f"{_count(len(files), 'file')}: {_count(n['error'], 'error')}, {_count(n['warning'], 'warning')}"
    click.echo(said, err=True)
    if n["error"] or (strict and n["warning"]):
        sys.exit(1)


@constitution.command("show")
@click.argument("file", type=_READ)
@click.option("--without", metavar="TAG", help="Leave out every principle that bears TAG.")
@_FORMAT
def show_command(file: Path, without: str | None, format: Format) -> None:
    """Show the principles of FILE, how often each is drawn, and the digests that rows carry.

    \b
    Example:  cai constitution show constitution/harmlessness.yaml --without violence
    """
    loaded = load_constitution(file)
    loaded = loaded.without(without) if without else loaded
    click.echo(json.dumps(_as_json(loaded), indent=2, ensure_ascii=False) if format == "json" else _shown(loaded))


@constitution.command("diff")
@click.argument("old", type=_READ)
@click.argument("new", type=_READ)
@home_option("Where runs are stored; without one there, only the texts are compared.")
@click.option("--run", "run_id", metavar="RUN", help="The run to predict for.  [default: the last one of OLD]")
@_FORMAT
def diff_command(old: Path, new: Path, home: Path, run_id: str | None, format: Format) -> None:
    """Compare two versions of a constitution, and say what the change costs.

    Where HOME holds a run of OLD, its draws are replayed: the number of requests that a second run of the same profile
    sends because of the change is exact. Each run keeps the constitution it used.

    \b
    Example:  cai constitution diff cai-home/runs/RUN/constitution.yaml constitution/harmlessness.yaml
    """
    before, after = load_constitution(old), load_constitution(new)
    change, cost = diff(before, after), predict(home, before, after, run_id)
    if isinstance(cost, str):
        click.echo(f"no prediction: {cost}", err=True)
    known = None if isinstance(cost, str) else cost
    if format == "json":
        body = {"diff": asdict(change), "cost": asdict(known) if known else None}
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join([*_diff_lines(change), *(_cost_lines(known) if known else ())]))


@constitution.command("import")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--out", type=OutFile(), help="The YAML file to write.  [default: standard output]")
@click.option("--name", help="The constitution's name.  [default: the first file's]")
@click.option("--force", is_flag=True, help="Overwrite the file of --out.")
def import_command(files: tuple[Path, ...], out: Path | None, name: str | None, force: bool) -> None:
    """Turn published JSON constitutions into YAML.

    Reads both published shapes. Critiques and comparisons that are published apart are given together. Titles and
    tags are not published: add them by hand, `lint` names the principles that lack them.

    \b
    Example:  cai constitution import critiques.json comparisons.json --out constitution/mine.yaml
    """
    if out is not None and out.exists() and not force:
        raise ConfigError(f"{out} exists already; give another --out, or --force to overwrite it")
    imported = import_json(files, name or files[0].stem)
    text = to_yaml(imported)
    if out is None:
        click.echo(text, nl=False)
    else:
        partial = out.with_name(out.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(out)
    n_examples = len(imported.examples.critique_revision)
    said = f"{_count(len(imported.principles), 'principle')}, {_count(n_examples, 'example')}"
    click.echo(f"imported {said}{f' to {out}' if out else ''}", err=True)


def _shown(loaded: Constitution) -> str:
    lines = [f"{loaded.name}  {loaded.digest()}", *([loaded.description] if loaded.description else []), ""]
    totals = {stage: sum(p.weight for p in loaded.for_stage(stage)) for stage in ("critique", "preference")}
    for p in loaded.principles:
        draws = ", ".join(f"{stage} {p.weight / totals[stage]:.1%}" for stage in p.stages)
        lines += [f"{p.id}: {p.title}", f"  drawn: {draws}   tags: {', '.join(p.tags) or 'none'}"]
        texts = [("critique", p.critique), ("revision", p.revision), ("preference", p.preference)]
        lines += [f"  {name}: {' '.join(text.split())}" for name, text in texts if text]
    shots = loaded.examples
    lines += ["", f"examples: {len(shots.critique_revision)} critique and revision, {len(shots.preference)} preference"]
    return "\n".join([*lines, f"templates overridden: {', '.join(loaded.templates) or 'none'}"])


def _as_json(loaded: Constitution) -> dict[str, object]:
    digests = {p.id: {stage: p.digest(stage) for stage in p.stages} for p in loaded.principles}
    frames = {"critique": loaded.template_digest("critique"), "comparison": loaded.template_digest("comparison")}
    return asdict(loaded) | {"digest": loaded.digest(), "principle_digests": digests, "template_digests": frames}


def _diff_lines(change: ConstitutionDiff) -> list[str]:
    if change.is_empty:
        return ["no difference that decides a row"]
    lines = [f"+ {id}: added" for id in change.added] + [f"- {id}: removed" for id in change.removed]
    for principle in change.changed:
        lines += _principle_lines(principle)
    for field in (*change.templates, *change.feedback):
        lines += [f"~ {field.field}", *_field_lines(field)]
    lines += [f"~ examples: {name} changed" for name in change.examples]
    return lines + [f"{stage} draws that move: {share:.1%}" for stage, share in change.moved.items() if share > 1e-9]


def _principle_lines(change: PrincipleChange) -> list[str]:
    asked = f"asked again: {', '.join(change.stages)}" if change.stages else "no text that is asked changed"
    lines = [f"~ {change.id} ({asked})"]
    for field in change.fields:
        lines += [f"    {field.field}", *_field_lines(field)]
    return lines


def _field_lines(field: FieldChange) -> list[str]:
    return [f"    - {field.old}", f"    + {field.new}"]


def _cost_lines(cost: Cost) -> list[str]:
    p = cost.prediction
    lines = [
        "",
        f"run {cost.run_id}",
        f"of {_count(cost.n_revisions, 'revision')}: {p.revisions_direct:,} invalidated directly, "
        f"{p.revisions_descendant:,} by an earlier round",
        f"of {_count(cost.n_comparisons, 'comparison')}: {p.comparisons_stale:,} asked again, "
        f"{p.comparisons_new:,} newly asked, {p.comparisons_dropped:,} no longer used",
        f"a second run sends {_count(p.n_requests, 'request')} because of the change",
    ]
    if cost.n_remade_responses:
        lines.append(
            f"besides, its models are trained anew: about {_count(cost.n_remade_responses, 'response')} and "
            f"{_count(cost.n_remade_comparisons, 'comparison')} of theirs are made again"
        )
    return lines


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"
