"""Every stage that asks a model, run over a few prompts by the code that runs it over all of them.

A stage that learns a new way to ask is metered as it is; only a new stage is written here.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from cai.candidates import sample_responses
from cai.config import Profile
from cai.constitution import Constitution
from cai.critique import run_chains
from cai.engines.base import Engine
from cai.evaluation import match
from cai.feedback import ResponsePair, label, make_pairs
from cai.labels.self_test import self_test
from cai.ledger import MemoryLedger
from cai.metrics.harmfulness import rate_responses
from cai.plan.meter import Meter
from cai.records import Comparison, Prompt, Rating, Response, Revision

T = TypeVar("T")
SEED, JUDGE = "seed", "judge"


Open = Callable[[str, str], Engine]
"""Opens the engine for a stage and a model: `seed`, `judge`, or the name of a trained one."""


def judges_of(profile: Profile) -> list[str]:
    """What the judges of a profile are called here; the first alone gives win rates."""
    return [JUDGE, *(f"{JUDGE}-{number}" for number in range(1, len(profile.judges)))]


class Stages:
    """The stages of a profile over whatever prompts they are given, one ask at a time unless `max_concurrency` says
    otherwise. `n_rows` counts what each stage made; `pairs` are those of all candidates so far, `n_matches` counts
    those of two models' answers, and `n_marked` the answers that the judge puts on the scale of harm.
    """

    def __init__(
        self, profile: Profile, constitution: Constitution, open: Open, meter: Meter, max_concurrency: int = 1
    ) -> None:
        self.n_rows: Counter[str] = Counter()
        self.pairs: list[ResponsePair] = []
        self.n_matches = self.n_marked = 0
        self._profile = profile
        self._constitution = constitution
        self._open = open
        self._meter = meter
        self._width = max_concurrency
        self._ledger = MemoryLedger()

    async def chains(self, prompts: Sequence[Prompt]) -> None:
        engine = self._open("responses", SEED)

        async def some(prompts: Sequence[Prompt]) -> None:
            await run_chains(
                prompts,
                constitution=self._constitution,
                engine=engine,
                ledger=self._ledger,
                config=self._profile.chains,
                seed=self._profile.seed,
                max_concurrency=self._width,
            )

        await self._in_parts(some, prompts)
        self.n_rows["responses"] += len(self.responses)
        self.n_rows["revisions"] += len(self.revisions)

    @property
    def comparisons(self) -> list[Comparison]:
        return self._ledger.rows(Comparison)

    @property
    def responses(self) -> list[Response]:
        return self._ledger.rows(Response)

    @property
    def revisions(self) -> list[Revision]:
        return self._ledger.rows(Revision)

    async def helpful(self, prompts: Sequence[Prompt]) -> None:
        if self._profile.helpful is not None:
            sampling = self._profile.helpful.response.sampling()
            await self._sample("helpful", SEED, prompts, sampling=sampling, k=1, stage="initial")

    async def candidates(self, prompts: Sequence[Prompt], model: str) -> None:
        config = self._profile.candidates
        made = await self._sample(
            "candidates", model, prompts, sampling=config.response.sampling(), k=config.k, stage="candidate"
        )
        self.pairs += make_pairs(prompts, made, config.pairing).pairs

    async def self_test(self, judge: str) -> None:
        """The judge tried before it labels: as many asks however many prompts there are."""
        self._meter.part = 0
        await self_test(
            self._constitution,
            self._open("self-test", judge),
            feedback=self._profile.feedback,
            preferences=self._profile.preferences,
            seed=self._profile.seed,
            max_concurrency=self._width,
        )

    async def labels(self, pairs: Sequence[ResponsePair], judge: str) -> None:
        await self._label("labels", pairs, judge)

    async def evaluation(self, prompts: Sequence[Prompt], models: Sequence[str]) -> None:
        """Every model answers every prompt, and each is compared with every earlier one on the first of them."""
        config = self._profile.evaluation
        answers: dict[str, list[Response]] = {}
        for model in models:
            sampling = config.response.sampling()
            answers[model] = await self._sample("evaluation", model, prompts, sampling=sampling, k=1, stage="eval")
        few = prompts[: config.win_rate_prompts]
        pairs = [
            pair
            for other, model in combinations(models, 2)
            for pair in match(few, answers[model], answers[other]).pairs
        ]
        self.n_matches += len(pairs)
        await self._label("win rates", pairs, JUDGE)
        await self._rate(prompts[: config.harm_scale_prompts], answers)

    async def _rate(self, few: Sequence[Prompt], answers: Mapping[str, Sequence[Response]]) -> None:
        """The judge's marks on the scale of harm, for every model's answers to the first prompts."""
        engine = self._open("harm scale", JUDGE)
        of = {prompt.prompt_id: prompt for prompt in few}

        async def some(responses: Sequence[Response]) -> None:
            rows = await rate_responses(
                of,
                responses,
                constitution=self._constitution,
                engine=engine,
                ledger=self._ledger,
                max_concurrency=self._width,
            )
            self.n_rows["harm scale"] += sum(isinstance(row, Rating) for row in rows)

        rated = [row for rows in answers.values() for row in rows if row.prompt_id in of]
        self.n_marked += len(rated)
        await self._in_parts(some, rated)

    async def _sample(self, kind: str, model: str, prompts: Sequence[Prompt], **how: object) -> list[Response]:
        engine = self._open(kind, model)
        made: list[Response] = []
        n_before = len(self.responses)

        async def some(prompts: Sequence[Prompt]) -> None:
            made.extend(
                await sample_responses(
                    prompts,
                    engine=engine,
                    ledger=self._ledger,
                    seed=self._profile.seed,
                    max_concurrency=self._width,
                    **how,  # type: ignore[arg-type]
                )
            )

        await self._in_parts(some, prompts)
        self.n_rows[kind] += len(self.responses) - n_before  # a row that a stage before has made is found
        return made

    async def _label(self, kind: str, pairs: Sequence[ResponsePair], judge: str) -> None:
        engine = self._open(kind, judge)
        n_before = len(self.comparisons)

        async def some(pairs: Sequence[ResponsePair]) -> None:
            await label(
                pairs,
                constitution=self._constitution,
                engine=engine,
                ledger=self._ledger,
                config=self._profile.feedback,
                seed=self._profile.seed,
                max_concurrency=self._width,
            )

        await self._in_parts(some, pairs)
        self.n_rows[kind] += len(self.comparisons) - n_before

    async def _in_parts(self, work: Callable[[Sequence[T]], Awaitable[None]], items: Sequence[T]) -> None:
        """The first item apart: what it puts into the cache, the others find there. Many at a time go together."""
        first = 1 if self._width == 1 else len(items)
        for part, some in enumerate((items[:first], items[first:])):
            self._meter.part = part
            if some:
                await work(some)
