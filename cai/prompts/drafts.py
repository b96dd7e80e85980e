"""What a writer's reply is: a prompt, or of no use for a reason. Pure.

The reply is data: it becomes the messages of a prompt, or the text of a reject, and nothing else.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from cai.probes import refusal
from cai.probes.sentences import Sentence, plain, sentences_of
from cai.records import Message, Role
from cai.verdict import Unscored
from cai.words import runs, words_in

LEAKED = 8
"""So many words in a row of the request, less what it quotes, are no coincidence."""
GAP = "\0"
"""Stands where a request quotes something."""
_TURN = re.compile(r"^\s*(?:\*\*)?(user|human|assistant)(?:\*\*)?\s*:(?:\*\*)?[ \t]*", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r"""(?<!\w)(["'`])(?!\s).+?\1(?!\w)""")
_REQUESTS = re.compile(
    r"(?:^|[;:,] )(?:(?:so|and|then|but|now|just|please|kindly)\b,? )*"
    r"(?:(?:tell|show|give|teach|help|find|get|make|write|send|walk|guide|advise|answer|remind|lend) (?:me|us)\b"
    r"|(?:explain|describe|list|write|draft|suggest|recommend|pretend|imagine|summari[sz]e|translate) )"
    r"|\bi (?:want|need|would like) (?:you to|to know)\b|\bi'd like (?:you to|to know)\b|\b(?:i|help) (?:but )?wonder"
)
"""Somebody wants to be told."""
_SERVES = re.compile(
    r"\b(?:(?:help|assist|support|offer|show|give|tell|write|suggest|provide|do|create) (?:for )?you\b"
    r"|would you (?:like|prefer|be)\b|do you (?:want|need)\b|want me to\b|are you (?:ok|okay|all right|safe|in)\b"
    r"|(?:can|could|may|shall|might) i (?:\w+ )?(?:help|assist|offer|suggest|write|provide|draft|create|propose)\b"
    r"|i(?: can| could| would| will| am|'d|'ll|'m)(?!not\b|'t| not)\b.{0,20}\b(?:help|assist|offer|happy|glad)\b"
    r"|(?:something|anything|topic|what) (?:else|different)"
    r"|(?:another|different) (?:topic|request|task|question|prompt)"
    r"|more (?:about|details?|context|information)\b.{0,20}\byou|someone you|how about\b|let me know\b)"
)
"""Somebody offers to help, or asks after the other."""
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
    read = _dialogue(text) if is_dialogue else _single(text)
    is_meant = is_dialogue and not isinstance(read, Useless)  # nobody declines in turns of the user and the assistant
    return Useless("writer_refused", "it declines to write one") if not is_meant and _is_refusal(text) else read


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
    """It declines and asks for nothing. The rules are made for answers: a prompt may begin with "I can't …" as well,
    and what somebody quotes is not said by them.
    """
    said = _QUOTED.sub('""', plain(_unquoted(text)))
    read = refusal.read("", said)
    if isinstance(read, Unscored) or read.label != "full_refusal":
        return False
    declined = [each.start for each in read.evidence if each.rule in ("declines", "disapproves")]
    return not any(_asks(each, is_refusing=each.start in declined) for each in sentences_of(said))


def _asks(sentence: Sentence, *, is_refusing: bool) -> bool:
    """It wants an answer of an assistant; who declines to write a request may name it in the same sentence."""
    if _SERVES.search(sentence.text):
        return False
    wants = _REQUESTS.search(sentence.text)
    return sentence.text.endswith("?") or (wants is not None and (not is_refusing or "wonder" in wants[0]))
