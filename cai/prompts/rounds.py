"""Rounds of writing and trying: what draws out harm is kept and varied, and the rest of a round explores.

After Perez et al. 2022 (arXiv 2202.03286, section 3.1: few-shot generation from what has worked), with one parent a
request in place of many, so that it is known which parents bear fruit. Nothing that is written is ever executed.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cai.asks import OnProgress
from cai.candidates import sample_responses
from cai.config import GenerateConfig
from cai.engines.base import Opens
from cai.prompts.cells import Cell, Quotas, spread
from cai.prompts.likeness import Tried
from cai.prompts.novelty import Seen, content_words
from cai.prompts.reading import Read, Reading
from cai.prompts.writing import RowsOf, Writer, Written
from cai.records import Attempt, Prompt, Response, digest
from cai.verdict import Unscored

NOT_TRIED = "not_tried"


class Round(NamedTuple):
    """One round; 0 varies nothing. `n_spots` are the weak spots that it found and no round before."""

    round: int
    n_asked: int
    n_kept: int
    n_tried: int
    n_elicited: int
    n_unscored: int
    n_spots: int


class Generated(NamedTuple):
    """All that a campaign came to; `stopped` says why there was no further round."""

    attempts: list[Attempt]
    prompts: dict[str, Prompt]
    rounds: list[Round]
    stopped: str


class Policy(NamedTuple):
    """Whom prompts are tried on, and who reads the responses."""

    engine: Opens
    reading: Reading
    max_concurrency: int
    progress: OnProgress | None = None

    def said(self, round: int) -> OnProgress | None:
        tell = self.progress
        return None if tell is None else lambda so_far: tell(so_far._replace(stage=f"round {round}: trying"))


class Campaign(NamedTuple):
    """What is to be written, by whom, and where its rows are kept. Without a policy nothing is tried."""

    name: str
    config: GenerateConfig
    quotas: Quotas
    writer: Writer
    policy: Policy | None
    rows_of: RowsOf
    seed: int


class Find(NamedTuple):
    prompt: Prompt
    cell: Cell


async def run_rounds(campaign: Campaign, on_round: Callable[[Round], None] = lambda _: None) -> Generated:
    """Write the quotas; try them; then vary what drew out harm, round after round.

    Ends after `config.rounds` adaptive rounds, at one that finds fewer than `config.least_new` new weak spots, or with
    the budget. Rows found are not asked for again.
    """
    config, rounds = campaign.config, Rounds(campaign)
    stopped = "all rounds were done"
    for number in range(1 + (config.rounds if campaign.policy is not None else 0)):
        done = await rounds.one(number)
        on_round(done)
        if done.n_kept == 0:
            stopped = f"round {number} kept no prompt"
            break
        if rounds.budget() == 0:
            stopped = f"the budget of {config.budget} requests was used"
            break
        if 0 < number < config.rounds and done.n_spots < config.least_new:
            stopped = f"round {number} found {done.n_spots} new weak spots"
            break
    return Generated(rounds.attempts, rounds.prompts, rounds.done, stopped)


class Rounds:
    """What one round leaves for the next."""

    def __init__(self, campaign: Campaign) -> None:
        self.attempts: list[Attempt] = []
        self.prompts: dict[str, Prompt] = {}
        self.done: list[Round] = []
        self._campaign, self._config, self._writer = campaign, campaign.config, campaign.writer
        self._finds: dict[str, Find] = {}
        self._spots = Seen(content_words)
        self._tried = Tried()
        self._n_varied, self._n_hits = Counter[str](), Counter[str]()

    def budget(self) -> int | None:
        """Requests that are left; None: as many as are wanted."""
        most = self._config.budget
        return None if most is None else max(0, most - self._writer.n_asked)

    async def one(self, number: int) -> Round:
        before = self._writer.n_asked
        written = await (self._first() if number == 0 else self._adapt(number))
        attempts = await self._try(written, number)
        n_spots = self._learn(written, attempts)
        tried = [row for row in attempts if row.unscored != NOT_TRIED]
        self.attempts += attempts
        self.prompts |= {each.prompt.prompt_id: each.prompt for each in written}
        done = Round(
            number,
            n_asked=self._writer.n_asked - before,
            n_kept=len(written),
            n_tried=len(tried),
            n_elicited=sum(self._is_find(row) for row in tried),
            n_unscored=sum(row.elicited is None for row in tried),
            n_spots=n_spots,
        )
        self.done.append(done)
        return done

    # Writing

    async def _first(self) -> list[Written]:
        self._writer.begin(0, self._campaign.quotas.total())
        return await self._fill(self._campaign.quotas, 0)

    async def _fill(self, quotas: Quotas, number: int) -> list[Written]:
        """So many prompts of each cell; what was of no use is asked for again, hotter."""
        missing, made = quotas, list[Written]()
        for attempt, temperature in enumerate(self._config.temperatures):
            for slots in _portions(missing, self._config.portions):
                plans = [self._writer.plan(cell, number, attempt, k) for cell, k in slots[: self.budget()]]
                await self._writer.write(plans, temperature)
            made += await self._writer.settle()
            missing = quotas - Counter(each.plan.cell for each in made)
        return made

    async def _adapt(self, number: int) -> list[Written]:
        """A round as large as the first was in the kinds that are tried: some of it new, the rest varies finds."""
        quotas = self._campaign.quotas
        tried = Quotas({cell: n for cell, n in quotas.items() if cell.kind in self._config.tried})
        n = tried.total()
        self._writer.begin(number, n)
        n_varied = min(n - round(self._config.explore * n), self._config.per_find * len(self._finds))
        made = await self._fill(spread(n - n_varied, list(tried), list(tried.values())), number)
        return made + await self._vary(n_varied, number)

    async def _vary(self, n: int, number: int) -> list[Written]:
        """`n` variations of finds, drawn by how often variations of them were finds in turn."""
        made: list[Written] = []
        for attempt, temperature in enumerate(self._config.temperatures):
            rng = random.Random(digest("parents", self._campaign.name, number, attempt))
            n_of = Counter(each.plan.parent.prompt_id for each in made if each.plan.parent is not None)
            held = set[str]()
            for wave in _waves(self._parents(n - len(made), n_of, rng)):
                held |= await self._wave(wave[: self.budget()], temperature)
            made += await self._writer.settle()
            self._tried.forget_untried(held - {each.prompt.prompt_id for each in made})
        return made

    def _parents(self, n: int, n_of: Counter[str], rng: random.Random) -> list[Find]:
        """`n` finds to vary, by their promise, none more than `per_find` times in all of the round."""
        most = self._config.per_find
        left = Counter({prompt_id: most - n_of[prompt_id] for prompt_id in self._finds})
        drawn: list[Find] = []
        while len(drawn) < n and (able := [prompt_id for prompt_id, k in left.items() if k]):
            (prompt_id,) = rng.choices(able, [self._promise(each) for each in able])
            left[prompt_id] -= 1
            drawn.append(self._finds[prompt_id])
        return drawn

    def _promise(self, prompt_id: str) -> float:
        """How likely a variation is to be a find: Laplace's rule on those that were tried."""
        return (1 + self._n_hits[prompt_id]) / (2 + self._n_varied[prompt_id])

    async def _wave(self, finds: Sequence[Find], temperature: float) -> set[str]:
        """One variation of each; each request shows what is like it by now. Returns the prompts that are held."""
        plans = [self._writer.variation(cell, parent, self._tried.like(parent)) for parent, cell in finds]
        held = await self._writer.write(plans, temperature)
        for each in held:
            self._tried.add(each.prompt, None)
        return {each.prompt.prompt_id for each in held}

    # Trying

    async def _try(self, written: Sequence[Written], number: int) -> list[Attempt]:
        """An attempt for each prompt, by the policy's responses to it; those of other kinds are not tried."""
        config, policy = self._config, self._campaign.policy
        prompts = {each.prompt.prompt_id: each.prompt for each in written if each.plan.cell.kind in config.tried}
        by_prompt: dict[str, list[tuple[Response, float | Unscored]]] = defaultdict(list)
        read, policy_digest = Read([], ""), ""
        ledger = self._campaign.rows_of(list(prompts))
        if policy is not None and prompts:
            engine = await policy.engine()
            policy_digest = engine.model_digest
            responses = await sample_responses(
                list(prompts.values()),
                engine=engine,
                ledger=ledger,
                sampling=config.response.sampling(),
                k=config.samples,
                seed=self._campaign.seed,
                stage="attempt",
                max_concurrency=policy.max_concurrency,
                progress=policy.said(number),
            )
            read = await policy.reading.read(prompts, responses, ledger)
            for response, value in zip(responses, read.values, strict=True):
                by_prompt[response.prompt_id].append((response, value))
        rows = []
        for each in written:
            is_tried = policy is not None and each.prompt.prompt_id in prompts
            where = (policy_digest, read.digest) if is_tried else ("", "")
            rows.append(self._attempt(each, is_tried, by_prompt[each.prompt.prompt_id], *where))
            ledger.add(rows[-1])
        return rows

    def _attempt(
        self,
        each: Written,
        is_tried: bool,
        read: Sequence[tuple[Response, float | Unscored]],
        policy_digest: str,
        reading: str,
    ) -> Attempt:
        """The mean of what could be read; where nothing could, the first reason why."""
        values = [value for _, value in read if not isinstance(value, Unscored)]
        reasons = [value.reason for _, value in read if isinstance(value, Unscored)]
        unscored = "" if values else NOT_TRIED if not is_tried else reasons[0] if reasons else "no_response"
        response_ids = tuple(response.response_id for response, _ in read)
        kind, tag, topic = each.plan.cell
        parents = each.plan.shown if each.plan.parent is None else (each.plan.parent,)
        return Attempt(
            attempt_id=Attempt.make_id(self._campaign.name, each.draft_id, policy_digest, response_ids, reading),
            prompt_id=each.prompt.prompt_id,
            campaign=self._campaign.name,
            round=each.round,
            kind=kind,
            tag=tag,
            topic=topic,
            is_variation=each.plan.parent is not None,
            parent_ids=tuple(prompt.prompt_id for prompt in parents),
            draft_id=each.draft_id,
            template_digest=each.template_digest,
            writer_digest=each.writer_digest,
            policy_digest=policy_digest,
            reading=reading,
            response_ids=response_ids,
            elicited=sum(values) / len(values) if values else None,
            unscored=unscored,
        )

    # Learning

    def _is_find(self, row: Attempt) -> bool:
        return row.elicited is not None and row.elicited >= self._config.elicited_from

    def _learn(self, written: Sequence[Written], attempts: Sequence[Attempt]) -> int:
        """Keep the finds of a round, and say how many of them are weak spots that were not known."""
        n_spots = 0
        for each, row in zip(written, attempts, strict=True):
            is_find, parent = self._is_find(row), each.plan.parent
            if row.elicited is not None:
                self._tried.add(each.prompt, is_find)
            if parent is not None and row.elicited is not None:
                self._n_varied[parent.prompt_id] += 1
                self._n_hits[parent.prompt_id] += is_find
            if not is_find:
                continue
            near = self._spots.nearest(each.prompt)
            n_spots += near is None or near.similarity < self._config.spot
            self._spots.add(each.prompt)
            self._finds[each.prompt.prompt_id] = Find(each.prompt, each.plan.cell)
        return n_spots


def _portions(quotas: Quotas, n: int) -> Iterator[list[tuple[Cell, int]]]:
    """The slots of all cells in `n` portions, each with its share of every cell."""
    slots = [(k * n // quota, cell, k) for cell, quota in quotas.items() for k in range(quota)]
    for portion in range(n):
        yield [(cell, k) for number, cell, k in slots if number == portion]


def _waves(finds: Sequence[Find]) -> list[list[Find]]:
    """The finds in waves, in each of which a find comes once: a request sees what came of those before it."""
    waves: list[list[Find]] = []
    n_of: Counter[str] = Counter()
    for find in finds:
        n = n_of[find.prompt.prompt_id]
        if n == len(waves):
            waves.append([])
        waves[n].append(find)
        n_of[find.prompt.prompt_id] += 1
    return waves
