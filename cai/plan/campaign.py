"""What `cai prompts generate` will ask: the campaign's own rounds, with stand-ins for the writer, policy and judge.

Every stand-in's prompt is new and draws out harm, so that all rounds are done and vary as much as they may; what is of
no use is asked for again as often as it was before.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple

from cai.asks import OnProgress
from cai.config import GenerateConfig, Profile
from cai.constitution import Constitution
from cai.engines.base import Choice, Engine, Generation, Opens
from cai.held_out import HeldOutGuard
from cai.ledger import MemoryLedger
from cai.plan.lines import DEFAULT_BYTES, TABLES, Line, Plan
from cai.plan.meter import Meter, Metered, PrefixCache, Usage
from cai.plan.sources import DEFAULT_SHARE, even_choice
from cai.plan.tokens import Counting, Tokens
from cai.prompts.cells import Quotas, quotas_of
from cai.prompts.drafts import Useless
from cai.prompts.fitting import says_something
from cai.prompts.on_task import JudgeCheck
from cai.prompts.reading import JudgeReading, Read, Reading
from cai.prompts.rounds import Campaign, Policy, run_rounds
from cai.prompts.writing import Check, Writer, Written
from cai.records import Ledger, Message, Prompt, Response, Sampling

WRITING, CHECKING, TRYING, READING = "writing", "checking", "trying", "reading"
MOST = 200
"""Prompts of the first round that are rendered; of more, as many evenly over the cells, scaled up."""


class Past(NamedTuple):
    """What a home knows of earlier campaigns: mean tokens of replies, and the share of drafts that was kept."""

    n_tokens: Mapping[str, float]
    kept: float | None
    n_drafts: int


class Counted(NamedTuple):
    """Whose tokens are counted how, and how many of them are found in the cache together."""

    counting: Counting
    block: int | None


async def plan_campaign(
    profile: Profile,
    constitution: Constitution,
    known: Sequence[Prompt],
    past: Past,
    speeds: Mapping[str, float],
    writer: Counted,
    policy: Counted,
    judge: Counted,
) -> tuple[Line, ...]:
    """Writing, checking, trying and reading, for all rounds. `speeds` are tokens a second by stage; `known` the prompts
    of the home.

    Raises:
        ConfigError: nothing is to be written; see `quotas_of`.
    """
    quotas = quotas_of(profile.generate, constitution)
    few = _few(quotas)
    config = profile.generate.model_copy(update={"dialogues": 0.0, "least_new": 0, "budget": None, "novelty": 1.0})
    meter = Meter(lambda stage, _: stage)

    def engine(stage: str, of: Counted, max_tokens: int) -> Metered:
        n_tokens = past.n_tokens.get(stage, max(1.0, DEFAULT_SHARE * max_tokens))
        source = Made(of.counting.tokens, min(n_tokens, max_tokens))
        return Metered(meter, stage, source, of.counting, stage, PrefixCache(of.block))

    await _run(profile, config, constitution, few, known, {
        WRITING: engine(WRITING, writer, config.max_tokens),
        CHECKING: engine(CHECKING, judge, 1),
        TRYING: engine(TRYING, policy._replace(block=None), config.response.max_tokens),  # each prompt is another
        READING: engine(READING, judge, 1),
    })  # fmt: skip
    scale = quotas.total() / few.total()
    again, kept = again_and_kept(past.kept, len(config.temperatures))
    times = {WRITING: scale * again, CHECKING: scale * again, TRYING: scale * kept, READING: scale * kept}
    lines = [_line(stage, Usage().plus(meter.asked(stage), n), speeds.get(stage)) for stage, n in times.items()]
    return tuple(_within(profile.generate, line) for line in lines if line.n_asks)


def again_and_kept(share: float | None, n_tries: int) -> tuple[float, float]:
    """Requests for each prompt that is wanted, and prompts that come of them, where `share` of the replies is kept."""
    lost = 1.0 - (1.0 if share is None else share)
    return sum(lost**attempt for attempt in range(n_tries)), 1.0 - lost**n_tries


def campaign_assumptions(
    profile: Profile, past: Past, speeds_from: str, known: Sequence[Prompt], notes: Sequence[str]
) -> tuple[str, ...]:
    """What the numbers rest on, in plain words."""
    config = profile.generate
    n = len(config.temperatures)
    return (
        *(["the judge is asked about every reply, whether it is what was asked for"] if config.judge_checks else []),
        f"{1 + config.rounds} rounds, each of whose prompts draws out harm: what is varied has the longest requests; a "
        f"round that finds nothing new ends it earlier"
        if config.rounds
        else "1 round, in which nothing is varied",
        f"{past.kept:.0%} of the replies that are not empty can be used, as of {past.n_drafts:,} earlier ones; {n} "
        f"tries for each at most"
        if past.kept is not None
        else f"all replies can be used, for nothing is known of them; where none can, the first round asks {n} times "
        f"as much, and is the last",
        f"examples: {len(known):,} prompts of the home, as a request would draw them, and what is written",
        f"replies are as long as earlier ones ({', '.join(sorted(past.n_tokens))})"
        if past.n_tokens
        else f"replies: nothing is known; {DEFAULT_SHARE:.0%} of max_tokens is assumed",
        f"time: {speeds_from}; not counted: starts of engines",
        *dict.fromkeys(note for note in notes if note),
        *([f"a budget of {config.budget:,} requests to the writer"] if config.budget else []),
        *(["conversations are counted as single messages"] if config.dialogues else []),
    )


def campaign_plan(name: str, lines: Sequence[Line], assumptions: Sequence[str]) -> Plan:
    return Plan(name, tuple(lines), tuple(assumptions))


class Made:
    """Prompts or replies of words that nobody has said, all of one length; the judge leans to neither side."""

    def __init__(self, tokens: Tokens, n_tokens: float) -> None:
        self._tokens, self._n_tokens, self._number = tokens, n_tokens, count()

    async def complete(
        self, kind: str, messages: Sequence[Message], sampling: Sampling, seed: int, n_prompt: int
    ) -> Generation:
        number = next(self._number)
        words = [f"new{number}", f"w{number}", f"x{number}"]
        n = len(self._tokens.encode(" ".join(words)))
        words += [f"y{number}" for _ in range(round((self._n_tokens - n) * len(words) / n))]
        return Generation(" ".join(words), "stop", n_prompt, round(self._n_tokens))

    async def choose(self, messages: Sequence[Message], options: Sequence[str], n_prompt: int) -> Choice:
        return even_choice(options, n_prompt)


class AllOnTask:
    """Asks the judge about each, and keeps it whatever it says."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def __call__(
        self, written: Sequence[Written], ledger: Ledger, progress: OnProgress | None
    ) -> list[Useless | None]:
        return [None for _ in await self._check(written, ledger, progress)]


