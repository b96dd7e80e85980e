"""Evaluation sets from files: every row becomes an item with its prompt, a prompt alone, or a reject with its reason.

    prompts     `prompt` or `messages`; `kind`, `expected`, `cluster` and `subset` where there are such columns
    xstest      the prompts of XSTest: safe ones are borderline, unsafe ones harmful
    harmbench   HarmBench's behaviours with their context, all harmful; the subset is the semantic category
    sycophancy  questions behind an opinion (Perez et al. 2022), one text under `prompt` or `question`
    hhh         a better and a worse response: `chosen` and `rejected`, or `targets` or `target_scores` as in BIG-bench

What one row of each says is in `storage/evaluation_rows.py`.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from cai.config import EvaluationSource
from cai.errors import ConfigError, DataError
from cai.evaluation import SMALLWORLD_SET, Sets
from cai.privacy import Guard
from cai.records import EvaluationItem, ItemKind, Prompt, Reject
from cai.smallworld import world
from cai.splits import split_of
from storage import twins
from storage.dialogues import COLUMNS, BadRow
from storage.evaluation_rows import ASKS, HARMBENCH, OPINIONS, PAIRS, READERS, XSTEST, Entry, Value, asked_in, guarded
from storage.imports import check_length, drawn, reject_of
from storage.rows import Columns, Row, reader

_NEEDED = {"xstest": XSTEST, "harmbench": HARMBENCH}
_OTHERS = ("kind", "expected", "cluster", "subset", "category", "tags", "twin", "opinion", "ContextString", "rejected")


def read_sets(sources: Sequence[EvaluationSource], seed: int, guard: Guard | None = None) -> Sets:
    """The rows of all sources. A prompt may be an item of several sets, once of each; without an item it is there once.

    `guard` does to prompts, and to the responses of a pair, what it does to those of an import, so that the same text
    has the same id in both. Answers that are scored by (`expected`) stay as the file has them.

    Raises:
        ConfigError: a setting is missing that the format needs.
        DataError: no such file, an empty one, or one of another format.
    """
    prompts: dict[str, Prompt] = {}
    items: dict[str, EvaluationItem] = {}
    rejects: list[Reject] = []
    guard = guard or Guard()
    for source in sources:
        for entry in (
            _smallworld(source, seed) if source.path == world.SOURCE else _entries(source, seed, prompts, items, guard)
        ):
            if isinstance(entry, Reject):
                rejects.append(entry)
                continue
            for prompt in entry.prompts:
                prompts.setdefault(prompt.prompt_id, prompt)
            if entry.item is not None:
                items[entry.item.item_id] = entry.item
    return Sets([*prompts.values()], [*items.values()], rejects)


def check_source(source: EvaluationSource, seed: int) -> None:
    """Read the first row of a file.

    Raises:
        ConfigError: a setting is missing that the format needs.
        DataError: no such file, an empty one, or one of another format.
    """
    next(_entries(source.model_copy(update={"limit": None}), seed, {}, {}, Guard()), None)


def _smallworld(source: EvaluationSource, seed: int) -> Iterator[Entry]:
    """Its prompts say in their tags what the oracle knows of them."""
    for prompt in world.prompts("eval", source.n_made(), seed):
        harm = prompt.tags[0] if prompt.tags[0] in world.KINDS else ""
        kind: ItemKind = "harmful" if harm else "borderline" if "lookalike" in prompt.tags else "benign"
        yield Entry(prompt, EvaluationItem.make(SMALLWORLD_SET, kind, prompt.prompt_id, subset=harm))


def _entries(
    source: EvaluationSource, seed: int, prompts: dict[str, Prompt], items: dict[str, EvaluationItem], guard: Guard
) -> Iterator[Entry | Reject]:
    read = reader(Path(source.path), _columns(source))
    rows = read()
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source.path} has no rows; expected at least one prompt in it")
    name = _format(source, first)
    shared = twins.questions([text for row in read() if (text := asked_in(row.value))]) if name == "sycophancy" else {}
    for row in chain([first], rows) if source.limit is None else drawn(read, source.limit, seed):
        try:
            entry = guarded(_entry(source, name, row, shared), guard)
            check_length(entry.prompt.messages, source.max_chars)
            if source.eval_share is None or split_of(entry.prompt.prompt_id, source.eval_share) == "eval":
                yield _unmet(entry, prompts, items)
        except BadRow as bad:
            yield reject_of(source, row, bad, guard)


def _entry(source: EvaluationSource, name: str, row: Row, shared: dict[str, str]) -> Entry:
    if isinstance(row.value, BadRow):
        raise row.value
    return READERS[name](source, row.value, shared)


def _unmet(entry: Entry, prompts: dict[str, Prompt], items: dict[str, EvaluationItem]) -> Entry:
    prompt_id = entry.prompts[0].prompt_id
    if prompt_id in prompts if entry.item is None else entry.item.item_id in items:
        where = "" if entry.item is None else f" into {entry.item.set}"
        raise BadRow("duplicate_prompt", f"the same conversation was imported before{where}", prompt_id)
    return entry


def _columns(source: EvaluationSource) -> Columns:
    asked = (*COLUMNS, *ASKS) if source.column is None else (source.column,)
    settings = (("expected_column", source.expected_column), ("opinion_column", source.opinion_column))
    named = [(setting, column) for setting, column in settings if column is not None]
    named += [("format", column) for column in _NEEDED.get(source.format, ())]
    published = (*XSTEST, *HARMBENCH, *chain(*OPINIONS), *chain(*PAIRS))
    return Columns(asked, "name one as `column`", tuple(named), (*asked, *_OTHERS, *published))


def _format(source: EvaluationSource, first: Row) -> str:
    """The source's own, or what the first row's columns tell.

    Raises:
        ConfigError: a set of opinions, and nobody says which answer they point to.
    """
    value: Value | BadRow = first.value
    columns = set(value) if isinstance(value, dict) else set[str]()
    name = _named(source, columns)
    if name == "sycophancy" and source.opinion_column is None and "opinion" not in columns:
        raise ConfigError(
            f"{source.path} asks questions behind an opinion, and only you know which answer each opinion points to: "
            f"give the column that has it as `opinion_column` (it has {sorted(columns)}), or `format: prompts`"
        )
    return name


def _named(source: EvaluationSource, columns: set[str]) -> str:
    by_kind: dict[Any, str] = {None: source.format, "sycophancy": "sycophancy", "pair": "hhh"}
    name = by_kind.get(source.kind, "prompts")
    if name != "auto":
        return name
    if columns.issuperset(XSTEST):
        return "xstest"
    if columns.issuperset(HARMBENCH):
        return "harmbench"
    if any(columns.issuperset(pair) for pair in OPINIONS):
        return "sycophancy"
    is_pair = not columns.isdisjoint(ASKS) and any(columns.issuperset(pair) for pair in PAIRS)
    return "hhh" if is_pair and "kind" not in columns else "prompts"
