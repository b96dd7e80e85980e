"""The report on labels as text for a terminal. Pure."""

import math
from collections.abc import Iterable, Sequence

from cai.intervals import Rate
from cai.labels.report import LabelReport

NAME_WIDTH = 40
MOST_PAIRS = 12


def report_text(report: LabelReport) -> str:
    """Warnings first, then a table a question; a question that nothing answers says why."""
    parts = [
        _section("Warnings", report.warnings or ["none"]),
        _section("Judges, by principle", _judges(report)),
        _section("Principles: which fire, which go with the label, which decide it", _roles(report)),
        _section("Principles two by two, most contradicting first", _principle_pairs(report)),
        _section("Against gold", _gold(report)),
        _section("Sources against each other", _panels(report)),
    ]
    if report.drift:
        parts.append(_section("Drift: this run less the earlier one", _drift(report)))
    notes = "± is the wider side of a 95 % interval over prompts; --format json has both sides. Entropy is in nats."
    return "\n\n".join([*parts, notes])


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "=" * len(title), *lines])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> list[str]:
    cells = [list(header), *(list(row) for row in rows)]
    if len(cells) == 1:
        return [empty]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(wide) for text, wide in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def _judges(report: LabelReport) -> list[str]:
    header = ("judge", "principle", "n", "first-place bias", "same both ways", "fires", "entropy", "outside", "longer")
    rows = [
        (
            row.judge_digest[:12],
            _name(row.principle_id) or "(all)",
            f"{row.position_bias.n:,}" + (f" (+{row.n_unscored:,} unscored)" if row.n_unscored else ""),
            _signed(row.position_bias),
            _percent(row.consistency),
            _percent(row.fires),
            _number(row.entropy),
            _percent(row.mass_outside),
            _signed(row.length_bias),
        )
        for row in report.judges
    ]
    return _table(header, rows, "no comparisons are stored")


def _roles(report: LabelReport) -> list[str]:
    rows = [
        (
            role.judge_digest[:12],
            _name(role.principle_id),
            _percent(role.fires),
            _percent(role.follows),
            _percent(role.decides),
        )
        for judge in report.principles
        for role in judge.roles
    ]
    lines = _table(("judge", "principle", "fires", "goes with label", "decides"), rows, "no scored comparisons")
    for judge in report.principles:
        if judge.alpha.n:
            alpha, fleiss = _number(judge.alpha), _number(judge.fleiss)
            lines.append(f"judge {judge.judge_digest[:12]}: Krippendorff's alpha {alpha}, Fleiss' kappa {fleiss}")
    return lines


def _principle_pairs(report: LabelReport) -> list[str]:
    rows = [
        (judge.judge_digest[:12], _name(pair.first), _name(pair.second), f"{pair.agreement.n:,}",
         _percent(pair.agreement), _number(pair.kappa))
        for judge in report.principles
        for pair in judge.pairs[:MOST_PAIRS]
    ]  # fmt: skip
    header = ("judge", "principle", "principle", "both lean on", "same way", "kappa")
    return _table(header, rows, "no judge was asked under two principles")


def _gold(report: LabelReport) -> list[str]:
    header = ("kind", "source", "n", "accuracy", "kappa", "ECE", "by chance", "Brier", "longer, beyond gold")
    rows = []
    for row in report.gold:
        found = row.calibration
        calibrated = (_number(found.ece), f"<{found.floor.high:.3f}", _number(found.brier)) if found else ("–",) * 3
        rows.append(
            (
                row.source.kind,
                _name(row.source.name),
                f"{row.accuracy.n:,}",
                _percent(row.accuracy),
                _number(row.kappa),
                *calibrated,
                _signed(row.length_bias),
            )
        )
    return _table(header, rows, "no gold: annotations with `is_gold` on pairs that are labelled (`cai gold import`)")


def _panels(report: LabelReport) -> list[str]:
    header = ("panel", "kind", "source", "n", "with the majority", "flips beyond others", "p", "flagged")
    verdict = {None: "not tested", True: "FLAGGED", False: "no"}
    rows = [
        (
            f"judge {panel.judge[:12]}" if panel.judge else "sources",
            test.source.kind,
            _name(test.source.name),
            f"{test.agreement.n:,}",
            _percent(test.agreement),
            "–" if math.isnan(test.excess) else f"{test.excess:+.1%}",
            "–" if math.isnan(test.p_value) else f"{test.p_value:.2g}",
            verdict[test.is_flagged],
        )
        for panel in report.panels
        for test in panel.tests
    ]
    lines = _table(header, rows, "one source only; two judges, people or files are needed")
    if any(test.is_flagged is None for panel in report.panels for test in panel.tests):
        lines.append("not tested: three sources that share pairs of 30 prompts are needed")
    for panel in report.panels:
        if not panel.judge:
            alpha, fleiss = _number(panel.alpha), _number(panel.fleiss)
            lines.append(f"sources: Krippendorff's alpha {alpha}, Fleiss' kappa {fleiss}")
            lines += [
                f"  {_name(p.first)} and {_name(p.second)}: same way {_percent(p.agreement)} of {p.agreement.n:,}, "
                f"kappa {_number(p.kappa)}"
                for p in panel.pairs[:MOST_PAIRS]
            ]
    return lines


def _drift(report: LabelReport) -> list[str]:
    rows = [
        (
            row.metric,
            f"{row.before:.3f}",
            f"{row.after:.3f}",
            _signed(row.difference),
            f"{row.n_shared:,}",
            "DRIFT" if row.is_drift else "no",
        )
        for row in report.drift
    ]
    return _table(("measure", "before", "now", "difference", "shared prompts", "drift"), rows, "nothing to compare")


def _name(text: str) -> str:
    """Control characters spelled out: a name comes from a file."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= NAME_WIDTH else shown[: NAME_WIDTH - 1] + "…"


def _percent(rate: Rate) -> str:
    return "–" if not rate.n or math.isnan(rate.value) else f"{rate.value * 100:.1f}{_spread(rate, 100, 1)} %"


def _number(rate: Rate) -> str:
    return "–" if math.isnan(rate.value) else f"{rate.value:.3f}{_spread(rate, 1, 3)}"


def _signed(rate: Rate) -> str:
    return "–" if math.isnan(rate.value) else f"{rate.value:+.3f}{_spread(rate, 1, 3)}"


def _spread(rate: Rate, scale: float, digits: int) -> str:
    """The wider side of the interval; JSON has both."""
    wider = max(rate.high - rate.value, rate.value - rate.low)
    return " ±?" if math.isinf(wider) else f" ±{wider * scale:.{digits}f}"
