"""Stored comparisons → preference pairs or rejects. Pure: other settings derive other pairs and ask nobody.

A pair is decided by exactly the asks its `Labelling` names, or those of every judge of a `Committee`; rows of another
judge, an older text of a principle or another draw are never looked at.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cai.config import PreferencesConfig, RankingConfig
from cai.constitution import Principle
from cai.feedback import ORDERS, Ask, Labelling, ResponsePair
from cai.labels.chosen import choose
from cai.labels.committee import Committee, disagreement, weighted_mean
from cai.labels.fence import says_nothing
from cai.labels.ranking import Outcome, bradley_terry, p_better
from cai.labels.recalibration import check_recalibration, recalibrated
from cai.records import Comparison, Order, PreferencePair, Recalibration, Reject, digest
from cai.verdict import BothOrders, Unscored, soft_verdict

NOT_ASKED = "not_asked"


class PrincipleVerdict(NamedTuple):
    """What one judge says of a pair under one principle: raw, and P(a better) of the clamped asks."""

    principle: Principle
    orders: BothOrders
    p_a: float
    n_asks: int


class JudgeVerdict(NamedTuple):
    """What one judge says of a pair: means over principles, by their weight."""

    weight: float
    p_a: float
    n_asks: int
    consistency: float
    position_bias: float


class Reading(NamedTuple):
    """What all that was said of a pair comes to, before any ranking."""

    pair: ResponsePair
    judges: tuple[JudgeVerdict, ...]
    settings: str

    def mean(self, values: Sequence[float]) -> float:
        """Of one value a judge, by the judges' weights."""
        return weighted_mean(values, [judge.weight for judge in self.judges])

    @property
    def p_a(self) -> float:
        return self.mean([judge.p_a for judge in self.judges])


def derive(
    pairs: Iterable[ResponsePair],
    comparisons: Iterable[Comparison],
    *,
    labelling: Labelling | Committee,
    config: PreferencesConfig,
    recalibration: Recalibration | None,
) -> Iterator[PreferencePair | Reject]:
    """For each pair one `PreferencePair`, or a reject of the stage `preference`; for each ask that could not count
    one reject of the stage `verdict`, before its pair.

    So pairs = preference pairs + preference rejects, and the comparisons that decide them = the sum of `n_asks`
    + verdict rejects (+ the scored asks of a pair that is a `key_only_response`).
    All comparisons given are held in memory: go shard by shard of prompts.
    Derive once labelling has ended: an ask that is still to come would be missing from its pair for good.
    A constitution's own `feedback.clamp` goes before the profile's. `recalibration` is the record that the config
    names; whoever only wants to know which response is better needs none, see `derive_sides`.

    Raises:
        ConfigError: the record is not the one that the config names, or was fitted on a judge that is not asked.
    """
    committee = labelling if isinstance(labelling, Committee) else Committee.of(labelling)
    check_recalibration(recalibration, config.recalibration, [each.judge_digest for each in committee.labellings])
    clamp = committee.labellings[0].constitution.feedback.clamp or config.clamp
    config = config.model_copy(update={"clamp": clamp})
    by_id = {comparison.comparison_id: comparison for comparison in comparisons}
    for group in _groups(pairs, config):
        outcomes = [_read_pair(pair, by_id, committee, config, recalibration) for pair in group]
        readings = [last for *_, last in outcomes if isinstance(last, Reading)]
        ranked = None if config.ranking is None else _ranked(readings, config.ranking)
        for *rejects, last in outcomes:
            yield from (reject for reject in rejects if isinstance(reject, Reject))
            yield last if isinstance(last, Reject) else _decided(last, ranked, committee.judge_digest, config)


def derive_sides(
    pairs: Iterable[ResponsePair],
    comparisons: Iterable[Comparison],
    *,
    labelling: Labelling | Committee,
    config: PreferencesConfig,
) -> Iterator[PreferencePair | Reject]:
    """`derive` for what measures and labels nothing (win rates, a judge's self-test, its weight): each pair by itself,
    as the judge itself says it. A recalibration says how sure to be, and belongs to one judge; no record is read here.
    """
    alone = config.model_copy(update={"ranking": None, "recalibration": None})
    return derive(pairs, comparisons, labelling=labelling, config=alone, recalibration=None)


def raw_means(
    pairs: Iterable[ResponsePair],
    comparisons: Iterable[Comparison],
    *,
    labelling: Labelling,
    config: PreferencesConfig,
) -> dict[tuple[str, str], float]:
    """P(a better) of each pair that becomes a label, by its responses' ids, as `derive` has it before the clamp and
    before any map: what a recalibration is fitted on is what it will be applied to.
    """
    config = config.model_copy(update={"ranking": None, "recalibration": None, "clamp": None})
    committee = Committee.of(labelling)
    by_id = {comparison.comparison_id: comparison for comparison in comparisons}
    means: dict[tuple[str, str], float] = {}
    for pair in pairs:
        last = _read_pair(pair, by_id, committee, config, None)[-1]
        if isinstance(last, Reading) and _won_by_nothing(pair, _preference(last, None, "", config)) is None:
            means[pair.a.response_id, pair.b.response_id] = last.p_a
    return means


