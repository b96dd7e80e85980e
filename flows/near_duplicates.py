"""Which prompts of a run or a home repeat another in other words, as rejects; `cai/coverage/near.py` decides."""

from collections import Counter
from collections.abc import Iterable, Sequence

from cai.coverage.near import NearDuplicates, Repeat
from cai.records import Prompt, Reject
from storage.seen import IdsOnDisk
from storage.store import Store

GROUP = 10_000
REASON = "near_duplicate"
_SAYS = {
    "same_words": "the same words as prompt {of}",
    "moved_words": "the words of prompt {of}, one of them in another place",
    "near": "{share:.0%} of the runs of words of prompt {of}",
}


def take_stored(finder: NearDuplicates, store: Store, groups: Iterable[Sequence[str]]) -> None:
    """Stored prompts by their ids, in this order. Texts are in memory by the group."""
    for group in groups:
        found = store.find_all(Prompt, group)
        for prompt_id in group:
            finder.add(found[prompt_id])


def reject(store: Store, repeats: Sequence[Repeat], ids: IdsOnDisk) -> Counter[str]:
    """Store a reject for each repeat and add its id to `ids`. Returns how many prompts of each kind these are."""
    kinds = Counter[str]()
    for start in range(0, len(repeats), GROUP):
        group = repeats[start : start + GROUP]
        rejects = rejects_of(group)
        store.append(rejects, index=False)
        ids.add([row.reject_id for row in rejects])
        kinds.update(row.kind for row in store.find_all(Prompt, [repeat.prompt_id for repeat in group]).values())
    return kinds


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
