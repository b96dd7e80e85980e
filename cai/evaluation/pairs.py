"""Pairs whose better response is known: how often a judge, or a reward model, prefers it, over all and by subset.

That says something of who judges, and nothing of a policy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cai.asks import OnProgress
from cai.config import Profile
from cai.constitution import Constitution
from cai.engines.base import Engine
from cai.evaluation.smallworld import Rates
from cai.feedback import Labelling, ResponsePair, label
from cai.intervals import Rate, rate, share
from cai.preferences import derive_sides
from cai.records import Comparison, EvaluationItem, Ledger, Message, PreferencePair, Prompt, Response, Score
from cai.verdict import Unscored

Preferred = dict[str, float | Unscored]
"""By item: 1 where the better response is preferred, 0 where the worse is, 0.5 for a tie."""
Scorer = Callable[[Sequence[tuple[Message, ...]]], Sequence[float]]
"""Conversations that end with the response, one raw score each."""


class ScoredPairs(NamedTuple):
    """`scores` are the rows of the responses that have one; those responses are `given`."""

    preferred: Preferred
    given: list[Response]
    scores: list[Score]


def pairs_of(items: Sequence[EvaluationItem]) -> list[EvaluationItem]:
    return [item for item in items if item.kind == "pair"]


async def judge_pairs(
    items: Sequence[EvaluationItem],
    prompts: Mapping[str, Prompt],
    *,
    profile: Profile,
    constitution: Constitution,
    engine: Engine,
    ledger: Ledger,
    progress: OnProgress | None = None,
) -> Preferred:
    """Have the engine's model compare the responses of each pair under the constitution, in both orders."""
    given = {item.item_id: _pair(item, prompts[item.prompt_id]) for item in pairs_of(items)}
    pairs = list({(pair.a.response_id, pair.b.response_id): pair for pair in given.values()}.values())
    for pair in pairs:
        ledger.add(pair.a)
        ledger.add(pair.b)
    feedback, seed = profile.feedback, profile.seed
    await label(
        pairs,
        constitution=constitution,
        engine=engine,
        ledger=ledger,
        config=feedback,
        seed=seed,
        max_concurrency=profile.judge.max_concurrency,
        progress=progress,
    )
    labelling = Labelling(constitution, feedback, seed=seed, judge_digest=engine.model_digest)
    asked = [ledger.find(Comparison, ask.comparison_id) for pair in pairs for ask in labelling.asks(pair)]
    made = derive_sides(pairs, [row for row in asked if row], labelling=labelling, config=profile.preferences)
    said = {frozenset((row.chosen_id, row.rejected_id)): row for row in made if isinstance(row, PreferencePair)}
    return {
        item.item_id: _preferred(item, said.get(frozenset((pair.a.response_id, pair.b.response_id))))
        for item, pair in zip(pairs_of(items), given.values(), strict=True)
    }


def _pair(item: EvaluationItem, prompt: Prompt) -> ResponsePair:
    return ResponsePair.of(prompt, *_given(item))


def _given(item: EvaluationItem) -> tuple[Response, Response]:
    """The better response and the worse."""
    better, worse = (Response.given(item.prompt_id, text, item.set) for text in (item.better, item.worse))
    return better, worse


def _preferred(item: EvaluationItem, said: PreferencePair | None) -> float | Unscored:
    if said is None:
        return Unscored("no_verdict", "the judge's answers could not be read, or do not decide")
    return 0.5 if said.is_tie else float(said.chosen == item.better)


def score_pairs(
    items: Sequence[EvaluationItem], prompts: Mapping[str, Prompt], score: Scorer, model_digest: str
) -> ScoredPairs:
    """Whether a reward model gives the better response more, and what it gives each; a score that is no number is
    unscored.
    """
    pairs = [(item, *_given(item)) for item in pairs_of(items)]
    given = list({row.response_id: row for _, *both in pairs for row in both}.values())
    said = score([(*prompts[row.prompt_id].messages, Message("assistant", row.text)) for row in given])
    by_id = {row.response_id: float(value) for row, value in zip(given, said, strict=True)}
    preferred = {
        item.item_id: _higher(by_id[better.response_id], by_id[worse.response_id]) for item, better, worse in pairs
    }
    scores = [
        Score(Score.make_id(key, model_digest), key, model_digest, value)
        for key, value in by_id.items()
        if not math.isnan(value)
    ]
    return ScoredPairs(preferred, given, scores)


def _higher(better: float, worse: float) -> float | Unscored:
    if math.isnan(better) or math.isnan(worse):
        return Unscored("not_a_number", f"scores {better} and {worse}")
    return 0.5 if better == worse else float(better > worse)


def pair_rates(items: Sequence[EvaluationItem], preferred: Preferred) -> Rates:
    """`pair_accuracy`, the share of better responses preferred, ties as one half, over all and by subset where there
    are several; and `unscored_rate`. Intervals are over prompts: pairs of one are not independent.
    """
    pairs = pairs_of(items)
    subsets = sorted({item.subset for item in pairs})
    parts = {f"pair_accuracy/{name}": [i for i in pairs if i.subset == name] for name in subsets}
    found = {"pair_accuracy": pairs} | (parts if len(subsets) > 1 else {})
    mute = [isinstance(preferred[item.item_id], Unscored) for item in pairs]
    unscored = rate(mute, [item.cluster for item in pairs])
    return {name: _share(of, preferred) for name, of in found.items()} | {"unscored_rate": unscored}


def _share(items: Sequence[EvaluationItem], preferred: Preferred) -> Rate:
    said = [(value, i.cluster) for i in items if not isinstance(value := preferred[i.item_id], Unscored)]
    return share([value for value, _ in said], [cluster for _, cluster in said])
