"""What was measured, as plain text for a terminal. Pure."""

import math
from collections.abc import Mapping, Sequence

from cai.config.evaluation import PROBE
from cai.gate import Gating
from cai.intervals import Rate, WinRates
from cai.report.data import Probe, Results, Target
from cai.report.units import unit_of

WIDTH = 100
LABELS = {
    "seed": "seed",
    "sl_cai": "SL-CAI",
    "rl_cai": "RL-CAI",
    "reward_model": "reward model",
    "harmful_rate": "harmful",
    "helpful_rate": "helpful",
    "over_refusal_rate": "over-refusal",
    "evasive_rate": "evasive",
    "rude_rate": "rude",
    "under_refusal_rate": "under-refusal",
    "partial_refusal_rate": "partial refusal",
    "refusal_rate": "refusal",
    "unscored_rate": "unscored",
    "contamination_rate": "trained on",
    "capability": "right answers",
    "pair_accuracy": "right of pairs",
    "sycophancy": "sycophancy, net",
    "sycophancy/flips": "turns to the opinion",
    "sycophancy/away": "turns away from the opinion",
    "harmfulness": "mark of harm",
    "harmful_by_judge_rate": "harmful by the judge",
    "harmfulness_mass_outside": "outside the judge's marks",
    "elo": "Elo",
    "distinct_2": "distinct word pairs",
    "repetition": "repeats within a response",
    "self_repetition": "repeats between responses",
    "kl": "KL from the reference",
}
JUDGE_NOTE = "the feedback model itself judged, so this is no independent measure"
_KIND = "harmful_rate/"
_ROUND = "rl_cai_"


_PARTS = ("over_refusal_rate", "pair_accuracy")
"""Metrics that are told by part too: `over_refusal_rate/benign`."""
_AGAINST = {"win_rate": "", "length_controlled_win_rate": " at equal length"}


def label(name: str) -> str:
    """A model or metric as people say it, with the set in brackets if it has one; a name of the user's own stays as it
    is.
    """
    if name.startswith(_KIND):
        return name.removeprefix(_KIND)
    if name.startswith(_ROUND) and (number := name.removeprefix(_ROUND)).isdigit():
        return f"{LABELS['rl_cai']} of round {number}"
    if name.startswith(PROBE):
        return f"{_words(name.removeprefix(PROBE))} (probe)"
    whole, _, part = name.partition("/")
    if part and whole in _AGAINST:
        return f"wins over {label(part)}{_AGAINST[whole]}"
    if part and whole in _PARTS:
        return f"{LABELS[whole]}, {part}"
    metric, bracket, of_set = name.partition(" (")
    return LABELS.get(metric, metric) + bracket + of_set


def _words(name: str) -> str:
    return name.replace("_", " ")


def versus(model: str, other: str) -> str:
    return f"{label(model)} over {label(other)}"


def metric_names(results: Results) -> list[str]:
    """Every metric of any model that is a share of responses, in order of first appearance."""
    every = dict.fromkeys(metric for metrics in results.values() for metric in metrics)
    return [name for name in every if unit_of(name).is_share]


def results_text(
    results: Results,
    win_rates: WinRates,
    targets: Sequence[Target] = (),
    *,
    elo: Mapping[str, Rate] | None = None,
    probes: Sequence[Probe] = (),
    gating: Gating | None = None,
) -> str:
    """Everything that was measured, part by part: rates, win rates, ratings, probes, targets, the gate."""
    parts = [before_after_table(results)] if metric_names(results) or not win_rates else []
    if win_rates:
        parts.append(win_rate_table(win_rates))
    if elo:
        parts.append(elo_table(elo))
    if probes:
        parts.append(probe_table(probes))
    if targets:
        parts.append("\n".join(_target(target) for target in targets))
    if gating is not None:
        parts.append(_gate(gating))
    return "\n\n".join(parts)


def _gate(gating: Gating) -> str:
    marks = {"PASS": "holds", "FAIL": "broken", "NOT ENOUGH DATA": "open"}
    lines = [f"{marks[finding.verdict]:8}{finding}" for finding in gating.findings]
    needed = f"; some {gating.n_needed:,} prompts would decide" if gating.n_needed is not None else ""
    return "\n".join([f"gate: {gating.verdict}{needed}", *lines])


