"""A conversation as a model reads it: its own chat template, told the same by every engine and by training."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from cai.errors import DataError
from cai.records import Message

VARIABLES = {"enable_thinking": False}
"""What every chat template is told beside the messages; one that does not know a variable ignores it.

A model that thinks before it answers (Qwen3) is asked for the answer alone: the judge's verdict is read from the first
token, a reply is cut at `max_tokens`, and what is trained are replies without thoughts, behind the empty thought that
such a template writes for them.
"""


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def conversation_text(tokenizer: Any, messages: Sequence[Message], ask: bool) -> str:
    """The messages in the model's own text; `ask` ends it with the opening of the assistant's turn.

    Raises:
        DataError: the template refuses them, as some do a system message or two turns of one speaker.
    """
    try:
        text: str = tokenizer.apply_chat_template(
            as_dicts(messages), tokenize=False, add_generation_prompt=ask, **VARIABLES
        )
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        begins = messages[0].content[:80] if messages else ""
        raise DataError(
            f"the chat template of {tokenizer.name_or_path} refuses a conversation of the roles {roles} that begins "
            f"{begins!r}: {error}; leave such rows out, put what a system message says into the user's turn, or take a "
            "model whose template has these roles"
        ) from error
    return text
