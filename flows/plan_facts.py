"""What a run did cost, stage by stage: from its tables and its steps' results.

The tables hold the tokens of responses and revisions. What they do not hold (critiques, asks that left no row, labels
of homes that did not count them yet, what was in the cache) is counted anew: the run's own asks are rendered again over
the stored replies. No model is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.config import Profile
from cai.plan.given import Counters, Sampled, Work
from cai.plan.lines import TABLES, Line, in_order
from cai.plan.meter import Meter, Metered, PrefixCache, kinds_of
from cai.plan.predict import scaled
from cai.plan.sources import Replay
from cai.plan.stages import SEED, Stages, judges_of
from cai.records import Comparison, Prompt, Response, Revision
from flows.accounts import step_results
from flows.rounds import at_round
from flows.runs import RunFolder
from storage.store import Store

MOST = 2_000
"""Prompts of a run that are counted anew; of more, as many evenly over the whole, scaled up."""


async def facts(
    run: RunFolder, store: Store, counters: Counters, block: int | None, *, most: int = MOST
) -> tuple[Line, ...]:
    """The stages that are finished, as `predict` would have them."""
    profile = run.profile
    ids = run.ids("prompts")
    prompts = Sampled(list(store.find_all(Prompt, spread(ids, most)).values()), len(ids))
    evaluated = run.result("evaluate")
    held_out = _held_out(run, store, most) if evaluated else Sampled([], 0)
    work = Work(prompts, _helpful(run, store, most), held_out)
    meter = Meter(kinds_of(run.constitution))
    stages = Stages(profile, run.constitution, _replays(run, store, work, counters, meter, block), meter)
    done = [number for number in range(profile.rounds) if step_results(run, at_round("candidates", number))]
    if step_results(run, "chains"):
        await stages.chains(prompts.rows)
    if run.result("helpful"):
        await stages.helpful(work.helpful.rows)
    for number in done:
        await stages.candidates(prompts.rows, f"policy-{number}")
    for judge in judges_of(profile) if step_results(run, "labels") else []:
        if run.result("self_test"):
            await stages.self_test(judge)
        await stages.labels(stages.pairs, judge)
    if evaluated:
        await stages.evaluation(held_out.rows, evaluated["models"])
    asked = scaled(profile.model_copy(update={"rounds": 1}), work, stages, meter)
    lines = [_as_stored(line, run, store) for line in _labels_as_stored(asked, stages, store)]
    timed = _timed(in_order([*lines, *_trained(run, store)]), run)
    bytes_a_row = bytes_of(store)
    return tuple(_with_bytes(line, run, bytes_a_row) for line in timed)


def _replays(run: RunFolder, store: Store, work: Work, counters: Counters, meter: Meter, block: int | None) -> Any:
    """Opens engines that answer with the run's own rows, under the names of the models that made them."""
    digests = _digests(run, store)
    asked = [prompt.prompt_id for rows in work for prompt in rows.rows]
    comparisons = store.of_prompts(Comparison, asked) if run.profile.feedback.reasoning else []
    replay = Replay(
        store.of_prompts(Response, asked), store.of_prompts(Revision, asked), comparisons, counters.seed.tokens
    )

    def open(stage: str, model: str) -> Metered:
        counting = counters.of(model)
        return Metered(meter, stage, replay, counting, digests.get(model, model), PrefixCache(block))

    return open


def _digests(run: RunFolder, store: Store) -> dict[str, str]:
    """The model behind each name that a stage calls one by."""
    first = next(iter(store.find_all(Revision, run.ids_of("revisions")[:1]).values()), None)
    seed = "" if first is None else first.model_digest
    trained = {
        name: str(result["model_digest"])
        for name in ("sft", *(at_round("rl", number) for number in range(run.profile.rounds)))
        if (result := run.result(name)) is not None
    }
    last = run.profile.rounds - 1
    labelled = step_results(run, "labels")
    digests = labelled[0]["judge_digests"] if labelled else []
    starts = {f"policy-{n}": trained.get(at_round("rl", n - 1), "") for n in range(1, run.profile.rounds)}
    later = {f"rl_cai_{n}": trained.get(at_round("rl", n), "") for n in range(last)}
    return {
        SEED: seed,
        **dict(zip(judges_of(run.profile), digests, strict=False)),
        "policy-0": trained.get("sft", seed),
        "sl_cai": trained.get("sft", ""),
        "rl_cai": trained.get(at_round("rl", last), ""),
        **starts,
        **later,
    }