class AllHarm:
    async def read(self, prompts: Mapping[str, Prompt], responses: Sequence[Response], ledger: Ledger) -> Read:
        return Read([1.0] * len(responses), "planned")


def _few(quotas: Quotas) -> Quotas:
    if quotas.total() <= MOST:
        return quotas
    return Quotas({cell: max(1, round(n * MOST / quotas.total())) for cell, n in quotas.items()})


async def _run(
    profile: Profile,
    config: GenerateConfig,
    constitution: Constitution,
    quotas: Quotas,
    known: Sequence[Prompt],
    engines: Mapping[str, Metered],
) -> None:
    ledger = MemoryLedger()

    def rows_of(_: Sequence[str]) -> Ledger:
        return ledger

    def opens(stage: str) -> Opens:
        async def open() -> Engine:
            return engines[stage]

        return open

    check = AllOnTask(JudgeCheck(constitution, opens(CHECKING), 1)) if config.judge_checks else None
    writer = Writer(
        config, constitution, "plan", opens(WRITING), rows_of, known=known, guard=HeldOutGuard(()),
        seed=profile.seed, max_concurrency=1, fits=says_something, check=check,
    )  # fmt: skip
    reading: Reading = AllHarm() if config.reading == "smallworld" else JudgeReading(constitution, opens(READING), 1)
    policy = Policy(opens(TRYING), reading, 1) if config.tried else None
    await run_rounds(Campaign("plan", config, quotas, writer, policy, rows_of, profile.seed))


def _line(stage: str, usage: Usage, speed: float | None) -> Line:
    worked = usage.n_computed_tokens + usage.n_tokens
    return Line(
        stage,
        usage.n_asks,
        usage.n_prompt_tokens,
        usage.n_computed_tokens,
        usage.n_tokens,
        n_rows=usage.n_asks,
        n_bytes=usage.n_asks * DEFAULT_BYTES[TABLES[stage]],
        seconds=worked / speed if speed else None,
    )


def _within(config: GenerateConfig, line: Line) -> Line:
    """No more than the budget of requests to the writer, and as many prompts to try."""
    times = config.samples if line.stage in (TRYING, READING) else 1
    most = None if config.budget is None else config.budget * times
    if most is None or line.n_asks <= most:
        return line
    share = most / line.n_asks
    return Line(
        line.stage,
        most,
        line.n_prompt_tokens * share,
        line.n_computed_tokens * share,
        line.n_tokens * share,
        n_rows=most,
        n_bytes=line.n_bytes * share,
        seconds=None if line.seconds is None else line.seconds * share,
    )
