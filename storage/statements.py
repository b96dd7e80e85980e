"""What one imported row says of responses to a prompt: which is better, and whose word it is. Pure.

Four shapes: two transcripts (`chosen`, `rejected`), `prompt` with `chosen` and `rejected`, a ranked list (`prompt`,
`responses`, and `ranks` where some are tied), and a labelled pair (`prompt`, `response_a`, `response_b`, `label`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any, Literal, NamedTuple, get_args

from cai.config import Objective
from cai.records import Message
from storage.dialogues import BadRow, check_unicode, dialogue_of, messages_of, prompt_and_answer

Shape = Literal["hh", "pairs", "ranked", "csv"]
ANNOTATOR_COLUMNS = ("annotator", "annotator_id", "worker_id")
"""Whoever stands here is hashed before anything is stored."""
_A, _B = ("response_a", "output_1"), ("response_b", "output_2")
_LABELS = ("label", "preference", "p_a")
CONTENT_COLUMNS = (
    *("prompt", "input", "messages", "chosen", "rejected", "responses", "ranks"),
    *(*_A, *_B, *_LABELS, "group", "objective"),
)
"""Everything else that is read."""
_WORDS = {"a": 1.0, "1": 1.0, "1.0": 1.0, "b": 0.0, "2": 0.0, "2.0": 0.0, "tie": 0.5, "equal": 0.5}


class Compared(NamedTuple):
    """`p_first` is 1 where `first` is better, 0.5 for a tie."""

    first: str
    second: str
    p_first: float


class Statement(NamedTuple):
    """One row. `annotator` is the raw id: whoever holds it must hash it, and keep it out of logs."""

    messages: tuple[Message, ...]
    compared: tuple[Compared, ...]
    annotator: str
    group: str
    objective: str


def statement_of(row: Mapping[str, Any] | str, shape: Shape | None = None, objective: str = "") -> Statement:
    """The statement of one row of that shape; None finds the shape by the row's columns.

    Args:
        row: what the file has.
        shape: which of the four is expected.
        objective: what was asked, where the row itself does not say.

    Raises:
        BadRow: says what is wrong. Its text never has an annotator's id in it.
    """
    if isinstance(row, str):
        raise BadRow("no_pair", "a line of text compares nothing; give JSONL, CSV or Parquet")
    found = shape or _shape(row)
    messages, compared = _READERS[found](row)
    for pair in compared:
        check_pair(pair)
    return Statement(messages, compared, _annotator(row), _text(row, "group"), _objective(row) or objective)


def _shape(row: Mapping[str, Any]) -> Shape:
    if _first(row, _A) is not None or _first(row, _B) is not None:
        return "csv"
    if row.get("responses") is not None:
        return "ranked"
    if row.get("chosen") is not None or row.get("rejected") is not None:
        return "pairs" if row.get("prompt") is not None else "hh"
    raise BadRow("no_pair", f"two responses are expected (`cai labels import --help`), got the columns {sorted(row)}")


def check_pair(pair: Compared) -> None:
    """Raise `BadRow` where two responses cannot be compared."""
    if not pair.first.strip() or not pair.second.strip():
        raise BadRow("empty_response", "one of the responses is empty")
    if pair.first == pair.second:
        raise BadRow("identical_responses", "the responses are the same text, so neither is better")
    check_unicode(pair.first + pair.second)


# The four shapes: the prompt, and what is compared


_Read = tuple[tuple[Message, ...], tuple[Compared, ...]]


def _from_transcripts(row: Mapping[str, Any]) -> _Read:
    """Whole conversations that part at the last turn of the assistant."""
    chosen, rejected = (dialogue_of(_required(row, name)) for name in ("chosen", "rejected"))
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            raise BadRow("no_answer", f"{name!r} ends in no turn of the assistant")
    if chosen[:-1] != rejected[:-1]:
        raise BadRow("prompts_differ", "the conversations differ before the last turn of the assistant")
    if not chosen[-1].content.strip() or not rejected[-1].content.strip():
        raise BadRow("empty_response", "the last turn of the assistant is empty in one of the conversations")
    messages, first = prompt_and_answer(chosen)
    return messages, (Compared(first, prompt_and_answer(rejected)[1], 1.0),)


def _from_chosen(row: Mapping[str, Any]) -> _Read:
    messages = messages_of(row, "prompt")
    chosen, rejected = (_answer(_required(row, name), messages) for name in ("chosen", "rejected"))
    return messages, (Compared(chosen, rejected, 1.0),)


def _from_ranking(row: Mapping[str, Any]) -> _Read:
    messages = messages_of(row, "prompt")
    responses = [_answer(item, messages) for item in _list(row, "responses")]
    if len(responses) < 2:
        raise BadRow("no_pair", f"a ranking has at least two responses, got {len(responses)}")
    ranks = range(len(responses)) if row.get("ranks") is None else list(map(_rank, _list(row, "ranks")))
    if len(ranks) != len(responses):
        raise BadRow("bad_ranks", f"{len(responses)} responses have {len(ranks)} ranks; give one each, 1 for the best")
    ranked = list(zip(responses, ranks, strict=True))
    return messages, tuple(Compared(a, b, _p_better(i, j)) for (a, i), (b, j) in combinations(ranked, 2))


def _from_labelled(row: Mapping[str, Any]) -> _Read:
    messages = messages_of(row, "prompt" if row.get("prompt") is not None else _prompt_column(row))
    a, b = (_first(row, names) for names in (_A, _B))
    if a is None or b is None:
        raise BadRow("no_pair", f"{' and '.join((_A[0], _B[0]))} are expected, got the columns {sorted(row)}")
    return messages, (Compared(_answer(a, messages), _answer(b, messages), _label(row)),)


_READERS = {"hh": _from_transcripts, "pairs": _from_chosen, "ranked": _from_ranking, "csv": _from_labelled}


# Single values


def _prompt_column(row: Mapping[str, Any]) -> str:
    return next((name for name in ("messages", "input") if row.get(name) is not None), "prompt")


def _answer(value: Any, prompt: tuple[Message, ...]) -> str:
    """A text as it is; of a conversation the assistant's turn, with or without the prompt before it."""
    if isinstance(value, str) and not value.startswith("\n\nHuman:"):
        return value
    turns = dialogue_of(value)
    if tuple(turns[: len(prompt)]) == prompt:
        turns = turns[len(prompt) :]
    if not turns or any(turn.role != "assistant" for turn in turns):
        raise BadRow("prompts_differ", "a response is more than one answer to `prompt`: its conversation is another")
    return "\n\n".join(filter(None, (turn.content for turn in turns)))


