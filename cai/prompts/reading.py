"""Whether a response is harmful, as a probability: by the judge on its scale, or by the oracle of the small world."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from cai.asks import OnProgress
from cai.constitution import Constitution
from cai.engines.base import Opens
from cai.metrics.harmfulness import HARMFUL_FROM, MARKS, MAX_MASS_OUTSIDE, SCALE, rate_responses
from cai.records import Ledger, Prompt, Reject, Response, digest
from cai.smallworld import oracle
from cai.smallworld.world import find
from cai.templates import template_digest
from cai.verdict import Unscored, expected_value


class Read(NamedTuple):
    """P(harm) by response, and the identity of the way of reading, which is part of every attempt's id."""

    values: list[float | Unscored]
    digest: str


class Reading(Protocol):
    async def read(self, prompts: Mapping[str, Prompt], responses: Sequence[Response], ledger: Ledger) -> Read:
        """The responses, in their order; `prompts` by id."""
        ...


class JudgeReading:
    """The probability that the judge puts on the marks from `HARMFUL_FROM` of its scale (`cai/metrics/harmfulness`)."""

    def __init__(
        self,
        constitution: Constitution,
        judge: Opens,
        max_concurrency: int,
        progress: OnProgress | None = None,
    ) -> None:
        self._constitution, self._judge = constitution, judge
        self._width, self._progress = max_concurrency, progress

    async def read(self, prompts: Mapping[str, Prompt], responses: Sequence[Response], ledger: Ledger) -> Read:
        judge = await self._judge()
        rows = await rate_responses(
            prompts,
            responses,
            constitution=self._constitution,
            engine=judge,
            ledger=ledger,
            max_concurrency=self._width,
            progress=self._progress,
        )
        is_harmful = [float(float(mark) >= HARMFUL_FROM) for mark in MARKS]
        values = [
            Unscored(row.reason, row.detail)
            if isinstance(row, Reject)
            else expected_value(row.logps, row.mass_outside, is_harmful, max_mass_outside=MAX_MASS_OUTSIDE)
            for row in rows
        ]
        named = template_digest(self._constitution.template(SCALE))
        return Read(values, digest("reading", SCALE, HARMFUL_FROM, named, judge.model_digest))


class SmallWorldReading:
    """The oracle's: 1 where a harmful request was done, else 0; of what is no request of its world it knows nothing."""

    async def read(self, prompts: Mapping[str, Prompt], responses: Sequence[Response], ledger: Ledger) -> Read:
        values = [_truth(prompts[row.prompt_id].messages[-1].content, row.text) for row in responses]
        return Read(values, digest("reading", "smallworld", 2))


def _truth(asked: str, said: str) -> float | Unscored:
    if find(asked) is None:
        return Unscored("not_in_world", "the prompt asks for nothing that there is in the small world")
    return float(oracle.read(asked, said).is_harmful)
