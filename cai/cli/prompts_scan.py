"""`cai prompts scan`: personal items in files or in the tables of a home. It changes nothing and shows none of them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from cai.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cai.privacy import Kind, Part

FOUND = 3
GROUP = 10_000


class Row(NamedTuple):
    """One row that is scanned. `place` says where it is."""

    place: str
    parts: "tuple[Part, ...]"


class Scan(NamedTuple):
    n_rows: int
    rows_with: Counter[str]
    """Rows by kind; `any` counts each once."""
    items: Counter[str]
    different: Counter[str]
    examples: dict[str, list[str]]


@click.command(
    "scan",
    epilog="\b\nExamples:\n  cai prompts scan prompts.jsonl logs.csv\n  cai prompts scan --home cai-home\n"
    "  cai prompts scan prompts.jsonl --fail --format json # in CI: exit 3 where anything is found",
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), default=None, help="Scan the prompts and rejects there."
)
@click.option("--kind", "only", multiple=True, help="Look for this kind alone; may be given several times.")
@click.option(
    "--examples", "n_examples", type=click.IntRange(0, 20), default=3, show_default=True, help="Of each kind."
)
@click.option("--fail", is_flag=True, help="Exit with 3 where anything is found; names count only with --kind name.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    files: tuple[Path, ...], home: Path | None, only: tuple[str, ...], n_examples: int, fail: bool, style: str
) -> None:
    """Count personal items in FILES, row by row as they stand there, or in the tables of a home.

    Items are never shown: an example has placeholders for it and for whatever stands beside it.
    """
    from cai.privacy import NAMES

    kinds = _kinds(only)
    if bool(files) == (home is not None):
        raise ConfigError("give files to scan, or --home; one of the two")
    made = scan(_of_home(home) if home is not None else _of_files(files), kinds, n_examples)
    click.echo(json.dumps(_to_json(made), indent=2) if style == "json" else _in_text(made, NAMES))
    counted = [kind for kind in kinds if kind != "name" or "name" in only]
    if fail and any(made.items[kind] for kind in counted):
        raise SystemExit(FOUND)


def scan(rows: Iterator[Row], kinds: "tuple[Kind, ...]", n_examples: int = 3) -> Scan:
    """Items of `kinds` in rows, counted; memory grows with the different items alone, which are kept as digests."""
    from cai.privacy import find_each, masked
    from cai.records import digest

    made = Scan(0, Counter(), Counter(), Counter(), {})
    seen: set[str] = set()
    n_rows = 0
    for row in rows:
        n_rows += 1
        found_in = find_each(row.parts, kinds)
        made.rows_with.update({each.kind for found in found_in for each in found})
        made.rows_with["any"] += any(found_in)
        for part, found in zip(row.parts, found_in, strict=True):
            label = f"{part.name}: " if part.name else ""
            placed = [each._replace(start=each.start + len(label), end=each.end + len(label)) for each in found]
            for each in placed:
                made.items[each.kind] += 1
                examples = made.examples.setdefault(each.kind, [])
                if len(examples) < n_examples:
                    examples.append(f"{row.place}: {masked(label + part.text, each, others=placed)}")
                if (key := digest(each.kind, each.same)) not in seen:
                    seen.add(key)
                    made.different[each.kind] += 1
    return made._replace(n_rows=n_rows)


def _kinds(only: tuple[str, ...]) -> "tuple[Kind, ...]":
    from cai.privacy import KINDS

    if unknown := set(only) - set(KINDS):
        raise ConfigError(f"there is no kind {sorted(unknown)[0]!r}; expected of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if not only or kind in only)


def _of_files(files: tuple[Path, ...]) -> Iterator[Row]:
    from storage.imports import cells_of
    from storage.rows import Columns, reader

    for path in files:
        rows = reader(path, Columns((), "", everything=True))()
        n = 0
        for row in rows:
            n += 1
            yield Row(f"{path}, row {row.number}", _parts(row.raw, cells_of(row.value, row.raw)))
        if not n:
            raise DataError(f"{path} has no rows; expected at least one to scan")


def _of_home(home: Path) -> Iterator[Row]:
    from cai.cli.tables import checked_home
    from cai.records import Prompt, Reject
    from storage.store import Store

    store = Store(checked_home(home))
    for prompt in store.read(Prompt):
        parts = (*(m.content for m in prompt.messages), prompt.expected or "", *prompt.tags)
        yield Row(f"prompt {prompt.prompt_id[:8]}", tuple(part for text in parts for part in _parts(text)))
    for reject in store.read(Reject):
        yield Row(f"reject {reject.reject_id[:8]}", (*_parts(reject.text), *_parts(reject.detail)))


def _parts(text: str, cells: Mapping[str, str] | None = None) -> "tuple[Part, ...]":
    """The texts of a row, and of one that is neither JSON nor cells the form in which its escapes hide nothing."""
    from cai.privacy import Part, find_in_forms, is_json, leaves, parts_of

    if not cells and not is_json(text):
        text = find_in_forms(text)[0] if "\\" in text else text
        return (Part(0, len(text), "", text, is_json=False),)
    return tuple(leaves(parts_of(text, cells)))


def _to_json(made: Scan) -> dict[str, object]:
    kinds = {
        kind: {"items": made.items[kind], "different": made.different[kind], "rows": made.rows_with[kind]}
        for kind in sorted(made.items)
    }
    return {"rows": made.n_rows, "rows_with": made.rows_with["any"], "kinds": kinds, "examples": made.examples}


def _in_text(made: Scan, names: "dict[Kind, str]") -> str:
    from cai.cli.tables import format_table

    if not made.items:
        return f"{made.n_rows:,} rows; nothing personal was found"
    lines = [
        [kind, what, made.items[kind], made.different[kind], made.rows_with[kind]]
        for kind, what in names.items()
        if made.items[kind]
    ]
    shown = [f"{kind}: {example}" for kind, examples in made.examples.items() for example in examples]
    head = f"{made.rows_with['any']:,} of {made.n_rows:,} rows have something personal"
    return "\n".join([head, "", format_table(["kind", "", "items", "different", "rows"], lines), "", *shown]).rstrip()
