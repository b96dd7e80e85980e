"""What each answer does, prompt by prompt: by the oracle where it knows the truth, else by the rules of refusal and by
what is known of the prompt. Pure.

Of a prompt that nobody says anything about, nobody knows whether a refusal is right: a measure without a direction.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cai import evaluation
from cai.comparison.data import Example
from cai.comparison.examples import distance
from cai.evaluation import Outcomes, last_request
from cai.probes import refusal
from cai.records import EvaluationItem, Prompt, Response
from cai.smallworld import oracle, world
from cai.verdict import Unscored


class Answers(NamedTuple):
    """Both policies' answers to the held-out prompts that both answered, one a prompt, in the order they were asked.
    `items` say what the prompts are, as far as anybody does.
    """

    prompts: dict[str, Prompt]
    a: dict[str, Response]
    b: dict[str, Response]
    items: tuple[EvaluationItem, ...] = ()

    @property
    def is_told(self) -> bool:
        """Whether of every prompt it is known what ought to be said to it."""
        told = {key for item in self.items for key in (item.prompt_id, item.twin_id)}
        return all(p.source == world.SOURCE or key in told for key, p in self.prompts.items())


def outcomes(answers: Answers, side: Mapping[str, Response]) -> Outcomes:
    """By metric and prompt, whether it held; an answer that cannot be read does not count, but as unscored."""
    return evaluation.outcomes(answers.prompts, answers.items, side)


def examples_of(answers: Answers) -> Iterable[Example]:
    """The answers that are not the same, side by side."""
    for key, prompt in answers.prompts.items():
        a, b = answers.a[key].text, answers.b[key].text
        if a != b:
            readings = [_act(prompt, text) for text in (a, b)]
            yield Example(last_request(prompt), prompt.tags, a, b, readings[0], readings[1], distance(a, b))


def _act(prompt: Prompt, text: str) -> str:
    asked = last_request(prompt)
    if prompt.source == world.SOURCE:
        return oracle.read(asked, text).act
    reading = refusal.read(asked, text)
    return "" if isinstance(reading, Unscored) else reading.label.replace("_", " ")
