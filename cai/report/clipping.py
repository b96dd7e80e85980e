"""Long texts cut so that every chain fits a page: each keeps its beginning, up to one limit for all. Pure."""

import re
from collections.abc import Callable

from cai.report.data import Chain

SHORTEST = 80
"""Characters that a text keeps in any case; where that is too much for a page, chains are left out instead."""
_WORTH = 40
"""A text is not cut for fewer characters than saying so takes."""
_BROKEN = re.compile(r"\s\S{0,30}\Z")

Shown = str | list[str | int]
"""A text, or the beginning of one with how many characters the whole has."""


def clip(text: str, limit: int | None) -> Shown:
    """The text, or where it is longer than `limit` its beginning, ended at a word, and the length of the whole."""
    if limit is None or len(text) <= limit + _WORTH:
        return text
    return [_BROKEN.sub("", text[:limit]), len(text)]


def texts_of(chain: Chain) -> list[str]:
    said = [text for step in chain.steps for text in (step.critique, step.revision)]
    return [*(turn.content for turn in chain.prompt), chain.response, *said]


def is_clipped(chain: Chain, limit: int | None) -> bool:
    return limit is not None and any(len(text) > limit + _WORTH for text in texts_of(chain))


def largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest limit in `[low, high]` that fits, to 1 %; `low` where none does."""
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
