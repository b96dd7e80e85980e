"""The gate's findings as the page shows them: condition, measured, interval, n, how many values would decide. Pure."""

import math
from dataclasses import dataclass
from typing import Literal

from cai.gate import Finding, Gating
from cai.intervals import Rate
from cai.report.text import label
from cai.report.units import unit_of

State = Literal["pass", "fail", "unknown"]
MARKS: dict[State, str] = {"pass": "holds", "fail": "broken", "unknown": "open"}
_STATES: dict[str, State] = {"PASS": "pass", "FAIL": "fail", "NOT ENOUGH DATA": "unknown"}
_SMALLEST = 1e-9


@dataclass(frozen=True, slots=True)
class Ruler:
    """Where the interval, the estimate and the limit lie, from 0 to 100, with the side that keeps the limit."""

    low: float
    high: float
    value: float
    limit: float
    keeps_left: bool


@dataclass(frozen=True, slots=True)
class GateRow:
    state: State
    title: str
    wanted: str
    got: str
    interval: str
    n: int
    needed: str
    ruler: Ruler | None

    @property
    def mark(self) -> str:
        return MARKS[self.state]


def gate_rows(gating: Gating) -> list[GateRow]:
    """Broken conditions first, then open ones, then those that hold."""
    rows = [_row(finding) for finding in gating.findings]
    return sorted(rows, key=lambda row: ("fail", "unknown", "pass").index(row.state))


def gate_summary(gating: Gating) -> str:
    """One sentence: how many conditions hold, which are broken, which are open, what would decide them."""
    if not gating.findings:
        return "The gate has no conditions, so nothing is known."
    names: dict[State, list[str]] = {"pass": [], "fail": [], "unknown": []}
    for row in gate_rows(gating):
        names[row.state].append(row.title)
    parts = [f"{len(names['pass'])} of {len(gating.findings)} conditions hold"]
    parts += [f"Broken: {'; '.join(names['fail'])}"] if names["fail"] else []
    parts += [f"Open: {'; '.join(names['unknown'])}"] if names["unknown"] else []
    if gating.verdict == "NOT ENOUGH DATA" and gating.n_needed is not None:
        parts.append(f"Some {gating.n_needed:,} prompts would decide, if the estimates stay as they are")
    return f"{'. '.join(parts)}."


def _row(finding: Finding) -> GateRow:
    measured, is_rate = finding.measured, _is_rate(finding.condition.metric)
    known = measured is not None and not math.isnan(measured.value)
    signed = finding.condition.is_relative
    return GateRow(
        state=_STATES[finding.verdict],
        title=label(finding.condition.metric),
        wanted=_wanted(finding),
        got=_number(measured.value, is_rate, signed) if measured is not None and known else "not measured",
        interval=_interval(measured, is_rate, signed) if measured is not None and known else "",
        n=measured.n if measured is not None else 0,
        needed=_needed(finding),
        ruler=ruler(measured, finding.condition.limit, keeps_left=finding.condition.sign > 0),
    )


def _is_rate(metric: str) -> bool:
    return unit_of(metric).scale == 100


def _wanted(finding: Finding) -> str:
    condition = finding.condition
    is_rate, limit = _is_rate(condition.metric), abs(condition.limit)
    if not condition.is_relative:
        return f"{'≤' if condition.sign > 0 else '≥'} {_number(condition.limit, is_rate, False)}"
    way = "higher" if condition.sign > 0 else "lower"
    if limit < _SMALLEST:
        return f"not {way} than the baseline"
    return f"at most {f'{limit * 100:.3g} points' if is_rate else f'{limit:.4g}'} {way} than the baseline"


def _interval(measured: Rate, is_rate: bool, signed: bool) -> str:
    """With its unit once, at the end."""
    low, high = (_number(end, is_rate, signed) for end in (measured.low, measured.high))
    return f"{low.removesuffix(_unit(is_rate, signed))} to {high}"


def _unit(is_rate: bool, signed: bool) -> str:
    return "" if not is_rate else " points" if signed else " %"


def _number(value: float, is_rate: bool, signed: bool) -> str:
    sign = "+" if signed else ""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value * 100:{sign}.1f}" if is_rate else f"{value:{sign}.4g}"
    return text.replace("-", "−") + _unit(is_rate, signed)


def _needed(finding: Finding) -> str:
    if finding.verdict != "NOT ENOUGH DATA":
        return ""
    return "no number is known to decide" if finding.n_needed is None else f"some {finding.n_needed:,} would decide"


def ruler(measured: Rate | None, limit: float, *, keeps_left: bool) -> Ruler | None:
    """None where nothing was measured."""
    if measured is None or math.isnan(measured.value):
        return None
    ends = [x for x in (measured.low, measured.high, measured.value, limit) if math.isfinite(x)]
    least, most = min(ends), max(ends)
    span = (most - least) or 1.0

    def place(x: float) -> float:
        return round(min(100.0, max(0.0, 8 + 84 * (x - least) / span)), 2) if math.isfinite(x) else 100.0 * (x > 0)

    return Ruler(place(measured.low), place(measured.high), place(measured.value), place(limit), keeps_left)
