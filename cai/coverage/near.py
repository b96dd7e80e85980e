"""Near duplicates among prompts. Pure: the same prompts in the same order give the same repeats.

    cai prompts dedup prompts.jsonl --out kept.jsonl

A prompt repeats an earlier one where, whatever their case, punctuation, spacing and Unicode form,

- `same_words`: the words are the same in the same order;
- `moved_words`: the words are the same, and one, no number, has another place (one more for each `WORDS_PER_MOVE`);
- `near`: both have `LONG` runs of words or more, at least `SIMILARITY` of these are the same, and so are, or are near,
  the last turn of a conversation, and the first and the last line of a turn of several: under the same long text
  stands another question.

A shorter prompt must have the same words: "how do i steal a bicycle?" and "how do i steal a scarf?" are two questions.
So they are behind the same two hundred words, which is why a prompt that is near more than `TEMPLATE` others, none of
them of the same words, repeats nothing and is repeated by none: what they share is a template, and what differs is what
is asked.

Signs that mean something ("C++", "2 * 2") count like a word; prompts to which the system says something else, or whose
expected answers differ, repeat nothing of each other.

MinHash and LSH (Broder 1997; Indyk & Motwani 1998) find the candidates for `near`; what is found is then counted
exactly, so they decide what is looked at and never what is dropped. Of prompts that repeat each other the first stays.
So what stays depends on the order: in another, another of a family may stay, or another number where a is near b and b
near c, but a not near c. Who is near whom does not, up to `MOST_COMPARED` candidates a prompt, nor on a seed.
"""

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from difflib import SequenceMatcher
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from rensa import RMinHash, RMinHashLSH

from cai.records import Prompt
from cai.words import words_in

SIMILARITY = 0.6
"""Share (Jaccard) of the runs of words. A sentence left out of four leaves 0.75, one that is replaced 0.6."""
LONG = 16
TEMPLATE = 20
RUN = 3
"""Words in a run."""
WORDS_PER_MOVE = 50
N_HASHES, N_BANDS = 128, 32
"""Four hashes a band: two prompts of similarity s are compared with probability 1 - (1 - s⁴)³²: 0.988 at 0.6, 0.9998 at
0.7, 0.05 at 0.2."""
MOST_COMPARED = 256
"""Candidates that one prompt is compared with, the earliest first: a bound for texts that are all half alike."""
_SEED = 1
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
"""What the places of a run are multiplied by."""
_GROUP = 2_000
"""Signatures in memory at a time."""

# A dash is a sign between numbers, and punctuation elsewhere; stars and such that dress a text up say nothing.
_SIGN = re.compile(r"[+*/=<>#%^|~\\]|(?<=\d) ?- ?(?=\d)")
_MARKUP = re.compile(r"^\s*[#*>+]+\s|(?<!\w)\*+|\*+(?!\w)|</?\w+/?>")

Kind = Literal["same_words", "moved_words", "near"]
_FROM_STRONG: tuple[Kind, ...] = get_args(Kind)
Hashes = npt.NDArray[np.uint64]


class Repeat(NamedTuple):
    """A prompt and the one before it that it repeats, which itself repeats none. `similarity` is of runs of words,
    and 1 where the words are the same. Where others stand between the two, both are of the weakest link.
    """

    prompt_id: str
    of: str
    kind: Kind
    similarity: float


class _Found(NamedTuple):
    of: int
    kind: Kind
    similarity: float


class _Edges(NamedTuple):
    """Words of the first and of the last line of a last turn that has several."""

    first: int
    last: int