class Ranked(NamedTuple):
    """The ranking of one prompt's responses: log-strengths, and the digest of all that went into it."""

    log_strengths: dict[str, float]
    settings: str


def _groups(pairs: Iterable[ResponsePair], config: PreferencesConfig) -> Iterable[Sequence[ResponsePair]]:
    """What is decided together: each pair by itself or, to rank them, all pairs of a prompt."""
    if config.ranking is None:
        return ([pair] for pair in pairs)
    of_prompt: dict[str, list[ResponsePair]] = defaultdict(list)
    for pair in pairs:
        of_prompt[pair.prompt.prompt_id].append(pair)
    return of_prompt.values()


def _ranked(readings: Sequence[Reading], config: RankingConfig) -> Ranked:
    outcomes = [Outcome(r.pair.a.response_id, r.pair.b.response_id, r.p_a) for r in readings]
    everything = sorted([r.pair.a.response_id, r.pair.b.response_id, r.settings] for r in readings)
    settings = digest("ranking", config.model_dump(mode="json"), everything)
    return Ranked(bradley_terry(outcomes, prior=config.prior), settings)


def _read_pair(
    pair: ResponsePair,
    by_id: Mapping[str, Comparison],
    committee: Committee,
    config: PreferencesConfig,
    recalibration: Recalibration | None,
) -> list[Reading | Reject]:
    """Rejects of the asks that cannot count, and then what the others come to."""
    settings = committee_digest(pair, committee, config)
    rejects: list[Reading | Reject] = []
    judges: list[JudgeVerdict] = []
    for labelling, weight in zip(committee.labellings, committee.weights, strict=True):
        verdicts: list[PrincipleVerdict] = []
        for asked in _by_principle(labelling.asks(pair), by_id, config):
            verdict = _principle_verdict(asked, config.clamp)
            verdicts += [verdict] if verdict is not None else []
            rejects += _verdict_rejects(pair, asked, verdict is not None, settings)
        if verdicts:
            fitted = recalibration if labelling.judge_digest == (recalibration and recalibration.judge_digest) else None
            judges.append(_judge_verdict(weight, verdicts, config.clamp, fitted))
    if judges:
        return [*rejects, Reading(pair, tuple(judges), settings)]
    n = sum(labelling.n_asks for labelling in committee.labellings)
    detail = f"none of {n} asks could be scored; see the rejects of the stages verdict, comparison and reasoning"
    ids = (pair.a.response_id, pair.b.response_id, settings)
    reject = Reject.make("preference", "unscored", prompt_id=pair.prompt.prompt_id, parents=ids, detail=detail)
    return [*rejects, reject]


def committee_digest(pair: ResponsePair, committee: Committee, config: PreferencesConfig) -> str:
    """Everything besides the responses that decides this pair's label before any ranking."""
    each = [labelling_digest(pair, labelling, config) for labelling in committee.labellings]
    if len(each) == 1:
        return each[0]
    return digest("committee", sorted(map(list, zip(each, committee.weights, strict=True))))


def labelling_digest(pair: ResponsePair, labelling: Labelling, config: PreferencesConfig) -> str:
    """What one judge's label of this pair depends on. Principles it was not asked about do not count."""
    asked = sorted([p.id, p.digest("preference"), float(p.weight)] for p in labelling.principles(pair))
    unused = {"recalibration"} if config.recalibration is None else set()
    settings = config.model_dump(mode="json", exclude={"ranking", *unused})
    mode = [labelling.mode, labelling.n_samples] if labelling.mode else []
    return digest("labelling", asked, labelling.template_digest, labelling.judge_digest, settings, *mode)


_Asked = list[tuple[Ask, float | Unscored]]


def _by_principle(asks: Iterable[Ask], by_id: Mapping[str, Comparison], config: PreferencesConfig) -> Iterable[_Asked]:
    """The asks of each principle with P(a better), not clamped: order after order, sample after sample."""
    found: dict[str, _Asked] = defaultdict(list)
    for ask in asks:
        found[ask.principle.id].append((ask, _read(by_id.get(ask.comparison_id), config)))
    return found.values()


def _read(comparison: Comparison | None, config: PreferencesConfig) -> float | Unscored:
    if comparison is None:
        return Unscored(NOT_ASKED)
    return soft_verdict(comparison, max_mass_outside=config.max_mass_outside)


