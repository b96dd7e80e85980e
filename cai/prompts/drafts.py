"""What a writer's reply is: a prompt, or of no use for a reason. Pure.

The reply is data: it becomes the messages of a prompt, or the text of a reject, and nothing else.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from cai.probes import refusal
from cai.records import Message, Role
from cai.verdict import Unscored
from cai.words import runs, words_in

LEAKED = 8
"""So many words in a row of the request, less what it quotes, are no coincidence."""
GAP = "\0"
"""Stands where a request quotes something."""
_TURN = re.compile(r"^\s*(?:\*\*)?(user|human|assistant)(?:\*\*)?\s*:(?:\*\*)?[ \t]*", re.IGNORECASE | re.MULTILINE)
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"), ("`", "`"))
_ROLE: dict[str, Role] = {"user": "user", "human": "user", "assistant": "assistant"}


class Useless(NamedTuple):
    """Why a draft is none: `reason` as people group by it, `detail` for reading."""

    reason: str
    detail: str


def leak_of(text: str, *, own: str, fence: str) -> Useless | None:
    """What a draft repeats of the request that it replies to.

    Args:
        text: what the writer replied.
        own: the request, with `GAP` for what it quotes: whoever repeats that is not new, and leaks nothing.
        fence: the word that marks quoted text in the request.
    """
    if fence in text.casefold():
        return Useless("leaks_template", f"it holds the fence {fence!r} of the request")
    said = {run for part in own.split(GAP) for run in runs(words_in(part), LEAKED)}
    leaked = next((run for run in runs(words_in(text), LEAKED) if run in said), None)
    return Useless("leaks_template", f"it repeats the request: {' '.join(leaked)!r}") if leaked else None


def messages_of(text: str, *, is_dialogue: bool) -> tuple[Message, ...] | Useless:
    """The conversation that a draft is; `is_dialogue` says that several turns were asked for."""
    if _is_refusal(text):
        return Useless("writer_refused", "it declines to write one")
    return _dialogue(text) if is_dialogue else _single(text)


def text_of(messages: Sequence[Message]) -> str:
    """A conversation as a writer is shown it, and as it is to write one: one turn as it is, several by their roles."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)


def _single(text: str) -> tuple[Message, ...] | Useless:
    marks = list(_TURN.finditer(text))
    if len(marks) > 1 or (marks and (marks[0].start() > 0 or _ROLE[marks[0][1].lower()] != "user")):
        return Useless("not_one_message", f"{len(marks)} turns where one message of the user was asked for")
    said = _unquoted(text[marks[0].end() :] if marks else text)
    return (Message("user", said),) if said else Useless("empty_prompt", "nothing but quotation marks or a role")


def _dialogue(text: str) -> tuple[Message, ...] | Useless:
    """Turns of the user and the assistant in turn, the user first and last."""
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return Useless("no_dialogue", "it does not begin with a line `User: …`")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = [
        Message(_ROLE[mark[1].lower()], _unquoted(text[mark.end() : end]))
        for mark, end in zip(marks, ends, strict=True)
    ]
    roles = [turn.role for turn in turns]
    if len(turns) < 3 or roles != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        return Useless("no_dialogue", f"the turns are {', '.join(roles)}: expected user, assistant, …, user")
    if not all(turn.content for turn in turns):
        return Useless("no_dialogue", "a turn is empty")
    return tuple(turns)


def _unquoted(text: str) -> str:
    text = text.strip()
    for start, end in _QUOTES:
        if len(text) > 1 and text.startswith(start) and text.endswith(end) and start not in text[1:-1]:
            return text[1:-1].strip()
    return text


def _is_refusal(text: str) -> bool:
    read = refusal.read("", text)
    return not isinstance(read, Unscored) and read.label == "full_refusal"
