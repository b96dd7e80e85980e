"""What a run's report shows, gathered from its tables and what its steps left. `cai.report` draws it."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.card import Card, card_of
from cai.coverage.near import TEMPLATE
from cai.evaluation import from_json, is_smallworld, win_rates_from_json
from cai.labels.report import label_report
from cai.labels.sources import GoldQuality
from cai.records import Approval, Model, Override, PreferencePair, Prompt, Response, Revision
from cai.registry import Registry
from cai.report.chains import spread
from cai.report.data import (
    Answer,
    Chain,
    FunnelStep,
    GoldLabels,
    LabelQuality,
    Pair,
    PrincipleQuality,
    RejectCount,
    Reliability,
    ReliabilityBin,
    ReportData,
    Sample,
    StageTime,
    Target,
)
from cai.report.targets import demo_targets
from flows import prompt_stats
from flows.accounts import funnel, ids_of, step_results, steps, titled
from flows.drawing import drawn_said
from flows.gating import stored_gating
from flows.label_quality import labels_of
from flows.rejected import made_by, own_rejects
from flows.report_chains import chains, turns
from flows.report_curves import curves, reliability
from flows.report_datasheet import datasheet, personal_of
from flows.report_measured import measurements
from flows.report_rollouts import Rows, frontier, read_rollouts
from flows.rounds import at_round
from flows.runs import RunFolder, now
from storage import registry
from storage.store import Store

N_CHAINS, N_PAIRS, N_SAMPLES = 50_000, 300, 90
BINS = 10
LINE = 160


def gather(run: RunFolder, store: Store) -> ReportData:
    """Everything there is to say about a run, finished or not."""
    body = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    prompts = store.find_all(Prompt, run.ids("prompts"))
    evaluated = run.result("evaluate")
    results = from_json(evaluated["rates"]) if evaluated else {}
    pair_ids = _pair_ids(run)
    pairs = store.find_all(PreferencePair, pair_ids)
    last_ids = ids_of(run, "last-revisions")
    rejects = tuple(_rejects(run, store))
    labels = label_quality(run, store)
    scorers = step_results(run, "reward_model")
    return ReportData(
        title=f"{run.profile.name}: {run.constitution.name}" + (f" without {run.without}" if run.without else ""),
        profile=run.profile.name,
        constitution=run.constitution.name,
        constitution_digest=run.constitution.digest(),
        run_id=run.run_id,
        started_at=body["started_at"],
        finished_at=now(),
        excluded_tag=run.without,
        facts=_facts(run),
        results=results,
        win_rates=win_rates_from_json(evaluated["win_rates"]) if evaluated else {},
        targets=targets_of(run),
        gating=stored_gating(run),
        overrides=tuple(_overrides(run, store)),
        promoted=tuple(_promoted(run, store)),
        not_promoted=_not_promoted(run, store),
        measurements=measurements(evaluated),
        frontier=tuple(frontier(results, _sampled(run, prompts), prompts)),
        stages=tuple(_stage_times(run)),
        funnel=tuple(FunnelStep(*line) for line in funnel(run)),
        rejects=rejects,
        prompts=prompt_stats.of_run(run, store) if prompts else None,
        labels=labels,
        curves=tuple(curves(run)),
        reliability=reliability(run),
        chains=tuple(
            chains(
                store,
                prompts,
                spread(last_ids, N_CHAINS),
                pairs=pairs.values(),
                reward_model=scorers[0].get("model_digest", "") if scorers else "",
            )
        ),
        n_chains=len(last_ids),
        pairs=tuple(_pairs(store, prompts, spread([i for i in pair_ids if i in pairs], N_PAIRS), pairs)),
        n_pairs=len(pair_ids),
        samples=tuple(_samples(run, store)),
        datasheet=datasheet(_used(run, store, prompts), list(pairs.values()), rejects, labels, personal_of(run)),
        cards=tuple(_cards(run, store)),
    )


def _used(run: RunFolder, store: Store, prompts: Mapping[str, Prompt]) -> dict[str, list[Prompt]]:
    """The prompts of the run by what they were used for."""
    people = [row_id for n in range(run.profile.rounds) for row_id in ids_of(run, at_round("people-prompts", n))]
    answered = [row_id for path in sorted((run.path / "ids").glob("eval-*.parquet")) for row_id in run.ids(path.stem)]
    held_out = {response.prompt_id for response in store.find_all(Response, answered).values()}
    return {
        "responses, revisions, RL": list(prompts.values()),
        "helpful replies": list(store.find_all(Prompt, ids_of(run, "helpful-prompts")).values()),
        "pairs that people labelled": list(store.find_all(Prompt, people).values()),
        "evaluation": list(store.find_all(Prompt, held_out).values()),
    }


def _cards(run: RunFolder, store: Store) -> Iterable[Card]:
    known = registry.load(store)
    return (card_of(known, model) for model in _models(run, known))


def _overrides(run: RunFolder, store: Store) -> Iterable[Override]:
    known = registry.load(store)
    return (override for model in _models(run, known) for override in known.overridden(model))


def _promoted(run: RunFolder, store: Store) -> Iterable[str]:
    known = registry.load(store)
    for model in _models(run, known):
        for row in known.current(model):
            before = f", in place of {known.label(row.previous_digest)}" if row.previous_digest else ""
            note = f": {row.note}" if row.note else ""
            yield f"to {row.channel}: {known.label(model.model_digest)}, {row.promoted_at}{before}{note}"


def _not_promoted(run: RunFolder, store: Store) -> str:
    """What was last said when a person was asked to promote the policy, unless that was yes."""
    about = ("promotion", "override")  # see `Approval.about`
    asked = [row for row in store.read(Approval) if row.run_id == run.run_id and row.about.startswith(about)]
    last = max(asked, key=lambda row: (row.asked_at, row.number), default=None)
    if last is None or last.decision == "approved":
        return ""
    if last.decision == "refused":
        return f"refused by {last.person}, {last.decided_at}: {last.reason or 'no reason given'}"
    return f"{'nobody answered' if last.decision == 'expired' else 'a person is asked'} until {last.until}"


def _models(run: RunFolder, known: Registry) -> list[Model]:
    """Those that the run trained, or found trained, in the order of its steps."""
    digests = [r["model_digest"] for step, _ in steps(run) for r in step_results(run, step) if "model_digest" in r]
    return [known.models[digest] for digest in dict.fromkeys(digests) if digest in known.models]


def _sampled(run: RunFolder, prompts: Mapping[str, Prompt]) -> dict[str, Rows]:
    """What each round's RL sampled, by what a person calls it; nothing where the truth about it is not known."""
    found: dict[str, Rows] = {}
    if not is_smallworld(list(prompts.values())):
        return found
    for number in range(run.profile.rounds):
        if result := run.result(at_round("rl", number)):
            found[titled("RL", number)] = read_rollouts(Path(result["path"]), "text")
    return found


