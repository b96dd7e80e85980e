"""What an evaluation measures besides rates and win rates: variety, harm on the written scale, how far RL went from its
reference, the best of several rollouts; and the probes, held to the profile's limits. A run's evaluation and `cai
evaluate` both measure here. The numbers go into what they write, the tables `ratings` and `evaluations`, and the gate.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.asks import OnProgress
from cai.config import Profile
from cai.constitution import Constitution
from cai.engines.base import Engine
from cai.errors import NoSuchOption
from cai.evaluation import (
    Measured,
    Rates,
    Sets,
    Setup,
    evaluate_models,
    is_smallworld,
    last_request,
    open_prompts,
    to_json,
)
from cai.intervals import Rate, bootstrap_mean
from cai.metrics.best_of_n import BestOfN, Sample, frontier
from cai.metrics.diversity import Text, distinct, repetition, self_repetition
from cai.metrics.harmfulness import harmfulness, rate_responses
from cai.models import read_meta
from cai.probes import battery, limits
from cai.probes.battery import Paid
from cai.records import Ledger, Prompt, Response
from cai.smallworld import oracle
from flows.report_rollouts import Rows, read_rollouts
from flows.rounds import at_round
from flows.runs import RunFolder
from storage.store import Store

POLICY = "rl_cai"
REFERENCES = ("sl_cai", "seed")


class Subject(NamedTuple):
    """Which model the probes are of, beside which other, and what RL sampled from it, step by step.

    `kept_step` is the step whose weights it has where a guard chose it, 0 for those it began with; else None: the last.
    """

    policy: str
    reference: str | None
    rollouts: Rows = ()
    kept_step: int | None = None


def subject_of_run(run: RunFolder, answered: Collection[str]) -> Subject | None:
    """The policy, beside the SL-CAI model, or the seed model where there is none; with the samples of the last round's
    RL. None where there is no policy.
    """
    reference = next((name for name in REFERENCES if name in answered), None)
    if POLICY not in answered or reference is None:
        return None
    trained = run.result(at_round("rl", run.profile.rounds - 1))
    return subject(POLICY, reference, None if trained is None else Path(trained["path"]))


def subject_of_models(models: Mapping[str, Path | str]) -> Subject | None:
    """The model named `rl_cai`, or the last one; beside SL-CAI, the seed model, or the one named before it."""
    if not models:
        return None
    policy = POLICY if POLICY in models else list(models)[-1]
    others = [name for name in models if name != policy]
    reference = next((name for name in REFERENCES if name in others), others[-1] if others else None)
    trained = models[policy]
    return subject(policy, reference, trained if isinstance(trained, Path) else None)


def subject(policy: str, reference: str | None, trained: Path | None) -> Subject:
    """With what `trained`, the folder of the policy, has of its RL: nothing where it sampled nothing (DPO)."""
    if trained is None:
        return Subject(policy, reference)
    guard = (read_meta(trained) or {}).get("guard") or {}
    kept = None if guard.get("best_step") is None else int(guard["best_step"])
    return Subject(policy, reference, read_rollouts(trained, "text", "reward", "kl", "n_tokens"), kept)


class Probed(NamedTuple):
    """`measured` with the metrics that were added to it; `best_of_n` is of the last round's RL."""

    measured: Measured
    findings: list[limits.Finding]
    harm: "Harm"
    best_of_n: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """What the result of the step has of it; the metrics are among its rates."""
        return {
            "probes": limits.to_json(self.findings),
            "elo": to_json({"": self.measured.elo})[""],
            "best_of_n": self.best_of_n,
            "harm_scale": {"n_unscored": self.harm.unscored, "why": self.harm.why},
        }


async def measure(
    models: Mapping[str, Path | str],
    sets: Sets,
    subject: Subject | None,
    setup: Setup,
    store: Store,
) -> Probed:
    """Ask the models and the judge what the sets ask for, and probe what was said."""
    prompts = sets.asked()
    measured = await evaluate_models(models, prompts, setup, sets.items)
    return await probe(prompts, measured, subject, setup, store)


async def probe(
    prompts: Sequence[Prompt],
    measured: Measured,
    subject: Subject | None,
    setup: Setup,
    store: Store,
) -> Probed:
    """All of it, on the prompts that a model answers in its own words; without a subject no probes. Ratings go to the
    ledger; what is there is not asked for again.
    """
    profile, opened = setup.profile, open_prompts(prompts, measured.items)
    answers = {name: among(rows, opened) for name, rows in measured.answers.items()}
    if few := {prompt.prompt_id: prompt for prompt in opened[: profile.evaluation.harm_scale_prompts]}:
        harm = await harm_scale(
            few,
            answers,
            setup.constitution,
            await setup.judge(),
            setup.ledger,
            max_concurrency=profile.judge.max_concurrency,
            progress=setup.progress,
        )
    else:
        harm = Harm({}, {}, "evaluation.harm_scale_prompts is 0, or there are no prompts")
    added: dict[str, Rates] = {name: found | harm.rates.get(name, {}) for name, found in variety(answers).items()}
    if subject is not None:
        added[subject.policy] |= kl_of(subject.rollouts, subject.kept_step, profile.seed)
    rates = {name: measured.rates.get(name, {}) | found for name, found in added.items()}
    measured = measured._replace(rates=rates)
    if subject is None:
        return Probed(measured, [], harm, [])
    asked = store.find_all(Prompt, {row["prompt_id"] for row in subject.rollouts})
    best = best_of_n(subject.rollouts, asked, profile.seed)
    return Probed(measured, probes(profile, opened, measured, subject), harm, best)


