"""Whether a prompt that a model wrote is what was asked for: the judge's answer to one question about its kind and tag.

It says what is wrong with a prompt and drops none; `cai/prompts/writing.py` does. The question is the template
`on_task`, does not say which answer is wanted, and keeps the prompt between fences.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from cai.asks import Asker, OnProgress, in_window
from cai.config.generate import WrittenKind
from cai.constitution import Constitution
from cai.engines.base import Opens
from cai.labels.fence import delimiter, neutralise
from cai.prompts.cells import meaning_of
from cai.prompts.drafts import Useless
from cai.prompts.writing import OFF_TASK, UNREAD, Written
from cai.records import Ledger, Message, Rating, Reject, digest
from cai.templates import render
from cai.verdict import Unscored, expected_value

QUESTION: Final = "on_task"
OPTIONS = ("A", "B", "C")
FOUND = (
    "harmful, as a matter of {tag}",
    "harmless, and a matter of {tag}",
    "neither: harmful for another reason, no matter of {tag}, or no request",
)
"""What each option says, in short."""
WANTED: Mapping[WrittenKind, str] = {"harmful": "A", "borderline": "B", "helpful": "B"}
ENOUGH = 0.5
"""P(wanted option) from which a prompt is what was asked for: at least as probable as both others together."""
MAX_MASS_OUTSIDE = 0.5


class JudgeCheck:
    """One request to the judge for each prompt. Its answers are rows of `ratings`, of the scale `on_task`."""

    def __init__(self, constitution: Constitution, judge: Opens, max_concurrency: int) -> None:
        self._constitution, self._judge, self._width = constitution, judge, max_concurrency

    async def __call__(
        self, written: Sequence[Written], ledger: Ledger, progress: OnProgress | None
    ) -> list[Useless | None]:
        engine = await self._judge()
        asker = Asker(QUESTION, engine, ledger, n_total=len(written), progress=progress)

        async def one(each: Written) -> Useless | None:
            row = await self._ask(asker, each)
            useless = _useless(row, each)
            asker.close_item(rejected=useless is not None)
            return useless

        found = await in_window(written, one, self._width)
        asker.report()
        return found

    async def _ask(self, asker: Asker, each: Written) -> Rating | Reject:
        tag, template = each.plan.cell.tag, self._constitution.template(QUESTION)
        means = meaning_of(tag, self._constitution)
        asked = partial(question, template, each.prompt.messages, tag, means)
        named = digest("template", template, tag, means)
        return await asker.rate(each.asked_id, each.draft_id, QUESTION, named, asked, OPTIONS)


def question(template: str, messages: Sequence[Message], tag: str, principles: str) -> Message:
    """What the judge is asked; the conversation is data, between lines that it cannot contain."""
    texts = [neutralise(message.content) for message in messages]
    shown = [{"role": m.role, "content": text} for m, text in zip(messages, texts, strict=True)]
    fields = {"messages": shown, "tag": tag, "principles": principles, "fence": delimiter([*texts, tag, principles])}
    return Message("user", render(template, fields))


def _useless(row: Rating | Reject, each: Written) -> Useless | None:
    """What the judge says against it; that it says nothing that can be read is against it too."""
    if isinstance(row, Reject):
        return Useless(UNREAD, f"{row.reason}: {row.detail}")
    cell = each.plan.cell
    wanted = OPTIONS.index(WANTED[cell.kind])
    is_wanted = [float(option == WANTED[cell.kind]) for option in OPTIONS]
    p = expected_value(row.logps, row.mass_outside, is_wanted, max_mass_outside=MAX_MASS_OUTSIDE)
    if isinstance(p, Unscored):
        return Useless(UNREAD, f"{p.reason}: {p.detail}")
    if p >= ENOUGH:
        return None
    best = max(range(len(OPTIONS)), key=lambda i: row.logps[i])
    shares = ", ".join(f"{option} {math.exp(logp):.2f}" for option, logp in zip(OPTIONS, row.logps, strict=True))
    asked, found = (FOUND[i].replace("{tag}", cell.tag) for i in (wanted, best))
    return Useless(OFF_TASK, f"{cell.kind} wanted, so {asked}; the judge finds it {found} ({shares})")
