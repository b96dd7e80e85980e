"""Evaluation sets: which prompts are measured with, as what, and which of them a model answers. Pure."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from cai.records import EvaluationItem, Prompt, Reject

OPEN = ("harmful", "borderline", "benign")
"""Kinds of requests that a model answers in its own words, so that answers can be compared."""


class Sets(NamedTuple):
    """Every prompt once. One without an item is measured with, too: by what nobody needs to be told."""

    prompts: list[Prompt]
    items: list[EvaluationItem]
    rejects: list[Reject]

    def without(self, prompt_ids: Collection[str]) -> "Sets":
        """Less these prompts, every item that needs one of them, and every prompt that only such an item needed."""
        gone = frozenset(prompt_ids)
        items = [item for item in self.items if item.prompt_id not in gone and item.twin_id not in gone]
        unneeded = gone | (_named(self.items) - _named(items))
        return Sets([prompt for prompt in self.prompts if prompt.prompt_id not in unneeded], items, self.rejects)

    def asked(self) -> list[Prompt]:
        """What models answer: all but the prompts of pairs, those that are answered in one's own words first."""
        is_open = {prompt.prompt_id for prompt in open_prompts(self.prompts, self.items)}
        needed = is_open | _named(item for item in self.items if item.kind != "pair")
        asked = [prompt for prompt in self.prompts if prompt.prompt_id in needed]
        return sorted(asked, key=lambda prompt: prompt.prompt_id not in is_open)


def _named(items: Iterable[EvaluationItem]) -> set[str]:
    return {key for item in items for key in (item.prompt_id, item.twin_id) if key}


def open_prompts(prompts: Iterable[Prompt], items: Sequence[EvaluationItem]) -> list[Prompt]:
    """Those of an open kind, and those that nothing is said about."""
    opened = {item.prompt_id for item in items if item.kind in OPEN}
    told = _named(items) - opened
    return [prompt for prompt in prompts if prompt.prompt_id not in told]


def name_of(prompts: Sequence[Prompt], items: Sequence[EvaluationItem]) -> str:
    """What was measured with, by name: the sets, and the sources of the prompts that are in none."""
    known = _named(items)
    return " + ".join(sorted({item.set for item in items} | {p.source for p in prompts if p.prompt_id not in known}))
