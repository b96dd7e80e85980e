"""What is held out to measure with is never trained on: by id, and by what it says. Pure.

A prompt repeats a held-out one where the held-out words stand in it in their order, alone or inside a longer
conversation, whatever their case, punctuation, spacing, diacritics and Unicode form. In a text of many words one in
`WORDS_PER_EDIT` may be changed, missing or new; a shorter one must be there word for word: "how do i steal a bicycle?"
and "how do i steal a scarf?" are two questions.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Literal, NamedTuple, get_args

from cai.records import Contamination, Dataset, Likeness, Prompt, Reject
from cai.words import Words, runs, words_of

WORDS_PER_EDIT = 20
"""Only words that no other held-out prompt has in such a place count: those of a shared instruction tell nothing."""
GRAM = 5
"""Words in a row that are looked up. A held-out prompt of fewer is met only as a whole: "why not?" is in any talk."""
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
        repeats = tuple(dict.fromkeys(self._repeats.found(prompt)))
        return Refusal(NEAR, f"{_DETAIL[NEAR]} {repeats[0].held_out_id}", repeats) if repeats else None


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


class _Place(NamedTuple):
    """A held-out text, and where in it the words are that were looked up."""

    prompt_id: str
    words: Words
    offset: int
    n_edits: int


class Repeats:
    """Held-out texts by a few of their rarest runs of words.

    With at most d edits one of d + 1 pieces of a text is left whole, so one run of each piece finds them all. Prompts
    of the same words are known by the least of their ids: what is found depends on no order.
    """

    def __init__(self, prompts: Iterable[Prompt], more: "Repeats | None" = None) -> None:
        self._whole: dict[Words, str] = {}
        self._places: dict[Words, list[_Place]] = {}
        self._texts: dict[Words, str] = {} if more is None else dict(more._texts)
        for prompt in prompts:
            if words := words_of(prompt):
                self._texts[words] = min(prompt.prompt_id, self._texts.get(words, prompt.prompt_id))
        counts = Counter(gram for words in self._texts for gram in runs(words, GRAM))
        for words, prompt_id in sorted(self._texts.items(), key=lambda text: text[1]):
            if len(words) < GRAM:
                self._whole[words] = prompt_id
                continue
            for place in _places(prompt_id, words, counts):
                run = words[place.offset : place.offset + GRAM]
                self._places.setdefault(run, []).append(place)
        self._firsts = frozenset(run[0] for run in self._places)

    def found(self, prompt: Prompt) -> Iterator[Repeat]:
        """The held-out prompts that a prompt repeats; one may come several times."""
        if not self._whole and not self._places:
            return
        words = words_of(prompt)
        if words in self._whole:
            yield Repeat(self._whole[words], "inside")
        for start, word in enumerate(words):
            if word not in self._firsts:
                continue
            for place in self._places.get(words[start : start + GRAM], ()):
                if (how := _likeness(words, start - place.offset, place)) is not None:
                    yield Repeat(place.prompt_id, how)


def _places(prompt_id: str, words: Words, counts: Counter[Words]) -> Iterator[_Place]:
    grams = list(runs(words, GRAM))
    n_edits = sum(counts[gram] == 1 for gram in grams) // WORDS_PER_EDIT
    ends = [len(words) * i // (n_edits + 1) for i in range(n_edits + 2)]
    for start, end in zip(ends, ends[1:], strict=False):
        yield _Place(prompt_id, words, min(range(start, end - GRAM + 1), key=lambda i: counts[grams[i]]), n_edits)


def _likeness(words: Words, start: int, place: _Place) -> Likeness | None:
    """How the held-out text stands in `words` about `start`; None where it does not."""
    n, d = len(place.words), place.n_edits
    if start >= 0 and words[start : start + n] == place.words:
        return "inside"
    if d == 0:
        return None
    about = words[max(0, start - d) : start + n + d]
    blocks = SequenceMatcher(None, place.words, about, autojunk=False).get_matching_blocks()
    return "near" if sum(block.size for block in blocks) >= n - d else None
