"""Prompts, what kept some of them from training, and what became of those that a model wrote."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Literal

from cai.records.base import digest

Role = Literal["system", "user", "assistant"]
PromptKind = Literal["harmful", "borderline", "helpful", ""]
Likeness = Literal["same", "inside", "near"]
Dataset = Literal["", "sft", "preferences", "rl_prompts"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation up to the assistant's turn; the id is its digest, and nothing else decides it.

    `source` is the file's name, `origin` the dataset or the maker behind it, "" where unstated; `kind` is what the
    prompt is meant to draw out, "" where unstated. `expected` is the answer that verifiers check against, where one is
    known: a home knows one answer to a prompt.
    """

    prompt_id: str
    messages: tuple[Message, ...]
    source: str
    licence: str = ""
    tags: tuple[str, ...] = ()
    split: Literal["train", "eval"] = "train"
    expected: str | None = None
    origin: str = ""
    kind: PromptKind = ""

    @staticmethod
    def make(
        messages: Sequence[Message],
        source: str,
        licence: str = "",
        tags: Sequence[str] = (),
        split: Literal["train", "eval"] = "train",
        expected: str | None = None,
        origin: str = "",
        kind: PromptKind = "",
    ) -> "Prompt":
        # digest("prompt", [[m.role, m.content] for m in messages]), spelled out: imports make millions of them.
        turns = ",".join([f'["{m.role}",{encode_basestring(m.content)}]' for m in messages])
        prompt_id = hashlib.sha256(f'["prompt",[{turns}]]'.encode()).hexdigest()[:32]
        return Prompt(prompt_id, tuple(messages), source, licence, tuple(tags), split, expected, origin, kind)


@dataclass(frozen=True, slots=True)
class Contamination:
    """A prompt that repeated a held-out one, and so was kept from training; see `cai/held_out.py`.

    `how`: it is that prompt ("same"), the held-out words stand in it one by one ("inside"), or all but a few ("near").
    `found` says when: at its import, or when `dataset` was derived. `source` is the prompt's.
    """

    contamination_id: str
    prompt_id: str
    held_out_id: str
    how: Likeness
    found: Literal["import", "derive"]
    dataset: Dataset
    reason: str
    source: str

    @staticmethod
    def make_id(prompt_id: str, held_out_id: str, found: str, dataset: str) -> str:
        return digest("contamination", prompt_id, held_out_id, found, dataset)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A prompt that a model wrote, how it came about, and what it drew out of a policy.

    `campaign` is what it was written for, `draft_id` the reply that it was read from, `parent_ids` the prompts that its
    writer was shown; of a variation, the one that it varies. `elicited` is P(harm) of the policy's responses, the mean
    over `response_ids`; None where it was not tried or could not be read, and `unscored` says why.
    """

    attempt_id: str
    prompt_id: str
    campaign: str
    round: int
    kind: PromptKind
    tag: str
    topic: str
    is_variation: bool
    parent_ids: tuple[str, ...]
    draft_id: str
    template_digest: str
    writer_digest: str
    policy_digest: str
    reading: str
    response_ids: tuple[str, ...]
    elicited: float | None
    unscored: str = ""

    @staticmethod
    def make_id(campaign: str, draft_id: str, policy_digest: str, response_ids: Sequence[str], reading: str) -> str:
        """One row a prompt, policy, sample of it and way of reading it; `reading` is the digest of that way."""
        return digest("attempt", campaign, draft_id, policy_digest, list(response_ids), reading)
