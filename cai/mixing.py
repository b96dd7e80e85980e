"""How many helpful prompts stand beside the others in what a stage trains on. Pure, and nothing is drawn at random."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from cai.errors import DataError


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
    n = round(len(others) * helpful_share / (1 - helpful_share))
    if len(helpful) < n:
        possible = 1_000 * len(helpful) // (len(others) + len(helpful)) / 1_000
        if helpful:
            there = f"{len(helpful)} are there: add some to `helpful.prompts`"
            there += f", or lower `rl_prompts.helpful_share` to {possible:.3f}"
        else:
            there = "no prompt has `kind: helpful`: state it where prompts are, or add some to `helpful.prompts`"
        raise DataError(f"{n} helpful prompts beside {len(others)} others make a share of {helpful_share}, and {there}")
    return PromptMix({*others, *sorted(helpful, key=order)[:n]}, n)
