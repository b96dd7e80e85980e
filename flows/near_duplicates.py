"""Which prompts of a run or a home repeat another in other words, as rejects; `cai/coverage/near.py` decides."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cai.coverage.near import NearDuplicates, Repeat
from cai.records import Prompt, Reject
from storage.store import Store

GROUP = 10_000
REASON = "near_duplicate"
_SAYS = {
    "same_words": "the same words as prompt {of}",
    "moved_words": "the words of prompt {of}, one of them in another place",
    "near": "{share:.0%} of the runs of words of prompt {of}",
}


class Compared(NamedTuple):
    repeats: list[Repeat]
    n_of_templates: int
    """Prompts that are near more than `TEMPLATE` others, and stay."""


def compared(store: Store, prompt_ids: Sequence[str]) -> Compared:
    """Of stored prompts, those that repeat one before them in this order. Texts are in memory by the group."""
    finder = NearDuplicates()
    for start in range(0, len(prompt_ids), GROUP):
        group = prompt_ids[start : start + GROUP]
        found = store.find_all(Prompt, group)
        for prompt_id in group:
            finder.add(found[prompt_id])
    repeats = finder.repeats()
    return Compared(repeats, finder.n_of_templates)


def rejects_of(repeats: Iterable[Repeat], stage: str = "import") -> list[Reject]:
    """A reject for each, with what it repeats as its second parent."""
    return [
        Reject.make(
            stage,
            REASON,
            prompt_id=repeat.prompt_id,
            parents=(repeat.prompt_id, repeat.of),
            detail=_SAYS[repeat.kind].format(of=repeat.of, share=repeat.similarity),
        )
        for repeat in repeats
    ]
