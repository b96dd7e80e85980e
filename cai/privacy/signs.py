"""Which detectors a text has to be shown to: those whose sign it has. Most texts have none.

A sign is what no item of its kind is without, so asking only these detectors finds what asking all of them would. All
signs are looked for in one pass of an automaton (RE2), whatever their number, in a fifth of the time that patterns of
Python take one after the other.
"""

from functools import cache
from typing import Literal

import re2

from cai.privacy import contact, keys, numbers

Detector = Literal["key", "email", "ip", "iban", "number", "name"]
DETECTORS: tuple[Detector, ...] = ("key", "email", "ip", "iban", "number", "name")
MAX_MEMORY = 16 * 2**20
"""What the automaton may have, in bytes; it grows with what it is shown, and begins anew when it is full."""

_SPACE = r"[\s\x0b\x1c-\x1f\x85\x{2028}\x{2029}]"
"""What Python calls a space and RE2 does not, too. Those between words are plain in a folded text."""
_POINT = r"(?:\.|[\[(](?:\.|dot)[\])]| dot )"
_OTHER = "[^A-Za-z0-9]"


def _any_i(pattern: str) -> str:
    """To Python's patterns İ and ı are forms of i, where case does not count."""
    return pattern.replace("i", "[iİı]")


_ASSIGNED = _any_i(keys.LINK).replace(r"\s", _SPACE)
_Sign = Detector | Literal["short number", "of nine digits", "any"]
_SIGNS: tuple[tuple[_Sign, str], ...] = (
    ("key", rf"[^ \t\n\r\x0b\f\"'`<>\[\](){{}},;]{{{keys.SHORTEST}}}"),
    ("key", rf"(?i)--pass|sshpass|login{_SPACE}\S+{_SPACE}password{_SPACE}"),
    ("key", rf"(?i)(?:{_any_i(keys.PASSWORD)}){_ASSIGNED}"),
    ("key", r"(?i)identified by '|-u[ =]|--user|-----begin|private-lines:"),
    ("key", r"(?s)@.*://|://.*@"),
    ("email", r"(?i)@|_at_|%40|&#|&commat;|\\u0040|[\[({<] ?(?:at|ät|arroba|arr?obase) ?[\])}>]"),
    ("email", rf"(?is) at .*(?:{contact.SPELT_DOT})|(?:{contact.SPELT_DOT}).* at "),
    ("email", r"(?i)arroba |robase |chiocciola | małpa | собака "),
    ("ip", rf"(?i)[0-9]{_POINT}[0-9]{{1,3}}{_POINT}[0-9]{{1,3}}{_POINT}[0-9]|:[0-9a-f]{{0,4}}:"),
    ("iban", rf"(?i)(?:^|{_OTHER}|iban)(?:{numbers.ACCOUNTS})"),
    ("number", rf"[0-9](?:{_OTHER}*[0-9]){{11}}"),  # a card may follow a letter; other numbers do not
    ("short number", rf"(?:^|{_OTHER})[0-9](?:{_OTHER}{{0,3}}[0-9]){{6}}"),
    ("of nine digits", rf"[0-9](?:{_OTHER}*[0-9]){{8}}"),
    ("name", r"Mr|Ms|Miss|Dr|Prof|(?i:name is |name's |m called |signed,|sincerely,)"),
    ("any", r"\A"),
)


def signs(text: str) -> list[Detector]:
    """Of a text as `fold` gives it, or of several with line ends between them."""
    matched: list[int] | None = _all_signs().Match(text.encode("utf-8", "replace"))
    if matched is None:  # not even what every text has: RE2 had too little memory
        return list(DETECTORS)
    if len(matched) == 1:
        return []
    found = {_SIGNS[at][0] for at in matched}
    if "short number" in found and ("of nine digits" in found or contact.HAS_SHORT.search(text)):
        found.add("number")
    return [detector for detector in DETECTORS if detector in found]


@cache
def _all_signs() -> "re2.Set":
    """With what every text has, for RE2 finds nothing where it has too little memory."""
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    every = re2.Set.SearchSet(options)
    for _, pattern in _SIGNS:
        every.Add(pattern)
    every.Compile()
    return every
