"""The question behind a prompt that begins with an opinion: what several rows share at their end. Pure.

Published sets put a biography before each question, one text with no mark between them, and ask every question of many
people. So a question is the longest run of last sentences that all rows of a group share.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from storage.dialogues import BadRow

OPTION = re.compile(r"^[ \t]*\((?P<letter>[A-Z])\)", re.MULTILINE)
"""A line that offers an answer: " (A) A smaller government"."""
_SENTENCE = re.compile(r"(?<=[.!?:…])[\"'”’)]*\s+|\n+")

Parts = tuple[str, ...]


def options_of(prompt: str) -> tuple[str, ...]:
    """The letters to choose from, in order.

    Raises:
        BadRow: no_options where there are not two or more, each once.
    """
    letters = tuple(match["letter"] for match in OPTION.finditer(prompt))
    if len(letters) < 2 or len(set(letters)) < len(letters):
        raise BadRow("no_options", f"lines that begin with (A), (B), … are expected, each letter once, got {letters}")
    return letters


def questions(prompts: Sequence[str]) -> dict[str, str]:
    """Prompt → the question that it ends in, as other rows ask it too; without one where no other row does, or where
    nothing stands before it. The question ends in its options, and in what comes after them.
    """
    groups: dict[Parts, list[Parts]] = defaultdict(list)
    for prompt in dict.fromkeys(prompts):
        parts = _parts(prompt)
        if len(parts) > 1:
            groups[parts[-2:]].append(parts)
    found = {}
    for end, group in groups.items():
        for parts, length in _shared(group, len(end)):
            if length < len(parts):
                found["".join(parts)] = "".join(parts[-length:]).strip()
    return found


def _parts(prompt: str) -> Parts:
    """The sentences before the first option, with the space behind them, and then the rest as one."""
    first = OPTION.search(prompt)
    head = prompt[: first.start()] if first else prompt
    ends = [match.end() for match in _SENTENCE.finditer(head) if match.end() < len(head)]
    starts = [0, *ends]
    sentences = [head[start:end] for start, end in zip(starts, [*ends, len(head)], strict=True)]
    return (*sentences, prompt[len(head) :]) if first else tuple(sentences)


def _shared(group: Sequence[Parts], length: int) -> Iterator[tuple[Parts, int]]:
    """Each row of a group whose last `length` parts are the same, with how many of its last parts are its question.

    Most rows of a group that have the sentence before in common with another row ask several questions in like words;
    where few have, that sentence is of the biographies. A row that is alone with its question has none.
    """
    if len(group) < 2:
        return
    before = Counter(_part_before(parts, length) for parts in group)
    n_alone = before.total() - sum(n for n in before.values() if n > 1)
    if "" in before or n_alone * 2 >= len(group):
        yield from ((parts, length) for parts in group)
        return
    by_sentence: Mapping[str, list[Parts]] = {sentence: [] for sentence in before}
    for parts in group:
        by_sentence[_part_before(parts, length)].append(parts)
    for smaller in by_sentence.values():
        yield from _shared(smaller, length + 1)


def _part_before(parts: Parts, length: int) -> str:
    return parts[-length - 1] if len(parts) > length else ""