def targets_of(run: RunFolder) -> tuple[Target, ...]:
    """What the run had to reach, against what was measured; none where its profile sets no targets."""
    if run.profile.name != "demo":
        return ()
    evaluated = run.result("evaluate")
    return demo_targets(from_json(evaluated["rates"]) if evaluated else {}, run.without)


def _pair_ids(run: RunFolder) -> list[str]:
    return [row_id for number in range(run.profile.rounds) for row_id in ids_of(run, at_round("preferences", number))]


def _facts(run: RunFolder) -> dict[str, str]:
    facts = {"engine": run.profile.engine.kind, "model": run.profile.engine.model, "seed": str(run.profile.seed)}
    if (result := run.result("sft_set")) and (n := result.get("n_cut_off")):
        n_revisions = result["n_in"] - result["n_helpful"]
        facts["revisions cut off"] = f"{n / n_revisions:.1%} of {n_revisions:,}, {n:,}, not trained on"
    for number in range(run.profile.rounds):
        sampled = step_results(run, at_round("candidates", number))
        if n := sum(result.get("n_cut_off", 0) for result in sampled):
            n_candidates = sum(result["n_out"] for result in sampled)
            facts[titled("candidates cut off", number)] = f"{n / n_candidates:.1%} of {n_candidates:,}, {n:,}"
    if (result := run.result("sft_set")) and result.get("n_helpful"):
        share = result["n_helpful"] / result["n_out"]
        facts["helpful share"] = f"{share:.1%} of {result['n_out']:,} SFT rows, {result['n_helpful']:,}"
    if (result := run.result("preferences")) and result.get("n_people"):
        share = result["n_people"] / result["n_out"]
        facts["people's share"] = f"{share:.1%} of {result['n_out']:,} pairs, {result['n_people']:,}"
    if (result := run.result("prompts")) and any(result.get("kinds", {})):
        n, kinds = sum(result["kinds"].values()), sorted(result["kinds"].items(), key=lambda each: -each[1])
        facts["prompts by kind"] = ", ".join(f"{kind or 'not stated'} {m / n:.1%}" for kind, m in kinds)
    if (result := run.result("prompts")) and (n := result.get("n_of_templates")):
        facts["prompts of a template"] = f"{n:,} kept, each near more than {TEMPLATE} others: `cai prompts dedup`"
    for number in range(run.profile.rounds):
        if (result := run.result(at_round("preferences", number))) and result.get("n_rl_helpful"):
            n, n_helpful = result["n_rl_prompts"], result["n_rl_helpful"]
            facts[titled("helpful share of RL prompts", number)] = f"{n_helpful / n:.1%} of {n:,}, {n_helpful:,}"
        if result and result.get("drawn"):
            facts[titled("RL prompts drawn", number)] = drawn_said(result["drawn"])
    if result := run.result("self_test"):
        facts["judge's self-test"] = result["said"]
    if result := run.result("sft"):
        facts["SFT tokens"] = _token_budget(result)
    return facts


