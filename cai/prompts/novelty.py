"""How like a prompt is to those met before, by what they share (Jaccard): runs of words, for whether it says anything
new, or words that are no function words, for whether it is a weak spot that is known. Pure.

Exact, and as large as what it holds: some 2 KB a prompt. `nearest` is all that the others know of it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from cai.records import Prompt
from cai.words import Words, function_words, runs, words_in

RUN = 3


class Near(NamedTuple):
    prompt_id: str
    similarity: float


def runs_of(prompt: Prompt) -> frozenset[Words]:
    """Every `RUN` words in a row of what the user says; of fewer words, those."""
    found: set[Words] = set()
    for words in _said(prompt):
        found.update(runs(words, RUN) if len(words) > RUN else [words])
    return frozenset(found - {()})


def content_words(prompt: Prompt) -> frozenset[str]:
    """What the user's words are about, however it is put: all of them but function words; of nothing else, those."""
    words = frozenset(word for said in _said(prompt) for word in said)
    return words - function_words() or words


class Seen:
    """The prompts met so far, by their `parts`."""

    def __init__(self, parts: Callable[[Prompt], frozenset[Hashable]] = runs_of) -> None:
        self._parts = parts
        self._n_parts: dict[str, int] = {}
        self._having: dict[Hashable, list[str]] = defaultdict(list)

    def add(self, prompt: Prompt) -> None:
        if prompt.prompt_id in self._n_parts:
            return
        own = self._parts(prompt)
        self._n_parts[prompt.prompt_id] = len(own)
        for part in own:
            self._having[part].append(prompt.prompt_id)

    def nearest(self, prompt: Prompt) -> Near | None:
        """The most similar prompt met so far, 0 to 1; None where none shares a part with it."""
        own = self._parts(prompt)
        shared = Counter(prompt_id for part in own for prompt_id in self._having.get(part, ()))
        near = (Near(key, n / (len(own) + self._n_parts[key] - n)) for key, n in shared.items())
        return max(near, key=lambda each: (each.similarity, each.prompt_id), default=None)


def _said(prompt: Prompt) -> list[Words]:
    return [words_in(message.content) for message in prompt.messages if message.role == "user"]
