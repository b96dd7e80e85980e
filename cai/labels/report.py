"""All that is measured of labels, in one value, with warnings that say what to do. Pure; `report_text.py` prints it.

cai labels report --home cai-home
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cai.intervals import Rate
from cai.labels.agreement import TIE_BAND, JudgeQuality, PrincipleAgreement, judge_quality, principle_agreement
from cai.labels.drift import Drift
from cai.labels.opinions import Annotated, Opinions, opinions_of
from cai.labels.sources import FlipTest, GoldQuality, Panel, against_gold, panels
from cai.labels.verdicts import Verdicts

FLOOR = 0.7
"""Agreement below this is warned about: labels that change with the order, the principle or the person say little of
the responses."""
SURE_BIAS = 0.03
RARELY = 0.05
FEWEST = 20


class LabelReport(NamedTuple):
    judges: list[JudgeQuality]
    principles: list[PrincipleAgreement]
    gold: list[GoldQuality]
    panels: list[Panel]
    drift: list[Drift]
    warnings: list[str]


def label_report(
    verdicts: Verdicts,
    said: Annotated | None = None,
    drift: list[Drift] | None = None,
    *,
    tie_band: float = TIE_BAND,
    seed: int = 0,
) -> LabelReport:
    opinions: Opinions = opinions_of(verdicts, said, seed=seed)
    report = LabelReport(
        judge_quality(verdicts, tie_band=tie_band, seed=seed),
        principle_agreement(verdicts, tie_band=tie_band, seed=seed),
        against_gold(opinions, tie_band=tie_band, seed=seed),
        panels(opinions, tie_band=tie_band, seed=seed),
        drift or [],
        [],
    )
    return report._replace(warnings=warnings(report))


def warnings(report: LabelReport) -> list[str]:
    """One sentence a problem, in plain words: what was seen, and what to do."""
    return [
        *_judge_warnings(report.judges),
        *_principle_warnings(report.principles),
        *_gold_warnings(report.gold),
        *_panel_warnings(report.panels),
        *_drift_warnings(report.drift),
    ]


def _judge_warnings(judges: list[JudgeQuality]) -> Iterator[str]:
    for judge in judges:
        if judge.principle_id:
            continue
        name = f"judge {judge.judge_digest[:12]}"
        own = [each for each in judges if each.judge_digest == judge.judge_digest and each.principle_id]
        if weak := [each for each in own if _is_below(each.consistency)]:
            yield (
                f"{name}: verdicts change when the responses change places: only "
                f"{_listed((each.principle_id, each.consistency.value) for each in weak)} stay the same, below "
                f"{FLOOR:.0%}; ask a stronger judge, let it reason first, or widen `preferences.tie_band`"
            )
        bias = judge.position_bias
        if bias.n >= FEWEST and (bias.low > SURE_BIAS or bias.high < -SURE_BIAS):
            yield (
                f"{name}: the response shown {'first' if bias.value > 0 else 'second'} gains {abs(bias.value):.3f} of "
                "probability; asking both orders cancels it in the mean, but pairs near 0.5 are decided by it: check "
                "the options and the template"
            )
        if idle := [each for each in own if each.fires.n >= FEWEST and each.fires.high < RARELY]:
            yield (
                f"{name}: leans on few pairs under {_listed((each.principle_id, each.fires.value) for each in idle)}; "
                "such a principle costs asks and says little: word it so that it applies to these prompts, or drop it"
            )


def _listed(shares: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} ({share:.0%})" for name, share in shares)


def _principle_warnings(principles: list[PrincipleAgreement]) -> Iterator[str]:
    for judge in principles:
        opposed = [pair for pair in judge.pairs if pair.agreement.n >= FEWEST and pair.agreement.high < 0.5]
        if opposed:
            names = ", ".join(f"{pair.first} and {pair.second} ({1 - pair.agreement.value:.0%})" for pair in opposed)
            yield (
                f"judge {judge.judge_digest[:12]}: principles contradict each other on most pairs on which both lean: "
                f"{names}; their mean says little there: decide which one matters, or give them weights"
            )


def _gold_warnings(gold: list[GoldQuality]) -> Iterator[str]:
    for each in gold:
        name = f"{each.source.kind} {each.source.name[:40]}"
        if each.source.kind != "principle" and _is_below(each.accuracy):
            yield (
                f"{name}: right on {each.accuracy.value:.0%} of {each.accuracy.n} gold pairs, below {FLOOR:.0%}; "
                "do not train on it before you know why: read the pairs it got wrong"
            )
        measured = each.calibration
        if each.source.kind == "judge" and measured and measured.ece.value > max(0.05, measured.floor.high):
            yield (
                f"{name}: its probabilities miss gold by {measured.ece.value:.3f} (chance alone: "
                f"{measured.floor.high:.3f}); `cai labels calibrate` fits a correction"
            )


def _panel_warnings(found: list[Panel]) -> Iterator[str]:
    for panel in found:
        for test in panel.tests:
            if test.is_flagged:
                yield _flag(panel.judge, test)
        if not panel.judge and _is_below(panel.alpha):
            yield (
                f"judges, people and files: Krippendorff's alpha {panel.alpha.value:.2f}, below {FLOOR}; they do not "
                "mean the same by better: sharpen the instructions, and keep the groups apart"
            )


def _flag(judge: str, test: FlipTest) -> str:
    how = f"as if {test.excess:.0%} of its labels were flipped (p = {test.p_value:.2g})"
    if judge:
        return (
            f"principle {test.source.name[:40]} of judge {judge[:12]}: goes against the majority of the other "
            f"principles, {how}; if it is not meant to weigh against them, the judge misreads it: read its verdicts"
        )
    return (
        f"{test.source.kind} {test.source.name[:40]}: FLAGGED, contradicts the majority of the others, {how}; it flips "
        "labels or is worse than they are: read them, and leave it out until that is explained"
    )


def _drift_warnings(found: list[Drift]) -> Iterator[str]:
    for each in found:
        if each.is_drift:
            yield (
                f"judge {each.source[:12]}: {each.metric} drifted from {each.before:.3f} to {each.after:.3f} "
                f"(difference {each.difference.low:+.3f} to {each.difference.high:+.3f}); find out what changed before "
                "you mix the labels of both runs"
            )


def _is_below(rate: Rate) -> bool:
    """Too few to say anything do not count as below."""
    return rate.n >= FEWEST and rate.value < FLOOR
