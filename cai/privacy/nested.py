"""The texts within a row: its cells, the strings and numbers of JSON, and those of the JSON that a string may be.

Each is looked at by itself, so that the name of one field is not taken for a word about another, and once more beside
its own name, which may say what a number is.
"""

import json
import re
from bisect import bisect
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from cai.privacy.find import find, is_bare
from cai.privacy.items import KINDS, Found, Kind

MAX_DEPTH = 8
"""Of JSON as text within JSON, and of escapes within escapes; what is deeper is read as it stands."""
_LEXEME = re.compile(r'"(?:[^"\\]++|\\.)*+"|-?[0-9][0-9.eE+-]*+|[\[\]{}]', re.DOTALL)
_COLON = re.compile(r"\s*:")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    r"\\(?:u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|"
    r"x(?P<x>[0-9a-fA-F]{2})|(?P<char>[ntrbf\"'/\\]))"
)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": " ", "f": " "}


class Part(NamedTuple):
    """One text of a row, and where it stands in the text around it."""

    start: int
    end: int
    name: str
    text: str
    inner: "tuple[Part, ...]" = ()
    is_json: bool = True
    """Written as JSON: between quotes, and escaped."""


def parts_of(text: str, cells: Mapping[str, str] | None = None, depth: int = MAX_DEPTH) -> tuple[Part, ...]:
    """What a row consists of: of JSON its keys, strings and numbers, of `cells` (those of a CSV, whose `text` has them
    one behind the other with a character between) each cell, else the text itself. Strings and cells that are JSON
    objects or lists are taken apart `depth` times.
    """
    if cells and len(text) == sum(map(len, cells.values())) + len(cells) - 1:
        ends = accumulate(len(cell) + 1 for cell in cells.values())
        places = (
            (end - 1 - len(cell), end - 1, name, cell) for end, (name, cell) in zip(ends, cells.items(), strict=True)
        )
        return tuple(Part(*place, _of_json(place[-1], depth), is_json=False) for place in places)
    return _of_json(text, depth + 1, "") or (Part(0, len(text), "", text, is_json=False),)


def is_json(text: str) -> bool:
    """Whether a text is a JSON object or list."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def leaves(parts: Sequence[Part]) -> Iterator[Part]:
    """The texts that have none within them, in order."""
    for part in parts:
        if part.inner:
            yield from leaves(part.inner)
        else:
            yield part


def put(text: str, parts: Sequence[Part], texts: Iterator[str]) -> str:
    """The text with others in the place of its leaves; what is not another stays as it was written."""
    done, place = [], 0
    for part in parts:
        said = put(part.text, part.inner, texts) if part.inner else next(texts)
        if said != part.text:
            done += [text[place : part.start], json.dumps(said, ensure_ascii=False) if part.is_json else said]
            place = part.end
    return "".join([*done, text[place:]]) if done else text


def find_each(parts: Sequence[Part], kinds: Collection[Kind] = KINDS) -> list[list[Found]]:
    """The items of each part: what it has by itself, and what it has among the others with their names."""
    labels = [f"{part.name}: " if part.name else "" for part in parts]
    labelled = "\n".join([f"{label}{part.text}" for label, part in zip(labels, parts, strict=True)])
    if is_bare(labelled):
        return [[] for _ in parts]
    among, place, found = find(labelled, kinds), 0, []
    for label, part in zip(labels, parts, strict=True):
        start = place + len(label)
        place = start + len(part.text) + 1
        first = bisect(among, start, key=lambda item: item.end)
        after = bisect(among, place - 2, key=lambda item: item.start)
        inside = [
            item._replace(start=max(item.start - start, 0), end=min(item.end - start, len(part.text)))
            for item in among[first:after]
        ]
        found.append(joined(find(part.text, kinds), inside) if part.text else [])
    return found


def joined(*found: Sequence[Found]) -> list[Found]:
    """Items of one text that were found in several ways, in order; overlapping ones are one, called as the longest."""
    made: list[Found] = []
    longest = 0
    for item in sorted((item for items in found for item in items), key=lambda item: (item.start, -item.end)):
        n = item.end - item.start
        if not made or item.start >= made[-1].end:
            made.append(item)
            longest = n
            continue
        last, end = made[-1], max(made[-1].end, item.end)
        made[-1] = (item if n > longest else last)._replace(start=last.start, end=end)
        longest = max(n, longest)
    return made


class Form(NamedTuple):
    """A text with its escapes read. `moved`: the ends of escapes in the text before, and where they are in this one."""

    text: str
    moved: tuple[tuple[int, int], ...] = ()

    def place(self, before: int) -> int:
        """Where a place of the text before is in this one."""
        at = bisect(self.moved, before, key=lambda move: move[0])
        was, now = self.moved[at - 1] if at else (0, 0)
        place = now + before - was
        return min(place, self.moved[at][1]) if at < len(self.moved) else place


def forms(text: str) -> list[Form]:
    """A text as it stands, and with its escapes read once, twice and so on while it has any."""
    made = [Form(text)]
    while len(made) <= MAX_DEPTH and "\\" in made[-1].text:
        parts: list[str] = []
        moved: list[tuple[int, int]] = []
        place = n = 0
        for match in _ESCAPE.finditer(made[-1].text):
            parts += [made[-1].text[place : match.start()], _unescaped(match)]
            n += match.start() - place + 1
            place = match.end()
            moved.append((place, n))
        if not moved:
            break
        made.append(Form("".join([*parts, made[-1].text[place:]]), tuple(moved)))
    return made


def find_in_forms(text: str, kinds: Collection[Kind] = KINDS) -> tuple[str, list[Found]]:
    """What any form of a text has, and the form in which all of it stands: the text itself, if that has all."""
    items: list[Found] = []
    read, found = text, items
    for form in forms(text):
        items = [item._replace(start=form.place(item.start), end=form.place(item.end)) for item in items]
        if own := find(form.text, kinds):
            read, found = form.text, joined(own, items)
        items = joined(own, items)
    return read, found


def _of_json(text: str, depth: int, name: str = "") -> tuple[Part, ...]:
    """The keys, strings and numbers of an object or a list; none of another text."""
    if not depth or not is_json(text):
        return ()
    parts: list[Part] = []
    outer: list[str] = []
    for match in _LEXEME.finditer(text):
        start, end = match.span()
        if text[start] in "[{":
            outer.append(name)
        elif text[start] in "]}":
            name = outer.pop()
        elif text[start] != '"':
            parts.append(Part(start, end, name, match[0]))
        else:
            said = _SURROGATE.sub(" ", json.loads(match[0]))
            is_key = _COLON.match(text, end) is not None
            parts.append(
                Part(start, end, "" if is_key else name, said, () if is_key else _of_json(said, depth - 1, name))
            )
            name = said if is_key else name
    return tuple(parts)


def _unescaped(match: re.Match[str]) -> str:
    if match["high"]:
        return chr(0x10000 + (int(match["high"], 16) - 0xD800) * 0x400 + int(match["low"], 16) - 0xDC00)
    if code := match["u"] or match["x"]:
        char = chr(int(code, 16))
        return " " if "\ud800" <= char <= "\udfff" else char
    return _ESCAPED.get(match["char"], match["char"])
