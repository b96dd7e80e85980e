"""What a profile does about personal items: texts redacted or rejected before anything is stored, and counted.

A placeholder is numbered within its dialogue, so that the same address is the same placeholder wherever it returns,
also where nothing but another turn tells that it is one ("my password is …", and later that word alone).
"""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from cai.config.privacy import PrivacyConfig
from cai.privacy.find import find, is_bare
from cai.privacy.items import KINDS, NAMES, Found, Kind
from cai.privacy.nested import MAX_DEPTH, Part, find_each, find_in_forms, forms, is_json, joined, leaves, parts_of, put
from cai.records import Message, Prompt

REASON = "personal_data"
SHORTEST_KNOWN = 6
"""Characters of an item that is looked for in the rest of its row, word for word; a shorter one may mean anything."""
_TOKEN = re.compile(r"\w+")

Tally = dict[str, dict[str, int]]
"""Items by kind and by what was done: `{"email": {"redact": 3}}`, with `{"rows": {…}}` for the prompts that had any."""


class Guarded(NamedTuple):
    """A prompt as it may be stored, and its answer. `refused`: the kinds for which it may not be."""

    prompt: Prompt
    answer: str | None
    refused: tuple[Kind, ...]


class Conversation(NamedTuple):
    """A prompt as it may be stored, and the texts that belong to it."""

    prompt: Prompt
    texts: tuple[str, ...]
    refused: tuple[Kind, ...]


class Guard:
    """Applies a policy (the defaults where there is none) and counts what it found: one for each import, which begins
    with the `tally` so far.
    """

    def __init__(
        self, policy: PrivacyConfig | None = None, tally: Mapping[str, Mapping[str, int]] | None = None
    ) -> None:
        self._policy = policy or PrivacyConfig()
        self._counts: Counter[tuple[str, str]] = Counter(
            {(kind, action): n for kind, actions in (tally or {}).items() for action, n in actions.items()}
        )

    def prompt(self, prompt: Prompt, answer: str | None = None) -> Guarded:
        """The prompt and its answer with placeholders, as `conversation` makes them."""
        clean, texts, refused = self.conversation(prompt, () if answer is None else (answer,))
        return Guarded(clean, texts[0] if texts else None, refused)

    def conversation(self, prompt: Prompt, others: Sequence[str]) -> Conversation:
        """The prompt and other texts of its row (answers, responses) with placeholders, the same item under the same
        name in all of them; the prompt's id is made anew from what is left.

        Its kinds to `redact` and to `reject` are replaced, for a reject is a stored row too.
        """
        texts = [*[m.content for m in prompt.messages], *prompt.tags, prompt.expected or "", *others]
        if is_bare("\n".join(texts)):
            return Conversation(prompt, tuple(others), ())
        found = [find(text) if text else [] for text in texts]
        if not any(found):
            return Conversation(prompt, tuple(others), ())
        hidden = self._policy.hidden()
        found = _everywhere(texts, found, hidden)
        refused = self._count(found)
        replaced = _replaced(texts, found, hidden)
        if replaced == texts:
            return Conversation(prompt, tuple(others), refused)
        n, end = len(prompt.messages), len(texts) - len(others)
        messages = tuple(Message(m.role, text) for m, text in zip(prompt.messages, replaced, strict=False))
        clean = replace(
            prompt,
            prompt_id=Prompt.make(messages, "").prompt_id,
            messages=messages,
            tags=tuple(replaced[n : end - 1]),
            expected=None if prompt.expected is None else replaced[end - 1],
        )
        return Conversation(clean, tuple(replaced[end:]), refused)

    def raw(self, text: str, cells: Mapping[str, str] | None = None) -> str:
        """A row of a file as a reject may have it: as it was read, but for what is hidden of its fields, each by itself
        (see `parts_of`), and of the whole. Escaped characters are read where they hide an item.
        """
        hidden = self._policy.hidden()
        named = [f"{name}: {cell}" for name, cell in (cells or {}).items()]
        if is_bare("\n".join([*(form.text for form in forms(text)), *named])):
            return text
        placeholder, left, is_whole = _Placeholders(), text, is_json(text)
        if cells:
            left = _with_parts_hidden(text, parts_of(text, cells), hidden, placeholder)
        elif is_whole:
            for depth in (MAX_DEPTH, 0):  # also a string that is JSON, as one text: a prompt is searched like that
                left = _with_parts_hidden(left, parts_of(left, depth=depth), hidden, placeholder)
        left, found = (left, find(left, hidden)) if is_whole else find_in_forms(left, hidden)
        return _replaced([left], _everywhere([left], [found], hidden), hidden, placeholder)[0]

    def detail(self, detail: str, raw: str, cells: Mapping[str, str] | None = None) -> str:
        """Why a row was rejected, without what it quotes (`…, got 'the row'`) where the row holds what is hidden: a
        quotation is cut somewhere, and half a key tells much of it.
        """
        return detail if self.raw(raw, cells) == raw else redacted(detail.partition(", got ")[0])

    def tally(self) -> Tally:
        """The counts up to now, with every kind that was found."""
        tally: Tally = {}
        for (kind, action), n in sorted(self._counts.items()):
            tally.setdefault(kind, {})[action] = n
        return tally

    def _count(self, found: Sequence[Sequence[Found]]) -> tuple[Kind, ...]:
        kinds = [item.kind for items in found for item in items]
        actions = {kind: self._policy.action(kind) for kind in set(kinds)}
        self._counts.update((kind, actions[kind]) for kind in kinds)
        worst = next(action for action in ("reject", "redact", "keep") if action in actions.values())
        self._counts["rows", worst] += 1
        return tuple(kind for kind in KINDS if actions.get(kind) == "reject")


