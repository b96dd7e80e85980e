"""Prompts from files and datasets, as a stream. Every row becomes a prompt or a reject.

What a row says is in `storage/dialogues.py`, how bytes become rows in `storage/rows.py`.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from cai.config import AnySource, PrivacyConfig, PromptSource
from cai.config.prompts import GENERATED
from cai.errors import DataError
from cai.privacy import REASON, Guard, refusal
from cai.records import Message, Prompt, PromptKind, Reject, digest, seed_from
from cai.smallworld import world
from cai.splits import Split, split_of
from storage.dialogues import COLUMNS, BadRow, answer_of, check_unicode, expected_of, messages_of, own_tags
from storage.hub import HUB, dataset_reader, is_dataset
from storage.rows import KEPT_OF_LONG, Columns, Row, reader

_TAG_COLUMNS = ("SemanticCategory", "type", "label")
_STATED = ("licence", "license", "origin", "kind", "split")
_KINDS = frozenset(get_args(PromptKind))


class Answered(NamedTuple):
    """A prompt and the answer that its row has, None where its source names no `answer_column`."""

    prompt: Prompt
    answer: str | None


class Parsed(NamedTuple):
    """A prompt, and where it was read: whether it is the first of its kind is not known yet."""

    prompt: Prompt
    answer: str | None
    number: int
    raw: str
    cells: Mapping[str, str] | None = None
    """What `raw` consists of where that is no JSON."""


Seen = dict[str, str | None]
"""What was imported before: the id of a prompt, and the answer that is expected of it."""


def read_sources(
    sources: Sequence[PromptSource],
    split: Split,
    seed: int,
    generated: Sequence[Prompt] = (),
    guard: Guard | None = None,
) -> Iterator[Prompt | Reject]:
    """The rows of all sources, one after the other; a prompt met before, in whichever file, is a reject. `generated`
    are the rows of the source of that name; `guard` see `parse`.

    Raises:
        ConfigError: `smallworld` without a limit.
        DataError: see `read_prompts`.
    """
    seen: Seen = {}
    for source in sources:
        if source.path == world.SOURCE:
            made = _once(source, small_world(source, split, seed), seen, guard or Guard())
            yield from (row.prompt if isinstance(row, Answered) else row for row in made)
            continue
        if source.path == GENERATED:
            yield from (row for row in generated if row.prompt_id not in seen)
            seen |= {row.prompt_id: None for row in generated}
            continue
        for row in read_prompts(source, seed, seen, guard, split=split):
            if isinstance(row, Reject):
                yield row
            elif source.eval_share is None:
                yield replace(row, split=split)
            elif row.split == split:
                yield row


def small_world(source: PromptSource, split: Split, seed: int) -> Iterator[Parsed]:
    """The prompts of the built-in generator, which has its own two sides.

    Raises:
        ConfigError: no limit.
    """
    made = world.prompts(split, source.n_made(), seed)
    return (Parsed(prompt, None, n, prompt.messages[-1].content) for n, prompt in enumerate(made, 1))


def read_prompts(
    source: PromptSource,
    seed: int,
    seen: Seen | None = None,
    guard: Guard | None = None,
    *,
    split: Split = "train",
    own_expected: bool = False,
) -> Iterator[Prompt | Reject]:
    """The prompts of a file in its order, as `read_answered` does."""
    rows = read_answered(source, seed, seen, guard, split=split, own_expected=own_expected)
    return (row.prompt if isinstance(row, Answered) else row for row in rows)


def read_answered(
    source: PromptSource,
    seed: int,
    seen: Seen | None = None,
    guard: Guard | None = None,
    *,
    split: Split = "train",
    own_expected: bool = False,
) -> Iterator[Answered | Reject]:
    """The prompts of a file in its order; a row that gives none gives a `Reject` of stage `import`.

    Args:
        source: `limit` rows of the file are drawn by `seed`, whatever their order; a larger limit draws the same rows
            and more.
        seed: what `limit` draws by.
        seen: prompts that count as duplicates, with the answers that are known; grows as prompts are read. Share one
            among several sources.
        guard: see `parse`.
        split: see `parse`.
        own_expected: where the source names no `expected_column`, what a row has as `expected` is its known answer.

    Raises:
        DataError: no such file, an empty one, one in another format, or one that breaks off in the middle.
    """
    known, guard = {} if seen is None else seen, guard or Guard()
    return _once(source, parse(source, seed, guard, split=split, own_expected=own_expected), known, guard)


def parse(
    source: PromptSource, seed: int, guard: Guard, skip: int = 0, *, split: Split = "train", own_expected: bool = False
) -> Iterator[Parsed | Reject]:
    """Every row of a file but the first `skip`, in its order, whether its prompt came before or not.

    `guard` does about personal items what its policy says, and counts them: neither a prompt nor a reject has what it
    hides, and ids, duplicates and the side of a split are of what is left. `split` is what the rows are for: one that
    says of itself that it is to measure with is not trained on.
    """
    own_expected = own_expected and source.expected_column is None
    columns = _columns(source, own_expected)
    read = dataset_reader(source.path, columns) if is_dataset(source.path) else reader(Path(source.path), columns)
    rows = read()
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source.path} has no rows; expected at least one prompt in it")
    chosen = chain([first], rows) if source.limit is None else drawn(read, source.limit, seed)
    return _convert(source, islice(chosen, skip, None), guard, split, own_expected)


def held_out_side(sources: Sequence[PromptSource], seed: int, privacy: PrivacyConfig) -> Iterator[Prompt]:
    """The prompts that an `eval_share` of these sources holds out, as they will be stored."""
    guard = Guard(privacy)
    for source in sources:
        if source.eval_share is not None and source.path not in (world.SOURCE, GENERATED):
            rows = parse(source, seed, guard)
            yield from (row.prompt for row in rows if isinstance(row, Parsed) and row.prompt.split == "eval")


def _columns(source: PromptSource, own_expected: bool) -> Columns:
    named = (("expected_column", source.expected_column), ("answer_column", source.answer_column))
    return Columns(
        COLUMNS if source.column is None else (source.column,),
        "name one as `column`",
        named=tuple((setting, column) for setting, column in named if column is not None),
        others=(*COLUMNS, *_TAG_COLUMNS, *_STATED, "tags", "ContextString", *(("expected",) if own_expected else ())),
    )


def drawn(rows: Callable[[], Iterator[Row]], limit: int, seed: int) -> Iterator[Row]:
    n_rows = sum(1 for _ in rows())
    chosen = set(heapq.nsmallest(limit, range(n_rows), key=lambda index: seed_from(f"row {index}", seed)))
    return (row for index, row in enumerate(rows()) if index in chosen)


def _once(
    source: PromptSource, rows: Iterator[Parsed | Reject], seen: Seen, guard: Guard
) -> Iterator[Answered | Reject]:
    for row in rows:
        if isinstance(row, Reject):
            yield row
        elif (prompt := row.prompt).prompt_id in seen:
            yield duplicate(source, row, seen[prompt.prompt_id], guard)
            seen[prompt.prompt_id] = prompt.expected if seen[prompt.prompt_id] is None else seen[prompt.prompt_id]
        else:
            seen[prompt.prompt_id] = prompt.expected
            yield Answered(prompt, row.answer)


def duplicate(source: PromptSource, row: Parsed, known: str | None, guard: Guard) -> Reject:
    """Why a prompt does not count a second time. `known` is the answer that the rows before it expect, if any does."""
    reason, detail = "duplicate_prompt", "the same conversation was imported before"
    if row.prompt.expected not in (None, known) and known is not None:
        reason = "conflicting_expected"
        detail = f"{row.prompt.expected!r} is expected here, and {known!r} where the conversation was imported before"
    return reject_of(source, row, BadRow(reason, detail, row.prompt.prompt_id), guard)


def _convert(
    source: PromptSource, rows: Iterator[Row], guard: Guard, split: Split, own_expected: bool
) -> Iterator[Parsed | Reject]:
    name = source_name(source)
    for row in rows:
        try:
            if isinstance(row.value, BadRow):
                raise row.value
            messages = messages_of(row.value, source.column)
            check_length(messages, source.max_chars)
            tags = (*source.tags, *tags_of(row.value))
            if tags:
                check_unicode("".join(tags))
            expected = None if source.expected_column is None else expected_of(row.value, source.expected_column)
            if own_expected and not isinstance(row.value, str) and "expected" in row.value:
                expected = expected_of(row.value, "expected")
            answer = None if source.answer_column is None else answer_of(row.value, source.answer_column)
            licence, origin, kind, own = _stated(source, row.value)
            prompt = Prompt.make(messages, name, licence, tags, own, expected, origin, kind)
            prompt, answer, refused = guard.prompt(prompt, answer)
            if refused:
                raise BadRow(REASON, refusal(refused), prompt.prompt_id)
            if own == "eval" and split == "train" and source.eval_share is None:
                raise BadRow("split_eval", _TO_MEASURE, prompt.prompt_id)
            if source.eval_share is not None and own == "train":
                prompt = replace(prompt, split=split_of(prompt.prompt_id, source.eval_share))
        except BadRow as bad:
            yield reject_of(source, row, bad, guard)
        else:
            yield Parsed(prompt, answer, row.number, row.raw, cells_of(row.value, row.raw))


_TO_MEASURE = (
    "the row's own `split` is eval: it is to measure with, and this is for training; `--split eval` imports it, in a "
    "profile `evaluation` reads it"
)


class _Stated(NamedTuple):
    licence: str
    origin: str
    kind: PromptKind
    split: Split


def _stated(source: PromptSource, value: dict[str, Any] | str) -> _Stated:
    """What the source says of all its rows, or else what the row says of itself."""
    if isinstance(value, str):
        return _Stated(source.licence, source.origin, source.kind, "train")
    licence = source.licence or _text(value, "licence") or _text(value, "license")
    origin = source.origin or _text(value, "origin")
    check_unicode(licence)
    check_unicode(origin)
    own = source.kind or _text(value, "kind")
    if own not in _KINDS:
        kinds = ", ".join(filter(None, get_args(PromptKind)))
        raise BadRow("unknown_kind", f"a row's kind is one of {kinds}, got {own!r:.100}; state one for the whole file")
    return _Stated(licence, origin, cast(PromptKind, own), "eval" if value.get("split") == "eval" else "train")


def _text(value: dict[str, Any], name: str) -> str:
    return found if isinstance(found := value.get(name), str) else ""


def check_length(messages: Sequence[Message], max_chars: int) -> None:
    n = len(messages[0].content) if len(messages) == 1 else sum(len(m.content) for m in messages)
    if n > max_chars:
        raise BadRow("too_long", f"a conversation of {n:,} characters, and {max_chars:,} are taken (`max_chars`)")


def source_name(source: PromptSource) -> str:
    """What a prompt's `source` says: the name of the file, or of the dataset as it was given."""
    return source.path if source.path.startswith(HUB) else Path(source.path).name


