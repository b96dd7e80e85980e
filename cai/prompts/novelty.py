"""Whether a prompt says anything new: Jaccard similarity of runs of words with every prompt met before. Pure.

Exact, and as large as what it holds: some 2 KB a prompt. `nearest` is all that the others know of it.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

from cai.records import Prompt
from cai.words import Words, runs, words_in

RUN = 3


class Near(NamedTuple):
    prompt_id: str
    similarity: float


class Seen:
    """The prompts met so far."""

    def __init__(self) -> None:
        self._n_runs: dict[str, int] = {}
        self._having: dict[Words, list[str]] = defaultdict(list)

    def add(self, prompt: Prompt) -> None:
        if prompt.prompt_id in self._n_runs:
            return
        own = _runs(prompt)
        self._n_runs[prompt.prompt_id] = len(own)
        for run in own:
            self._having[run].append(prompt.prompt_id)

    def nearest(self, prompt: Prompt) -> Near | None:
        """The most similar prompt met so far, 0 to 1; None where none shares a run of words with it."""
        own = _runs(prompt)
        shared = Counter(prompt_id for run in own for prompt_id in self._having.get(run, ()))
        near = (Near(key, n / (len(own) + self._n_runs[key] - n)) for key, n in shared.items())
        return max(near, key=lambda each: (each.similarity, each.prompt_id), default=None)


def _runs(prompt: Prompt) -> frozenset[Words]:
    """Every `RUN` words in a row of what the user says; of fewer words, those."""
    found: set[Words] = set()
    for message in prompt.messages:
        if message.role == "user":
            words = words_in(message.content)
            found.update(runs(words, RUN) if len(words) > RUN else [words])
    return frozenset(found - {()})