class NearDuplicates:
    """Takes prompts one by one, and keeps of each the numbers of its words, four bytes a word. An id counts once.

    Memory grows with the prompts: of ten words, 0.3 KB each, and 0.7 KB while `repeats` is at work; of forty, 0.5 KB,
    and then 4 KB, most of it the index, which has the signature of each that is long enough in `N_BANDS` bands.
    """

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._numbers: dict[str, int] = {}
        self._words = array("I")
        self._starts = array("Q", [0])
        self._last_turns = array("Q")  # where each begins
        self._edges: list[_Edges | None] = []
        self._settings: list[bytes] = []  # what the system says, and what is expected
        self._known_settings: dict[bytes, bytes] = {}  # nearly all have the same, which is held once
        self.n_of_templates = 0
        """Of the prompts that `repeats` has looked at, those that stay because they share a template."""

    def add(self, prompt: Prompt) -> None:
        if prompt.prompt_id in self._ids:
            return
        self._ids[prompt.prompt_id] = None
        *before, last = (message.content for message in prompt.messages if message.role != "system")
        self._take(before)
        self._last_turns.append(len(self._words))
        lengths = self._take([last])
        self._edges.append(_Edges(lengths[0], lengths[-1]) if len(lengths) > 1 else None)
        self._starts.append(len(self._words))
        told = (m.content.encode() for m in prompt.messages if m.role == "system")
        setting = _digest(str(prompt.expected).encode(), *told)
        self._settings.append(self._known_settings.setdefault(setting, setting))

    def _take(self, turns: Iterable[str]) -> list[int]:
        """How many words each line has, of those that have one."""
        numbers = self._numbers
        lines = [words for turn in turns for words in _lines_of(turn)]
        for words in lines:
            self._words.extend([numbers.setdefault(word, len(numbers)) for word in words])
        return [len(words) for words in lines]

    def repeats(self) -> list[Repeat]:
        """Of all that was added, in the order it was."""
        found = dict(self._of_same_words())
        found |= self._near([i for i in range(len(self._ids)) if i not in found])
        ids = list(self._ids)
        kept = ((i, _kept(i, found)) for i in sorted(found))
        return [Repeat(ids[i], ids[last.of], last.kind, last.similarity) for i, last in kept]

    def _text(self, i: int) -> "array[int]":
        return self._words[self._starts[i] : self._starts[i + 1]]

    def _last_turn(self, i: int) -> "array[int]":
        return self._words[self._last_turns[i] : self._starts[i + 1]]

    def _of_same_words(self) -> Iterator[tuple[int, _Found]]:
        digits = {number for word, number in self._numbers.items() if word.isdecimal()}
        same: dict[bytes, int] = {}
        bags: dict[bytes, list[int]] = {}
        for i, setting in enumerate(self._settings):
            words = self._text(i)
            if (first := same.setdefault(_digest(setting, words.tobytes()), i)) != i:
                yield i, _Found(first, "same_words", 1.0)
                continue
            alike = bags.setdefault(_digest(setting, array("I", sorted(words)).tobytes()), [])
            of = next((j for j in alike if _is_moved(words, self._text(j), digits)), None)
            if of is not None:
                yield i, _Found(of, "moved_words", 1.0)
            else:
                alike.append(i)

    def _near(self, left: Sequence[int]) -> Iterator[tuple[int, _Found]]:
        alike = self._alike(left)
        counts = Counter(i for row, others in alike.items() for each in others for i in (row, each.of))
        self.n_of_templates = sum(n > TEMPLATE for n in counts.values())
        repeated = set[int]()
        for row, others in alike.items():
            if counts[row] > TEMPLATE:
                continue
            of = next((each for each in others if each.of not in repeated and counts[each.of] <= TEMPLATE), None)
            if of is not None:
                repeated.add(row)
                yield row, of

    def _alike(self, left: Sequence[int]) -> dict[int, list[_Found]]:
        """Of these prompts, all those before each that are near it."""
        hashes = self._word_hashes()
        texts = {i: runs for i in left if len(runs := _runs(hashes[np.frombuffer(self._text(i), np.uint32)])) >= LONG}
        index = RMinHashLSH(threshold=SIMILARITY, num_perm=N_HASHES, num_bands=N_BANDS)
        rows, alike = list(texts), dict[int, list[_Found]]()
        for start in range(0, len(rows), _GROUP):
            group = rows[start : start + _GROUP]
            tokens = [texts[i].view("V8").tolist() for i in group]
            signatures = RMinHash.from_token_sets(tokens, num_perm=N_HASHES, seed=_SEED)
            for i, signature in zip(group, signatures, strict=True):
                others = sorted(index.query(signature))[:MOST_COMPARED]
                shares = _jaccards(texts[i], [texts[other] for other in others])
                near = [
                    _Found(j, "near", share) for j, share in zip(others, shares, strict=True) if share >= SIMILARITY
                ]
                if near := [each for each in near if self._ask_the_same(i, each.of, hashes)]:
                    alike[i] = near
                index.insert(i, signature)
        return alike

    def _ask_the_same(self, i: int, j: int, hashes: Hashes) -> bool:
        """The system says the same, and the last turns are alike, with their first and their last lines."""
        if self._settings[i] != self._settings[j]:
            return False
        a, b, one, other = self._last_turn(i), self._last_turn(j), self._edges[i], self._edges[j]
        parts = [] if self._is_all(i) and self._is_all(j) else [(a, b)]
        if one or other:
            first = min(one.first if one else len(a), other.first if other else len(b))
            last = min(one.last if one else len(a), other.last if other else len(b))
            parts += [(a[:first], b[:first]), (a[-last:], b[-last:])]
        return all(_are_alike(part, against, hashes) for part, against in parts)

    def _is_all(self, i: int) -> bool:
        """Whether the last turn is the only one."""
        return self._last_turns[i] == self._starts[i]

    def _word_hashes(self) -> Hashes:
        """By the number of a word; made of its letters alone, so that it does not matter when it was first met."""
        spelled = (hashlib.blake2b(word.encode(), digest_size=8).digest() for word in self._numbers)
        return np.frombuffer(b"".join(spelled), np.uint64)


