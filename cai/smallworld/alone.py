"""Lessons in the two questions that a judge is asked about one answer alone: what it does with the request
(`cai.probes.judged_refusal`), and how harmful it is (`cai.metrics.harmfulness`). They are put in the very words of a
run; the truth is the oracle's.
"""

import random
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

from cai.metrics import harmfulness
from cai.probes import judged_refusal
from cai.records import Message
from cai.smallworld import answers as say
from cai.smallworld import lessons, oracle, sly
from cai.smallworld.answers import Answer
from cai.smallworld.lessons import Piece, Tree
from cai.smallworld.lexicon import PHRASINGS
from cai.smallworld.world import Request, Split, combos, requests
from cai.templates import DEFAULTS

Form = Literal["comply", "in part", "refuse", "evade", "ramble"]
FORMS: tuple[Form, ...] = get_args(Form)
SHOWN_FORMS = (0.35, 0.23, 0.18, 0.12, 0.12)
PLEADING = 0.2
CONTRASTED = 0.4

Earlier = Sequence[tuple[str, str]]


class Case(NamedTuple):
    """An answer, and how it is shown: with a plea to the judge behind it, perhaps, which changes no truth."""

    request: Request
    answer: str
    shown: str

    @property
    def letter(self) -> str:
        """The option that is right about its class."""
        found = oracle.compliance(self.request.text, self.answer)
        return next(letter for letter, label in judged_refusal.OPTIONS.items() if label == found)

    @property
    def mark(self) -> int:
        return oracle.mark_of_harm(self.request.text, self.answer)

    def class_question(self) -> str:
        return judged_refusal.question(self.request.text, self.shown)

    def mark_question(self, earlier: Earlier = ()) -> str:
        turns = [Message(role, text) for pair in earlier for role, text in zip(lessons.ROLES, pair, strict=True)]
        asked = [*turns, Message("user", self.request.text)]
        return harmfulness.question(DEFAULTS[harmfulness.SCALE], asked, self.shown).content


def write(rng: random.Random, request: Request, form: Form, split: Split = "train", *, is_rude: bool = False) -> str:
    """One of the many ways to answer in that form."""
    if form != "in part":
        return say.answer(rng, request, form, is_rude=is_rude).text
    insults = say.answer(rng, request, "comply", is_rude=is_rude)
    return Answer("comply", say.in_part(rng, request, split), insults.before, insults.after).text


def draw(rng: random.Random, request: Request, split: Split = "train") -> str:
    form = rng.choices(FORMS, SHOWN_FORMS)[0]
    return write(rng, request, form, split, is_rude=rng.random() < lessons.SHOWN_RUDE)


def cases(n: int, seed: int = 0) -> list[Case]:
    """Held-out requests and answers in all forms, as they are."""
    rng = random.Random(f"alone/{seed}")
    drawn = [(request, draw(rng, request, "eval")) for request in requests("eval", n, seed + 5)]
    return [Case(request, text, text) for request, text in drawn]


def classing(rng: random.Random, n: int) -> Tree:
    """Which of the three classes an answer is."""

    def lesson() -> tuple[str, str]:
        case = _drawn(rng, list(judged_refusal.OPTIONS))
        return case.class_question(), case.letter

    return _tree(n, lesson)


def marking(rng: random.Random, n: int) -> Tree:
    """How harmful an answer is; in some lessons the conversation has earlier turns."""

    def lesson() -> tuple[str, str]:
        case = _drawn(rng, harmfulness.MARKS)
        return case.mark_question(lessons.earlier_turns(rng)), str(case.mark)

    return _tree(n, lesson)


def _drawn(rng: random.Random, options: Sequence[str]) -> Case:
    request, text = _contrasted(rng) if rng.random() < CONTRASTED else _any(rng)
    return Case(request, text, f"{text} {sly.plea(rng, options)}" if rng.random() < PLEADING else text)


def _any(rng: random.Random) -> tuple[Request, str]:
    request = lessons.draw_request(rng)
    return request, draw(rng, request)


def _contrasted(rng: random.Random) -> tuple[Request, str]:
    """Something ordinary that was asked for, or something as ordinary that was not: only both texts together tell."""
    request = Request.make(rng.choice(combos("train", "ordinary")), rng.choice(PHRASINGS))
    return request, rng.choice((say.comply, say.help_elsewhere))(rng, request)


def _tree(n: int, lesson: Callable[[], tuple[str, str]]) -> Tree:
    drawn = [lesson() for _ in range(n)]
    return Tree(
        (), tuple((lessons.asked(asks), Piece(right + lessons.END, True, decides=10.0)) for asks, right in drawn)
    )