def _principle_verdict(asked: _Asked, clamp: tuple[float, float] | None) -> PrincipleVerdict | None:
    """The mean over each order's samples. None where an order has no scored ask: the other one alone would be the
    label plus the position bias.
    """
    scored: dict[Order, list[float]] = {order: [] for order in ORDERS}
    for ask, outcome in asked:
        if not isinstance(outcome, Unscored):
            scored[ask.order].append(outcome)
    if not all(scored.values()):
        return None
    low, high = clamp or (0.0, 1.0)
    clamped = {order: [min(max(p, low), high) for p in values] for order, values in scored.items()}
    orders, bounded = (BothOrders(_mean(each["ab"]), _mean(each["ba"])) for each in (scored, clamped))
    return PrincipleVerdict(asked[0][0].principle, orders, bounded.p_better(None), sum(map(len, scored.values())))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _judge_verdict(
    weight: float,
    verdicts: Sequence[PrincipleVerdict],
    clamp: tuple[float, float] | None,
    recalibration: Recalibration | None,
) -> JudgeVerdict:
    return JudgeVerdict(
        weight=weight,
        p_a=_p_better(verdicts, clamp, recalibration),
        n_asks=sum(v.n_asks for v in verdicts),
        consistency=sum(v.orders.is_consistent for v in verdicts) / len(verdicts),
        position_bias=sum(v.orders.position_bias for v in verdicts) / len(verdicts),
    )


def _p_better(
    verdicts: Sequence[PrincipleVerdict], clamp: tuple[float, float] | None, recalibration: Recalibration | None
) -> float:
    """Gold says which response is better, not what one principle says of it in one order: what is mapped is the mean
    of a judge's asks, and the clamp comes after.
    """
    weights = [v.principle.weight for v in verdicts]
    if recalibration is None:
        return weighted_mean([v.p_a for v in verdicts], weights)
    low, high = clamp or (0.0, 1.0)
    mean = weighted_mean([v.orders.p_better(None) for v in verdicts], weights)
    return min(max(recalibrated(mean, recalibration), low), high)


def _verdict_rejects(pair: ResponsePair, asked: _Asked, counts: bool, settings: str) -> Iterator[Reject]:
    """One for each stored ask that does not count. An ask never answered is a reject of the labelling already.

    Where the principle `counts`, its scored asks do; where one order has none, the other's are of no use.
    """
    for ask, outcome in asked:
        unscored = outcome if isinstance(outcome, Unscored) else Unscored("other_order_unscored")
        if unscored.reason == NOT_ASKED or (counts and not isinstance(outcome, Unscored)):
            continue
        yield Reject.make(
            "verdict",
            unscored.reason,
            prompt_id=pair.prompt.prompt_id,
            parents=(ask.comparison_id, settings),
            detail=f"principle {ask.principle.id}, order {ask.order} {unscored.detail}".rstrip(),
        )


def _decided(
    reading: Reading, ranked: Ranked | None, judge_digest: str, config: PreferencesConfig
) -> PreferencePair | Reject:
    made = _preference(reading, ranked, judge_digest, config)
    return _won_by_nothing(reading.pair, made) or made


def _preference(
    reading: Reading, ranked: Ranked | None, judge_digest: str, config: PreferencesConfig
) -> PreferencePair:
    pair, judges = reading.pair, reading.judges
    ids = (pair.a.response_id, pair.b.response_id)
    p = reading.p_a if ranked is None else p_better(ranked.log_strengths, *ids)
    settings = reading.settings if ranked is None else ranked.settings
    won = choose(pair.a, pair.b, p, config.tie_band)
    return PreferencePair(
        pair_id=digest("preference", *ids, settings),
        prompt_id=pair.prompt.prompt_id,
        messages=pair.prompt.messages,
        chosen_id=won.chosen.response_id,
        rejected_id=won.rejected.response_id,
        chosen=won.chosen.text,
        rejected=won.rejected.text,
        soft_label=won.soft_label,
        is_tie=won.is_tie,
        n_asks=sum(judge.n_asks for judge in judges),
        consistency=reading.mean([judge.consistency for judge in judges]),
        position_bias=reading.mean([judge.position_bias for judge in judges]),
        judge_digest=judge_digest,
        labelling_digest=settings,
        disagreement=disagreement([judge.p_a for judge in judges], [judge.weight for judge in judges]),
    )


def _won_by_nothing(pair: ResponsePair, made: PreferencePair) -> Reject | None:
    """A response that says nothing may lose, which is what a reward model has to learn, and never win or tie: judges
    have been won over by a bare "A" or ":". Decided here, where every label and win rate passes, and asks stay stored.
    Where neither says more (letters, to a multiple-choice question), the judge decides.
    """
    empty = [response for response in (pair.a, pair.b) if says_nothing(response.text)]
    if len(empty) != 1 or (made.rejected_id == empty[0].response_id and not made.is_tie):
        return None
    return Reject.make(
        "preference",
        "key_only_response",
        prompt_id=pair.prompt.prompt_id,
        parents=(pair.a.response_id, pair.b.response_id, made.labelling_digest),
        detail=f"the judge gave {made.soft_label:.3f} to {made.chosen_id}, and {empty[0].response_id} says nothing",
        text=empty[0].text,
    )
