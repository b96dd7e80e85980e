"""How far a judge's asks agree with each other: position bias and consistency over the two orders. Pure.

It says nothing about being right; that needs a gold set.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from cai.intervals import Rate, bootstrap_mean, rate
from cai.records import Comparison, Order
from cai.verdict import BothOrders, Unscored, soft_verdict


class OrderAgreement(NamedTuple):
    """Of one judge, under one principle or (`principle_id` "") all of them; intervals are 95 %, prompts resampled.

    `position_bias` is the mean of P(shown first) - 0.5: in [-0.5, 0.5], positive where the first place attracts.
    `consistency` is the share of asks whose two orders lean to the same response. `n_unscored` counts asks left out:
    one or both orders missing or unscored.
    """

    judge_digest: str
    principle_id: str
    position_bias: Rate
    consistency: Rate
    n_unscored: int


class _Asked(NamedTuple):
    prompt_id: str
    orders: BothOrders


def order_agreement(
    comparisons: Iterable[Comparison], *, max_mass_outside: float = 0.5, seed: int = 0
) -> list[OrderAgreement]:
    """One row for each judge over all its principles, then one for each principle, by id."""
    both: dict[tuple[str, ...], dict[Order, Comparison]] = defaultdict(dict)
    for c in comparisons:
        same = (c.judge_digest, c.principle_id, c.principle_digest, c.template_digest, c.response_a, c.response_b)
        both[same][c.order] = c
    groups: dict[tuple[str, str], list[_Asked | None]] = defaultdict(list)
    for (judge, principle, *_), orders in both.items():
        asked = _asked(orders, max_mass_outside)
        groups[judge, ""].append(asked)
        groups[judge, principle].append(asked)
    return [_summary(judge, principle, groups[judge, principle], seed) for judge, principle in sorted(groups)]


def _asked(orders: dict[Order, Comparison], max_mass_outside: float) -> _Asked | None:
    if len(orders) < 2:
        return None
    ab, ba = (soft_verdict(orders[order], max_mass_outside=max_mass_outside) for order in ("ab", "ba"))
    if isinstance(ab, Unscored) or isinstance(ba, Unscored):
        return None
    return _Asked(orders["ab"].prompt_id, BothOrders(ab, ba))


def _summary(judge: str, principle: str, group: list[_Asked | None], seed: int) -> OrderAgreement:
    scored = [asked for asked in group if asked is not None]
    prompts = [asked.prompt_id for asked in scored]
    return OrderAgreement(
        judge,
        principle,
        bootstrap_mean([asked.orders.position_bias for asked in scored], prompts, seed=seed),
        rate([asked.orders.is_consistent for asked in scored], prompts),
        len(group) - len(scored),
    )
