"""Prompts from files: JSONL, CSV, Parquet, or one a line, as a stream. Every row becomes a prompt or a reject.

What a row says is in `storage/dialogues.py`, how bytes become rows in `storage/rows.py`.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cai.config import PrivacyConfig, PromptSource
from cai.errors import ConfigError, DataError
from cai.privacy import REASON, Guard, refusal
from cai.records import Prompt, Reject, digest, seed_from
from cai.smallworld import world
from storage.dialogues import COLUMNS, BadRow, answer_of, check_unicode, expected_of, messages_of
from storage.rows import Columns, Row, reader

_TAG_COLUMNS = ("SemanticCategory", "type", "label")


class Answered(NamedTuple):
    """A prompt and the answer that its row has, None where its source names no `answer_column`."""

    prompt: Prompt
    answer: str | None


Seen = dict[str, str | None]
"""What was imported before: the id of a prompt, and the answer that is expected of it."""


def read_sources(
    sources: Sequence[PromptSource], split: Literal["train", "eval"], seed: int, guard: Guard | None = None
) -> Iterator[Prompt | Reject]:
    """The rows of all sources, one after the other; a prompt met before, in whichever file, is a reject.

    `guard` is what the profile does about personal items, and counts them; see `read_answered`.

    Raises:
        ConfigError: `smallworld` without a limit.
        DataError: see `read_prompts`.
    """
    seen: Seen = {}
    for source in sources:
        if source.path != world.SOURCE:
            for row in read_prompts(source, seed, seen, guard):
                yield replace(row, split=split) if isinstance(row, Prompt) else row
        elif source.limit is None:
            raise ConfigError("the prompt source `smallworld` needs a `limit`: it makes as many as are asked for")
        else:
            yield from world.prompts(split, source.limit, seed)


def read_prompts(
    source: PromptSource, seed: int, seen: Seen | None = None, guard: Guard | None = None
) -> Iterator[Prompt | Reject]:
    """The prompts of a file in its order, as `read_answered` does."""
    return (row.prompt if isinstance(row, Answered) else row for row in read_answered(source, seed, seen, guard))


def read_answered(
    source: PromptSource, seed: int, seen: Seen | None = None, guard: Guard | None = None
) -> Iterator[Answered | Reject]:
    """The prompts of a file in its order; a row that gives none gives a `Reject` of stage `import`.

    Args:
        source: `limit` rows of the file are drawn by `seed`, whatever their order; a larger limit draws the same rows
            and more.
        seed: what `limit` draws by.
        seen: prompts that count as duplicates; grows as prompts are read. Share one among several sources.
        guard: what becomes of personal items; they are redacted where none is given. Neither a prompt nor a reject has
            what it hides, and ids and duplicates are of what is left.

    Raises:
        DataError: no such file, an empty one, one in another format, or one that breaks off in the middle.
    """
    path = Path(source.path)
    read = reader(path, _columns(source))
    rows = read()
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} has no rows; expected at least one prompt in it")
    drawn = chain([first], rows) if source.limit is None else _drawn(read, source.limit, seed)
    return _convert(source, drawn, {} if seen is None else seen, guard or Guard(PrivacyConfig()))


def _columns(source: PromptSource) -> Columns:
    named = (("expected_column", source.expected_column), ("answer_column", source.answer_column))
    return Columns(
        COLUMNS if source.column is None else (source.column,),
        "name one as `column`",
        named=tuple((setting, column) for setting, column in named if column is not None),
        others=(*COLUMNS, *_TAG_COLUMNS, "tags", "ContextString"),
    )


def _drawn(rows: Callable[[], Iterator[Row]], limit: int, seed: int) -> Iterator[Row]:
    n_rows = sum(1 for _ in rows())
    chosen = set(heapq.nsmallest(limit, range(n_rows), key=lambda index: seed_from(f"row {index}", seed)))
    return (row for index, row in enumerate(rows()) if index in chosen)


def _convert(source: PromptSource, rows: Iterator[Row], seen: Seen, guard: Guard) -> Iterator[Answered | Reject]:
    name = Path(source.path).name
    for row in rows:
        try:
            if isinstance(row.value, BadRow):
                raise row.value
            messages = messages_of(row.value, source.column)
            tags = (*source.tags, *_tags(row.value))
            check_unicode("".join(tags))
            expected = None if source.expected_column is None else expected_of(row.value, source.expected_column)
            answer = None if source.answer_column is None else answer_of(row.value, source.answer_column)
            prompt = Prompt.make(messages, name, source.licence, tags, expected=expected)
            prompt, answer, refused = guard.prompt(prompt, answer)
            if refused:
                raise BadRow(REASON, refusal(refused), prompt.prompt_id)
            _check_seen(prompt, seen)
        except BadRow as bad:
            yield _reject(source, row, bad, guard)
        else:
            seen[prompt.prompt_id] = expected
            yield Answered(prompt, answer)


def _check_seen(prompt: Prompt, seen: Seen) -> None:
    if prompt.prompt_id not in seen:
        return
    if prompt.expected not in (None, first := seen[prompt.prompt_id]):
        detail = f"{prompt.expected!r} is expected here, and {first!r} where the conversation was imported before"
        raise BadRow("conflicting_expected", detail, prompt.prompt_id)
    raise BadRow("duplicate_prompt", "the same conversation was imported before", prompt.prompt_id)


def _reject(source: PromptSource, row: Row, bad: BadRow, guard: Guard) -> Reject:
    raw = row.raw.encode("utf-8", "replace").decode("utf-8")
    text = guard.raw(raw)
    parents = (source.path, str(row.number), digest(text))
    said = guard.detail(bad.detail, raw)
    detail = f"{source.path}, row {row.number}: {said}".encode("utf-8", "replace").decode("utf-8")
    return Reject.make("import", bad.reason, prompt_id=bad.prompt_id, parents=parents, detail=detail, text=text)


def _tags(value: dict[str, Any] | str) -> list[str]:
    if isinstance(value, str):
        return []
    own = value.get("tags")
    given = [tag for tag in own if isinstance(tag, str)] if isinstance(own, list | tuple) else []
    return given + [tag for c in _TAG_COLUMNS if isinstance(tag := value.get(c), str) and tag]
