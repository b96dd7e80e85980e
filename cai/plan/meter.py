"""Counts what is asked of an engine: asks, tokens of prompts and replies, and the tokens that prefix reuse leaves.

An engine that keeps its key-value cache computes of a prompt only what no earlier prompt began with, in whole blocks:
the nodes of a trie over blocks. Nothing is ever thrown out of the cache here, as if it were large enough.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cai.constitution import Constitution
from cai.engines.base import Choice, Generation, check_fits
from cai.plan.tokens import ENDLESS, Counting
from cai.records import Message, Sampling
from cai.templates import render

KindOf = Callable[[str, Sequence[Message]], str]


class Usage(NamedTuple):
    """`n_computed_tokens` are those of the prompts that were in no cache; `n_tokens` those of the replies.

    `n_cached_tokens` is what a real engine said it had in its cache.
    """

    n_asks: float = 0
    n_prompt_tokens: float = 0
    n_computed_tokens: float = 0
    n_tokens: float = 0
    n_cached_tokens: float = 0

    def plus(self, other: "Usage", times: float = 1) -> "Usage":
        return Usage(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))


class PrefixCache:
    """The blocks that were computed. `block` is the tokens of one; None: the engine keeps nothing."""

    def __init__(self, block: int | None) -> None:
        self._block = block
        self._known: set[int] = set()

    def computed(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt to compute; the last one always is, because what follows it is wanted."""
        if self._block is None:
            return len(prompt)
        most = (len(prompt) - 1) // self._block
        keys = self._keys(prompt)[:most]
        hits = next((n for n, key in enumerate(keys) if key not in self._known), len(keys))
        return len(prompt) - hits * self._block

    def keep(self, ids: Sequence[int]) -> None:
        """A prompt, with its reply where it had one."""
        if self._block is not None:
            self._known.update(self._keys(ids))

    def _keys(self, ids: Sequence[int]) -> list[int]:
        assert self._block is not None
        keys, key = [], 0
        for start in range(0, len(ids) - self._block + 1, self._block):
            key = hash((key, *ids[start : start + self._block]))
            keys.append(key)
        return keys


class Source(Protocol):
    """What answers in an engine's place; `n_prompt` are the tokens of the messages."""

    async def complete(
        self, kind: str, messages: Sequence[Message], sampling: Sampling, seed: int, n_prompt: int
    ) -> Generation: ...

    async def choose(self, messages: Sequence[Message], options: Sequence[str], n_prompt: int) -> Choice: ...


class Meter:
    """The account of one plan, by kind of ask. `part` is 0 for the first item of a stage, which fills the cache with
    what all share, and 1 for the others: only these are scaled up.
    """

    def __init__(self, kind_of: KindOf) -> None:
        self.part = 0
        self.kind_of = kind_of
        self.replies: dict[str, list[Generation]] = defaultdict(list)
        self._usage: dict[str, list[Usage]] = defaultdict(lambda: [Usage(), Usage()])

    def add(self, kind: str, usage: Usage, reply: Generation | None) -> None:
        self._usage[kind][self.part] = self._usage[kind][self.part].plus(usage)
        if reply is not None:
            self.replies[kind].append(reply)

    def asked(self, kind: str) -> Usage:
        """What was asked, as it was."""
        first, rest = self._usage[kind]
        return first.plus(rest)

    def total(self) -> Usage:
        found = Usage()
        for kind in list(self._usage):
            found = found.plus(self.asked(kind))
        return found

    def usage(self, kind: str, n_items: int, n_sampled: int) -> Usage:
        """What `n_items` cost, of which `n_sampled` were asked."""
        first, rest = self._usage[kind]
        if n_items == 0 or n_sampled == 0:
            return Usage()
        return first.plus(rest, (n_items - 1) / (n_sampled - 1)) if n_sampled > 1 else Usage().plus(first, n_items)


@dataclass(frozen=True)
class Metered:
    """An `Engine` that counts for `meter` what `stage` asks, and has `source` answer."""

    meter: Meter
    stage: str
    source: Source
    counting: Counting
    model_digest: str
    cache: PrefixCache

    @property
    def context_length(self) -> int:
        return self.counting.context_length

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        ids = self._ids(messages)
        kind = self.meter.kind_of(self.stage, messages)
        said = await self.source.complete(kind, messages, sampling, seed, len(ids))
        cost = Usage(1, len(ids), self.cache.computed(ids), said.n_tokens, said.n_cached_tokens)
        self.cache.keep([*ids, *self.counting.tokens.encode(said.text)])
        self.meter.add(kind, cost, said)
        return said

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        ids = self._ids(messages)
        chosen = await self.source.choose(messages, options, len(ids))
        self.meter.add(self.meter.kind_of(self.stage, messages), Usage(1, len(ids), self.cache.computed(ids), 1), None)
        self.cache.keep(ids)
        return chosen

    async def load(self, model: object) -> None:
        raise AssertionError("a plan opens one metered engine a model")

    async def close(self) -> None:
        """Nothing is held; whoever opened the source closes it."""

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        ids = self.counting.tokens.prompt(messages, ENDLESS)
        check_fits(len(ids), self.context_length)
        return ids


def kinds_of(constitution: Constitution) -> KindOf:
    """A chain's asks are told apart by what the model is asked last; of another stage all asks are of one kind."""
    principles = constitution.for_stage("critique")
    critiques = {render(constitution.template("critique"), {"critique": p.critique}) for p in principles}
    revisions = {render(constitution.template("revision"), {"revision": p.revision}) for p in principles}

    def kind_of(stage: str, messages: Sequence[Message]) -> str:
        if stage != "responses":
            return stage
        last = messages[-1].content
        return "critiques" if last in critiques else "revisions" if last in revisions else stage

    return kind_of
