"""Messages to tokens through the model's own chat template, as the engines do it, with every truncation counted."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.chat_template import conversation_text
from cai.errors import ConfigError, DataError
from cai.models import resolve_model
from cai.training.rows import Messages

IGNORED = -100
"""The label of a token that carries no loss (torch's `ignore_index`)."""


class Example(NamedTuple):
    """One tokenised row. `labels` is `IGNORED` outside the assistant's reply."""

    input_ids: list[int]
    labels: list[int]
    is_truncated: bool

    @property
    def n_trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def load_tokenizer(model: Path) -> Any:
    """The tokenizer of a model directory, checked for a chat template; padding falls back to the end-of-text token.

    Raises:
        ModelNotFound: the directory is not a model.
        ConfigError: it has no chat template.
    """
    from transformers import AutoTokenizer

    folder = resolve_model(model)
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{folder} has no chat template, so turns cannot be told apart; "
            "add chat_template.jinja to it, or start from a chat model"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(model: Path) -> int:
    """How many tokens the model can see at once: its position embeddings, or no limit where it names none."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(resolve_model(model)), local_files_only=True).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or sys.maxsize)


def save_tokenizer(tokenizer: Any, parent: Path, out: Path) -> None:
    """Write the tokenizer of `parent`, byte for byte where `parent` has the file: training never changes it."""
    for name in map(Path, tokenizer.save_pretrained(str(out))):
        source = resolve_model(parent) / name.name
        if source.is_file():
            name.write_bytes(source.read_bytes())


def render(tokenizer: Any, conversations: Sequence[Messages], ask: bool = False) -> list[str]:
    """Conversations as the model's own text; `ask` ends each with the opening of the assistant's turn.

    Raises:
        DataError: the chat template refuses one; says which.
    """
    rendered = []
    for number, messages in enumerate(conversations):
        try:
            rendered.append(conversation_text(tokenizer, messages, ask))
        except DataError as error:
            raise DataError(f"conversation {number} of {len(conversations)}, counted from 0: {error}") from error
    return rendered


class _Reply(NamedTuple):
    """One turn of the assistant in row `row`: the messages before it, and those up to it."""

    row: int
    before: Messages
    through: Messages


def encode_replies(
    tokenizer: Any, prompts: Sequence[Messages], completions: Sequence[Messages], max_length: int
) -> list[Example]:
    """Tokens and labels for SFT: what the assistant says in `completions`, each end of turn included, is trained, and
    nothing else, whoever speaks in between.

    Rows longer than `max_length` keep their beginning and are marked.

    Raises:
        DataError: the chat template does not put a reply after its own generation prompt.
    """
    whole = [p + c for p, c in zip(prompts, completions, strict=True)]
    texts = render(tokenizer, whole)
    spans = _spans(tokenizer, texts, list(_replies(prompts, whole)))
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    examples = []
    for ids, offsets, mine in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True):
        labels = [
            i if any(start <= at < end for start, end in mine) else IGNORED
            for i, (at, _) in zip(ids, offsets, strict=True)
        ]
        examples.append(Example(ids[:max_length], labels[:max_length], len(ids) > max_length))
    return examples


def _replies(prompts: Sequence[Messages], whole: Sequence[Messages]) -> Iterator[_Reply]:
    for row, (prompt, messages) in enumerate(zip(prompts, whole, strict=True)):
        for i in range(len(prompt), len(messages)):
            if messages[i].role == "assistant":
                yield _Reply(row, messages[:i], messages[: i + 1])


def _spans(tokenizer: Any, texts: Sequence[str], replies: Sequence[_Reply]) -> list[list[tuple[int, int]]]:
    """Where each row's replies stand in its text: from behind the generation prompt to the end of the turn."""
    spans: list[list[tuple[int, int]]] = [[] for _ in texts]
    if not replies:
        return spans
    openings = render(tokenizer, [reply.before for reply in replies], ask=True)
    endings = render(tokenizer, [reply.through for reply in replies])
    for reply, opening, ending in zip(replies, openings, endings, strict=True):
        text = texts[reply.row]
        if not (ending.startswith(opening) and text.startswith(ending)):
            raise DataError(
                "the chat template writes a prompt differently once it is answered, so the reply's tokens cannot be "
                f"found: expected a text that starts with {opening[-80:]!r}, came {text[:160]!r}; use a template that "
                "only appends, or give each reply a row of its own"
            )
        spans[reply.row].append((len(opening), len(ending)))
    return spans


def check_end_of_turn(tokenizer: Any, model: Path, examples: Sequence[Example]) -> None:
    """Refuse to train replies that never end: some whole example must contain a token that stops generation."""
    stops = end_tokens(tokenizer, model)
    whole = [e for e in examples if not e.is_truncated]
    if whole and not any(stops & set(e.labels) for e in whole):
        raise DataError(
            f"no reply ends with a token that stops generation ({sorted(stops)} in {model}); the model would never "
            "stop: let the chat template close the assistant's turn with the end-of-text token"
        )


def end_tokens(tokenizer: Any, model: Path) -> set[int]:
    """Every token id that ends a reply: the tokenizer's, and those of the model's generation settings."""
    from transformers import GenerationConfig

    stops = {tokenizer.eos_token_id}
    if (resolve_model(model) / "generation_config.json").is_file():
        declared = GenerationConfig.from_pretrained(str(resolve_model(model)), local_files_only=True).eos_token_id
        stops |= set(declared) if isinstance(declared, list) else {declared}
    return stops - {None}


class Encoded(NamedTuple):
    """Token lists, and how many had to be cut."""

    ids: list[list[int]]
    n_truncated: int


def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> Encoded:
    """Tokens of rendered conversations. Too long ones lose their beginning: what is scored is the end."""
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return Encoded([row[-max_length:] for row in ids], sum(len(row) > max_length for row in ids))
