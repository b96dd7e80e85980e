"""Which pairs an annotator gets, in which order, and which response stands first. Pure: digests in place of dice.

Orders and places depend on the annotator, so two people do not tire over the same pairs; the same annotator finds the
same queue again.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from cai.intervals import Rate, rate
from cai.records import Annotation, digest, seed_from

SOURCE = "page"
"""`Annotation.source` of what is said here."""

Choice = Literal["first", "second", "tie"]


class Pair(NamedTuple):
    """Two responses to one prompt, canonical: `response_a` sorts before `response_b`."""

    prompt_id: str
    response_a: str
    response_b: str


class Gold(NamedTuple):
    """How an annotator does on pairs whose answer is known. `same` counts a tie as right where gold is a tie."""

    same: Rate
    n_ties: int
    """Ties said where gold decides: these are not `same`."""


def make_queue(
    pairs: Collection[Pair],
    gold: Collection[Pair],
    *,
    annotator: str,
    seed: int = 0,
    gold_share: float = 0.1,
    limit: int | None = None,
) -> list[Pair]:
    """`pairs` in an order of the annotator's own, with one pair of `gold` in each stretch of 1/`gold_share` places.

    Its place in the stretch is drawn too: who counts the pairs cannot tell. Every pair comes once. Where there are no
    other pairs the queue is gold alone.
    """
    decided = {pair: digest("page-order", seed, annotator, *pair) for pair in {*pairs, *gold}}
    n_most = len(decided) if limit is None else min(limit, len(decided))
    n_aimed = n_most if gold_share == 1 else min(n_most, math.ceil(len(set(pairs)) / (1 - gold_share)))
    places = _gold_places(gold_share, n_aimed or n_most, annotator, seed)
    deck = sorted(set(gold), key=decided.__getitem__)[: len(places)]
    plain = sorted(set(pairs) - set(deck), key=decided.__getitem__)
    return _merge(plain, deck, places)[:n_most]


def _gold_places(share: float, n: int, annotator: str, seed: int) -> set[int]:
    """Stretch k holds the places from k/share up to (k + 1)/share."""
    if share == 0:
        return set()
    stretch = 1 / Fraction(share).limit_denominator(10_000)
    places = set()
    for k in range(math.ceil(n / stretch)):
        start, end = math.ceil(k * stretch), math.ceil((k + 1) * stretch)
        places.add(start + seed_from(digest("page-gold", annotator, k), seed) % (end - start))
    return {place for place in places if place < n}


def _merge(plain: Sequence[Pair], deck: Sequence[Pair], places: Collection[int]) -> list[Pair]:
    """What is left of either, when the other is used up, follows."""
    queue: list[Pair] = []
    rest, golds = list(reversed(plain)), list(reversed(deck))
    while rest or golds:
        is_gold = bool(golds) and (len(queue) in places or not rest)
        queue.append(golds.pop() if is_gold else rest.pop())
    return queue


def shown_first(pair: Pair, annotator: str) -> Literal["a", "b"]:
    """Drawn for each pair and annotator, so that who prefers a side prefers no response."""
    return "a" if seed_from(digest("page-first", annotator, pair.response_a, pair.response_b)) % 2 else "b"


def p_a(choice: Choice, first: Literal["a", "b"]) -> float:
    """What a choice by place says of the canonical pair."""
    if choice == "tie":
        return 0.5
    return 1.0 if (choice == "first") == (first == "a") else 0.0


def choice_of(p: float, first: Literal["a", "b"]) -> Choice:
    """The inverse of `p_a`."""
    if p == 0.5:
        return "tie"
    return "first" if (p > 0.5) == (first == "a") else "second"


def annotation_id(pair: Pair, annotator: str, objective: str) -> str:
    return Annotation.make_id(pair.response_a, pair.response_b, SOURCE, annotator, objective, False)


def gold_agreement(said: Mapping[Pair, float], gold: Mapping[Pair, float]) -> Gold:
    """Over the pairs that were labelled and have gold. `gold` may be the mean of several sources: the side counts."""
    both = sorted(set(said) & set(gold))
    same = [_side(said[pair]) == _side(gold[pair]) for pair in both]
    n_ties = sum(said[pair] == 0.5 != gold[pair] for pair in both)
    return Gold(rate(same, [pair.prompt_id for pair in both]), n_ties)


def _side(p: float) -> int:
    return (p > 0.5) - (p < 0.5)