def near_duplicates(prompts: Iterable[Prompt]) -> list[Repeat]:
    """The prompts that repeat an earlier one, in their order."""
    finder = NearDuplicates()
    for prompt in prompts:
        finder.add(prompt)
    return finder.repeats()


def _kept(i: int, found: Mapping[int, _Found]) -> _Found:
    """What it repeats may repeat another in turn; how alike the ends are is as the weakest link between them."""
    last = found[i]
    while (onward := found.get(last.of)) is not None:
        kind = max(last.kind, onward.kind, key=_FROM_STRONG.index)
        last = _Found(onward.of, kind, min(last.similarity, onward.similarity))
    return last


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def _lines_of(turn: str) -> list[list[str]]:
    """The words of each line that has any, and what signs it has as one word more; or whatever there is."""
    lines = []
    for line in turn.splitlines():
        signs = "".join(_SIGN.findall(_MARKUP.sub(" ", line)))
        if words := [*words_in(line), *([signs] if signs else [])]:
            lines.append(words)
    return lines or [turn.split()]


def _is_moved(words: Sequence[int], others: Sequence[int], digits: Set[int]) -> bool:
    """Of the same words, whether all but few follow each other in the same order, and the numbers all do."""
    if [word for word in words if word in digits] != [word for word in others if word in digits]:
        return False
    blocks = SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks()
    return len(words) - sum(block.size for block in blocks) <= 1 + len(words) // WORDS_PER_MOVE


def _are_alike(a: "array[int]", b: "array[int]", hashes: Hashes) -> bool:
    """The same words in any order, or long and near each other."""
    if sorted(a) == sorted(b):
        return True
    first, second = (_runs(hashes[np.frombuffer(part, np.uint32)]) for part in (a, b))
    return min(len(first), len(second)) >= LONG and _jaccards(first, [second])[0] >= SIMILARITY


def _runs(words: Hashes) -> Hashes:
    """A hash of each different run of words, sorted."""
    if len(words) < RUN:
        return words[:0]
    made = sum((words[at : len(words) - RUN + 1 + at] * _ODD[at] for at in range(RUN)), start=_ODD[0])
    return np.unique(made ^ (made >> np.uint64(32)))


def _jaccards(text: Hashes, others: Sequence[Hashes]) -> list[float]:
    """Of a text's runs with those of each of the others; all are sorted."""
    if not others:
        return []
    together = np.concatenate(others)
    places = np.searchsorted(text, together)
    is_shared = text[np.minimum(places, len(text) - 1)] == together
    lengths = np.array([len(other) for other in others])
    n_shared = np.add.reduceat(is_shared, np.cumsum(lengths) - lengths, dtype=np.int64)
    shares: list[float] = (n_shared / (len(text) + lengths - n_shared)).tolist()
    return shares