def _token_budget(result: Mapping[str, Any]) -> str:
    return (
        f"{result['n_trained_tokens']:,} trained of {result['n_tokens']:,} an epoch, in {result['n_rows']:,} rows; "
        f"{result['n_truncated']:,} cut off, {result['n_rejected']:,} left out"
    )


def _stage_times(run: RunFolder) -> Iterable[StageTime]:
    for step, title in steps(run):
        if results := step_results(run, step):
            yield StageTime(title, sum(float(r.get("seconds", 0.0)) for r in results))


def _rejects(run: RunFolder, store: Store) -> Iterable[RejectCount]:
    details: dict[tuple[str, str], Counter[str]] = {}
    for r in own_rejects(run, store, made_by(run, store)):
        details.setdefault((r.stage, r.reason), Counter())[r.detail] += 1
    for (stage, reason), said in sorted(details.items()):
        yield RejectCount(stage, reason, said.total(), _example(said))


def _example(said: Counter[str]) -> str:
    """What is said most often of such rows, cut to a line."""
    detail = min(said, key=lambda each: (-said[each], each))
    return detail if len(detail) <= LINE else f"{detail[: LINE - 1]}…"


def label_quality(run: RunFolder, store: Store) -> LabelQuality | None:
    """Of every round so far; None where nothing was compared."""
    read = labels_of(store, run)
    if not read.n_comparisons:
        return None
    pair_ids = _pair_ids(run)
    pairs = {key: pair for key, pair in store.find_all(PreferencePair, pair_ids).items() if pair.source == "ai"}
    report = label_report(read.verdicts, read.annotated, tie_band=run.profile.preferences.tie_band)
    histogram = [0] * BINS
    for pair in pairs.values():
        histogram[min(BINS - 1, int((pair.soft_label - 0.5) * 2 * BINS))] += 1
    overall, *by_principle = report.judges
    return LabelQuality(
        n_comparisons=read.n_comparisons,
        n_pairs=len(pairs),
        n_ties=sum(pair.is_tie for pair in pairs.values()),
        n_unscored=overall.n_unscored,
        consistency=overall.consistency.value,
        mass_outside=overall.mass_outside.value,
        soft_labels=tuple(histogram),
        principles=tuple(
            PrincipleQuality(q.principle_id, q.position_bias, q.consistency.value, q.mass_outside.value)
            for q in by_principle
            if q.principle_id
        ),
        warnings=tuple(report.warnings),
        gold=_gold(report.gold),
    )


def _gold(measured: Sequence[GoldQuality]) -> GoldLabels | None:
    """Of the first judge; none where no gold was known of these pairs."""
    for row in measured:
        if row.source.kind == "judge":
            found = row.calibration
            bins = tuple(ReliabilityBin(*b) for b in found.bins) if found else ()
            return GoldLabels(row.accuracy, row.kappa, Reliability(bins, found.ece.value) if found else None)
    return None


def some_chains(run: RunFolder, store: Store, n: int) -> list[Chain]:
    """At most `n` of the finished chains, evenly over all."""
    last_ids = spread(ids_of(run, "last-revisions"), n)
    of = {row.prompt_id for row in store.find_all(Revision, last_ids).values()}
    return list(chains(store, store.find_all(Prompt, of), last_ids, pairs=()))


def _pairs(
    store: Store, prompts: Mapping[str, Prompt], pair_ids: Sequence[str], found: Mapping[str, PreferencePair]
) -> Iterable[Pair]:
    of_people = store.find_all(Prompt, {found[i].prompt_id for i in pair_ids} - set(prompts))
    tags = {prompt_id: prompt.tags for prompt_id, prompt in (*prompts.items(), *of_people.items())}
    for pair in (found[i] for i in pair_ids):
        yield Pair(
            prompt=turns(pair.messages),
            chosen=pair.chosen,
            rejected=pair.rejected,
            soft_label=pair.soft_label,
            consistency=pair.consistency,
            n_asks=pair.n_asks,
            is_tie=pair.is_tie,
            tags=tags[pair.prompt_id],
        )


def _samples(run: RunFolder, store: Store) -> Iterable[Sample]:
    """The same held-out prompts, answered by each model."""
    answers: dict[str, list[Answer]] = {}
    for path in sorted((run.path / "ids").glob("eval-*.parquet"), key=lambda p: p.stat().st_mtime_ns):
        model = path.stem.removeprefix("eval-")
        for response in store.find_all(Response, run.ids(path.stem)).values():
            answers.setdefault(response.prompt_id, []).append(Answer(model, response.text))
    prompts = store.find_all(Prompt, list(answers))
    for prompt_id in spread(sorted(answers), N_SAMPLES):
        prompt = prompts[prompt_id]
        yield Sample(turns(prompt.messages), tuple(answers[prompt_id]), prompt.tags)
