"""Prompts written by a model, once: ask, keep, try, vary, store. `cai prompts generate` calls it; the flow runs it as a
child.

    python -m flows.writing '{"profile": "deployments/profiles/laptop.yaml", "home": "cai-home"}'   # what the flow runs

Run again, it goes on where it was stopped, and asks nothing twice. What was written is in `prompts` (source
`generated`), how it came about and what it drew out in `attempts`, and what is of no use in `rejects`.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from cai.asks import Progress
from cai.config import Config, EngineConfig, GenerateConfig, Profile, load_profile
from cai.config.base import problems
from cai.constitution import Constitution, load_constitution
from cai.engines.base import Opens
from cai.engines.slot import EngineSlot
from cai.errors import ConfigError
from cai.prompts.cells import Cell, Quotas, meaning_of, quotas_of
from cai.prompts.fitting import Fits, in_small_world, says_something
from cai.prompts.on_task import QUESTION, JudgeCheck
from cai.prompts.reading import JudgeReading, Reading, SmallWorldReading
from cai.prompts.rounds import Campaign, Generated, Policy, Round, run_rounds
from cai.prompts.text import (
    CELLS,
    REASONS,
    ROUNDS,
    TAGS,
    Row,
    cell_rows,
    example_rows,
    examples_of,
    reason_rows,
    round_rows,
    sentences,
    tag_rows,
)
from cai.prompts.writing import OFF_TASK, UNREAD, Tally, Writer, tallies
from cai.records import Ledger, Prompt, Rating, Reject, Response, digest
from cai.registry import CHANNEL
from cai.templates import TemplateName
from cai.turns import accelerator_of, taken
from flows.held_out import guard_of
from flows.runs import engine_digest
from flows.session import MANY_FILES
from flows.supervise import mark
from storage import registry
from storage.ledger import TableLedger
from storage.store import Store

GOES_ON = {"rounds", "budget", "least_new"}
"""Settings that say how far a campaign goes: with more of it the same one goes on."""


class Wish(Config):
    """What to write. `edition` tells apart what the same settings write at several times; `model` is the policy that it
    is tried on, by its channel, name, digest or path: none, the one in use.
    """

    profile: Path
    home: Path
    edition: str = ""
    model: str = ""
    quota: int | None = None
    rounds: int | None = None

    def settings(self) -> Profile:
        """The profile with what is wished in its place.

        Raises:
            ConfigError: there is no such profile, or it cannot be used, or not so.
        """
        profile = load_profile(self.profile)
        wished = {"quota": self.quota, "rounds": self.rounds}
        change = {name: value for name, value in wished.items() if value is not None}
        try:
            generate = GenerateConfig.model_validate(profile.generate.model_dump() | change)
        except ValidationError as error:
            said = ", ".join(f"{name} {value}" for name, value in change.items())
            raise ConfigError(f"profile {self.profile} cannot be used with {said}: {problems(error)}") from error
        return profile.model_copy(update={"generate": generate})


class Made(NamedTuple):
    campaign: str
    generated: Generated
    quotas: Quotas
    tallies: dict[Cell, Tally]
    n_asked: int
    n_reused: int
    elicited_from: float
    shows_nothing: bool
    """No request had an example in it."""

    @property
    def n_kept(self) -> int:
        return sum(tally.n_kept for tally in self.tallies.values())

    def n_dropped(self, reason: str) -> int:
        return sum(tally.rejected[reason] for tally in self.tallies.values())

    def cells(self) -> list[Row]:
        return cell_rows(self.quotas, self.tallies, self.generated.attempts, self.elicited_from)

    def tags(self) -> list[Row]:
        return tag_rows(self.quotas, self.tallies, self.generated.attempts, self.elicited_from)

    def rounds(self) -> list[Row]:
        return round_rows(self.generated.rounds)

    def reasons(self) -> list[Row]:
        return reason_rows(self.tallies)

    def examples(self) -> list[Row]:
        return example_rows(examples_of(self.generated.attempts), self.generated.prompts)

    def said(self) -> list[str]:
        return sentences(
            self.generated, self.quotas, self.tallies, n_reused=self.n_reused, shows_nothing=self.shows_nothing
        )


def wanted(profile: Profile) -> tuple[Constitution, Quotas]:
    """What is to be written by the profile; asks and reads nothing else."""
    constitution = load_constitution(profile.constitution)
    return constitution, quotas_of(profile.generate, constitution)


def campaign_of(profile: Profile, constitution: Constitution, edition: str) -> str:
    """The name of what these settings write: the same again, the same name. A setting that a later version adds does
    not change it where it is left as it comes.
    """
    config = profile.generate
    asked_for = {
        "generate": config.model_dump(mode="json", exclude={*GOES_ON, "engine"}, exclude_defaults=True),
        "writer": engine_digest(config.engine or profile.engine),
        "templates": [constitution.template(name) for name in _TEMPLATES],
        "tags": {tag: meaning_of(tag, constitution) for tag in config.tags or constitution.tags},
        "seed": profile.seed,
        "edition": edition,
    }
    if config.judge_checks:
        asked_for |= {"check": [constitution.template(QUESTION), engine_digest(profile.judge)]}
    return f"{profile.name}{f'-{edition}' if edition else ''}-{digest('campaign', asked_for)[:10]}"


_TEMPLATES: tuple[TemplateName, ...] = ("harmful_prompt", "borderline_prompt", "helpful_prompt", "variation")


def write(
    wish: Wish,
    tell: Callable[[str], object],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_round: Callable[[Round], None] = lambda _: None,
) -> Made:
    """Write the prompts of the profile, and try them where it says so.

    Raises:
        ConfigError, ConstitutionError: the profile or its constitution cannot be used.
        EngineError, StorageError: at once; what was asked so far is stored.
    """
    profile = wish.settings()
    constitution, quotas = wanted(profile)
    store = Store(wish.home)
    campaign = campaign_of(profile, constitution, wish.edition)
    writer, config = profile.generate.engine or profile.engine, profile.generate
    engines = [writer, *([profile.engine] if config.tried else []), *(profile.judges[:1] if _judged(config) else [])]
    policy = policy_model(store, wish.model) or profile.engine.model
    tell(f"campaign {campaign}: {quotas.total()} prompts wanted in the first round" + _tried_on(config, policy))
    with taken(accelerator_of(engines, "`cai prompts generate`")):
        made = asyncio.run(
            _write(profile, constitution, quotas, campaign, store, policy, on_progress=on_progress, on_round=on_round)
        )
    store.merge_small(MANY_FILES)
    return made


def _judged(config: GenerateConfig) -> bool:
    return config.reading == "judge" and bool(config.tried or config.on_task)


def _tried_on(config: GenerateConfig, policy: str) -> str:
    return f", tried on {policy}" if config.tried else ""


def policy_model(store: Store, named: str) -> str:
    """The directory of the model that is meant; "" where none is named and none is in use."""
    known = registry.load(store)
    if named:
        return named if Path(named).is_dir() else known.find(named).path
    current = known.promoted(CHANNEL)
    return known.models[current.model_digest].path if current is not None else ""


async def _write(
    profile: Profile,
    constitution: Constitution,
    quotas: Quotas,
    campaign: str,
    store: Store,
    policy: str,
    *,
    on_progress: Callable[[Progress], None] | None,
    on_round: Callable[[Round], None],
) -> Made:
    config, models = profile.generate, _Models(profile, constitution, EngineSlot(), on_progress)
    ledger = TableLedger(store, (), (Response, Rating, Reject))

    def rows_of(prompt_ids: Sequence[str]) -> Ledger:
        ledger.read_more(prompt_ids)
        return ledger

    writes = config.engine or profile.engine
    writer = Writer(
        config,
        constitution,
        campaign,
        models.opens(writes),
        rows_of,
        known=store.read(Prompt, "split = 'train'"),
        guard=guard_of(store, profile),
        privacy=profile.privacy,
        seed=profile.seed,
        max_concurrency=writes.max_concurrency,
        fits=_fits(config),
        check=models.check() if config.judge_checks else None,
        progress=on_progress,
    )
    tried_on = models.policy(policy) if config.tried else None
    try:
        with ledger:
            asked_for = Campaign(campaign, config, quotas, writer, tried_on, rows_of, profile.seed)
            made = await run_rounds(asked_for, on_round)
    finally:
        await models.slot.close()
    return Made(
        campaign,
        made,
        quotas,
        tallies(writer.outcomes),
        writer.n_asked,
        writer.n_reused,
        config.elicited_from,
        writer.shows_nothing,
    )


class _Models(NamedTuple):
    """Who is asked besides writing: the judge, and the policy that prompts are tried on. Engines share one slot, and
    open when they are asked.
    """

    profile: Profile
    constitution: Constitution
    slot: EngineSlot
    on_progress: Callable[[Progress], None] | None

    def opens(self, engine: EngineConfig, model: str = "") -> Opens:
        """With the weights of `model`, else with the engine's own."""
        return partial(self.slot.get, engine, model or engine.model)

    def check(self) -> JudgeCheck:
        judge = self.profile.judge
        return JudgeCheck(self.constitution, self.opens(judge), judge.max_concurrency)

    def policy(self, model: str) -> Policy:
        engine = self.profile.engine
        return Policy(self.opens(engine, model), self._reading(), engine.max_concurrency, self.on_progress)

    def _reading(self) -> Reading:
        if self.profile.generate.reading == "smallworld":
            return SmallWorldReading()
        judge = self.profile.judge
        return JudgeReading(self.constitution, self.opens(judge), judge.max_concurrency, self.on_progress)


def _fits(config: GenerateConfig) -> Fits:
    """The oracle knows what is asked for; elsewhere the length is looked at first, and then the judge is asked."""
    return in_small_world if config.on_task and config.reading == "smallworld" else says_something


if __name__ == "__main__":
    asked = Wish.model_validate_json(sys.argv[1])
    done = write(
        asked,
        lambda line: sys.stderr.write(f"{line}\n"),
        on_progress=lambda progress: mark("progress", progress._asdict()),
    )
    mark(
        "result",
        {
            "campaign": done.campaign,
            "said": done.said(),
            "tables": [
                ["What is covered, by tag", TAGS, done.tags()],
                ["Why replies were dropped", REASONS, done.reasons()],
                ["Round by round", ROUNDS, done.rounds()],
                ["By kind, tag and topic", CELLS, done.cells()],
            ],
            "examples": [row.attempt_id for row in examples_of(done.generated.attempts)],  # no texts: this is logged
            "n_asked": done.n_asked,
            "n_reused": done.n_reused,
            "n_kept": done.n_kept,
            "n_off_task": done.n_dropped(OFF_TASK),
            "n_task_unread": done.n_dropped(UNREAD),
        },
    )
