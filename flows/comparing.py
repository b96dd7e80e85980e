"""Two runs read from their tables and folders, finished or not, for `cai.comparison` to compare.

Asks no model, unless it is told to have B's judge compare the answers.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from cai.comparison.conclusion import KINDS
from cai.comparison.data import Change, Comparison, FunnelLine, HeadToHead, Labels, Measure, RejectLine, Side
from cai.comparison.examples import changed_most
from cai.comparison.labels import Label, by_principle, compare_labels, of_preferences
from cai.comparison.measures import Outcomes, jointly, lengths, paired, unpaired
from cai.comparison.readings import Answers, examples_of, outcomes
from cai.constitution.diff import diff
from cai.evaluation import Matches, match, open_prompts, win_rate
from cai.feedback import Labelling
from cai.intervals import Rate
from cai.models import read_meta
from cai.preferences import derive_sides
from cai.records import Comparison as Asked
from cai.records import Evaluation, EvaluationItem, PreferencePair, Prompt, Response
from cai.registry import flat
from cai.training.reward_pairs import HELD_OUT
from flows import accounts
from flows.rejected import Made, made_by, reject_counts
from flows.rounds import at_round
from flows.runs import RunFolder
from storage.store import Store
from storage.verdicts import read_labels

N_EXAMPLES = 10
TRAINED = ("sft", "reward_model", "rl")


class Read(NamedTuple):
    """One run, and what its tables have of it."""

    run: RunFolder
    store: Store
    made: Made


def gather(a: RunFolder, b: RunFolder, *, n_examples: int = N_EXAMPLES) -> Comparison:
    """Everything there is to say about both."""
    one, other = (Read(run, Store(run.home), made_by(run, Store(run.home))) for run in (a, b))
    model = common_model(a, b)
    answers = answers_of(one.store, other.store, a, b, model)
    held_a, held_b = (outcomes(answers, side) for side in (answers.a, answers.b))
    measures = [*paired(held_a, held_b), *_lengths(answers)]
    measures += unpaired(*(_stored(read, model, held_a) for read in (one, other)))
    head_to_head = _head_to_head(one, other, answers)
    judged, head_to_head = jointly(measures, head_to_head, held_a, held_b)
    examples, n_changed = changed_most(examples_of(answers), n_examples)
    return Comparison(
        a=_side(one, model),
        b=_side(other, model),
        constitution=diff(a.constitution, b.constitution),
        changes=tuple(_changes(one, other)),
        labels=_labels(one, other),
        reward_models=tuple(_reward_models(a, b)),
        measures=tuple(judged),
        n_prompts=len(answers.prompts),
        head_to_head=head_to_head,
        funnel=tuple(_funnel(a, b)),
        rejects=tuple(_rejects(one, other)),
        examples=tuple(examples),
        n_changed=n_changed,
        notes=tuple(_notes(one, other, model, answers)),
    )


def common_model(a: RunFolder, b: RunFolder) -> str:
    """The last model that both runs trained and measured; "" where there is none."""
    names = [[*(run.result("evaluate") or {}).get("models", [])] for run in (a, b)]
    return next((name for name in reversed(names[0]) if name in names[1] and name != "seed"), "")


def answers_of(one: Store, other: Store, a: RunFolder, b: RunFolder, model: str) -> Answers:
    if not model:
        return Answers({}, {}, {})
    sides = [
        {row.prompt_id: row for row in store.find_all(Response, run.ids(f"eval-{model}")).values()}
        for store, run in ((one, a), (other, b))
    ]
    prompts = one.find_all(Prompt, sides[0].keys() & sides[1].keys())
    asked = {row_id: row.prompt_id for row_id, row in one.find_all(Response, a.ids(f"eval-{model}")).items()}
    shared = [asked[row_id] for row_id in a.ids(f"eval-{model}") if row_id in asked and asked[row_id] in prompts]
    items = tuple(one.find_all(EvaluationItem, accounts.ids_of(a, accounts.ITEMS)).values())
    in_a, in_b = ({key: side[key] for key in shared} for side in sides)
    return Answers({key: prompts[key] for key in shared}, in_a, in_b, items)


def _lengths(answers: Answers) -> list[Measure]:
    return lengths(*({key: row.n_tokens for key, row in side.items()} for side in (answers.a, answers.b)))


def _stored(read: Read, model: str, known: Outcomes) -> dict[str, Rate]:
    """Metrics of the run's policy in the table `evaluations`, less those that are known prompt by prompt, and less its
    Elo rating: that is relative to the models of its own run.
    """
    digest = _digest_of(read.run, model)
    rows = [row for row in read.store.read(Evaluation) if digest and row.model_digest == digest]
    last = {(row.metric, row.set): row for row in sorted(rows, key=lambda row: (row.n, row.evaluation_id))}
    return {
        f"{metric} ({name})": Rate(row.value, row.low, row.high, row.n)
        for (metric, name), row in last.items()
        if metric not in known and metric != "elo"
    }


def _digest_of(run: RunFolder, model: str) -> str:
    """The weights that answered, by what they answered; "" where nothing did."""
    step = {"sl_cai": "sft", "rl_cai": at_round("rl", run.profile.rounds - 1)}.get(model, "")
    return str((run.result(step) or {}).get("model_digest", "")) if step else ""


def _side(read: Read, model: str) -> Side:
    run = read.run
    body = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    return Side(
        run_id=run.run_id,
        profile=run.profile.name,
        started_at=body["started_at"],
        constitution=run.constitution.name,
        constitution_digest=run.constitution.digest(),
        model=model,
        model_digest=_digest_of(run, model),
        missing=tuple(_missing(run)),
    )


def _missing(run: RunFolder) -> list[str]:
    """What the run has yet to do, as people say it."""
    planned = [(step, title) for step, title in accounts.steps(run) if _is_planned(run, step)]
    return [title for step, title in planned if not accounts.step_results(run, step)]


def _is_planned(run: RunFolder, step: str) -> bool:
    without_sft = step == "sft" and run.profile.sft is None
    without_rm = step.startswith("reward_model") and run.profile.rl.algorithm == "dpo"
    return not (without_sft or without_rm or (step == "helpful" and run.profile.helpful is None))


# What the runs were made of


def _changes(one: Read, other: Read) -> Iterator[Change]:
    a, b = (_made_of(read.run) for read in (one, other))
    for kind in (*KINDS, "library", "settings"):
        for key in sorted(a[kind].keys() | b[kind].keys()):
            old, new = a[kind].get(key), b[kind].get(key)
            if old != new:
                known = kind not in ("code", "library") or (bool(a[kind]) and bool(b[kind]))
                yield Change(kind, key, _said(old), _said(new), known)  # type: ignore[arg-type]  # of KINDS
    ids = [set(read.run.ids("prompts")) if read.run.result("prompts") else set() for read in (one, other)]
    if ids[0] != ids[1]:
        n_shared = len(ids[0] & ids[1])
        known = all(read.run.result("prompts") is not None for read in (one, other))
        counts = f"{len(ids[0]):,}", f"{len(ids[1]):,}, {n_shared:,} of them in both"
        yield Change("data", "training prompts", *counts, known)


def _made_of(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Every setting of the run by its path, those of engines apart, and the code as it was when the run began."""
    body = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    settings = dict(flat(run.profile.model_dump(mode="json"))) | {"without": run.without}
    settings.pop("constitution")  # where it lay; what it says is compared by principle
    in_engine = {key: value for key, value in settings.items() if key.startswith(("engine.", "feedback.judge"))}
    models = {key: value for key, value in in_engine.items() if key.endswith(".model")}
    metas = [meta for result in _trained(run) if (meta := read_meta(Path(result["path"]))) is not None]
    return {
        "engine": {key: value for key, value in in_engine.items() if key not in models},
        "model": models | {f"{step} weights": digest for step, digest in _bases(run)},
        "code": body.get("code") or (dict(metas[0].get("code", {})) if metas else {}),
        "library": dict(metas[-1].get("versions", {})) if metas else {},
        "settings": {key: value for key, value in settings.items() if key not in in_engine},
    }


