"""From a sample of prompts to what the whole run will ask, read, write, train and store, stage by stage."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from cai.config import DPOConfig, Profile
from cai.constitution import Constitution
from cai.plan.given import Counters, Known, Sampled, Work
from cai.plan.lines import DEFAULT_BYTES, TABLES, Line, in_order
from cai.plan.meter import Meter, Metered, PrefixCache, Usage, kinds_of
from cai.plan.sources import DEFAULT_SHARE, LAST_REVISIONS, Replies, Spoken, StandIn
from cai.plan.stages import SEED, Stages, judges_of
from cai.plan.tokens import ENDLESS, Counting
from cai.training.batches import n_steps

POLICY = "policy"
# What a Ray cluster has several workers for.
SHARDED = {"responses", "critiques", "revisions", "candidates", "labels"}


async def predict(
    profile: Profile, constitution: Constitution, work: Work, known: Known, counters: Counters, block: int | None
) -> tuple[Line, ...]:
    """Run every stage that asks over the sample with replies that stand in for the model's, and scale up."""
    meter = Meter(kinds_of(constitution))
    stages = Stages(profile, constitution, stand_ins(profile, known.replies, counters, meter, block), meter)
    await stages.chains(work.prompts.rows)
    await stages.helpful(work.helpful.rows)
    await stages.candidates(work.prompts.rows, POLICY if profile.sft else SEED)
    for judge in judges_of(profile):
        if profile.feedback.self_test:
            await stages.self_test(judge)
        await stages.labels(stages.pairs, judge)
    await stages.evaluation(work.held_out.rows, models_of(profile))
    asked = scaled(profile, work, stages, meter)
    lines = (*asked, *trainings(profile, work.prompts, asked, counters.seed, len(stages.pairs)))
    costed = [with_costs(line, known, _n_models(profile)) for line in in_order(lines)]
    return at_once(costed, profile, work.prompts.n)


def at_once(lines: Sequence[Line], profile: Profile, n_prompts: int) -> tuple[Line, ...]:
    """The lines with the time that passes where Ray's workers do shards side by side: as many shards one after the
    other as the busiest worker has. Without `ray` they are as they are.
    """
    if profile.ray is None or not n_prompts:
        return tuple(lines)
    n_shards = math.ceil(n_prompts / profile.ray.shard)
    share = math.ceil(n_shards / profile.ray.workers) / n_shards
    return tuple(
        replace(line, seconds=line.seconds * share) if line.stage in SHARDED and line.seconds is not None else line
        for line in lines
    )


def stand_ins(
    profile: Profile, replies: Replies, counters: Counters, meter: Meter, block: int | None
) -> Callable[[str, str], Metered]:
    """Opens engines that answer with what is known of each model's replies.

    A trained model is taken to reply at the length of the revisions that it is trained on.
    """
    trained = (LAST_REVISIONS if profile.sft and profile.sft.rounds == "last" else "revisions", "responses")
    names: dict[str, tuple[str, ...]] = {
        "helpful": ("responses",),
        "candidates": trained if profile.sft else ("candidates", "responses"),
        "self-test": ("labels",),
        "labels": ("labels",),
        "evaluation": trained,
        "win rates": ("labels",),
        "harm scale": ("labels",),
    }
    n_opened = 0
    spoken: Spoken = defaultdict(set)

    def open(stage: str, model: str) -> Metered:
        nonlocal n_opened
        n_opened += 1
        counting = counters.of(model)
        tried = ("responses",) if (stage, model) == ("evaluation", SEED) else names.get(stage, ())
        source = StandIn(replies, counting.tokens, counting.context_length, tried, n_opened, spoken)
        return Metered(meter, stage, source, counting, model, PrefixCache(block))

    return open


def models_of(profile: Profile) -> list[str]:
    """What the evaluation compares."""
    return [SEED, *(["sl_cai"] if profile.sft else []), *(f"rl_cai-{n}" for n in range(profile.rounds))]


