"""Which prompts are most like another one, so that a writer sees what was tried about it and what came of that. Pure.

Words weigh by their rarity (Spärck Jones 1972): "how do i" joins nothing, "a bicycle" does.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from cai.records import Prompt
from cai.words import words_of

MOST = 16
"""Of each sort that a writer is shown."""


class Like(NamedTuple):
    """What is most like a prompt: that drew out harm too, that did not, that is not tried yet."""

    worked: tuple[Prompt, ...]
    failed: tuple[Prompt, ...]
    untried: tuple[Prompt, ...]


class Tried:
    """The prompts of a campaign, and what came of each: True where it drew out harm, None where it is not tried."""

    def __init__(self) -> None:
        self._prompts: dict[str, Prompt] = {}
        self._worked: dict[str, bool | None] = {}
        self._having: dict[str, list[str]] = defaultdict(list)

    def add(self, prompt: Prompt, worked: bool | None) -> None:
        """Take it in, or learn what came of it."""
        if prompt.prompt_id not in self._prompts:
            self._prompts[prompt.prompt_id] = prompt
            for word in sorted(set(words_of(prompt))):
                self._having[word].append(prompt.prompt_id)
        self._worked[prompt.prompt_id] = worked

    def forget_untried(self, prompt_ids: Collection[str]) -> None:
        """These were written and not kept: no one will try them."""
        for prompt_id in prompt_ids:
            if self._worked.get(prompt_id, True) is None:
                for word in set(words_of(self._prompts.pop(prompt_id))):
                    self._having[word].remove(prompt_id)
                del self._worked[prompt_id]

    def like(self, prompt: Prompt) -> Like:
        """The `MOST` of each sort that share the rarest words with it, the most alike first; not itself."""
        shared: dict[str, float] = defaultdict(float)
        for word in sorted(set(words_of(prompt))):
            having = self._having.get(word, ())
            weight = math.log(len(self._prompts) / len(having)) if having else 0.0
            for other in having:
                shared[other] += weight
        shared.pop(prompt.prompt_id, None)
        worked, failed, untried = (
            heapq.nsmallest(
                MOST,
                (key for key, weight in shared.items() if weight > 0 and self._worked[key] is sort),
                key=lambda key: (-round(shared[key], 9), key),
            )
            for sort in (True, False, None)
        )
        return Like(*(tuple(self._prompts[key] for key in keys) for keys in (worked, failed, untried)))
