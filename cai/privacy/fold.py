"""A text as detectors read it: plain digits, spaces, hyphens and dots, and nothing that is not seen."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

_PLAIN = {"·": ".", "•": ".", "∙": ".", "⋅": ".", "。": ".", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"'}
_UNSEEN = frozenset("\ufe0f\ufe0e\u20e3\u034f\u115f\u1160\u3164")
"""What is no format character and shows as nothing: fillers, and selectors of emoji (a keycap is a digit and two)."""


class Folded(NamedTuple):
    text: str
    places: Sequence[int] | None
    """Where each character was, None where none was left out."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the text as it was."""
        return (start, end) if self.places is None else (self.places[start], self.places[end - 1] + 1)


class _Folds(dict[int, str]):
    """What each character becomes, one character or none; worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold(chr(code))
        return folded


def is_unseen(char: str) -> bool:
    """Whether it shows as nothing."""
    return unicodedata.category(char) == "Cf" or char in _UNSEEN


def _fold(char: str) -> str:
    if is_unseen(char):
        return ""
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category == "Pd":
        return "-"
    if category == "Zs":
        return " "
    plain = _PLAIN.get(char) or unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char


_FOLDS = _Folds()
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def _plain(match: re.Match[str]) -> str:
    return match[0].translate(_FOLDS)


def fold(text: str) -> Folded:
    if text.isascii():
        return Folded(text, None)
    folded = _NOT_ASCII.sub(_plain, text)
    if len(folded) == len(text):
        return Folded(folded, None)
    return Folded(folded, [place for place, char in enumerate(text) if _FOLDS[ord(char)]])
