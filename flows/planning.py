"""A plan of a run: its prompts, what the home or a probe knows of the model, and what `cai.plan` makes of both.

It starts no flow and writes no table. A probe starts the profile's engine and asks it about a few prompts.
"""

import heapq
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from cai.config import EngineConfig, Profile
from cai.coverage.near import near_duplicates
from cai.engines.base import Engine
from cai.engines.slot import EngineSlot
from cai.engines.vllm_start import CPU_BLOCK
from cai.errors import CAIError, ConfigError, EngineError, ModelNotFound
from cai.held_out import HeldOutGuard
from cai.models import resolve_model
from cai.plan.given import Counters, Known, Sampled, Work
from cai.plan.lines import Line, Plan
from cai.plan.meter import Meter, Metered, PrefixCache, kinds_of
from cai.plan.predict import assumptions, predict
from cai.plan.sources import Probe, Replies, reasoning_of
from cai.plan.stages import SEED, Stages, judges_of
from cai.plan.tokens import open_counting
from cai.privacy import Guard
from cai.records import Comparison, Prompt, Response, Revision
from cai.turns import accelerator_of, taken
from flows import plan_facts
from flows.held_out import guard_of
from flows.runs import RunFolder, generated_now, plan_run, readable_runs, write_atomically
from storage.evaluation_sets import read_sets
from storage.imports import held_out_side, read_answered, read_sources
from storage.store import Store

SAMPLE = 200
"""Prompts that are rendered; more change the means by less than replies vary from run to run."""
PROBE = 16
GPU_BLOCK = 16
GPUS = Path("/proc/driver/nvidia/gpus")
ASKING = (
    "responses",
    "critiques",
    "revisions",
    "helpful",
    "candidates",
    "self-test",
    "labels",
    "RL",
    "evaluation",
    "win rates",
    "harm scale",
)


class Learnt(NamedTuple):
    """Replies and speeds, and in plain words where they are from."""

    replies: Replies
    replies_from: str
    speeds: Mapping[str, float]
    speeds_from: str


class Wish(NamedTuple):
    """How a plan is to be made: prompts to probe with, a speed that is given, prompts to render."""

    n_probe: int = PROBE
    tokens_per_second: float | None = None
    n_sample: int = SAMPLE


async def make_plan(profile: Profile, home: Path, *, without: str = "", wish: Wish) -> Plan:
    """What a run of this profile costs, from an empty home. If that run is in the home already, it is not looked at.

    Raises:
        EngineError: the engine does not start for the probe.
    """
    run = plan_run(profile, home, without=without)
    counters = counters_of(profile)
    store = Store(home) if home.is_dir() else None
    work = work_of(profile, wish.n_sample, guard_of(store, profile), generated_now(profile, run.home))
    if not work.prompts.rows:
        raise ConfigError(f"none of the rows in {[s.path for s in profile.prompts]} is a usable prompt")
    learnt = await _learnt(run, work, counters, store, wish)
    bytes_a_row = {} if store is None else plan_facts.bytes_of(store)
    known = Known(
        *learnt,
        bytes_a_row,
        f"bytes a row as in {home}" if bytes_a_row else "bytes a row as on the small world; long texts take more",
        model_bytes(profile.engine),
    )
    block = block_of(profile.engine)
    lines = await predict(run.profile, run.constitution, work, known, counters, block)
    return Plan(run.run_id, lines, assumptions(profile, work, known, counters, block))


async def _learnt(run: RunFolder, work: Work, counters: Counters, store: Store | None, wish: Wish) -> Learnt:
    """From an earlier run, else by a probe; a speed that is given goes before a measured one."""
    earlier = None if store is None else earlier_run(run)
    if earlier is not None and store is not None:
        learnt = await learn_from(earlier, store, counters)
    elif wish.n_probe:
        with taken(accelerator_of((run.profile.engine, *run.profile.judges), "`cai plan`")):
            learnt = await probe(run, work.prompts.rows[: wish.n_probe], counters)
    else:
        learnt = Learnt(
            Replies({}, []), "", {}, f"unknown: no run of this engine in {run.home} yet; give --tokens-per-second"
        )
    if wish.tokens_per_second is None:
        return learnt
    speeds = dict(learnt.speeds) | dict.fromkeys(ASKING, wish.tokens_per_second)
    return learnt._replace(speeds=speeds, speeds_from=f"{wish.tokens_per_second:g} tokens a second, as given")