def among(responses: Sequence[Response], prompts: Sequence[Prompt]) -> list[Response]:
    """The responses to these prompts."""
    asked = {prompt.prompt_id for prompt in prompts}
    return [response for response in responses if response.prompt_id in asked]


class Harm(NamedTuple):
    """`unscored` counts, by model, the responses that the judge could not rate; `why` says why none was rated."""

    rates: dict[str, Rates]
    unscored: dict[str, int]
    why: str = ""


def variety(answers: Mapping[str, Sequence[Response]]) -> dict[str, Rates]:
    """Of each model's responses, one a prompt: how much each repeats itself, and how much they repeat each other."""
    texts = {name: [Text(row.prompt_id, row.text) for row in rows] for name, rows in answers.items()}
    return {
        name: {"distinct_2": distinct(said), "repetition": repetition(said), "self_repetition": self_repetition(said)}
        for name, said in texts.items()
    }


async def harm_scale(
    few: Mapping[str, Prompt],
    answers: Mapping[str, Sequence[Response]],
    constitution: Constitution,
    judge: Engine,
    ledger: Ledger,
    *,
    max_concurrency: int = 256,
    progress: OnProgress | None = None,
) -> Harm:
    """The judge's marks from 0 to 4 for each model's responses to these prompts."""
    made = Harm({}, {})
    for name, responses in answers.items():
        try:
            rows = await rate_responses(
                few,
                [row for row in responses if row.prompt_id in few],
                constitution=constitution,
                engine=judge,
                ledger=ledger,
                max_concurrency=max_concurrency,
                progress=progress,
            )
        except NoSuchOption as error:
            return Harm({}, {}, f"the judge cannot name a mark: {error}")
        found = harmfulness(rows)
        made.rates[name] = {
            "harmfulness": found.mean,
            "harmful_by_judge_rate": found.harmful_rate,
            "harmfulness_mass_outside": found.mass_outside,
        }
        made.unscored[name] = found.n_unscored
    return made


def probes(profile: Profile, prompts: Sequence[Prompt], measured: Measured, subject: Subject) -> list[limits.Finding]:
    """The policy's on these prompts, which it answers in its own words, beside its reference's."""
    policy, reference = (
        {row.prompt_id: row for row in among(measured.answers[name], prompts)} if name is not None else {}
        for name in (subject.policy, subject.reference)
    )
    paid = [
        Paid(row["prompt_id"], row["step"], row["text"], row["n_tokens"], row["reward"])
        for row in subject.rollouts
        if row["reward"] is not None
    ]
    requests = {prompt.prompt_id: last_request(prompt) for prompt in prompts}
    rates = measured.rates.get(subject.policy, {})
    found = battery.measure(requests, policy, reference, paid, rates, seed=profile.seed)
    return limits.findings(found, profile.evaluation.probes)


# What RL sampled


def kl_of(rollouts: Rows, kept: int | None, seed: int) -> Rates:
    """`kl`: nats per token (k3) from the model that the round's RL began with, in the samples of the kept weights.

    A step samples before it learns, so those are of the step after the kept one; of the last where there is none after
    it, one update before the end.
    """
    steps = {row["step"] for row in rollouts}
    if not steps:
        return {}
    of_kept = max(steps) if kept is None else min(kept + 1, max(steps))
    found = [(float(r["kl"]), r["prompt_id"]) for r in rollouts if r["step"] == of_kept and r["kl"] is not None]
    return {"kl": bootstrap_mean(*zip(*found, strict=True), seed=seed)} if found else {}


def best_of_n(rollouts: Rows, prompts: Mapping[str, Prompt], seed: int) -> list[dict[str, Any]]:
    """What the best of n responses of the reference earns, chosen by the reward: RL's first step, which samples before
    anything is learnt. In the small world also how good it is by the oracle, 0 to 1 (`oracle`, `oracle_low`, …).

    Rows `{"n", "reward", "low", "high", "kl"}`, `kl` being the upper bound in nats per response; none where RL
    sampled one response a prompt.
    """
    first = min((row["step"] for row in rollouts), default=0)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rollouts:
        if row["step"] == first and row["reward"] is not None:
            groups.setdefault(row["prompt_id"], []).append(row)
    size = Counter(map(len, groups.values())).most_common(1)[0][0] if groups else 0
    whole = {key: rows for key, rows in groups.items() if len(rows) == size}  # an unscored sample breaks its group
    if size < 2:
        return []
    earned = frontier({k: [Sample(r["reward"], r["reward"]) for r in rows] for k, rows in whole.items()}, seed=seed)
    if not is_smallworld([prompts[key] for key in whole if key in prompts]) or not whole.keys() <= prompts.keys():
        return [_point(at) for at in earned]
    true = {
        key: [Sample(row["reward"], oracle.goodness(prompts[key].messages, row["text"])) for row in rows]
        for key, rows in whole.items()
    }
    return [_point(at) | _oracle(is_) for at, is_ in zip(earned, frontier(true, seed=seed), strict=True)]


def _point(at: BestOfN) -> dict[str, Any]:
    return {"n": at.n, "reward": at.reward.value, **_ends(at.reward, ""), "kl": at.kl_bound}


def _oracle(at: BestOfN) -> dict[str, Any]:
    return {"oracle": at.reward.value, **_ends(at.reward, "oracle_")}


def _ends(found: Rate, name: str) -> dict[str, float | None]:
    """Null where one prompt says nothing of them."""
    ends = {f"{name}low": found.low, f"{name}high": found.high}
    return {key: end if math.isfinite(end) else None for key, end in ends.items()}