def reject_of(source: AnySource, row: Row | Parsed, bad: BadRow, guard: Guard) -> Reject:
    """A row that gives nothing, with what is wrong with it, and without what `guard` hides."""
    raw = row.raw.encode("utf-8", "replace").decode("utf-8")
    cells = row.cells if isinstance(row, Parsed) else cells_of(row.value, raw)
    text = guard.raw(raw, cells)
    if bad.reason == "too_long":
        text = text[:KEPT_OF_LONG]
    parents = (source.path, str(row.number), digest(text))
    said = guard.detail(bad.detail, raw, cells)
    detail = f"{source.path}, row {row.number}: {said}".encode("utf-8", "replace").decode("utf-8")
    return Reject.make("import", bad.reason, prompt_id=bad.prompt_id, parents=parents, detail=detail, text=text)


def cells_of(value: dict[str, Any] | str | BadRow, raw: str) -> dict[str, str] | None:
    """The cells of a row that is no JSON; None of another."""
    if not isinstance(value, dict) or raw.startswith("{"):
        return None
    if not all(isinstance(cell, str) for cell in value.values()):
        return None
    return {name: cell.encode("utf-8", "replace").decode("utf-8") for name, cell in value.items()}


def tags_of(value: dict[str, Any] | str) -> list[str]:
    """What a row says its prompt is, under the names that published files have for it."""
    return [] if isinstance(value, str) else own_tags(value) + [tag for c in _TAG_COLUMNS if (tag := _text(value, c))]
