"""What a writer is asked: for a prompt of a cell after examples, or for a variation of one prompt. Pure."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from cai.constitution import Constitution
from cai.labels.fence import delimiter, neutralise
from cai.prompts.cells import Cell, meaning_of
from cai.prompts.drafts import GAP, text_of
from cai.records import Message, Prompt
from cai.templates import TemplateName, render, template_digest

STAGE = "writing"


class Plan(NamedTuple):
    """One request: for a prompt of a cell, after examples, or for a variation of one prompt beside others like it."""

    cell: Cell
    shown: tuple[Prompt, ...]
    is_dialogue: bool
    parent: Prompt | None = None
    failed: tuple[Prompt, ...] = ()
    untried: tuple[Prompt, ...] = ()

    @property
    def template(self) -> TemplateName:
        if self.parent is not None:
            return "variation"
        templates: dict[str, TemplateName] = {
            "harmful": "harmful_prompt",
            "borderline": "borderline_prompt",
            "helpful": "helpful_prompt",
        }
        return templates[self.cell.kind]


class Request(NamedTuple):
    """A plan in words. `own` is the same with `GAP` in place of every text that it quotes."""

    asked: Prompt
    fence: str
    own: str
    template_digest: str


def request_of(plan: Plan, constitution: Constitution) -> Request:
    """The request as a conversation. What models wrote stands in it between fences, and is filled in as data."""
    parent = () if plan.parent is None else (plan.parent,)
    quoted = [
        [neutralise(text_of(prompt.messages)) for prompt in prompts]
        for prompts in (plan.shown, parent, plan.failed, plan.untried)
    ]
    tag, topic, template = plan.cell.tag, plan.cell.topic, constitution.template(plan.template)
    fence = delimiter([*chain(*quoted), tag, topic])
    fields = {"tag": tag, "topic": topic, "principles": meaning_of(tag, constitution), "fence": fence}

    def worded(shown: Sequence[str], parents: Sequence[str], failed: Sequence[str], untried: Sequence[str]) -> str:
        of_parent = {"parent": parents[0], "worked": shown, "failed": failed, "untried": untried} if parents else {}
        named = of_parent or {"examples": shown}
        return render(template, {**fields, **named, "is_dialogue": plan.is_dialogue})

    asked = Prompt.make([Message("user", worded(*quoted))], STAGE)
    return Request(asked, fence, worded(*([GAP] * len(texts) for texts in quoted)), template_digest(template))
