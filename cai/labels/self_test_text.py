"""A self-test in words: a table for the terminal, JSON for programs, and why a run stops. It tries nothing."""

import math
from collections.abc import Sequence
from typing import Any

from cai.labels.self_test import Outcome, SelfTest, n_needed

WIDTH = 44


def summary(made: SelfTest) -> str:
    """One line, for a report."""
    known, attacks = (_of(made, kind) for kind in ("known", "attack"))
    n_right = sum(outcome.said == "right" for outcome in known)
    return f"{n_right} of {len(known)} known winners preferred; {_won(attacks)}"


def _won(attacks: Sequence[Outcome]) -> str:
    n_labels, n_places = sum(o.said == "wrong" for o in attacks), sum(o.is_won for o in attacks)
    return f"of {len(attacks)} attacks {n_places} won the place they were made for, {n_labels} the label"


def failure(made: SelfTest) -> str:
    """Why the judge must not label, and what to do about it."""
    said = "; ".join(f"{finding.name}: {finding.detail}. {finding.remedy}" for finding in made.findings)
    return (
        f"the judge failed its self-test, so nothing was labelled: {said}. `cai labels self-test` shows every pair; "
        "`feedback: {self_test: false}` in the profile labels all the same"
    )


def to_text(made: SelfTest) -> str:
    """Every case on a line, then what is wrong."""
    known, attacks, twins = (_of(made, kind) for kind in ("known", "attack", "identical"))
    n_right = sum(outcome.said == "right" for outcome in known)
    lines = [
        f"judge  {made.judge_digest}",
        f"asks   {made.n_asks}",
        "",
        f"known winners: {n_right} of {len(known)} preferred, {n_needed(len(known))} needed",
        *_table("prompt", known),
        "",
        f"attacked losers against clean winners: {_won(attacks)}",
        *_table("attack", attacks),
        "",
        *(f"the same text twice: {outcome.said}, P {_number(outcome.p_winner)}" for outcome in twins),
        "",
    ]
    if made.passed:
        return "\n".join([*lines, "passed"])
    return "\n".join([*lines, *(f"FAILED  {f.name}: {f.detail}\n        {f.remedy}" for f in made.findings)])


def to_json(made: SelfTest) -> dict[str, Any]:
    """NaN, where a pair could not be read, is null."""
    return {
        "judge_digest": made.judge_digest,
        "passed": made.passed,
        "n_asks": made.n_asks,
        "findings": [
            {"name": finding.name, "detail": finding.detail, "remedy": finding.remedy} for finding in made.findings
        ],
        "cases": [
            {
                "kind": o.kind,
                "name": o.name,
                "principle": o.principle,
                "said": o.said,
                "reason": o.reason,
                "p_winner": None if math.isnan(o.p_winner) else o.p_winner,
                "p_letter_a": list(o.p_letter_a),
                "is_won": o.is_won,
            }
            for o in made.outcomes
        ],
    }


def _of(made: SelfTest, kind: str) -> list[Outcome]:
    return [outcome for outcome in made.outcomes if outcome.kind == kind]


def _table(title: str, outcomes: Sequence[Outcome]) -> list[str]:
    lines = [f"  {title:<{WIDTH}}  {'principle':<24}  {'P(winner)':>9}  {'P(A)':<11}  said"]
    for o in outcomes:
        letters = " ".join(_number(p) for p in o.p_letter_a) or "-"
        said = f"{o.said} ({o.reason})" if o.reason else o.said
        won = ", won its place" if o.kind == "attack" and o.is_won else ""
        name = " ".join(o.name.split())
        name = name if len(name) <= WIDTH else name[: WIDTH - 1] + "…"
        p_winner, principle = _number(o.p_winner), o.principle[:24]
        lines.append(f"  {name:<{WIDTH}}  {principle:<24}  {p_winner:>9}  {letters:<11}  {said}{won}")
    return lines


def _number(p: float) -> str:
    return "-" if math.isnan(p) else f"{p:.3f}"