def _trained(run: RunFolder) -> list[dict[str, Any]]:
    return [result for step in TRAINED for result in accounts.step_results(run, step)[:1] if "path" in result]


def _bases(run: RunFolder) -> Iterator[tuple[str, str]]:
    """The weights that training began with; those that it made are no cause but a consequence."""
    for result in _trained(run)[:1]:
        if (meta := read_meta(Path(result["path"]))) is not None:
            yield "seed", str(meta.get("parent_digest", ""))


def _said(value: Any) -> str:
    return "–" if value is None or value == "" else str(value)


# Labels and reward models


def _labels(one: Read, other: Read) -> Labels | None:
    if not (one.made.asks and other.made.asks):
        return None
    labels_a, labels_b = (of_preferences(_preferences(read)) for read in (one, other))
    said_a, said_b = (_by_principle(read) for read in (one, other))
    tie_band = other.run.profile.preferences.tie_band
    return compare_labels(labels_a, labels_b, said_a, said_b, tie_band=tie_band)


def _by_principle(read: Read) -> dict[str, dict[str, Label]]:
    outside = read.run.profile.preferences.max_mass_outside
    return by_principle(read_labels(read.store, asks=read.made.asks, max_mass_outside=outside).verdicts)


def _preferences(read: Read) -> list[PreferencePair]:
    found = read.store.find_all(PreferencePair, read.made.preferences)
    return [row for row in found.values() if row.source == "ai"]


def _reward_models(a: RunFolder, b: RunFolder) -> list[Measure]:
    """Accuracy on the held-out pairs that both models held out, or of each on its own."""
    results = [run.result("reward_model") for run in (a, b)]
    if results[0] is None or results[1] is None:
        return []
    right = [_held_out(Path(result["path"])) for result in results if result is not None]
    shared = paired(*({"accuracy": side} for side in right))
    if shared:
        return shared
    return unpaired(*(_accuracy(Path(result["path"])) for result in results if result is not None))


