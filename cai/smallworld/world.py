"""Requests of the small world, with the truth about each: its kind of harm, or that it only looks harmful.

A request is harmful exactly when its action and its object are of one kind. A quarter of all (action, object)
combinations, and some phrasings, are held out: the seed model never sees them in training. No torch here.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cai.records import Message, Prompt, digest
from cai.smallworld.lexicon import (
    HARM_ACTIONS,
    HARM_OBJECTS,
    HELD_OUT_PHRASINGS,
    INNOCENT_ACTIONS,
    INNOCENT_OBJECTS,
    KINDS,
    ORDINARY,
    PHRASINGS,
)

__all__ = ["KINDS", "Combo", "Request", "Split", "combos", "find", "is_held_out", "prompts", "requests"]

Split = Literal["train", "eval"]
SOURCE = "smallworld"
LICENCE = "Apache-2.0"
ORIGIN = "made up by cai/smallworld/world.py"

_ACTION_KIND = {action: kind for kind, actions in HARM_ACTIONS.items() for action in actions}
_OBJECT_KIND = {thing: kind for kind, things in HARM_OBJECTS.items() for thing in things}


@dataclass(frozen=True, slots=True)
class Combo:
    """What a request is about. `kind` None: benign."""

    action: str
    object: str

    @property
    def kind(self) -> str | None:
        kind = _ACTION_KIND.get(self.action)
        return kind if kind is not None and kind == _OBJECT_KIND.get(self.object) else None

    @property
    def is_lookalike(self) -> bool:
        return self.kind is None and (self.action in _ACTION_KIND or self.object in _OBJECT_KIND)


@dataclass(frozen=True, slots=True)
class Request:
    """One request and the truth about it."""

    text: str
    action: str
    object: str
    kind: str | None
    is_lookalike: bool

    @staticmethod
    def make(combo: Combo, phrasing: str) -> "Request":
        text = phrasing.replace("@", f"{combo.action} {combo.object}")
        return Request(text, combo.action, combo.object, combo.kind, combo.is_lookalike)


def is_held_out(combo: Combo) -> bool:
    """True for a quarter of the combinations, chosen by digest."""
    return int(digest("combo", combo.action, combo.object)[:8], 16) % 4 == 0


def is_known(combo: Combo) -> bool:
    """Whether a request of this world, of either split, may be about it."""
    return combo in _known()


@lru_cache(maxsize=1)
def _known() -> frozenset[Combo]:
    return frozenset(combo for bucket in _all_combos().values() for combo in bucket)


@lru_cache(maxsize=1)
def _all_combos() -> dict[str, tuple[Combo, ...]]:
    """Bucket → combos. Buckets: each kind, `lookalike/KIND/action`, `lookalike/KIND/object`, `ordinary/N`."""
    buckets = {kind: _cross(HARM_ACTIONS[kind], HARM_OBJECTS[kind]) for kind in KINDS}
    for kind in KINDS:
        buckets[f"lookalike/{kind}/action"] = _cross(HARM_ACTIONS[kind], INNOCENT_OBJECTS[kind])
        buckets[f"lookalike/{kind}/object"] = _cross(INNOCENT_ACTIONS[kind], HARM_OBJECTS[kind])
    for i, (actions, things) in enumerate(ORDINARY):
        buckets[f"ordinary/{i}"] = _cross(actions, things)
    return buckets


def _cross(actions: Sequence[str], things: Sequence[str]) -> tuple[Combo, ...]:
    return tuple(Combo(action, thing) for action in actions for thing in things)


@lru_cache(maxsize=64)
def combos(split: Split, bucket: str) -> tuple[Combo, ...]:
    """The combinations of one bucket that belong to a split; `bucket` may be a prefix, as `lookalike` or `ordinary`."""
    chosen = [c for name, cs in _all_combos().items() if name == bucket or name.startswith(f"{bucket}/") for c in cs]
    return tuple(c for c in chosen if is_held_out(c) == (split == "eval"))


def requests(split: Split, n: int, seed: int = 0) -> list[Request]:
    """`n` requests, the same for the same arguments: half harmful (equal by kind), a quarter lookalikes, a quarter
    ordinary. Distinct until a bucket is used up (about 10,000 for train and 6,000 for eval), then it starts over.

    `train` uses train combinations and phrasings; `eval` held-out combinations, half of them in held-out phrasings.
    """
    rng = random.Random(f"requests/{split}/{seed}")
    harmful = [_stream(split, [kind], rng) for kind in KINDS]
    lookalike = _stream(split, [b for b in _all_combos() if b.startswith("lookalike")], rng)
    ordinary = _stream(split, [b for b in _all_combos() if b.startswith("ordinary")], rng)
    chosen = []
    for i in range(n):
        half, odd = divmod(i, 2)
        source = (lookalike, ordinary)[half % 2] if odd else harmful[half % len(KINDS)]
        chosen.append(next(source))
    rng.shuffle(chosen)
    return chosen


def _stream(split: Split, buckets: Sequence[str], rng: random.Random) -> Iterator[Request]:
    """Requests of the buckets in turn, without repeats until all were given."""
    decks = [_deck(split, bucket, rng) for bucket in buckets]
    while True:
        for deck in decks:
            yield next(deck)


def _deck(split: Split, bucket: str, rng: random.Random) -> Iterator[Request]:
    seen_before = [Request.make(c, p) for c in combos(split, bucket) for p in PHRASINGS]
    rng.shuffle(seen_before)
    if split == "train":
        while True:
            yield from seen_before
    new = [Request.make(c, p) for c in combos(split, bucket) for p in HELD_OUT_PHRASINGS]
    rng.shuffle(new)
    both = [r for pair in zip(new, seen_before, strict=False) for r in pair] + seen_before[len(new) :]
    while True:
        yield from both


def prompts(split: Split, n: int, seed: int = 0) -> list[Prompt]:
    """The same as `requests`, as prompts; tagged with the kind or `benign`, and `lookalike`."""
    return [_prompt(request, split) for request in requests(split, n, seed)]


def _prompt(request: Request, split: Split) -> Prompt:
    tags = (request.kind or "benign", *(("lookalike",) if request.is_lookalike else ()))
    return Prompt.make([Message("user", request.text)], SOURCE, LICENCE, tags, split, origin=ORIGIN)


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    actions, things = {c.action for c in _known()}, {c.object for c in _known()}
    return re.compile(rf"\b({_any_of(actions)}) ({_any_of(things)})(?![\w'])")


def _any_of(phrases: set[str]) -> str:
    return "|".join(re.escape(p) for p in sorted(phrases, key=lambda p: (-len(p), p)))


def find(text: str) -> Request | None:
    """The last action and object of this world that `text` names side by side, or None. Reads any text."""
    found = list(_pattern().finditer(" ".join(text.lower().split())))
    if not found:
        return None
    combo = Combo(found[-1][1], found[-1][2])
    return Request(text, combo.action, combo.object, combo.kind, combo.is_lookalike)
