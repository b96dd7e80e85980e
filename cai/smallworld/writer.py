"""An engine that writes prompts of the small world, as a model would that has read the request: no weights, a grammar.

It knows the words of the world and no policy. It reads what it is asked for (a kind, a tag) and what it is shown, and
asks about any combination that is not held out; a variation changes the action or the object of what it is shown, by
which of them the others that worked share with it, or the phrasing, and it repeats nothing that stands in the request.
To try `cai prompts generate` where no model is at hand.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path

from cai.config import EngineConfig
from cai.engines.base import Choice, Generation, check_fits
from cai.errors import ConfigError, EngineDied
from cai.records import Message, Sampling, digest
from cai.smallworld.lexicon import PHRASINGS
from cai.smallworld.world import KINDS, Combo, Request, combos, find

REPHRASED = 0.1
"""Of the variations, so many change the phrasing alone."""
_KIND = re.compile(r"\b(harmful|borderline|helpful) message\b")
_WORDS = re.compile("|".join(KINDS))
CONTEXT = 8192


class WriterEngine:
    """`is_blind`: it reads what it is asked for and the message that it is to vary, and nothing else in a request."""

    def __init__(self, context_length: int = CONTEXT, *, is_blind: bool = False) -> None:
        self._context_length = context_length
        self._is_blind = is_blind
        self._is_closed = False

    @property
    def model_digest(self) -> str:
        return digest("smallworld writer", 1, self._is_blind)

    @property
    def context_length(self) -> int:
        return self._context_length

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        if self._is_closed:
            raise EngineDied("the writer was closed; open another")
        asked = messages[-1].content
        n_prompt = len(asked.split())
        check_fits(n_prompt, self._context_length)
        said = write(asked, random.Random(seed), is_blind=self._is_blind)
        return Generation(said, "stop", n_prompt, len(said.split()))

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        raise ConfigError("the small world's writer judges nothing; name another engine under `feedback.judge`")

    async def load(self, model: Path | str) -> None:
        """It has no weights."""

    async def close(self) -> None:
        self._is_closed = True


def write(asked: str, rng: random.Random, *, is_blind: bool = False) -> str:
    """A prompt such as the request `asked` wants; the same for the same draws."""
    head, is_variation, rest = asked.partition("\nMessage:\n")
    if is_variation and (shown := _combos(rest)):
        if is_blind:
            return _vary(shown[0], (), (), {shown[0]}, rng)
        worked, _, others = rest.partition("\nThese did not:\n")
        return _vary(shown[0], _combos(worked), _combos(others.partition("\nThese are not")[0]), set(shown), rng)
    kind = _KIND.search(asked)
    tag = _WORDS.search(asked.partition("\n")[0])
    bucket = {"borderline": "lookalike", "helpful": "ordinary"}.get(kind[1] if kind else "", "")
    if bucket == "lookalike" and tag is not None:
        bucket = f"lookalike/{tag[0]}"
    known = combos("train", bucket or (tag[0] if tag else rng.choice(KINDS)))
    return _ask(rng.choice(known if is_blind else _new(known, _combos(asked))), rng)


def _new(known: Sequence[Combo], shown: Sequence[Combo]) -> Sequence[Combo]:
    """What differs from all that is shown in both its parts, else in one, else in their combination."""
    actions, things = {c.action for c in shown}, {c.object for c in shown}
    n_old = {c: (c.action in actions) + (c.object in things) + (c in shown) for c in known}
    return [c for c in known if n_old[c] == min(n_old.values())]


def _combos(text: str) -> list[Combo]:
    return [Combo(found.action, found.object) for line in text.splitlines() if (found := find(line)) is not None]


def _vary(
    parent: Combo, worked: Sequence[Combo], failed: Sequence[Combo], there: set[Combo], rng: random.Random
) -> str:
    """Another action on the same object, the same action on another object, or another way to put it."""
    if rng.random() < REPHRASED:
        return _ask(parent, rng)
    known = next((k for b in (*KINDS, "lookalike", "ordinary") if parent in (k := combos("train", b))), ())
    parts = ["action", "object"]
    rates = [_rate(part, parent, worked, failed) for part in parts]
    kept = rng.choices(parts, rates)[0]
    for part in (kept, *(other for other in parts if other != kept)):
        if new := [c for c in known if getattr(c, part) == getattr(parent, part) and c not in there]:
            return _ask(rng.choice(new), rng)
    return _ask(parent, rng)


def _rate(part: str, parent: Combo, worked: Sequence[Combo], failed: Sequence[Combo]) -> float:
    """How often what shares this part with the parent worked, by Laplace's rule; the parent itself says nothing."""
    n_worked, n_failed = (
        len({each for each in shown if each != parent and getattr(each, part) == getattr(parent, part)})
        for shown in (worked, failed)
    )
    return (1 + n_worked) / (2 + n_worked + n_failed)


def _ask(combo: Combo, rng: random.Random) -> str:
    return Request.make(combo, rng.choice(PHRASINGS)).text


async def open(config: EngineConfig) -> WriterEngine:
    return WriterEngine(config.context_length or CONTEXT)
