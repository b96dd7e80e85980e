"""Messages to token ids and back, by a model's own tokenizer and chat template."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai.chat_template import conversation_text
from cai.engines.base import check_fits
from cai.engines.options import spellings
from cai.errors import ModelNotFound
from cai.models import resolve_model
from cai.records import Message, digest

# What may differ between two models whose weights can be swapped: how a file was written, not what the model computes.
_FREE_KEYS = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "_from_model_config"}
_BREAK = "\u200b"


class ChatTokenizer:
    """The tokenizer and chat template of a model directory. Not thread-safe; the engines call it from the event loop.

    Text that looks like one of the template's control tokens ("<|im_end|>" in a stored answer) stays text: a zero-width
    space is put into it, so that no message can close its own turn.

    Raises:
        ModelNotFound: the directory has no tokenizer that loads without running its code, or no chat template.
    """

    def __init__(self, path: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"{path} has no tokenizer that can be loaded: {error}") from error
        if not self._tokenizer.is_fast:
            raise ModelNotFound(f"{path} has no tokenizer.json; save the model with a fast tokenizer")
        if not self._tokenizer.chat_template:
            raise ModelNotFound(f"{path} has no chat template; add a chat_template.jinja, or use an instruct model")
        self._core = self._tokenizer.backend_tokenizer
        self._core.no_truncation()
        self._core.no_padding()
        added = self._tokenizer.added_tokens_decoder.values()
        self._control = tuple(token.content for token in added if token.special and len(token.content) > 1)
        self._spellings: dict[tuple[str, ...], list[tuple[int, ...]]] = {}

    @property
    def eos_id(self) -> int | None:
        return self._tokenizer.eos_token_id

    @property
    def digest(self) -> str:
        """Identity of what text becomes: vocabulary, rules, chat template, end of turn."""
        core = json.loads(self._core.to_str())
        return digest("tokenizer", core, self._tokenizer.chat_template, self.eos_id)

    def prompt(self, messages: Sequence[Message], context_length: int) -> list[int]:
        """Token ids of the conversation up to where the assistant speaks.

        Raises:
            PromptTooLong: they leave no room for one token of reply.
            DataError: the chat template refuses them.
        """
        turns = [Message(m.role, self._defused(m.content)) for m in messages]
        text = conversation_text(self._tokenizer, turns, ask=True)
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids
        check_fits(len(ids), context_length)
        return ids

    def encode(self, text: str) -> list[int]:
        """Token ids of a text alone, without a template."""
        ids: list[int] = self._core.encode(self._defused(text), add_special_tokens=False).ids
        return ids

    def text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def spellings(self, options: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids that say each option; see `cai.engines.options.spellings`."""
        key = tuple(options)
        if key not in self._spellings:
            self._spellings[key] = spellings(
                lambda text: self._core.encode(text, add_special_tokens=False).ids,
                lambda token: self._tokenizer.decode([token]),
                key,
            )
        return self._spellings[key]

    def _defused(self, content: str) -> str:
        for token in self._control:
            if token in content:
                content = content.replace(token, token[0] + _BREAK + token[1:])
        return content


def swappable(running: Path, tokenizer: ChatTokenizer, other: Path | str) -> Path:
    """The directory of `other`, whose weights fit into the engine that runs `running`.

    Raises:
        ModelNotFound: `other` is no usable model, has another shape, or another tokenizer; says which key differs.
    """
    path = resolve_model(other)
    ours, theirs = _shape(running), _shape(path)
    if wrong := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
        told = ", ".join(f"{key} {theirs.get(key)!r} (running: {ours.get(key)!r})" for key in wrong[:5])
        raise ModelNotFound(f"{path} does not fit the running engine: {told}; open another engine for it")
    if ChatTokenizer(path).digest != tokenizer.digest:
        raise ModelNotFound(f"{path} has another tokenizer or chat template than {running}; open another engine for it")
    return path


def _shape(path: Path) -> dict[str, Any]:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in config.items() if key not in _FREE_KEYS}
