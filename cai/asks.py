"""What the stages that ask a model share: a bounded window of coroutines, rows found instead of asked for, rejects,
counts and progress. It knows no prompt text.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from cai.engines.base import Choice, Engine, Generation, about
from cai.errors import PromptTooLong
from cai.records import Ledger, Message, Prompt, R, Rating, Record, Reject, Sampling, digest

T = TypeVar("T")
U = TypeVar("U")

PROGRESS_EVERY_S = 0.25


class Progress(NamedTuple):
    """How far a stage is. `n_total` is None where the input does not know its own length."""

    stage: str
    n_done: int
    n_total: int | None
    n_requests: int
    n_reused: int
    n_rejected: int


OnProgress = Callable[[Progress], None]


class Key(NamedTuple):
    """A row that is about to be asked for: its id, and the rows it grows from."""

    row_id: str
    prompt_id: str
    parents: tuple[str, ...]


class Asker:
    """Asks the engine for what the ledger does not have, and keeps count. One per run of a stage.

    A reject is found again by (stage, id of the row it stands for), so what was rejected once is not asked again,
    and an edit that changes the row's id is. A prompt that did not fit is also bound to the context length: an
    engine with more room gets to try.
    """

    def __init__(
        self,
        stage: str,
        engine: Engine,
        ledger: Ledger,
        *,
        n_total: int | None,
        progress: OnProgress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model_digest = engine.model_digest
        self.n_done = self.n_rejected = self.n_requests = self.n_reused = self.n_cut_off = 0
        self._stage = stage
        self._engine = engine
        self._ledger = ledger
        self._context = digest("context_length", engine.context_length)
        self._n_total = n_total
        self._progress = progress
        self._clock = clock
        self._reported_s = -float("inf")

    def find(self, kind: type[R], row_id: str) -> R | None:
        row = self._ledger.find(kind, row_id)
        self.n_reused += row is not None
        return row

    def find_reject(self, stages: Sequence[str], key: Key) -> Reject | None:
        """What was written when this row was asked for before, under any of `stages`, and came to nothing."""
        for stage in stages:
            for parents in (self._parents(key), self._parents_here(key)):
                if reject := self._ledger.find(Reject, Reject.make(stage, "", parents=parents).reject_id):
                    return reject
        return None

    def add(self, row: Record) -> None:
        self._ledger.add(row)

    async def complete(
        self, stage: str, key: Key, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> Generation | Reject:
        """The model's next turn, or the reject that was written: too long to ask, or nothing said."""
        about.set(key.prompt_id)
        try:
            generation = await self._engine.complete(messages, sampling, seed)
        except PromptTooLong as error:
            return self._too_long(stage, key, error)
        self.n_requests += 1
        if generation.text.strip():
            return generation
        detail = f"{generation.n_tokens} tokens, finish reason {generation.finish_reason}"
        return self.reject(stage, f"empty_{stage}", key, detail, generation.text)

    async def choose(
        self, stage: str, key: Key, messages: Sequence[Message], options: Sequence[str]
    ) -> Choice | Reject:
        """How probable each option is, or the reject that was written: too long to ask."""
        about.set(key.prompt_id)
        try:
            choice = await self._engine.choose(messages, options)
        except PromptTooLong as error:
            return self._too_long(stage, key, error)
        self.n_requests += 1
        return choice

    async def rate(
        self,
        prompt_id: str,
        said_id: str,
        scale: str,
        named: str,
        question: Callable[[], Message],
        marks: Sequence[str],
    ) -> Rating | Reject:
        """How probable each mark of `scale` is for what is said: found, or asked for and written, or rejected.

        Args:
            prompt_id: the prompt that it belongs to.
            said_id: the row that is rated.
            scale: the name of the question.
            named: the digest of how it is asked.
            question: made only where it has to be asked.
            marks: the options.
        """
        row_id = Rating.make_id(said_id, scale, named, self.model_digest)
        key = Key(row_id, prompt_id, (said_id,))
        if done := self.find(Rating, row_id) or self.find_reject(["rating"], key):
            return done
        choice = await self.choose("rating", key, [question()], marks)
        if isinstance(choice, Reject):
            return choice
        read = (choice.logps, choice.mass_outside, choice.exact, choice.n_prompt_tokens)
        row = Rating(row_id, prompt_id, said_id, scale, named, self.model_digest, *read)
        self.add(row)
        return row

    def reject(self, stage: str, reason: str, key: Key, detail: str, text: str) -> Reject:
        """Write that what the model said is of no use."""
        return self._reject(stage, reason, key, self._parents(key), detail, text)

    def close_item(self, *, rejected: bool) -> None:
        """One item of the input has reached its end; whatever goes in comes out here, once."""
        self.n_rejected += rejected
        self.n_done += not rejected
        if self._clock() - self._reported_s >= PROGRESS_EVERY_S:
            self.report()

    def report(self) -> None:
        self._reported_s = self._clock()
        if self._progress is not None:
            counts = (self.n_done, self._n_total, self.n_requests, self.n_reused, self.n_rejected)
            self._progress(Progress(self._stage, *counts))

    def _too_long(self, stage: str, key: Key, error: PromptTooLong) -> Reject:
        return self._reject(stage, "prompt_too_long", key, self._parents_here(key), str(error), "")

    def _reject(self, stage: str, reason: str, key: Key, parents: Sequence[str], detail: str, text: str) -> Reject:
        reject = Reject.make(stage, reason, prompt_id=key.prompt_id, parents=parents, detail=detail, text=text)
        self._ledger.add(reject)
        return reject

    def _parents(self, key: Key) -> tuple[str, ...]:
        return (key.row_id, *key.parents)

    def _parents_here(self, key: Key) -> tuple[str, ...]:
        return (*self._parents(key), self._context)


async def in_window(items: Iterable[T], work: Callable[[T], Awaitable[U]], width: int) -> list[U]:
    """`work` on every item, at most `width` at once; the results in the order of the items.

    `width` workers pull from one iterator: a million items never make a million tasks, and an item is finished
    before its worker takes the next. The first error stops all the others and is raised as it is.
    """
    source = enumerate(items)
    results: dict[int, U] = {}

    async def worker() -> None:
        for place, item in source:
            results[place] = await work(item)
            await asyncio.sleep(0)  # where every row is found nothing else would let go: Ctrl-C must get through

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [results[place] for place in range(len(results))]


def distinct(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    """Each prompt once: a repeated one has the same rows, and two coroutines must not race for them."""
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.prompt_id not in seen:
            seen.add(prompt.prompt_id)
            yield prompt


def count_distinct(prompts: Iterable[Prompt]) -> int | None:
    """How many prompts `distinct` will yield, where looking does not use them up."""
    return len({prompt.prompt_id for prompt in prompts}) if isinstance(prompts, Sequence) else None
