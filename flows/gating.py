"""The gate of a run: its policy on the held-out prompts, beside what is in use, against the profile's conditions."""

from collections.abc import Mapping, Sequence
from typing import Any

from cai import gate
from cai.comparison.readings import Answers, outcomes
from cai.config.evaluation import PROBE
from cai.evaluation import Measured
from cai.gate import Gating, rate_change
from cai.intervals import Rate, rate
from cai.probes import limits
from cai.probes.limits import NotMeasured
from cai.records import GateVerdict, Prompt, Response
from flows.rounds import at_round
from flows.runs import RunFolder, now
from storage import registry
from storage.store import Store

PROMOTED = "promoted"
POLICY, SEED = "rl_cai", "seed"


def promoted_model(run: RunFolder) -> str | None:
    """The model in use that the policy is measured beside; None without a gate, or before the first promotion."""
    if run.profile.gate is None:
        return None
    known = registry.load(Store(run.home))
    last = known.promoted(run.profile.gate.channel)
    return known.models[last.model_digest].path if last is not None else None


def gate_of(
    run: RunFolder,
    prompts: Sequence[Prompt],
    measured: Measured,
    n_trained_on: int,
    probed: Sequence[limits.Finding] = (),
) -> Gating | None:
    """What the profile's conditions say of the policy; None where there are none, or no policy.

    Metrics are those of the evaluation; `probe/NAME` of each probe that had something to measure; and
    `contamination_rate`, the share of the evaluation prompts that the run had trained on (which are left out of
    everything else).
    """
    if run.profile.gate is None or POLICY not in measured.answers:
        return None
    policy, other = (_by_prompt(measured.answers[name]) for name in (POLICY, _baseline(measured)))
    shared = {prompt.prompt_id: prompt for prompt in prompts if prompt.prompt_id in policy.keys() & other.keys()}
    ours, theirs = ({key: side[key] for key in shared} for side in (policy, other))
    answers = Answers(shared, ours, theirs, measured.items)
    held, held_before = outcomes(answers, answers.a), outcomes(answers, answers.b)
    metrics = {name: rate(list(said.values()), list(said)) for name, said in held.items()}
    metrics |= measured.metrics()[POLICY]
    metrics |= {f"{PROBE}{row.probe}": row.measured for row in probed if not isinstance(row.measured, NotMeasured)}
    if (n := n_trained_on + len(prompts)) > 0:
        metrics["contamination_rate"] = Rate(n_trained_on / n, n_trained_on / n, n_trained_on / n, n)
    changes = {name: rate_change(held[name], held_before[name]) for name in held.keys() & held_before.keys()}
    return gate.gate(run.profile.gate.asked(run.profile.evaluation.probes), metrics, changes)


def _baseline(measured: Measured) -> str:
    return PROMOTED if PROMOTED in measured.answers else SEED


def keep(run: RunFolder, store: Store, gating: Gating, measured: Measured) -> GateVerdict:
    """What was found of the policy into the table `gatings`, where a promotion looks for it."""
    trained = run.result(at_round("rl", run.profile.rounds - 1))
    assert trained is not None and run.profile.gate is not None, "a gate has judged what was trained"
    other = measured.answers[_baseline(measured)]
    return registry.keep_verdict(
        store,
        gating,
        model_digest=trained["model_digest"],
        channel=run.profile.gate.channel,
        baseline_digest=other[0].model_digest if other else "",
        run_id=run.run_id,
        at=now(),
    )


def stored_gating(run: RunFolder) -> Gating | None:
    """What the run's evaluation said."""
    stored: list[dict[str, Any]] | None = (run.result("evaluate") or {}).get("gate")
    return None if stored is None else gate.from_json(stored)


def _by_prompt(responses: Sequence[Response]) -> Mapping[str, Response]:
    return {response.prompt_id: response for response in responses}