def redacted(text: str, kinds: Collection[Kind] = KINDS) -> str:
    """One text with a placeholder for each item."""
    return _replaced([text], _everywhere([text], [find(text, kinds)], kinds), kinds)[0]


def masked(text: str, found: Found, n_around: int = 30, others: Sequence[Found] = ()) -> str:
    """An item in its place with what stands around it, on one line; neither it nor another one can be read, nor what
    is known from elsewhere to be one (`others`).
    """
    hidden = _Placeholders()
    start, end = max(0, found.start - n_around), found.end + n_around
    parts, place = [], start
    for each in _everywhere([text], [joined(find(text), [found], others)], KINDS)[0]:
        if each.end > start and each.start < end:
            parts += [text[place : each.start], hidden(each)]
            place = each.end
    line = "".join([*parts, text[place:end]])
    return " ".join("".join(c if c.isprintable() else " " for c in line).split())


class _Placeholders:
    """Names by order of appearance: the first e-mail address of a dialogue is `[EMAIL_1]` throughout."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Kind, str], int] = {}
        self._n: Counter[Kind] = Counter()

    def __call__(self, found: Found) -> str:
        key = (found.kind, found.same)
        if key not in self._numbers:
            self._n[found.kind] += 1
            self._numbers[key] = self._n[found.kind]
        return f"[{found.kind.upper()}_{self._numbers[key]}]"


def _everywhere(texts: Sequence[str], found: Sequence[Sequence[Found]], kinds: Collection[Kind]) -> list[list[Found]]:
    """What was found, and the other places of the same characters as whole words, in order. Time is linear in the
    length of the texts: at a word that is the longest of an item, what stands there is looked up.
    """
    known: dict[str, Found] = {}
    shapes: dict[str, set[tuple[int, int]]] = {}
    for text, items in zip(texts, found, strict=True):
        for item in items:
            literal = text[item.start : item.end]
            if item.kind in kinds and len(literal) >= SHORTEST_KNOWN and literal not in known:
                token = max(_TOKEN.finditer(literal), key=lambda match: len(match[0]), default=None)
                if token is None:
                    continue
                known[literal] = item
                shapes.setdefault(token[0], set()).add((token.start(), len(literal)))
    if not known:
        return [list(items) for items in found]
    return [_further(text, items, kinds, known, shapes) for text, items in zip(texts, found, strict=True)]


def _further(
    text: str,
    items: Sequence[Found],
    kinds: Collection[Kind],
    known: Mapping[str, Found],
    shapes: Mapping[str, Collection[tuple[int, int]]],
) -> list[Found]:
    """The items of a text and the further places; of two that overlap the longer counts."""
    taken = [item for item in items if item.kind in kinds]
    for item in sorted(_places(text, known, shapes), key=lambda item: item.start - item.end):
        at = bisect(taken, item.start, key=lambda other: other.start)
        if (not at or taken[at - 1].end <= item.start) and (at == len(taken) or item.end <= taken[at].start):
            taken.insert(at, item)
    kept = [item for item in items if item.kind not in kinds]
    return sorted([*taken, *kept], key=lambda item: item.start)


def _places(
    text: str, known: Mapping[str, Found], shapes: Mapping[str, Collection[tuple[int, int]]]
) -> Iterator[Found]:
    for token in _TOKEN.finditer(text):
        for before, length in shapes.get(token[0], ()):
            start, end = token.start() - before, token.start() - before + length
            item = known.get(text[start:end]) if start >= 0 else None
            if item is not None and not _is_in_word(text, start) and not _is_in_word(text, end):
                yield item._replace(start=start, end=end)


def _is_in_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and _TOKEN.fullmatch(text[place - 1 : place + 1]) is not None


def _with_parts_hidden(
    text: str, parts: Sequence[Part], kinds: Collection[Kind], placeholder: Callable[[Found], str]
) -> str:
    ends = list(leaves(parts))
    texts = [part.text for part in ends]
    found = _everywhere(texts, find_each(ends, kinds), kinds)
    return put(text, parts, iter(_replaced(texts, found, kinds, placeholder)))


def _replaced(
    texts: Sequence[str],
    found: Sequence[Sequence[Found]],
    kinds: Collection[Kind],
    placeholder: Callable[[Found], str] | None = None,
) -> list[str]:
    placeholder = placeholder or _Placeholders()
    return [_with(text, items, kinds, placeholder) for text, items in zip(texts, found, strict=True)]


def _with(text: str, found: Sequence[Found], kinds: Collection[Kind], placeholder: Callable[[Found], str]) -> str:
    parts, place = [], 0
    for item in found:
        if item.kind in kinds:
            parts += [text[place : item.start], placeholder(item)]
            place = item.end
    return "".join([*parts, text[place:]]) if parts else text


def in_words(tally: Mapping[str, Mapping[str, int]]) -> str:
    """`e-mail addresses: 3 redacted; names: 2 kept`; "" where nothing was found."""
    done = {"redact": "redacted", "reject": "rejected", "keep": "kept"}
    return "; ".join(
        f"{NAMES[kind]}: {', '.join(f'{n:,} {done[action]}' for action, n in tally[kind].items())}"
        for kind in KINDS
        if kind in tally
    )


def added(*tallies: Mapping[str, Mapping[str, int]]) -> Tally:
    """The sum of the tallies of several imports."""
    total: Tally = {}
    for tally in tallies:
        for kind, actions in tally.items():
            for action, n in actions.items():
                total.setdefault(kind, {}).setdefault(action, 0)
                total[kind][action] += n
    return total


def refusal(kinds: Sequence[Kind]) -> str:
    """Why a prompt is a reject, for reading."""
    held = ", ".join(NAMES[kind] for kind in kinds)
    return f"it holds {held}, which the profile rejects; `privacy` there says what else may be done"
