"""Stored comparisons → preference pairs or rejects. Pure: other settings derive other pairs and ask nobody.

A pair is decided by exactly the asks its `Labelling` names; rows of another judge, an older text of a principle or
another draw are never looked at.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cai.config import PreferencesConfig
from cai.constitution import Principle
from cai.feedback import Ask, Labelling, ResponsePair
from cai.records import Comparison, PreferencePair, Reject, digest
from cai.verdict import BothOrders, Unscored, soft_verdict

NOT_ASKED = "not_asked"
ROUNDING = 1e-12  # (1 + 0 + ...) / n misses 0.5 by less


class PrincipleVerdict(NamedTuple):
    principle: Principle
    orders: BothOrders


def derive(
    pairs: Iterable[ResponsePair],
    comparisons: Iterable[Comparison],
    *,
    labelling: Labelling,
    config: PreferencesConfig,
) -> Iterator[PreferencePair | Reject]:
    """For each pair one `PreferencePair`, or a reject of the stage `preference`; for each ask that could not count
    one reject of the stage `verdict`, before its pair.

    So pairs = preference pairs + preference rejects, and the comparisons that decide them = the sum of `n_asks`
    + verdict rejects. All comparisons given are held in memory: go shard by shard of prompts.
    Derive once labelling has ended: an ask that is still to come would be missing from its pair for good.
    A constitution's own `feedback.clamp` goes before the profile's.
    """
    clamp = labelling.constitution.feedback.clamp or config.clamp
    config = config.model_copy(update={"clamp": clamp})
    by_id = {comparison.comparison_id: comparison for comparison in comparisons}
    for pair in pairs:
        yield from _derive_one(pair, by_id, labelling, config)


def _derive_one(
    pair: ResponsePair, by_id: Mapping[str, Comparison], labelling: Labelling, config: PreferencesConfig
) -> Iterator[PreferencePair | Reject]:
    settings = labelling_digest(pair, labelling, config)
    asks = labelling.asks(pair)
    verdicts: list[PrincipleVerdict] = []
    for both in zip(asks[: len(asks) // 2], asks[len(asks) // 2 :], strict=True):  # each principle's "ab" and "ba"
        ab, ba = (_read(by_id.get(ask.comparison_id), config) for ask in both)
        if isinstance(ab, Unscored) or isinstance(ba, Unscored):
            # One order alone would be the label plus the position bias.
            yield from _verdict_rejects(pair, both, (ab, ba), settings)
        else:
            verdicts.append(PrincipleVerdict(both[0].principle, BothOrders(ab, ba)))
    if verdicts:
        yield _preference(pair, verdicts, settings, labelling.judge_digest, config)
    else:
        detail = f"none of {len(asks)} asks could be scored; see the rejects of the stages verdict and comparison"
        yield Reject.make(
            "preference",
            "unscored",
            prompt_id=pair.prompt.prompt_id,
            parents=(pair.a.response_id, pair.b.response_id, settings),
            detail=detail,
        )


def labelling_digest(pair: ResponsePair, labelling: Labelling, config: PreferencesConfig) -> str:
    """Everything besides the responses that decides this pair's label. Principles it was not asked about do not."""
    asked = sorted([p.id, p.digest("preference"), float(p.weight)] for p in labelling.principles(pair))
    settings = config.model_dump(mode="json")
    return digest("labelling", asked, labelling.template_digest, labelling.judge_digest, settings)


def _read(comparison: Comparison | None, config: PreferencesConfig) -> float | Unscored:
    """P(a better), not clamped."""
    if comparison is None:
        return Unscored(NOT_ASKED)
    return soft_verdict(comparison, max_mass_outside=config.max_mass_outside)


def _verdict_rejects(
    pair: ResponsePair,
    asks: tuple[Ask, Ask],
    outcomes: tuple[float | Unscored, float | Unscored],
    settings: str,
) -> Iterator[Reject]:
    """One for each stored ask that does not count. An ask never answered is a reject of the labelling already."""
    for ask, outcome in zip(asks, outcomes, strict=True):
        unscored = outcome if isinstance(outcome, Unscored) else Unscored("other_order_unscored")
        if unscored.reason == NOT_ASKED:
            continue
        yield Reject.make(
            "verdict",
            unscored.reason,
            prompt_id=pair.prompt.prompt_id,
            parents=(ask.comparison_id, settings),
            detail=f"principle {ask.principle.id}, order {ask.order} {unscored.detail}".rstrip(),
        )


def _preference(
    pair: ResponsePair,
    verdicts: list[PrincipleVerdict],
    settings: str,
    judge_digest: str,
    config: PreferencesConfig,
) -> PreferencePair:
    p = _mean_p_better(verdicts, config.clamp)
    chosen, rejected = (pair.a, pair.b) if p >= 0.5 - ROUNDING else (pair.b, pair.a)
    return PreferencePair(
        pair_id=digest("preference", pair.a.response_id, pair.b.response_id, settings),
        prompt_id=pair.prompt.prompt_id,
        messages=pair.prompt.messages,
        chosen_id=chosen.response_id,
        rejected_id=rejected.response_id,
        chosen=chosen.text,
        rejected=rejected.text,
        soft_label=0.5 + abs(p - 0.5),
        is_tie=abs(p - 0.5) <= config.tie_band + ROUNDING,
        n_asks=2 * len(verdicts),
        consistency=sum(v.orders.is_consistent for v in verdicts) / len(verdicts),
        position_bias=sum(v.orders.position_bias for v in verdicts) / len(verdicts),
        judge_digest=judge_digest,
        labelling_digest=settings,
    )


def _mean_p_better(verdicts: list[PrincipleVerdict], clamp: tuple[float, float] | None) -> float:
    """Weighted by principle. `fsum`: the sum must not depend on the order in which principles were drawn."""
    total = math.fsum(v.principle.weight for v in verdicts)
    return math.fsum(v.principle.weight * v.orders.p_better(clamp) for v in verdicts) / total
