"""One annotator at work: the queue, what was decided of it, and how long it takes. Several requests may come at once.

A decision is stored before anything is answered. The last one of a pair counts: a label replaces a skip, and a skip
a label.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Protocol

from cai.labels.page.queue import SOURCE, Choice, Gold, Pair, annotation_id, choice_of, gold_agreement, p_a, shown_first
from cai.records import Annotation, Message, Reject

STAGE, SKIPPED = "annotation", "skipped"

Reason = Literal["unclear", "expertise", "broken", "upsetting", "other"]
REASONS: Mapping[Reason, str] = {
    "unclear": "I do not understand what is asked",
    "expertise": "It takes knowledge that I do not have",
    "broken": "The text is cut off or broken",
    "upsetting": "I would rather not read this",
    "other": "Another reason",
}


@dataclass(frozen=True, slots=True)
class Item:
    """What is shown of a pair: no id, no model, no label, no mark of gold."""

    messages: tuple[Message, ...]
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who labels: `name` is a pseudonym. `objective` is what is asked, "" for which is better."""

    name: str
    group: str = ""
    objective: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Where a sitting stands. `gold` is None where no labelled pair has gold."""

    n: int
    n_labelled: int
    n_ties: int
    n_skipped: int
    gold: Gold | None


class Shelf(Protocol):
    """Where the texts are, and where decisions go: durable when a call returns."""

    def texts(self, pair: Pair) -> tuple[tuple[Message, ...], str, str]:
        """The conversation, and the texts of a and b."""
        ...

    def label(self, row: Annotation, withdrawn: Reject) -> None:
        """Keep a label, in place of an earlier one of its id; the skip of the same pair is withdrawn."""
        ...

    def skip(self, row: Reject, withdrawn: str) -> None:
        """Keep a skip, in place of an earlier one of its id; the label of that id is withdrawn."""
        ...


class Sitting:
    """A queue of at least one pair. `labels` and `skips` are what the annotator has said of it already."""

    def __init__(
        self,
        queue: Sequence[Pair],
        person: Person,
        shelf: Shelf,
        *,
        gold: Mapping[Pair, float],
        labels: Mapping[Pair, float],
        skips: Mapping[Pair, str],
        now: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.queue, self.person = tuple(queue), person
        self.is_closed = False
        self._shelf, self._gold = shelf, gold
        self._labels = {pair: labels[pair] for pair in queue if pair in labels}
        self._skips = {pair: skips[pair] for pair in queue if pair in skips and pair not in labels}
        self._now, self._clock = now, clock
        self._shown_s: dict[Pair, float] = {}
        self._taken_s: list[float] = []
        self._mutex = threading.Lock()

    # Reading

    def next_number(self) -> int | None:
        """The first place, from 1, of which nothing was said; None where all is done."""
        undecided = (i for i, pair in enumerate(self.queue, 1) if pair not in self._labels and pair not in self._skips)
        return next(undecided, None)

    def n_done(self) -> int:
        return len(self._labels) + len(self._skips)

    def show(self, number: int) -> Item:
        pair = self.queue[number - 1]
        messages, a, b = self._shelf.texts(pair)
        if pair not in self._labels and pair not in self._skips:
            self._shown_s.setdefault(pair, self._clock())
        return Item(messages, *((a, b) if shown_first(pair, self.person.name) == "a" else (b, a)))

    def prepare(self, number: int) -> None:
        """Read a pair that is likely to be shown next, while someone reads the one before."""
        if number <= len(self.queue):
            self._shelf.texts(self.queue[number - 1])

    def said(self, number: int) -> Choice | Literal["skipped"] | None:
        pair = self.queue[number - 1]
        if pair in self._labels:
            return choice_of(self._labels[pair], shown_first(pair, self.person.name))
        return "skipped" if pair in self._skips else None

    def skip_reason(self, number: int) -> str | None:
        return self._skips.get(self.queue[number - 1])

    def pace_s(self) -> float | None:
        """The median time a pair took since the page was started; None before the third."""
        return median(self._taken_s) if len(self._taken_s) >= 3 else None

    def summary(self) -> Summary:
        labels = dict(self._labels)
        gold = gold_agreement(labels, self._gold)
        n_ties = sum(p == 0.5 for p in labels.values())
        return Summary(len(self.queue), len(labels), n_ties, len(self._skips), gold if gold.same.n else None)

    # Deciding

    def label(self, number: int, choice: Choice) -> None:
        """Saying the same again writes nothing: a double click and a request that comes twice are one label."""
        pair = self.queue[number - 1]
        first = shown_first(pair, self.person.name)
        with self._mutex:
            if self._labels.get(pair) == p_a(choice, first):
                return
            row = Annotation(
                annotation_id(pair, self.person.name, self.person.objective),
                *pair,
                p_a=p_a(choice, first),
                source=SOURCE,
                annotator=self.person.name,
                group=self.person.group,
                objective=self.person.objective,
                shown_first=first,
                annotated_at=self._now(),
            )
            self._shelf.label(row, _skip(pair, row.annotation_id, ""))
            self._labels[pair] = row.p_a
            self._skips.pop(pair, None)
            self._note_time(pair)

    def skip(self, number: int, reason: Reason) -> None:
        pair = self.queue[number - 1]
        key = annotation_id(pair, self.person.name, self.person.objective)
        with self._mutex:
            if self._skips.get(pair) == reason:
                return
            self._shelf.skip(_skip(pair, key, reason), key)
            self._skips[pair] = reason
            self._labels.pop(pair, None)
            self._note_time(pair)

    def close(self) -> None:
        """After this agreement with gold may be shown, and nothing is decided any more."""
        self.is_closed = True

    def _note_time(self, pair: Pair) -> None:
        if (since := self._shown_s.pop(pair, None)) is not None:
            self._taken_s.append(self._clock() - since)


def _skip(pair: Pair, key: str, reason: str) -> Reject:
    return Reject.make(STAGE, SKIPPED, prompt_id=pair.prompt_id, parents=(key,), detail=reason)