def scaled(profile: Profile, work: Work, stages: Stages, meter: Meter) -> list[Line]:
    """The stages that ask, for all prompts. Each round asks for candidates and labels as the first does."""
    prompts, helpful, held_out = work
    few = min(held_out.n, profile.evaluation.win_rate_prompts)
    n_few_asked = min(len(held_out.rows), profile.evaluation.win_rate_prompts)
    marked = min(held_out.n, profile.evaluation.harm_scale_prompts)
    n_marked_asked = min(len(held_out.rows), profile.evaluation.harm_scale_prompts)
    # Of each: the items it has in all, those that were asked about, and how often it is done.
    sizes = {
        "responses": (prompts.n, len(prompts.rows), 1),
        "critiques": (prompts.n, len(prompts.rows), 1),
        "revisions": (prompts.n, len(prompts.rows), 1),
        "helpful": (helpful.n, len(helpful.rows), 1),
        "candidates": (prompts.n, len(prompts.rows), profile.rounds),
        "self-test": (1, 1, 1),
        "labels": (round(len(stages.pairs) * prompts.scale), len(stages.pairs), profile.rounds),
        "evaluation": (held_out.n, len(held_out.rows), 1),
        "win rates": (round(stages.n_matches * few / max(1, n_few_asked)), stages.n_matches, 1),
        "harm scale": (round(stages.n_marked * marked / max(1, n_marked_asked)), stages.n_marked, 1),
    }
    lines = []
    for stage, (n, n_sampled, times) in sizes.items():
        usage = Usage().plus(meter.usage(stage, n, n_sampled), times)
        n_rows = stages.n_rows.get(stage, 0) * n / n_sampled * times if n_sampled else 0
        lines.append(Line.of(stage, usage, n_rows))
    return lines


def trainings(
    profile: Profile, prompts: Sampled, asked: Sequence[Line], counting: Counting, n_pairs: int
) -> list[Line]:
    """What is stored without asking, and what is trained: rows, tokens over all epochs, optimiser steps."""
    line = {made.stage: made for made in asked}
    lengths = [len(counting.tokens.prompt(prompt.messages, ENDLESS)) for prompt in prompts.rows]
    pairs = n_pairs * prompts.scale * profile.rounds / (1 - (profile.people.share if profile.people else 0))
    made = [Line("import prompts", n_rows=prompts.n), Line("preferences", n_rows=pairs)]
    policy_reply = _mean(line["candidates"])
    if profile.sft:
        rows = line["revisions"].n_rows / (profile.chains.rounds if profile.sft.rounds == "last" else 1)
        rows /= 1 - (profile.helpful.share if profile.helpful else 0)
        reply = policy_reply if profile.sft.rounds == "last" else _mean(line["revisions"])
        made.append(_trained("SFT", rows, _cut(lengths, reply, profile.sft.max_length), profile.sft, 1))
    if isinstance(profile.rl, DPOConfig):
        tokens = 2 * _cut(lengths, policy_reply, profile.rl.max_length)
        made.append(_trained("RL", pairs / profile.rounds, tokens, profile.rl, profile.rounds))
        return made
    config = profile.reward_model
    rows = pairs / profile.rounds * (1 - config.held_out)
    tokens = 2 * _cut(lengths, policy_reply, config.max_length)
    made.append(_trained("reward model", rows, tokens, config, profile.rounds * profile.ensemble))
    return [*made, *_rollouts(profile, lengths, policy_reply, counting)]


def _rollouts(profile: Profile, lengths: Sequence[int], reply: float, counting: Counting) -> list[Line]:
    """Sampled replies of RL. TRL samples without a prefix cache of its own, so all of each prompt is computed."""
    config = profile.rl
    assert not isinstance(config, DPOConfig), "DPO samples nothing"
    limit = min(config.max_prompt_tokens, counting.context_length - config.max_tokens)
    fitting = [length for length in lengths if length <= limit] or [0]
    mean, steps = sum(fitting) / len(fitting), config.steps * profile.rounds
    n = steps * config.prompts_per_step * config.samples_per_prompt
    reply = min(reply, config.max_tokens)
    rollouts = Line("RL", n, n * mean, n * mean, n * reply, n_steps=steps, n_rows=n)
    if config.guard is None:
        return [rollouts]
    looks = 1 + config.steps // config.guard.every + (config.steps % config.guard.every > 0)
    n = looks * config.guard.gold_prompts * profile.rounds
    return [rollouts, Line("RL guard", n, n * mean, n * mean, n * reply)]


