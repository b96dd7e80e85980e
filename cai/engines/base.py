"""The one seam to language models: an asynchronous protocol of two verbs, `complete` and `choose`.

`cai.engines.open_engine` builds the engine a config names; heavy libraries are imported only there.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cai.errors import PromptTooLong
from cai.records import Message, Sampling

FinishReason = Literal["stop", "length"]

about: ContextVar[str] = ContextVar("about", default="")
"""What the next request of this coroutine is about: the id of a prompt. Requests about one prompt begin alike, so an
engine of several replicas sends them to the same one. It changes no answer.
"""


@dataclass(frozen=True, slots=True)
class Generation:
    """A reply. `finish_reason` is "length" where `max_tokens` cut it off."""

    text: str
    finish_reason: FinishReason
    n_prompt_tokens: int
    n_tokens: int
    n_cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Log-probabilities (nats) of each option as the next thing said, all spellings of an option added up.

    `mass_outside` is the probability of saying none of them. `exact` is False where the engine could not see the whole
    distribution (a server's top-20, or a text verdict).
    """

    logps: tuple[float, ...]
    mass_outside: float
    exact: bool
    n_prompt_tokens: int


class Engine(Protocol):
    """A language model that answers. Every method may be awaited by hundreds of coroutines at once.

    Raises:
        PromptTooLong: the rendered prompt (plus one token) does not fit `context_length`.
        EngineUnreachable, EngineDied: see `cai.errors`.
    """

    @property
    def model_digest(self) -> str:
        """Identity of the weights that answer now; part of every row's id."""
        ...

    @property
    def context_length(self) -> int: ...

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        """The assistant's next turn. Same messages, sampling and seed give the same text, whatever runs beside it."""
        ...

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        """How probable each option is as the assistant's next turn. Options must differ in their first token."""
        ...

    async def load(self, model: Path | str) -> None:
        """Swap in the weights of another model of the same shape, keeping the engine running."""
        ...

    async def close(self) -> None:
        """Free everything: processes, memory, sockets. Safe to call twice."""
        ...


Opens = Callable[[], Awaitable[Engine]]
"""Gives an engine that is up, with the weights that are meant; asked again after another one was."""


def check_fits(n_prompt_tokens: int, context_length: int) -> None:
    """Raise `PromptTooLong` unless the prompt leaves room for at least one token of reply."""
    if n_prompt_tokens + 1 > context_length:
        raise PromptTooLong(
            f"the prompt has {n_prompt_tokens} tokens and the context holds {context_length}, one of them for the "
            f"reply; shorten the prompt or raise `context_length`"
        )
