"""A response as sentences, each with its place in the text. Pure; an item of a list is a sentence of its own."""

import re
from typing import NamedTuple

_PIECE = re.compile(r"[^\n]+")
_ITEM = re.compile(r"\s*(?:\d{1,2}[.)]|[-*•+])\s+")
# Not behind a title, nor behind a single letter: an initial, or the end of "e.g.".
_STOP = re.compile(r"""(?<!\bmr)(?<!\bms)(?<!\bdr)(?<!\bmrs)(?<!\bvs)(?<!\b[a-z])[.!?;]["')\]]*\s+""", re.IGNORECASE)
_PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})


class Sentence(NamedTuple):
    """`text` is `response[start:end]` in lower case and with straight quotes; an item's number is not in it."""

    text: str
    start: int
    end: int
    is_item: bool


def plain(text: str) -> str:
    """The text with straight quotes and plain spaces: as long as before, so that places stay what they were."""
    return text.translate(_PLAIN)


def sentences_of(text: str) -> list[Sentence]:
    """The sentences of `text` in its order; those of white space and punctuation alone are left out."""
    flat, found = plain(text), []
    for line in _PIECE.finditer(flat):
        item = _ITEM.match(line[0])
        start = line.start() + (item.end() if item else 0)
        for stop in [*_STOP.finditer(flat, start, line.end()), None]:
            end = stop.end() if stop else line.end()
            body = flat[start:end]
            if re.search(r"\w", body):
                begin = start + len(body) - len(body.lstrip())
                shown = body.strip()
                found.append(Sentence(shown.lower(), begin, begin + len(shown), item is not None))
            start = end
    return found
