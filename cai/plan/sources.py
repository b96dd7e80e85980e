"""What answers while a plan is made: the model itself, replies of the length that is expected, or the stored ones."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from cai.engines.base import Choice, Engine, Generation
from cai.plan.tokens import Tokens
from cai.records import Comparison, Message, Response, Revision, Sampling, digest, seed_from

DEFAULT_SHARE = 0.5
"""Of `max_tokens`: how long a reply is taken to be where nothing is known about replies."""
FILLER = "This is about as much as is said in a reply. "
NOTHING = Generation("", "stop", 0, 0)
LINKS = ("critiques", "revisions")
LAST_REVISIONS = "last revisions"


Spoken = defaultdict[tuple[tuple[Message, ...], Sampling], set[str]]
"""What each conversation was answered, by how the answers were drawn: only those may be the same row."""


class Replies(NamedTuple):
    """What a model is known to say: single replies by what they are, and whole chains in the order they were asked."""

    pools: Mapping[str, Sequence[Generation]]
    chains: Sequence[Sequence[Generation]]

    @staticmethod
    def of(
        prompt_ids: Sequence[str],
        responses: Iterable[Response],
        revisions: Iterable[Revision],
        tokens: Tokens,
        rounds: int,
    ) -> "Replies":
        """From the rows of one model's chains; a chain that ends early ended in a reject."""
        started = {row.prompt_id: row for row in responses}
        steps: dict[str, list[Revision]] = {}
        for row in sorted(revisions, key=lambda row: row.round):
            steps.setdefault(row.response_id, []).append(row)
        chains = []
        for first in (started.get(prompt_id) for prompt_id in prompt_ids):
            links = [] if first is None else steps.get(first.response_id, [])
            said = [text for row in links for text in (critique_of(row, tokens), reply_of(row))]
            chains.append([NOTHING] if first is None else [reply_of(first), *said])
        made = [row for rows in steps.values() for row in rows]
        pools = {
            "responses": [reply_of(row) for row in started.values()],
            "revisions": [reply_of(row) for row in made],
            LAST_REVISIONS: [reply_of(row) for row in made if row.round == rounds],
        }
        return Replies(pools, chains)


class Probe:
    """The real engine. Its own tokens are told; the prompt is counted by the plan."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def complete(
        self, kind: str, messages: Sequence[Message], sampling: Sampling, seed: int, n_prompt: int
    ) -> Generation:
        return await self._engine.complete(messages, sampling, seed)

    async def choose(self, messages: Sequence[Message], options: Sequence[str], n_prompt: int) -> Choice:
        return await self._engine.choose(messages, options)


class StandIn:
    """Known replies in turn, from the first pool of `names` that has any; else a filler of the default length.

    A conversation is not answered twice with the same words while others are known: such candidates would make no
    pair. `spoken` remembers what each was answered, whichever stage asked. Where `names` is empty it speaks in
    a chain: each response begins the next known chain, and what is asked after it is answered by that chain, so that
    what a model repeats is repeated, and where it said nothing, nothing is said. `start` moves where it begins.
    """

    def __init__(
        self,
        known: Replies,
        tokens: Tokens,
        context_length: int,
        names: Sequence[str],
        start: int,
        spoken: Spoken,
    ) -> None:
        self._known = known
        self._spoken = spoken
        self._tokens = tokens
        self._context_length = context_length
        self._names = names
        self._start = self._next = start
        self._chain: Sequence[Generation] = ()
        self._place = 0

    async def complete(
        self, kind: str, messages: Sequence[Message], sampling: Sampling, seed: int, n_prompt: int
    ) -> Generation:
        room = min(sampling.max_tokens, self._context_length - n_prompt)
        before = self._spoken[tuple(messages), sampling]
        said = self._turn(before) if self._names else self._link(kind)
        said = self._filler(sampling) if said is None else said
        before.add(said.text)
        if said.n_tokens <= room:
            return Generation(said.text, said.finish_reason, n_prompt, said.n_tokens)
        return Generation(said.text[: len(said.text) * room // said.n_tokens], "length", n_prompt, room)

    async def choose(self, messages: Sequence[Message], options: Sequence[str], n_prompt: int) -> Choice:
        return even_choice(options, n_prompt)

    def _turn(self, before: Collection[str]) -> Generation | None:
        pool = next((found for name in self._names if (found := self._known.pools.get(name))), ())
        said = None
        for _ in pool:
            said = pool[self._next % len(pool)]
            self._next += 1
            if said.text not in before:
                break
        return said

    def _link(self, kind: str) -> Generation | None:
        if not self._known.chains:
            return None
        if kind not in LINKS:
            self._chain = self._known.chains[self._next % len(self._known.chains)]
            self._next += 1
            self._place = 0
        said = self._chain[self._place] if self._place < len(self._chain) else NOTHING
        self._place += 1
        return said

    def _filler(self, sampling: Sampling) -> Generation:
        n = max(1, round(DEFAULT_SHARE * sampling.max_tokens))
        self._next += 1
        text = f"{self._start}.{self._next} {FILLER * n}"  # numbered: no two are the same
        return Generation(text[: len(text) * n // len(self._tokens.encode(text))], "stop", 0, n)


class Replay:
    """The replies of a finished run, known by the seed that each was drawn with."""

    def __init__(
        self,
        responses: Sequence[Response],
        revisions: Sequence[Revision],
        comparisons: Sequence[Comparison],
        tokens: Tokens,
    ) -> None:
        self._known = {seed_from(r.comparison_id): said for r in comparisons if (said := reasoning_of(r)) is not None}
        self._known |= {r.seed: reply_of(r) for r in responses}
        for r in revisions:
            self._known[r.seed] = reply_of(r)
            self._known[seed_from(digest("critique", r.revision_id))] = critique_of(r, tokens)

    async def complete(
        self, kind: str, messages: Sequence[Message], sampling: Sampling, seed: int, n_prompt: int
    ) -> Generation:
        said = self._known.get(seed, NOTHING)
        if said.text and len(messages) > 1 and messages[-2].content == said.text:
            return Generation("A", "stop", n_prompt, 1)  # a verdict in words, after reasoning; its text is not stored
        return said  # a reject: it kept no count of its tokens

    async def choose(self, messages: Sequence[Message], options: Sequence[str], n_prompt: int) -> Choice:
        return even_choice(options, n_prompt)


def reply_of(row: Response | Revision) -> Generation:
    return Generation(row.text, "stop" if row.finish_reason == "stop" else "length", 0, row.n_tokens)


def reasoning_of(row: Comparison) -> Generation | None:
    """What a judge wrote before it chose; the row's tokens have one for the choice as well."""
    return None if row.reasoning is None else Generation(row.reasoning, "stop", 0, max(1, row.n_tokens - 1))


def critique_of(row: Revision, tokens: Tokens) -> Generation:
    """A stored critique. Its row does not say how many tokens it had; one that ended has said the end as well."""
    n = len(tokens.encode(row.critique)) + (row.critique_finish_reason == "stop")
    return Generation(row.critique, "stop" if row.critique_finish_reason == "stop" else "length", 0, n)


def even_choice(options: Sequence[str], n_prompt: int) -> Choice:
    return Choice((-1.0,) * len(options), 0.0, True, n_prompt)