def work_of(profile: Profile, n_sample: int, guard: HeldOutGuard, generated: Sequence[Prompt]) -> Work:
    """The prompts as the run will read them, and of each set a sample that depends on nothing but their text."""
    ids: dict[str, str] = {}
    privacy = Guard(profile.privacy)
    guarded = guard.with_evaluation(held_out_side(profile.prompts, profile.seed, profile.privacy))

    def training() -> Iterator[Prompt]:
        for row in read_sources(profile.prompts, "train", profile.seed, generated, privacy):
            if isinstance(row, Prompt) and row.prompt_id not in ids and guarded.refusal(row) is None:
                ids[row.prompt_id] = ""
                yield row

    repeated = (
        {each.prompt_id for each in near_duplicates(training())} if profile.near_duplicates == "reject" else set()
    )
    ids.clear()
    prompts = _sampled((prompt for prompt in training() if prompt.prompt_id not in repeated), n_sample)
    ids = {prompt_id: "" for prompt_id in ids if prompt_id not in repeated}
    seen: dict[str, str | None] = dict.fromkeys(ids)
    sources = () if profile.helpful is None else profile.helpful.prompts
    answered = (row for source in sources for row in read_answered(source, profile.seed, seen, privacy))
    trained_on = (row for row in answered if isinstance(row, tuple) and row.prompt.split == "train")
    unanswered = (row.prompt for row in trained_on if row.answer is None)
    guard = guard.with_evaluation(held_out_side(sources, profile.seed, profile.privacy))
    helpful = _sampled((prompt for prompt in unanswered if guard.refusal(prompt) is None), n_sample)
    asked = read_sets(profile.evaluation.prompts, profile.seed, privacy).asked()
    return Work(prompts, helpful, _sampled(iter(asked), n_sample))


def _sampled(rows: Iterator[Prompt], size: int) -> Sampled:
    n = 0

    def counted() -> Iterator[Prompt]:
        nonlocal n
        for row in rows:
            n += 1
            yield row

    chosen = heapq.nsmallest(size, counted(), key=lambda prompt: prompt.prompt_id)
    return Sampled(chosen, n)


def counters_of(profile: Profile) -> Counters:
    return Counters(open_counting(profile.engine), tuple(map(open_counting, profile.judges)))


def block_of(engine: EngineConfig) -> int | None:
    """Tokens that are found in the cache together; None where the engine keeps none."""
    if engine.kind in {"transformers", "scripted"}:
        return None
    return CPU_BLOCK if engine.kind == "vllm" and not GPUS.is_dir() else GPU_BLOCK


def model_bytes(engine: EngineConfig) -> int:
    """What one more model like the engine's takes; 0 where it is not here."""
    try:
        folder = resolve_model(engine.model)
    except ModelNotFound:
        return 0
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def earlier_run(run: RunFolder) -> RunFolder | None:
    """The newest other run in the home whose chains the same engine and model made to the end, in the same way."""
    found: dict[tuple[str, str], RunFolder] = {}
    for other in readable_runs(run.home):
        mine, theirs = run.profile, other.profile
        same = (mine.engine.kind, mine.engine.model, mine.chains) == (
            theirs.engine.kind,
            theirs.engine.model,
            theirs.chains,
        )
        if other.run_id != run.run_id and same and other.result("sft_set") is not None:
            body = json.loads((other.path / "run.json").read_text(encoding="utf-8"))
            found[str(body["started_at"]), other.run_id] = other
    return found[max(found)] if found else None


async def learn_from(run: RunFolder, store: Store, counters: Counters) -> Learnt:
    """Replies of a run's own chains, and its speed by stage."""
    prompt_ids = plan_facts.spread(run.ids("prompts"), SAMPLE)
    mine = set(run.ids_of("revisions"))
    revisions = [row for row in store.of_prompts(Revision, prompt_ids) if row.revision_id in mine]
    models = {row.model_digest for row in revisions}
    answers = store.of_prompts(Response, prompt_ids)
    responses = [row for row in answers if row.stage == "initial" and row.model_digest in models]
    replies = Replies.of(prompt_ids, responses, revisions, counters.seed.tokens, run.profile.chains.rounds)
    labelled = store.of_prompts(Comparison, prompt_ids) if run.profile.feedback.reasoning else []
    reasoning = [written for row in labelled if (written := reasoning_of(row)) is not None]
    replies = replies._replace(pools={**replies.pools, "labels": reasoning})
    lines = await plan_facts.facts(run, store, counters, block_of(run.profile.engine), most=SAMPLE)
    speeds = {line.stage: line.n_worked_tokens / line.seconds for line in lines if line.seconds}
    said = f"as in run {run.run_id} ({len(responses)} responses, {len(revisions)} revisions)"
    return Learnt(replies, said, speeds, f"as fast as run {run.run_id}, stage by stage")


