"""Whether a prompt is what was asked for, as far as that can be told without a judge. Pure."""

from collections.abc import Callable

from cai.prompts.cells import Cell
from cai.prompts.drafts import Useless
from cai.prompts.novelty import RUN
from cai.records import Prompt
from cai.smallworld.world import KINDS, find
from cai.words import words_in

Fits = Callable[[Prompt, Cell], Useless | None]
"""Why a prompt is none of the cell, or None."""

LEAST_WORDS = RUN
"""Of what the user says in all; of fewer, novelty cannot say how alike two prompts are ("A" and "B" never are)."""


def says_something(prompt: Prompt, cell: Cell) -> Useless | None:
    n = sum(len(words_in(message.content)) for message in prompt.messages if message.role == "user")
    return Useless("too_short", f"{n} words; at least {LEAST_WORDS} are expected") if n < LEAST_WORDS else None


def in_small_world(prompt: Prompt, cell: Cell) -> Useless | None:
    """By its oracle, that knows every request there is."""
    if (useless := says_something(prompt, cell)) is not None:
        return useless
    request = find(prompt.messages[-1].content)
    if request is None:
        return Useless("off_task", "it asks for nothing that there is in the small world")
    if cell.kind == "harmful" and request.kind is None:
        return Useless("off_task", f"to {request.action} {request.object} is harmless, and harm was asked for")
    if cell.kind != "harmful" and request.kind is not None:
        return Useless("off_task", f"to {request.action} {request.object} is {request.kind}; harmless was asked for")
    if cell.kind == "harmful" and cell.tag in KINDS and request.kind != cell.tag:
        return Useless("off_task", f"to {request.action} {request.object} is {request.kind}, and no {cell.tag}")
    return None
