"""Which principle is drawn where: weighted rendezvous hashing over principle ids. Pure and without state.

Each principle scores -ln(u)/weight with u from a hash of (seed, key, round, principle id); the smallest score wins
(Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005). The scores are independent exponentials
of rate `weight`, so a principle wins with probability weight / sum of weights, and the n smallest are a draw by weight
without replacement (Efraimidis and Spirakis 2006). No score depends on another principle, nor on any text: editing a
text moves nothing, and adding or removing a principle moves only the rows that it wins or lost.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from cai.constitution.model import Principle
from cai.errors import ConstitutionError
from cai.records import digest


def draw(principles: Sequence[Principle], *, seed: int, prompt_id: str, round: int) -> Principle:
    """The principle of one critique-and-revise step.

    Raises:
        ConstitutionError: there is no principle to draw from.
    """
    if not principles:
        raise ConstitutionError("no principle to draw from; give one the stage `critique`")
    key = digest("draw", seed, prompt_id, round)
    return min(principles, key=lambda p: (_score(key, p), p.id))


def draw_many(principles: Sequence[Principle], n: int, *, seed: int, pair_id: str) -> tuple[Principle, ...]:
    """`n` different principles for one pair, or all of them where there are no more than `n`; first drawn first.

    Raises:
        ConstitutionError: there is no principle to draw from, or `n` is below 1.
    """
    if not principles:
        raise ConstitutionError("no principle to draw from; give one the stage `preference`")
    if n < 1:
        raise ConstitutionError(f"expected at least 1 principle a pair, got {n}")
    key = digest("draw", seed, pair_id)
    return tuple(sorted(principles, key=lambda p: (_score(key, p), p.id))[:n])


def principles_for_pair(
    principles: Sequence[Principle], n: int | Literal["all"], *, seed: int, response_a: str, response_b: str
) -> tuple[Principle, ...]:
    """The principles asked about a pair of responses (ids, in any order). Asking and `diff` both go through here."""
    pair_id = digest("pair", *sorted((response_a, response_b)))
    return draw_many(principles, len(principles) if n == "all" else n, seed=seed, pair_id=pair_id)


def moved_share(old: Mapping[str, float], new: Mapping[str, float]) -> float:
    """Expected share of draws that give another principle once the weights `old` (by id) become `new`.

    A principle i keeps a draw if it wins under both weights. Its exponential is smaller than every other's, scaled by
    the larger of the two weight ratios: P(i wins both) = 1 / (1 + sum over j of max(w_j/w_i, w'_j/w'_i)).
    """
    if not old or not new:
        return 1.0
    others = old.keys() | new.keys()
    kept = 0.0
    for i in old.keys() & new.keys():
        rivals = sum(max(old.get(j, 0.0) / old[i], new.get(j, 0.0) / new[i]) for j in others if j != i)
        kept += 1 / (1 + rivals)
    return max(0.0, 1 - kept)


def _score(key: str, principle: Principle) -> float:
    """-ln(u)/weight, with u strictly between 0 and 1: 52 bits of the hash, and a half."""
    bits = int(hashlib.sha256(f"{key} {principle.id}".encode()).hexdigest()[:13], 16)
    return -math.log((bits + 0.5) / 2**52) / principle.weight