def _held_out(run: RunFolder, store: Store, most: int) -> Sampled:
    """The prompts that every model answered, in the order they were asked."""
    ids = run.ids("eval-seed")
    found = store.find_all(Response, ids)
    asked = [found[row_id].prompt_id for row_id in ids if row_id in found]
    prompts = store.find_all(Prompt, asked)
    return Sampled([prompts[prompt_id] for prompt_id in asked[:most]], len(asked))


def _helpful(run: RunFolder, store: Store, most: int) -> Sampled:
    """The helpful prompts that the seed model answered."""
    if run.result("helpful") is None:
        return Sampled([], 0)
    rows = store.of_prompts(Response, run.ids("helpful-prompts"))
    asked = sorted({row.prompt_id for row in rows if row.stage == "initial"})
    return Sampled(list(store.find_all(Prompt, spread(asked, most)).values()), len(asked))


def spread(ids: Sequence[str], n: int) -> list[str]:
    return [ids[i * len(ids) // n] for i in range(n)] if len(ids) > n else list(ids)


def _labels_as_stored(lines: Sequence[Line], stages: Stages, store: Store) -> list[Line]:
    """The labels' tokens as the table has them; rows from before they were counted have 0, and are counted anew."""
    ids = [row.comparison_id for row in stages.comparisons]
    select = "select count(*) n, sum(n_prompt_tokens) asked, sum(n_tokens) said, min(n_prompt_tokens) least"
    (found,) = store.query(f"{select} from comparisons where comparison_id in (select unnest(?::varchar[]))", [ids])
    mine = [line for line in lines if line.stage in {"labels", "win rates"}]
    if not found["least"] or sum(line.n_rows for line in mine) != found["n"]:
        return list(lines)  # a sample, or rows without counts: what was rendered anew stands
    counted = sum(line.n_prompt_tokens for line in mine), sum(line.n_tokens for line in mine)
    shares = found["asked"] / counted[0], found["said"] / max(1, counted[1])
    return [
        replace(line, n_prompt_tokens=line.n_prompt_tokens * shares[0], n_tokens=line.n_tokens * shares[1])
        if line in mine
        else line
        for line in lines
    ]


STAGES = {"responses": "initial", "candidates": "candidate", "evaluation": "eval"}
"""What a line's responses are called in their table; one that an earlier stage has made stays that stage's."""


def _as_stored(line: Line, run: RunFolder, store: Store) -> Line:
    """Tokens and rows as the tables have them, where they do."""
    ids = _ids(line.stage, run, store)
    if not ids:
        return line
    kind = "revision" if line.stage == "revisions" else "response"
    select = f"select count(*) n, sum(n_prompt_tokens) asked, sum(n_tokens) said from {kind}s"
    where = f"{kind}_id in (select unnest(?::varchar[]))"
    asked_in = f" and stage = '{STAGES[line.stage]}'" if kind == "response" else ""
    (found,) = store.query(f"{select} where {where}{asked_in}", [ids])
    if not found["n"]:
        return line
    return replace(line, n_rows=found["n"], n_prompt_tokens=found["asked"], n_tokens=found["said"])


def _ids(stage: str, run: RunFolder, store: Store) -> list[str]:
    """Rows that a stage left, where the tables have all its tokens."""
    names = sorted(path.stem for path in (run.path / "ids").glob("*.parquet"))
    starts = {
        "revisions": ("revisions-",),
        "candidates": tuple(f"{at_round('candidates', number)}-" for number in range(run.profile.rounds)),
        "evaluation": ("eval-",),
    }
    if stage == "responses" and any(name.startswith("revisions-") for name in names):
        # A chain that was rejected before its first revision has a response, and no id of it is left in the run.
        query = "select response_id from responses where stage = 'initial' and model_digest = ?"
        query += " and prompt_id in (select unnest(?::varchar[]))"
        rows = store.query(query, [_digests(run, store)[SEED], run.ids("prompts")])
        return [str(row["response_id"]) for row in rows]
    mine = [name for name in names if name.startswith(starts.get(stage, ()))]
    return [row_id for name in mine for row_id in run.ids(name)]


def _trained(run: RunFolder, store: Store) -> list[Line]:
    """What the steps that ask nothing reported."""
    profile = run.profile
    lines = [Line("import prompts", n_rows=_sum(run, ["prompts"], "n_out"))]
    rounds = range(profile.rounds)
    lines.append(Line("preferences", n_rows=_sum(run, [at_round("preferences", n) for n in rounds], "n_out")))
    if profile.sft is not None:
        lines.append(_training("SFT", run, ["sft"], profile.sft.epochs))
    if profile.rl.algorithm == "dpo":
        lines.append(_training("RL", run, [at_round("rl", n) for n in rounds], profile.rl.epochs))
        return lines
    members = [at_round("reward_model", n) for n in rounds]
    lines.append(_training("reward model", run, members, profile.reward_model.epochs))
    rl = [result for n in rounds if (result := run.result(at_round("rl", n)))]
    (found,) = store.query(
        "select count(*) n, coalesce(sum(n_tokens), 0) said from rollouts where run_id = ?", [run.run_id]
    )
    asked = sum(r["n_prompt_tokens"] / max(1, r["n_rows"] + r["n_held_aside"]) * r["n_samples"] for r in rl)
    n_asks = sum(r["n_samples"] for r in rl)
    steps = sum(r["n_steps"] for r in rl)
    lines.append(Line("RL", n_asks, asked, asked, found["said"], n_steps=steps, n_rows=found["n"]))
    return lines


def _training(stage: str, run: RunFolder, steps: Sequence[str], epochs: float) -> Line:
    return Line(
        stage,
        n_trained_tokens=_sum(run, steps, "n_tokens") * epochs,
        n_steps=int(_sum(run, steps, "n_steps")),
        n_rows=_sum(run, steps, "n_rows"),
    )


def _sum(run: RunFolder, steps: Sequence[str], key: str) -> float:
    return sum(float(result.get(key, 0)) for step in steps for result in step_results(run, step))


def _timed(lines: Sequence[Line], run: RunFolder) -> list[Line]:
    """A step's seconds, divided among its lines as their tokens are."""
    steps = _steps(run.profile)
    made = []
    for line in lines:
        names = next((names for names, stages in steps if line.stage in stages), [])
        stages = next((stages for _, stages in steps if line.stage in stages), ())
        worked = sum(other.n_worked_tokens for other in lines if other.stage in stages)
        share = line.n_worked_tokens / worked if worked else 1.0
        made.append(replace(line, seconds=_sum(run, names, "seconds") * share))
    return made


def _steps(profile: Profile) -> list[tuple[list[str], tuple[str, ...]]]:
    """The steps of a run, and the lines of a plan that are theirs."""
    rounds = range(profile.rounds)
    return [
        (["prompts"], ("import prompts",)),
        (["chains"], ("responses", "critiques", "revisions")),
        (["helpful"], ("helpful",)),
        (["self_test"], ("self-test",)),
        (["sft"], ("SFT",)),
        ([at_round("candidates", n) for n in rounds], ("candidates",)),
        ([at_round("labels", n) for n in rounds], ("labels",)),
        ([at_round("preferences", n) for n in rounds], ("preferences",)),
        ([at_round("reward_model", n) for n in rounds], ("reward model",)),
        ([at_round("rl", n) for n in rounds], ("RL",)),
        (["evaluate"], ("evaluation", "win rates", "harm scale")),
    ]


def _with_bytes(line: Line, run: RunFolder, bytes_a_row: Mapping[str, float]) -> Line:
    """Rows at the home's bytes a row, and the models that were trained as they lie there."""
    stored = line.n_rows * bytes_a_row.get(TABLES.get(line.stage, ""), 0.0)
    names = next((names for names, stages in _steps(run.profile) if line.stage in stages), [])
    folders = {Path(str(result["path"])) for name in names for result in step_results(run, name) if "path" in result}
    files = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()]
    return replace(line, n_bytes=stored + sum(file.stat().st_size for file in files))


def bytes_of(store: Store) -> dict[str, float]:
    """Live bytes a row of each table that has any."""
    counts, files = store.counts(), store.files()
    return {name: files[name][1] / n for name, n in counts.items() if n}
