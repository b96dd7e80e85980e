"""What monitoring reads and keeps: exchanges of a file or a stream, those of a model's evaluation, scores by exchange.

Texts from production are not stored: scores and rejects know them by their digests. Their tags, and words that many of
them have, are in the findings; personal items are in neither.
"""

import io
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import DataError
from cai.monitoring.exchanges import Exchange
from cai.privacy import Guard
from cai.records import Prompt, Reject, Response, Score, digest
from storage.dialogues import BadRow, answer_of, messages_of, own_tags
from storage.rows import MAX_ROW_CHARS, Columns, Row, read_json, reader
from storage.store import Store

STDIN = "-"
ANSWER = "response"
_PROMPTS = ("prompt", "messages")


def read_exchanges(path: str, stdin: io.TextIOBase | None = None) -> Iterator[Exchange | Reject]:
    """The rows of a file, or of JSON lines on `stdin` where the path is "-", one after the other.

    A row has `response`, and `prompt` (a text, or a list of messages) or `messages`; `tags` if it likes.

    Raises:
        DataError: no such file, one of an unknown format or without these columns, or one that breaks off.
    """
    columns = Columns(_PROMPTS, f"expected {' or '.join(_PROMPTS)}", named=((ANSWER, ANSWER),), others=("tags",))
    rows = _lines_of(stdin or sys.stdin) if path == STDIN else reader(Path(path), columns)()
    guard = Guard()
    for row in rows:
        try:
            yield _exchange(row, guard)
        except BadRow as bad:
            raw = row.raw.encode("utf-8", "replace").decode()
            parents = (path, str(row.number), digest(guard.raw(raw)))
            detail = f"{path}, row {row.number}: {guard.detail(bad.detail, raw)}".encode("utf-8", "replace").decode()
            yield Reject.make("monitor", bad.reason, prompt_id=bad.prompt_id, parents=parents, detail=detail)


def _exchange(row: Row, guard: Guard) -> Exchange:
    """Its ids are of the texts as they came, so that the same words are the same exchange."""
    if isinstance(row.value, BadRow):
        raise row.value
    if isinstance(row.value, str):
        raise BadRow("no_answer", "a line of plain text has no response; give JSON lines")
    name = next((name for name in _PROMPTS if row.value.get(name) is not None), None)
    if name is None:
        raise BadRow("no_prompt", f"expected a value under {' or '.join(_PROMPTS)}, got {sorted(row.value)[:10]}")
    messages = messages_of(row.value, name)
    prompt = Prompt.make(messages, "", tags=own_tags(row.value))
    made = Exchange.make(prompt.prompt_id, messages, answer_of(row.value, ANSWER))
    left = guard.conversation(prompt, (made.response,))
    return made._replace(messages=left.prompt.messages, response=left.texts[0], tags=left.prompt.tags)


def _lines_of(stream: Any) -> Iterator[Row]:
    """JSON lines, no longer than a file's."""
    number = 0
    while line := stream.readline(MAX_ROW_CHARS):
        number += 1
        if len(line) == MAX_ROW_CHARS and not line.endswith("\n"):
            while (rest := stream.readline(MAX_ROW_CHARS)) and not rest.endswith("\n"):
                pass
            yield Row(number, "", BadRow("too_long", f"a line of more than {MAX_ROW_CHARS:,} characters"))
        else:
            text = line.rstrip("\r\n")
            yield Row(number, text, read_json(text))


def evaluated(store: Store, model_digest: str) -> list[Exchange]:
    """The held-out prompts that this model has answered, with its answers.

    Raises:
        DataError: there are none.
    """
    quoted = model_digest.replace("'", "''")
    responses = store.read(Response, f"model_digest = '{quoted}'")
    prompts = store.find_all(Prompt, {response.prompt_id for response in responses})
    found = [
        Exchange.make(prompt.prompt_id, prompt.messages, response.text, prompt.tags)
        for response in responses
        if (prompt := prompts.get(response.prompt_id)) is not None and prompt.split == "eval"
    ]
    if not found:
        raise DataError(
            f"model {model_digest[:8]} has answered no held-out prompt in {store.home}; `cai evaluate` lets it"
        )
    return found


class Scorer(NamedTuple):
    """`score` gives a number, or why there is none; `digest` is of all that its numbers depend on."""

    name: str
    digest: str
    score: Callable[[list[Exchange]], list[float | str]]


class Scored(NamedTuple):
    scores: dict[str, float]
    """By exchange id."""
    n_asked: int
    n_unscored: int


GROUP = 64  # rows that a kill may cost


def scored(store: Store, scorer: Scorer, exchanges: Collection[Exchange], tell: Callable[[str], object]) -> Scored:
    """The scores of all: found where they are stored, asked for and stored where not. What cannot be scored becomes a
    reject, and is asked for again the next time.
    """
    ids = {exchange.exchange_id: Score.make_id(exchange.exchange_id, scorer.digest) for exchange in exchanges}
    stored = store.find_all(Score, list(ids.values()))
    found = {i: stored[row_id].score for i, row_id in ids.items() if row_id in stored}
    open_ = [exchange for exchange in exchanges if exchange.exchange_id not in found]
    n_unscored = 0
    for start in range(0, len(open_), GROUP):
        group = open_[start : start + GROUP]
        rows: list[Score | Reject] = []
        for exchange, value in zip(group, scorer.score(group), strict=True):
            key = exchange.exchange_id
            if isinstance(value, str):
                parents = (key, scorer.digest)
                rows.append(
                    Reject.make("monitor", "unscored", prompt_id=exchange.prompt_id, parents=parents, detail=value)
                )
                n_unscored += 1
            else:
                found[key] = value
                rows.append(Score(ids[key], key, scorer.digest, value))
        store.append(rows)
        tell(f"{scorer.name}: {min(start + GROUP, len(open_))} of {len(open_)} scored")
    return Scored(found, len(open_), n_unscored)


def kept_rejects(store: Store, stream: Iterator[Exchange | Reject]) -> tuple[Iterator[Exchange], Callable[[], int]]:
    """The exchanges of the stream; its rejects are stored in groups meanwhile, and counted."""
    n = 0
    waiting: list[Reject] = []

    def flush() -> None:
        store.append(waiting)
        waiting.clear()

    def exchanges() -> Iterator[Exchange]:
        nonlocal n
        for row in stream:
            if isinstance(row, Exchange):
                yield row
                continue
            n += 1
            waiting.append(row)
            if len(waiting) >= 1_000:
                flush()
        flush()

    return exchanges(), lambda: n