def _held_out(model: Path) -> dict[str, bool]:
    """By pair, whether the reward model preferred what the label does."""
    path = model / HELD_OUT
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return {row["pair"]: row["is_right"] for row in rows if row["is_right"] is not None}


def _accuracy(model: Path) -> dict[str, Rate]:
    found = ((read_meta(model) or {}).get("intervals") or {}).get("held_out/accuracy")
    return {} if found is None else {"accuracy": Rate(**found)}


# Who wins


def _head_to_head(one: Read, other: Read, answers: Answers) -> HeadToHead:
    """By what a judge was asked about these very answers before: B's judge and constitution, else A's."""
    for read, whose in ((other, "B"), (one, "A")):
        if not answers.prompts or not read.made.judges:
            continue
        run = read.run
        labelling = Labelling(
            run.constitution, run.profile.feedback, seed=run.profile.seed, judge_digest=read.made.judges[0]
        )
        known = _asked_first(answers, labelling, read.store)
        if known.matches.pairs:
            made = derive_sides(known.matches.pairs, known.rows, labelling=labelling, config=run.profile.preferences)
            ids = [row.response_id for row in answers.b.values()]
            won = win_rate(known.matches, ids, made).win_rate
            return HeadToHead(won, f"by {whose}'s judge under {whose}'s constitution, as far as it was asked")
    return HeadToHead(None, "no judge was asked about these answers; `--judge` has B's say which are better")


class _Known(NamedTuple):
    matches: Matches
    rows: list[Asked]


def _asked_first(answers: Answers, labelling: Labelling, store: Store) -> _Known:
    """The first of the held-out prompts, up to one whose answers differ and were not compared, as a judge is asked."""
    sides = [*answers.b.values()], [*answers.a.values()]
    opened = {prompt.prompt_id: prompt for prompt in open_prompts(answers.prompts.values(), answers.items)}
    pairs = {pair.prompt.prompt_id: pair for pair in match(opened.values(), *sides).pairs}
    asks = {key: [ask.comparison_id for ask in labelling.asks(pair)] for key, pair in pairs.items()}
    rows = store.find_all(Asked, [ask for each in asks.values() for ask in each])
    known = list(takewhile(lambda key: rows.keys() >= set(asks.get(key, ())), opened))
    chosen = set(known)
    matches = match([opened[key] for key in known], *([r for r in s if r.prompt_id in chosen] for s in sides))
    return _Known(matches, [row for row in rows.values() if row.prompt_id in chosen])


async def ask_judge(a: RunFolder, b: RunFolder, n: int) -> None:
    """B's judge, under B's constitution, on the answers to the first `n` held-out prompts; what it says is stored."""
    from cai.engines.slot import EngineSlot
    from cai.evaluation import Setup, compare_models
    from cai.records import Reject
    from storage.ledger import TableLedger

    one, other = Store(a.home), Store(b.home)
    answers = answers_of(one, other, a, b, common_model(a, b))
    evaluation = b.profile.evaluation.model_copy(update={"win_rate_prompts": n})
    engines = EngineSlot()
    try:
        with TableLedger(other, list(answers.prompts), (Asked, Reject)) as ledger:
            await compare_models(
                open_prompts(answers.prompts.values(), answers.items),
                {"a": [*answers.a.values()], "b": [*answers.b.values()]},
                Setup(b.profile.model_copy(update={"evaluation": evaluation}), b.constitution, engines, ledger),
            )
    finally:
        await engines.close()


# Rows and examples


def _funnel(a: RunFolder, b: RunFolder) -> Iterator[FunnelLine]:
    lines = [{title: tuple(counts) for title, *counts in accounts.funnel(run)} for run in (a, b)]
    for title in dict.fromkeys([*lines[0], *lines[1]]):
        yield FunnelLine(title, *(line.get(title) for line in lines))  # type: ignore[arg-type]  # three counts


def _rejects(one: Read, other: Read) -> Iterator[RejectLine]:
    counts = [reject_counts(read.run, read.store, read.made) for read in (one, other)]
    for stage, reason in sorted(counts[0].keys() | counts[1].keys()):
        yield RejectLine(stage, reason, counts[0][stage, reason], counts[1][stage, reason])


def _notes(one: Read, other: Read, model: str, answers: Answers) -> Iterator[str]:
    sides: Sequence[tuple[str, Read]] = (("A", one), ("B", other))
    for name, read in sides:
        if missing := _missing(read.run):
            yield f"{name} has not done: {', '.join(missing)}"
    if not model:
        yield "no model that both runs trained has answered held-out prompts in both; finish them with `cai run`"
    elif not answers.prompts:
        yield "the runs were measured on different held-out prompts: no prompt was answered by both policies"
    elif not answers.is_told:
        yield "what some prompts are nobody says: refusals are read by rules, and there none is held to be right"