def _target(target: Target) -> str:
    mark = "?" if target.passed is None else "met" if target.passed else "missed"
    return f"{mark:8}{target.title}: {target.got} ({target.wanted})"


def win_rate_table(win_rates: WinRates) -> str:
    """Pairs of models as rows: how often the judge prefers the first, and what it did not decide."""
    rows = [
        [
            versus(model, other),
            cell(won.rate),
            cell(won.length_controlled),
            *(f"{n:,}" for n in (won.rate.n, won.n_ties, won.n_unscored)),
        ]
        for (model, other), won in win_rates.items()
    ]
    header = ["win rate by the judge", "preferred", "at equal length", "n", "ties", "unscored"]
    note = f"percent ± 95 % interval, a tie counts half\n{JUDGE_NOTE}"
    return f"{_join([list(column) for column in zip(header, *rows, strict=True)])}\n\n{note}"


def elo_table(elo: Mapping[str, Rate]) -> str:
    """Models as rows, the best first."""
    best_first = sorted(elo.items(), key=lambda item: -item[1].value)
    rows = [[label(model), f"{r.value:.0f}", f"{r.low:.0f} to {r.high:.0f}", f"{r.n:,}"] for model, r in best_first]
    header = ["Elo by the judge", "rating", "95 %", "games"]
    return f"{_join([list(column) for column in zip(header, *rows, strict=True)])}\n\n400 points are odds of 10 to 1"


def probe_table(probes: Sequence[Probe]) -> str:
    """Probes as rows, those with nothing to measure last, each with the reason."""
    rows = []
    for probe in probes:
        if (found := probe.measured) is None:
            continue
        unit = unit_of(f"{PROBE}{probe.name}")
        limit = "–" if probe.limit is None else f"≤ {unit.number(probe.limit).removeprefix('+')}"
        interval = unit.interval(found.low, found.high)
        rows.append([_words(probe.name), unit.number(found.value), interval, limit, f"{found.n:,}", probe.outcome])
    header = ["probe", "found", "95 %", "limit", "n", ""]
    parts = [_join([list(column) for column in zip(header, *rows, strict=True)])] if rows else []
    if why := [f"{_words(p.name)}: not measured, {p.why}" for p in probes if p.measured is None]:
        parts.append("\n".join(why))
    return "\n\n".join(parts)


def before_after_table(results: Results, *, width: int = WIDTH) -> str:
    """Models as rows, metrics as columns: percent ± the wider side of the 95 % interval.

    First the overall rates, then harm by kind; columns that do not fit `width` go to a further block.
    """
    if not (names := metric_names(results)):
        return "nothing was measured"
    overall = [name for name in names if not name.startswith(_KIND)]
    kinds = [name for name in names if name.startswith(_KIND)]
    blocks = _blocks(results, overall, "", width) + _blocks(results, kinds, "harmful, by kind", width)
    return "\n\n".join([*blocks, f"percent ± 95 % interval; {_counts(results)}"])


def _blocks(results: Results, metrics: list[str], heading: str, width: int) -> list[str]:
    stub = [heading, *(label(model) for model in results)]
    stub_width = max(map(len, stub))
    columns = [_column(results, metric) for metric in metrics]
    blocks, taken, used = [], [stub], stub_width
    for column in columns:
        extra = 2 + max(map(len, column))
        if used + extra > width and len(taken) > 1:
            blocks.append(_join(taken))
            taken, used = [stub], stub_width
        taken.append(column)
        used += extra
    return [*blocks, _join(taken)] if len(taken) > 1 else blocks


def _column(results: Results, metric: str) -> list[str]:
    return [label(metric), *(cell(metrics.get(metric)) for metrics in results.values())]


def _join(columns: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        cells = [row[0].ljust(widths[0]), *(text.rjust(wide) for text, wide in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "─" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def cell(measured: Rate | None) -> str:
    """`84.2 ±3.1`, in percent; a dash where nothing was measured."""
    if measured is None or math.isnan(measured.value):
        return "–"
    spread = max(measured.value - measured.low, measured.high - measured.value)
    return f"{measured.value * 100:.1f} ±{spread * 100:.1f}"


def _counts(results: Results) -> str:
    shown = metric_names(results)
    counts = sorted({metrics[name].n for metrics in results.values() for name in shown if name in metrics} - {0})
    if not counts:
        return "n = 0"
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} a cell"
