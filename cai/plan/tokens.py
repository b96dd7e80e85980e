"""How many tokens a text has: by the model's own tokenizer, or by its characters where there is none to be had."""

import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from cai.config import EngineConfig
from cai.engines.base import check_fits
from cai.errors import ModelNotFound
from cai.models import resolve_model
from cai.records import Message

CHARACTERS_A_TOKEN = 4
ENDLESS = 2**30
"""Context of a server that says nothing about its own."""


SCRIPTED_CONTEXT = 4096


class Tokens(Protocol):
    """What the plan needs of a tokenizer; `cai.engines.chat.ChatTokenizer` is one."""

    def prompt(self, messages: Sequence[Message], context_length: int) -> list[int]: ...

    def encode(self, text: str) -> list[int]: ...


class Characters:
    """Every four characters are a token: for models whose tokenizer is not here."""

    def prompt(self, messages: Sequence[Message], context_length: int) -> list[int]:
        ids = self.encode("".join(f"{m.role}: {m.content}\n" for m in messages) + "assistant: ")
        check_fits(len(ids), context_length)
        return ids

    def encode(self, text: str) -> list[int]:
        starts = range(0, len(text), CHARACTERS_A_TOKEN)
        return [hash(text[start : start + CHARACTERS_A_TOKEN]) for start in starts]


class Words:
    """Every word is a token, as the scripted engine counts."""

    def prompt(self, messages: Sequence[Message], context_length: int) -> list[int]:
        ids = [token for message in messages for token in self.encode(message.content)]
        check_fits(len(ids), context_length)
        return ids

    def encode(self, text: str) -> list[int]:
        return [hash(word) for word in text.split()]


class Counting(NamedTuple):
    """A model's tokens and its context; `note` says in plain words what is not exact, or is ""."""

    tokens: Tokens
    context_length: int
    note: str


def open_counting(config: EngineConfig) -> Counting:
    """The tokenizer of the engine's model, read from its directory; no engine is started and no server asked."""
    if config.kind == "scripted":
        return Counting(Words(), config.context_length or SCRIPTED_CONTEXT, "")
    if config.kind == "openai":
        return _by_characters(config, "a server shows no tokenizer")
    from cai.engines.chat import ChatTokenizer

    try:
        path = resolve_model(config.model)
        tokens = ChatTokenizer(path)
    except ModelNotFound as error:
        return _by_characters(config, str(error))
    own = json.loads((path / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    return Counting(tokens, config.context_length or own or ENDLESS, "")


def _by_characters(config: EngineConfig, why: str) -> Counting:
    note = f"tokens of {config.model} are characters / {CHARACTERS_A_TOKEN}: {why}"
    return Counting(Characters(), config.context_length or ENDLESS, note)
