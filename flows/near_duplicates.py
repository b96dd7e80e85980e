"""Which prompts of a run repeat another of its prompts in other words; `cai/coverage/near.py` decides.

Prompts of the small world are never compared. Its generator makes them of few words, near each other on purpose, each
with a truth of its own; there are no two wordings of one prompt to find.
"""

from collections.abc import Iterable

from cai.config import Profile
from cai.coverage.near import NearDuplicates, Repeat
from cai.records import Prompt, Reject
from cai.smallworld import world

REASON = "near_duplicate"
_SAYS = {
    "same_words": "the same words as prompt {of}",
    "moved_words": "the words of prompt {of}, one of them in another place",
    "near": "{share:.0%} of the runs of words of prompt {of}",
}


class Comparing:
    """Takes the prompts of a run as they are imported. Holds some four bytes a word until all are there."""

    def __init__(self, profile: Profile) -> None:
        self._finder = NearDuplicates() if profile.near_duplicates == "reject" else None

    def take(self, prompts: Iterable[Prompt]) -> None:
        for prompt in prompts:
            if self._finder is not None and prompt.source != world.SOURCE:
                self._finder.add(prompt)

    def repeats(self) -> list[Repeat]:
        return [] if self._finder is None else self._finder.repeats()


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
