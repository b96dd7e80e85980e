"""How many rows of one kind stand beside the others in what a stage trains on. Pure, and nothing is drawn at random."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from cai.errors import DataError


class Parts(NamedTuple):
    """What a share is of, beside what, for whom there are too few: what to do, and the setting to lower."""

    part: str
    others: str
    remedy: str
    setting: str


_HELPFUL = Parts(
    "helpful prompts",
    "others",
    "add some to `helpful.prompts`, or state `kind: helpful` where prompts are",
    "rl_prompts.helpful_share",
)


def n_beside(share: float, n_others: int) -> int:
    """So many beside `n_others` are this share of the whole, to the nearest row."""
    return round(n_others * share / (1 - share))


def n_of_share(share: float, n_others: int, n_there: int, parts: Parts) -> int:
    """How many of `n_there` to take beside `n_others`.

    Raises:
        DataError: there are too few.
    """
    n = n_beside(share, n_others)
    if n_there < n:
        lower = (
            f", or lower `{parts.setting}` to {1_000 * n_there // (n_others + n_there) / 1_000:.3f}" if n_there else ""
        )
        there = f"{n_there or 'none'} are there: {parts.remedy}{lower}"
        raise DataError(f"{n} {parts.part} beside {n_others} {parts.others} make a share of {share}, {there}")
    return n


class PromptMix(NamedTuple):
    """Ids of prompts, and how many of them are helpful."""

    prompt_ids: set[str]
    n_helpful: int

    @property
    def helpful_share(self) -> float:
        return self.n_helpful / len(self.prompt_ids) if self.prompt_ids else 0.0


def mix_prompts(
    others: Collection[str],
    helpful: Collection[str],
    helpful_share: float | None,
    order: Callable[[str], float | str] = str,
) -> PromptMix:
    """All the others, and so many helpful ones that these are the stated share, to the nearest prompt: those that come
    first by `order`, else by id, which is a digest. None takes all.

    Raises:
        DataError: there are too few helpful prompts.
    """
    if helpful_share is None:
        return PromptMix({*others, *helpful}, len(set(helpful)))
    n = n_of_share(helpful_share, len(others), len(helpful), _HELPFUL)
    return PromptMix({*others, *sorted(helpful, key=order)[:n]}, n)