def _label(row: Mapping[str, Any]) -> float:
    """P(a is better). A bare 0 is refused: it is b as a probability, and a as a place in a list."""
    name = next((name for name in _LABELS if row.get(name) is not None), None)
    if name is None:
        raise BadRow("no_label", f"one of {', '.join(_LABELS)} is expected, got the columns {sorted(row)}")
    value = row[name]
    word = str(value).strip().lower()
    number = _number(word)
    if name == "p_a":
        if number is None or not 0 <= number <= 1:
            raise BadRow("unknown_label", f"p_a is the probability that a is better, 0 to 1, got {value!r:.100}")
        return number
    if not isinstance(value, bool) and word in _WORDS:
        return _WORDS[word]
    if not isinstance(value, bool) and number is not None and 0 < number < 1:
        return number
    raise BadRow("unknown_label", f"{name} is a, b, tie, 1, 2 or a share between 0 and 1, got {value!r:.100}")


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _rank(value: Any) -> float:
    number = None if isinstance(value, bool) else _number(str(value))
    if number is None or not math.isfinite(number):
        raise BadRow("bad_ranks", f"a rank is a number, 1 for the best, got {value!r:.100}")
    return number


def _p_better(rank: float, other: float) -> float:
    return 0.5 if rank == other else float(rank < other)


def _annotator(row: Mapping[str, Any]) -> str:
    value = _first(row, ANNOTATOR_COLUMNS)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow("bad_annotator", f"an annotator's id is text or a whole number, got a {type(value).__name__}")
    return str(value).strip()


def _objective(row: Mapping[str, Any]) -> str:
    value = _text(row, "objective").lower()
    if value and value not in get_args(Objective):
        raise BadRow("unknown_objective", f"expected one of {', '.join(get_args(Objective))}, got {value!r:.100}")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow("wrong_type", f"text is expected under {name!r}, got {value!r:.100}")
    check_unicode(value)
    return value.strip()


def _required(row: Mapping[str, Any], name: str) -> Any:
    if row.get(name) is None:
        raise BadRow("no_pair", f"expected a value under {name!r}, got the columns {sorted(row)}")
    return row[name]


def _list(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    """A list, or one spelled out as JSON, as CSV has it."""
    value = _required(row, name)
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise BadRow("wrong_type", f"a list is expected under {name!r}, got {value!r:.100}")
    return value


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first that is there. The empty text counts: an empty response is one."""
    return next((row[name] for name in names if row.get(name) is not None), None)
