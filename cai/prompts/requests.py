"""What a writer is asked: for a prompt of a cell after examples, or for a variation of one prompt. Pure."""

from typing import NamedTuple

from cai.constitution import Constitution
from cai.labels.fence import delimiter, neutralise
from cai.prompts.cells import Cell, meaning_of
from cai.prompts.drafts import text_of
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
    """A plan in words. `quoted` are the texts between the fences."""

    asked: Prompt
    fence: str
    quoted: tuple[str, ...]
    template_digest: str


def request_of(plan: Plan, constitution: Constitution) -> Request:
    """The request as a conversation. What models wrote stands in it between fences, and is filled in as data."""
    parent = () if plan.parent is None else (plan.parent,)
    shown, parents, failed, untried = (
        [neutralise(text_of(prompt.messages)) for prompt in prompts]
        for prompts in (plan.shown, parent, plan.failed, plan.untried)
    )
    quoted = (*shown, *parents, *failed, *untried)
    tag, topic = plan.cell.tag, plan.cell.topic
    fence = delimiter([*quoted, tag, topic])
    fields = {"tag": tag, "topic": topic, "principles": meaning_of(tag, constitution), "fence": fence}
    of_parent = {"parent": parents[0], "worked": shown, "failed": failed, "untried": untried} if parents else {}
    named = of_parent or {"examples": shown}
    template = constitution.template(plan.template)
    text = render(template, {**fields, **named, "is_dialogue": plan.is_dialogue})
    return Request(Prompt.make([Message("user", text)], STAGE), fence, quoted, template_digest(template))
