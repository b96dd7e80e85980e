"""What is held out to measure with is never trained on: by id, and by what it says. Pure.

A prompt repeats a held-out one where the held-out words stand in it in their order, alone or inside a longer
conversation, whatever their case, punctuation, spacing, diacritics and Unicode form. In a text of many words one in
`WORDS_PER_EDIT` may be changed, missing or new; a shorter one must be there word for word: "how do i steal a bicycle?"
and "how do i steal a scarf?" are two questions. One of fewer than `GRAM` words must be a whole sentence. What divides
words does not count ("e-mail", "e mail", "email"); inside a longer conversation only as long as five words in a row, of
those that are looked up, are divided alike.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, get_args

from cai.records import Contamination, Dataset, Likeness, Prompt, Reject
from cai.words import Words, runs, words_in, words_of

WORDS_PER_EDIT = 20
"""Only words that no other held-out prompt has in such a place count: those of a shared instruction tell nothing."""
GRAM = 5
"""Words in a row that are looked up. A held-out prompt of fewer is met as a whole sentence only."""
SHORTEST = 3
"""Words of a held-out prompt that is met as a sentence of a longer one: "why not?" is in any talk."""
_ENDS = re.compile(r"[.!?。！？\n]+")
GOLD, HELD_OUT, NEAR = "gold_prompt", "held_out_prompt", "near_evaluation"
_DETAIL = {
    GOLD: "the prompt has gold labels, which are for measuring alone; `cai gold list`",
    HELD_OUT: "the prompt is held out: under `evaluation` in the profile, or stored to measure with (split eval)",
    NEAR: "the prompt repeats what is held out to measure with: prompt",
}


class Repeat(NamedTuple):
    """A held-out prompt that is repeated, and how: it is the same row, its words stand there, or nearly all do."""

    held_out_id: str
    how: Likeness


class Refusal(NamedTuple):
    """Why a prompt must not be trained on: `reason` as people group by it, `detail` for reading."""

    reason: str
    detail: str
    repeats: tuple[Repeat, ...] = ()


def contaminations(
    prompt: Prompt, refusal: Refusal, found: Literal["import", "derive"], dataset: Dataset = ""
) -> list[Contamination]:
    """A row for each held-out prompt that `prompt` repeats; of two ways the closer."""
    order = get_args(Likeness)
    closest = {r.held_out_id: r for r in sorted(refusal.repeats, key=lambda r: -order.index(r.how))}
    return [
        Contamination(
            Contamination.make_id(prompt.prompt_id, held_out_id, found, dataset),
            prompt.prompt_id,
            held_out_id,
            repeat.how,
            found,
            dataset,
            refusal.reason,
            prompt.source,
        )
        for held_out_id, repeat in sorted(closest.items())
    ]


class HeldOutGuard:
    """Says of any prompt whether it may be trained on. Holds the words of what is held out, and nothing else."""

    def __init__(self, evaluation: Iterable[Prompt], gold_ids: Iterable[str] = (), gold: Iterable[Prompt] = ()) -> None:
        measured = list(evaluation)
        self._reasons = {p.prompt_id: HELD_OUT for p in measured} | dict.fromkeys(gold_ids, GOLD)
        self._repeats = Repeats([*measured, *gold])

    def with_evaluation(self, prompts: Iterable[Prompt]) -> "HeldOutGuard":
        """A guard that these prompts are held out by as well."""
        if not (measured := list(prompts)):
            return self
        guard = HeldOutGuard(())
        guard._reasons = {p.prompt_id: HELD_OUT for p in measured} | self._reasons
        guard._repeats = Repeats(measured, self._repeats)
        return guard

    def refusal(self, prompt: Prompt) -> Refusal | None:
        if (reason := self._reasons.get(prompt.prompt_id)) is not None:
            return Refusal(reason, _DETAIL[reason], (Repeat(prompt.prompt_id, "same"),))
        if not (found := self._repeats.found(prompt)):
            return None
        return Refusal(NEAR, f"{_DETAIL[NEAR]} {found[0].held_out_id}", tuple(dict.fromkeys(found)))


class HeldOut(NamedTuple):
    prompts: list[Prompt]
    rejects: list[Reject]


def held_out(rows: Iterable[Prompt | Reject], trained_on: Mapping[str, str], trained: Iterable[Prompt] = ()) -> HeldOut:
    """The prompts to measure with. One that a run trained on (prompt id → run id) is rejected, and so is one that a
    prompt of `trained`, which are those prompts as they were, repeats.
    """
    given = list(rows)
    repeats = Repeats([row for row in given if isinstance(row, Prompt)])
    by = {held: prompt.prompt_id for prompt in trained for held, _ in repeats.found(prompt)}
    by |= {row.prompt_id: row.prompt_id for row in given if row.prompt_id in trained_on}
    made = HeldOut([], [])
    for row in given:
        if isinstance(row, Reject):
            made.rejects.append(row)
        elif (prompt_id := by.get(row.prompt_id)) is not None:
            made.rejects.append(_trained_on(row, prompt_id, trained_on[prompt_id]))
        else:
            made.prompts.append(row)
    return made


def _trained_on(measured: Prompt, prompt_id: str, run_id: str) -> Reject:
    is_same = prompt_id == measured.prompt_id
    detail = "" if is_same else f"prompt {prompt_id}, which the run trained on, repeats it"
    parents = (run_id, measured.prompt_id)
    return Reject.make("evaluate", "trained_on", prompt_id=measured.prompt_id, parents=parents, detail=detail)


class _Text(NamedTuple):
    """A held-out text; `letters` are its words in a row, whatever divides them."""

    prompt_id: str
    words: Words
    letters: str
    n_edits: int


class _Place(NamedTuple):
    """Where in a held-out text the words are that were looked up, in words and in letters."""

    text: _Text
    offset: int
    n_letters: int


class Repeats:
    """Held-out texts by a few of their rarest runs of words.

    With at most d edits one of d + 1 pieces of a text is left whole, so one run of each piece finds them all. Of a text
    without edits two are looked up: punctuation within a word ("e-mail", "email") may be in the way of one. Prompts of
    the same words are known by the least of their ids: what is found depends on no order.
    """

    def __init__(self, prompts: Iterable[Prompt], more: "Repeats | None" = None) -> None:
        self._whole: dict[str, str] = {}
        self._sentences: dict[str, str] = {}
        self._places: dict[Words, list[_Place]] = {}
        self._texts: dict[Words, str] = {} if more is None else dict(more._texts)
        for prompt in prompts:
            if words := words_of(prompt):
                self._texts[words] = min(prompt.prompt_id, self._texts.get(words, prompt.prompt_id))
        counts = Counter(gram for words in self._texts for gram in runs(words, GRAM))
        for words, prompt_id in sorted(self._texts.items(), key=lambda text: text[1]):
            letters = "".join(words)
            self._whole[letters] = prompt_id
            if len(words) < GRAM:
                if len(words) >= SHORTEST:
                    self._sentences[letters] = prompt_id
                continue
            for place in _places(prompt_id, words, letters, counts):
                run = words[place.offset : place.offset + GRAM]
                self._places.setdefault(run, []).append(place)
        self._firsts = frozenset(run[0] for run in self._places)

    def found(self, prompt: Prompt) -> list[Repeat]:
        """The held-out prompts that a prompt repeats; one may come several times."""
        if not self._whole:
            return []
        words = words_of(prompt)
        whole = self._whole.get("".join(words))
        met = [
            (start, place)
            for start, word in enumerate(words)
            if word in self._firsts
            for place in self._places.get(words[start : start + GRAM], ())
        ]
        found = [] if whole is None else [Repeat(whole, "inside")]
        if self._sentences:
            said = [self._sentences.get("".join(words_in(sentence))) for sentence in _sentences(prompt)]
            found += [Repeat(prompt_id, "inside") for prompt_id in said if prompt_id is not None]
        return [*found, *_repeats(words, met)] if met else found


def _sentences(prompt: Prompt) -> Iterator[str]:
    for message in prompt.messages:
        if message.role != "system":
            yield from _ENDS.split(message.content)


def _places(prompt_id: str, words: Words, letters: str, counts: Counter[Words]) -> Iterator[_Place]:
    grams = list(runs(words, GRAM))
    n_edits = sum(counts[gram] == 1 for gram in grams) // WORDS_PER_EDIT
    n_pieces = max(n_edits + 1, min(2, len(words) // GRAM))
    ends = [len(words) * i // n_pieces for i in range(n_pieces + 1)]
    text = _Text(prompt_id, words, letters, n_edits)
    for start, end in pairwise(ends):
        offset = min(range(start, end - GRAM + 1), key=lambda i: counts[grams[i]])
        yield _Place(text, offset, sum(map(len, words[:offset])))


def _repeats(words: Words, met: Iterable[tuple[int, _Place]]) -> Iterator[Repeat]:
    """Those of the places met at a word of `words` about which the held-out text stands, or nearly stands."""
    letters, ends = "".join(words), list(accumulate(map(len, words), initial=0))
    bounds = frozenset(ends)
    done: set[tuple[str, int]] = set()
    for start, (text, offset, n_letters) in met:
        begin, d = ends[start] - n_letters, text.n_edits
        if {begin, begin + len(text.letters)} <= bounds and letters.startswith(text.letters, begin):
            yield Repeat(text.prompt_id, "inside")
        elif d and (about := (text.prompt_id, (start - offset) // d)) not in done:
            done.add(about)
            first = about[1] * d
            if _n_common(text.words, words[max(0, first - d) : first + 2 * d + len(text.words)]) >= len(text.words) - d:
                yield Repeat(text.prompt_id, "near")


def _n_common(held: Words, words: Words) -> int:
    """How many words of `held` stand in `words` in their order: the longest common subsequence, in one pass over
    `words`, a bit for each word of `held` (Hyyrö 2004).
    """
    places: dict[str, int] = {}
    for i, word in enumerate(held):
        places[word] = places.get(word, 0) | 1 << i
    every = open_ = (1 << len(held)) - 1
    for word in words:
        if hit := open_ & places.get(word, 0):
            open_ = (open_ + hit | open_ - hit) & every
    return len(held) - open_.bit_count()
