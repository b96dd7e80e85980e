"""A word diff of two texts, as runs of kept, removed and added text. Pure."""

import re
from difflib import SequenceMatcher
from typing import Literal

Change = Literal["=", "-", "+"]
MAX_WORDS = 4_000
"""difflib is quadratic: longer texts are shown as replaced whole."""

# A word carries the space before it, so that an inserted word is one token and leaves its neighbours alone.
_WORDS = re.compile(r"\s*[^\W_]+(?:['’][^\W_]+)*|\s*\S|\s+")


def word_diff(before: str, after: str) -> tuple[tuple[Change, str], ...]:
    """Runs whose "=" and "-" spell `before`, and whose "=" and "+" spell `after`, exactly."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if old == new:
        return (("=", before),) if before else ()
    if len(old) + len(new) > MAX_WORDS:
        return _runs([("-", before), ("+", after)])
    runs: list[tuple[Change, str]] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            runs.append(("=", "".join(old[i1:i2])))
        else:
            runs.append(("-", "".join(old[i1:i2])))
            runs.append(("+", "".join(new[j1:j2])))
    return _runs(_without_islands(runs))


def _without_islands(runs: list[tuple[Change, str]]) -> list[tuple[Change, str]]:
    """Fold a kept comma between two changes into them: a rewritten sentence reads as one change, not as confetti."""
    folded: list[tuple[Change, str]] = []
    for place, (change, text) in enumerate(runs):
        between = 0 < place < len(runs) - 1
        if change == "=" and between and not any(map(str.isalnum, text)):
            folded += [("-", text), ("+", text)]
        else:
            folded.append((change, text))
    return folded


def _runs(pieces: list[tuple[Change, str]]) -> tuple[tuple[Change, str], ...]:
    """Join neighbours: between two kept runs, all that went stands before all that came."""
    merged: list[tuple[Change, str]] = []
    gone, come = "", ""
    for change, text in [*pieces, ("=", "")]:
        if change == "-":
            gone += text
        elif change == "+":
            come += text
        else:
            merged += [("-", gone)] if gone else []
            merged += [("+", come)] if come else []
            merged += [("=", text)] if text else []
            gone, come = "", ""
    return tuple(merged)
