"""What one imported row says: the conversation up to the assistant's turn, or why there is none. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, cast, get_args

from cai.records import Message, Role

COLUMNS = ("prompt", "Behavior", "messages", "chosen")
"""Where a conversation is looked for, in this order."""
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_MESSAGE_ROLES = frozenset(get_args(Role))
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


class BadRow(Exception):
    """A row that gives no prompt. `reason` is the name people group by."""

    def __init__(self, reason: str, detail: str, prompt_id: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.prompt_id = prompt_id


def messages_of(row: Mapping[str, Any] | str, column: str | None = None) -> tuple[Message, ...]:
    """The conversation of one row, ending in the user's turn.

    Turns of one role in a row are one turn (some transcripts split an answer in two). The last assistant turn, and
    what follows it, is the answer and not the prompt, unless the user spoke last.

    Raises:
        BadRow: empty_prompt, no_prompt, not_a_dialogue, no_user_turn, wrong_type or not_unicode.
    """
    name = "" if isinstance(row, str) else _name(row, column)
    value = row if isinstance(row, str) else _value(row, name)
    messages = _turns(value, is_transcript=name == "chosen")
    if messages and messages[-1].role == "assistant":
        messages.pop()
    _check(messages)
    return tuple(messages)


def dialogue_of(value: Any) -> list[Message]:
    """Every turn of a transcript or of a list of messages, as it stands.

    Raises:
        BadRow: not_a_dialogue or wrong_type.
    """
    if isinstance(value, str):
        return _from_text(value, is_transcript=True)
    if isinstance(value, Sequence):
        return [_message(item) for item in value]
    raise BadRow("wrong_type", f"a transcript or a list of messages is expected, got {value!r:.200}")


def prompt_and_answer(dialogue: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """The conversation up to the last run of assistant turns, and that run as one answer, "" where there is none.

    Raises:
        BadRow: empty_prompt, no_user_turn or not_unicode.
    """
    messages = _merged(dialogue)
    answer = messages.pop().content if messages and messages[-1].role == "assistant" else ""
    _check(messages)
    check_unicode(answer)
    return tuple(messages), answer


def answer_of(row: Mapping[str, Any] | str, column: str) -> str:
    """What the assistant says last under `column`: all of a plain text, the last turn of a conversation.

    Raises:
        BadRow: no_answer, not_a_dialogue, wrong_type or not_unicode.
    """
    value = _unwritten(column, _named(row, column, "no_answer"))
    if isinstance(value, str) and not _TURN.match(value):
        answer = value
    else:
        messages = _turns(value, is_transcript=isinstance(value, str))
        answer = messages[-1].content if messages and messages[-1].role == "assistant" else ""
    if not answer.strip():
        raise BadRow("no_answer", f"nothing is said by the assistant at the end of {column!r}")
    check_unicode(answer)
    return answer


def expected_of(row: Mapping[str, Any] | str, column: str) -> str | None:
    """The known answer under `column`: text as it is, anything else as JSON; null and empty text are none.

    Raises:
        BadRow: no_expected or not_unicode.
    """
    value = _named(row, column, "no_expected")
    if value is None or value == "":
        return None
    expected = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    check_unicode(expected)
    return expected


def own_tags(row: Mapping[str, Any]) -> list[str]:
    """What a row has under `tags`: a list, or a text with commas between them."""
    own = row.get("tags")
    if isinstance(own, str):
        return list(filter(None, map(str.strip, own.split(","))))
    return [tag for tag in own if isinstance(tag, str)] if isinstance(own, list | tuple) else []


def _named(row: Mapping[str, Any] | str, column: str, reason: str) -> Any:
    if isinstance(row, str) or column not in row:
        has = "plain text" if isinstance(row, str) else sorted(row)
        raise BadRow(reason, f"expected a value under {column!r}, got {has}")
    return row[column]


def _turns(value: Any, is_transcript: bool) -> list[Message]:
    """The turns of a text or of a list of messages, those of one role in a row as one."""
    if isinstance(value, str):
        return _merged(_from_text(value, is_transcript))
    if isinstance(value, Sequence):
        return _merged([_message(item) for item in value])
    raise BadRow("wrong_type", f"text or a list of messages is expected, got {value!r:.200}")


def _name(row: Mapping[str, Any], column: str | None) -> str:
    names = (column,) if column is not None else COLUMNS
    for name in names:
        if row.get(name) is not None:
            return name
    raise BadRow("no_prompt", f"expected a value under {' or '.join(map(repr, names))}, got {sorted(row)}")


def _value(row: Mapping[str, Any], name: str) -> Any:
    value, context = _unwritten(name, row[name]), row.get("ContextString")
    if isinstance(value, str) and isinstance(context, str) and context.strip() and value.strip():
        return f"{context}\n\n{value}"
    return value


def _unwritten(name: str, value: Any) -> Any:
    """What a CSV or a log has under `messages` is a list too, written as text."""
    if name != "messages" or not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRow("wrong_type", f"a list of messages as JSON is expected under 'messages': {error}") from error


def _from_text(text: str, is_transcript: bool) -> list[Message]:
    """One user turn, or the turns of a transcript: text that opens with an empty line and `Human:`."""
    if not is_transcript and not text.startswith(("Human:", "\n\nHuman:")):
        return [Message("user", text)]
    parts = _TURN.split(text.lstrip("\n") if is_transcript else text)
    if len(parts) > 1 and not parts[0] and parts[1] == "Human":
        roles, contents = parts[1::2], parts[2::2]
        return [Message(_ROLES[role], content.strip()) for role, content in zip(roles, contents, strict=True)]
    if is_transcript:
        raise BadRow("not_a_dialogue", "expected a transcript that begins with a 'Human:' turn")
    return [Message("user", text)]


def _message(item: Any) -> Message:
    if not isinstance(item, Mapping) or not isinstance(item.get("content"), str):
        raise BadRow("wrong_type", f"a message is {{role, content}} with text in it, got {item!r:.200}")
    role = item.get("role")
    if not isinstance(role, str) or role not in _MESSAGE_ROLES:
        expected = ", ".join(get_args(Role))
        raise BadRow("not_a_dialogue", f"a message's role is one of {expected}, got {role!r:.200}")
    return Message(cast(Role, role), item["content"])


def _merged(messages: Sequence[Message]) -> list[Message]:
    if len(messages) < 2 or all(one.role != other.role for one, other in pairwise(messages)):
        return list(messages)
    runs = [(role, [m.content for m in run]) for role, run in groupby(messages, key=lambda m: m.role)]
    return [Message(role, "\n\n".join(filter(None, contents))) for role, contents in runs]


def _check(messages: Sequence[Message]) -> None:
    if not messages or messages[-1].role != "user":
        if not any(m.role == "user" for m in messages):
            raise BadRow("no_user_turn", f"nobody asks anything in {len(messages)} messages")
        raise BadRow("no_user_turn", f"the conversation ends in a {messages[-1].role} turn")
    if not messages[-1].content.strip():
        raise BadRow("empty_prompt", "the user's last turn is empty")
    for message in messages:
        check_unicode(message.content)


def check_unicode(text: str) -> None:
    """Raise `BadRow` where `text` holds half a character, which no file can store (JSON can spell one), or a NUL: text
    in UTF-16 that is read as UTF-8 has one at every letter, and no personal item in it is found.
    """
    if "\x00" in text:
        at = text.index("\x00")
        raise BadRow("not_unicode", f"the text has a NUL character at {at}, as UTF-16 has; expected UTF-8 without any")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow("not_unicode", f"the text is not valid UTF-8: {error.reason} at {error.start}") from error