async def probe(run: RunFolder, prompts: Sequence[Prompt], counters: Counters) -> Learnt:
    """Ask the profile's engine for whole chains and for labelled pairs of a few prompts.

    The candidates are the seed model's: they show how fast they come, and how the judge is asked, not their length.
    """
    meter, slot = Meter(kinds_of(run.constitution)), EngineSlot()
    opened: list[Engine] = []

    def open(stage: str, model: str) -> Metered:
        engine, cache = opened[-1], PrefixCache(block_of(run.profile.engine))
        return Metered(meter, stage, Probe(engine), counters.of(model), engine.model_digest, cache)

    profile = run.profile
    stages = Stages(profile, run.constitution, open, meter, profile.engine.max_concurrency)
    started = time.monotonic()
    try:
        opened.append(await slot.get(profile.engine, profile.engine.model))
        times = [time.monotonic()]
        await stages.chains(prompts)
        times.append(time.monotonic())
        await stages.candidates(prompts, SEED)
        times.append(time.monotonic())
        labelled = 0.0
        for name, judge in zip(judges_of(profile), profile.judges, strict=True):
            opened.append(await slot.get(judge, judge.model))
            since = time.monotonic()
            await stages.labels(stages.pairs, name)
            labelled += time.monotonic() - since
    except EngineError as error:
        raise EngineError(f"the probe cannot ask the engine ({error}); --probe 0 plans without asking") from error
    finally:
        await slot.close()
    replies = Replies.of(
        [prompt.prompt_id for prompt in prompts],
        [row for row in stages.responses if row.stage == "initial"],
        stages.revisions,
        counters.seed.tokens,
        profile.chains.rounds,
    )
    others = {kind: said for kind, said in meter.replies.items() if kind in {"candidates", "labels"}}
    spent = [after - before for before, after in zip(times, times[1:], strict=False)]
    return Learnt(
        replies._replace(pools={**replies.pools, **others}),
        f"as in a probe: {len(prompts)} chains and {len(stages.pairs)} pairs, "
        f"{meter.total().n_asks:,.0f} asks, {time.monotonic() - started:.0f} s with the engine's start",
        _probed_speeds(meter, chains=spent[0], candidates=spent[1], labels=labelled),
        f"as fast as the probe, with {len(prompts)} prompts in flight; a run has up to "
        f"{profile.engine.max_concurrency}, so this is the most it takes; training is not known",
    )


def _probed_speeds(meter: Meter, *, chains: float, candidates: float, labels: float) -> dict[str, float]:
    def speed(seconds: float, *kinds: str) -> float:
        return sum(u.n_computed_tokens + u.n_tokens for u in map(meter.asked, kinds)) / max(seconds, 1e-9)

    of_chains = speed(chains, "responses", "critiques", "revisions")
    sampled, labelled = speed(candidates, "candidates"), speed(labels, "labels")
    return {
        **dict.fromkeys(("responses", "critiques", "revisions"), of_chains),
        **dict.fromkeys(("helpful", "candidates", "evaluation"), sampled),
        **dict.fromkeys(("self-test", "labels", "win rates", "harm scale"), labelled),
    }


def keep(plan: Plan, home: Path) -> Path:
    """Write the plan beside the tables, for `cai plan --run` to hold against what became of it."""
    path = home / "plans" / f"{plan.run_id}.json"
    write_atomically(path, json.dumps(asdict(plan), indent=1))
    return path


def kept(home: Path, run_id: str) -> Plan | None:
    """The plan that was kept for a run."""
    path = home / "plans" / f"{run_id}.json"
    if not path.is_file():
        return None
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return Plan(body["run_id"], tuple(Line(**line) for line in body["lines"]), tuple(body["assumptions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CAIError(f"{path} is not a plan ({error!r}); delete it, and plan again") from error