class _Epochs(NamedTuple):
    epochs: float
    batch_size: int


def _trained(stage: str, rows: float, tokens: float, config: object, times: int) -> Line:
    """`times` models, each trained on so many rows of so many tokens."""
    setting = _Epochs(config.epochs, config.batch_size)  # type: ignore[attr-defined]
    steps = n_steps(max(1, round(rows)), setting.batch_size, setting.epochs) * times
    return Line(stage, n_trained_tokens=rows * tokens * setting.epochs * times, n_steps=steps, n_rows=rows * times)


def _cut(lengths: Sequence[int], reply: float, max_length: int) -> float:
    """Mean tokens of a prompt and its reply, cut at `max_length`."""
    return math.fsum(min(length + reply, max_length) for length in lengths) / len(lengths) if lengths else 0.0


def _mean(line: Line) -> float:
    return line.n_tokens / line.n_asks if line.n_asks else 0.0


def _n_models(profile: Profile) -> dict[str, int]:
    """Models that a stage leaves."""
    return {"SFT": 1, "reward model": profile.rounds * profile.ensemble, "RL": profile.rounds}


def with_costs(line: Line, known: Known, n_models: Mapping[str, int]) -> Line:
    table = TABLES.get(line.stage)
    stored = line.n_rows * known.bytes_a_row.get(table, DEFAULT_BYTES[table]) if table else 0.0
    n_bytes = stored + n_models.get(line.stage, 0) * known.model_bytes
    speed = known.speeds.get(line.stage)
    seconds = 0.0 if not line.n_worked_tokens else line.n_worked_tokens / speed if speed else None
    return replace(line, n_bytes=n_bytes, seconds=seconds)


def assumptions(profile: Profile, work: Work, known: Known, counters: Counters, block: int | None) -> tuple[str, ...]:
    """What the numbers rest on, in plain words."""
    prompts, _, held_out = work
    trained = "the last revisions" if profile.sft and profile.sft.rounds == "last" else "the revisions"
    judged = [term.name for term in getattr(profile.rl, "rewards", ()) if term.kind == "judge"]
    said = [
        f"prompts: {len(prompts.rows):,} of {prompts.n:,} were rendered as they will be, and {len(held_out.rows):,} of "
        f"{held_out.n:,} held out",
        f"replies: {known.replies_from or f'nothing is known; {DEFAULT_SHARE:.0%} of max_tokens is assumed'}",
        f"a trained model replies at the length of {trained}; all candidates of a prompt differ"
        if profile.sft
        else "all candidates of a prompt differ",
        f"prefix reuse: blocks of {block} tokens that never leave the cache"
        if block
        else "prefix reuse: none, the engine computes every prompt whole",
        f"time: {known.speeds_from}",
        *_on_ray(profile, prompts.n),
        f"disk: {known.bytes_from}; {known.model_bytes / 1e6:,.0f} MB for each model, checkpoints not counted",
        "as in an empty home: rows that are there already are not asked for again",
        *(note for note in dict.fromkeys((counters.seed.note, *(judge.note for judge in counters.judges))) if note),
        *(["not counted: the gold pairs that weigh the judges"] if profile.feedback.weights == "gold" else []),
        *(f"not counted: what the reward {name!r} asks its judge" for name in judged),
    ]
    return tuple(said)


def _on_ray(profile: Profile, n_prompts: int) -> list[str]:
    if profile.ray is None:
        return []
    n_shards = math.ceil(n_prompts / profile.ray.shard)
    workers = min(profile.ray.workers, n_shards)
    return [
        f"Ray: {n_shards:,} shards on {workers:,} workers at once, each as fast as one engine here; chains, candidates "
        f"and labels alone; starts of engines not counted"
    ]
