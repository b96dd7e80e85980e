"""What answers while a plan is made: the model itself, replies of the length that is expected, or the stored ones."""

from collections.abc import Mapping, Sequence

from cai.engines.base import Choice, Engine, Generation
from cai.plan.tokens import Tokens
from cai.records import Message, Response, Revision, Sampling, digest, seed_from

DEFAULT_SHARE = 0.5
"""Of `max_tokens`: how long a reply is taken to be where nothing is known about replies."""
FILLER = "This is about as much as is said in a reply. "
Pools = Mapping[str, Sequence[Generation]]


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
    """Known replies in turn, from the first pool of `names` that has any (none named: the pool of the kind that is
    asked for); else a filler of the default length.

    No two in a row are the same: candidates that are the same would make no pair. `start` moves where it begins.
    """

    def __init__(self, pools: Pools, tokens: Tokens, context_length: int, names: Sequence[str], start: int) -> None:
        self._pools = pools
        self._tokens = tokens
        self._context_length = context_length
        self._names = names
        self._next = dict.fromkeys(pools, start)
        self._name = start
        self._n_fillers = 0
        self._last = ""

    async def complete(
        self, kind: str, messages: Sequence[Message], sampling: Sampling, seed: int, n_prompt: int
    ) -> Generation:
        room = min(sampling.max_tokens, self._context_length - n_prompt)
        known = self._known(kind)
        said = self._filler(sampling) if known is None else known
        if said.n_tokens <= room:
            return Generation(said.text, said.finish_reason, n_prompt, said.n_tokens)
        return Generation(said.text[: len(said.text) * room // said.n_tokens], "length", n_prompt, room)

    async def choose(self, messages: Sequence[Message], options: Sequence[str], n_prompt: int) -> Choice:
        return even_choice(options, n_prompt)

    def _known(self, kind: str) -> Generation | None:
        name = next((name for name in self._names or (kind,) if self._pools.get(name)), None)
        if name is None:
            return None
        pool = self._pools[name]
        for _ in pool:
            said = pool[self._next[name] % len(pool)]
            self._next[name] += 1
            if said.text != self._last:
                break
        self._last = said.text
        return said

    def _filler(self, sampling: Sampling) -> Generation:
        n = max(1, round(DEFAULT_SHARE * sampling.max_tokens))
        self._n_fillers += 1
        text = f"{self._name}.{self._n_fillers} {FILLER * n}"  # numbered: no two are the same
        return Generation(text[: len(text) * n // len(self._tokens.encode(text))], "stop", 0, n)


class Replay:
    """The replies of a finished run, known by the seed that each was drawn with."""

    def __init__(self, responses: Sequence[Response], revisions: Sequence[Revision], tokens: Tokens) -> None:
        self._known = {r.seed: Generation(r.text, "stop", 0, r.n_tokens) for r in responses}
        for r in revisions:
            self._known[r.seed] = Generation(r.text, "stop", 0, r.n_tokens)
            self._known[seed_from(digest("critique", r.revision_id))] = critique_of(r, tokens)

    async def complete(
        self, kind: str, messages: Sequence[Message], sampling: Sampling, seed: int, n_prompt: int
    ) -> Generation:
        return self._known.get(seed, Generation("", "stop", n_prompt, 0))  # a reject: it kept no count of its tokens

    async def choose(self, messages: Sequence[Message], options: Sequence[str], n_prompt: int) -> Choice:
        return even_choice(options, n_prompt)


def critique_of(row: Revision, tokens: Tokens) -> Generation:
    """A stored critique. Its row does not say how many tokens it had; one that ended has said the end as well."""
    n = len(tokens.encode(row.critique)) + (row.critique_finish_reason == "stop")
    return Generation(row.critique, "stop" if row.critique_finish_reason == "stop" else "length", 0, n)


def even_choice(options: Sequence[str], n_prompt: int) -> Choice:
    return Choice((-1.0,) * len(options), 0.0, True, n_prompt)
