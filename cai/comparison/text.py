"""A comparison as plain text for a terminal of 100 columns, the conclusion last. Pure."""

import math
import textwrap
from collections.abc import Sequence

from cai.comparison.conclusion import conclusion, in_unit, percent
from cai.comparison.data import Change, Comparison, Example, Flips, FunnelLine, Measure
from cai.comparison.plain import constitution_lines, shown
from cai.intervals import Rate
from cai.report.text import label

WIDTH = 100
CELL = 44


def to_text(comparison: Comparison, *, width: int = WIDTH) -> str:
    """Every section that has something to say."""
    sections = [
        _sides(comparison),
        _made_of(comparison),
        _labels(comparison),
        _reward_models(comparison),
        _policies(comparison),
        _funnel(comparison.funnel),
        _rejects(comparison),
        _examples(comparison, width),
        "\n".join(f"note: {note}" for note in comparison.notes),
        conclusion(comparison),
    ]
    wrapped = (line for section in sections if section for line in [*section.split("\n"), ""])
    lines = [part for line in wrapped for part in _wrapped(line, width)]
    return "\n".join(lines).rstrip()


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, replace_whitespace=False, break_on_hyphens=False)


def _sides(comparison: Comparison) -> str:
    rows = [
        [name, side.run_id, side.profile, side.started_at, side.constitution_digest[:8]]
        for name, side in (("A", comparison.a), ("B", comparison.b))
    ]
    return columns(["", "run", "profile", "started", "constitution"], rows)


def _made_of(comparison: Comparison) -> str:
    lines = ["Made of"]
    lines += [f"  {line}" for line in constitution_lines(comparison.constitution)]
    lines += [f"  {_change(change)}" for change in comparison.changes]
    differing = {change.kind for change in comparison.changes}
    same = [kind for kind in ("engine", "model", "code", "library", "settings", "data") if kind not in differing]
    if comparison.constitution.is_empty:
        same = ["constitution", *same]
    return "\n".join(lines + ([f"  the same: {', '.join(same)}"] if same else []))


def _change(change: Change) -> str:
    old, new = (shown(value, CELL) for value in (change.old, change.new))
    return f"{change.kind:<9} {change.key}: {old} → {new}" + ("" if change.known else "  (one run does not say)")


def _labels(comparison: Comparison) -> str:
    labels = comparison.labels
    if labels is None:
        return ""
    title = f"Labels: {labels.n_shared:,} pairs labelled by both, of {labels.n_a:,} in A and {labels.n_b:,} in B"
    flips = labels.shown()
    if not flips:
        return f"{title}; where other models answered, none is shared"
    header = ["principle", "pairs", "flipped %", "kappa", "mean |ΔP|", "ΔP of A's choice", "unscored"]
    return f"{title}\n{columns(header, [_flips(each) for each in flips])}"


def _flips(each: Flips) -> list[str]:
    return [
        each.principle or "(all together)",
        f"{each.flip_rate.n:,}",
        f"{percent(each.flip_rate.value)} ({percent(each.flip_rate.low)} to {percent(each.flip_rate.high)})",
        between(each.kappa, ".2f"),
        f"{each.shift.value:.3f}",
        between(each.drift, "+.3f"),
        f"{each.n_unscored:,}",
    ]


def between(found: Rate, form: str) -> str:
    """An estimate and its interval; what is unknown as a dash."""
    if math.isnan(found.value):
        return "–"
    ends = [f"{end:{form}}" if math.isfinite(end) else "?" for end in (found.low, found.high)]
    return f"{found.value:{form}} ({ends[0]} to {ends[1]})"


def _reward_models(comparison: Comparison) -> str:
    if not comparison.reward_models:
        return ""
    where = "on held-out pairs of both" if comparison.reward_models[0].is_paired else "each on its own held-out pairs"
    return f"Reward models, {where}\n{_measures(comparison.reward_models)}"


def _policies(comparison: Comparison) -> str:
    head = comparison.head_to_head
    parts = []
    if comparison.measures:
        model = label(comparison.a.model)
        parts.append(f"Policies: {model} on {comparison.n_prompts:,} held-out prompts; percent, lengths in tokens")
        parts.append(_measures(comparison.measures))
        if not all(measure.is_paired for measure in comparison.measures):
            parts.append("* measured of each alone: not prompt by prompt, so the interval is wider")
    if head.won is not None:
        won = head.won
        ends = f"{percent(won.rate.low)} to {percent(won.rate.high)}"
        counts = f"n {won.rate.n:,}, {won.n_ties:,} ties, {won.n_unscored:,} unscored"
        parts.append(f"B preferred to A: {percent(won.rate.value)} % ({ends}; {counts}) {head.note}: {head.effect}")
    elif comparison.n_prompts:
        parts.append(f"B preferred to A: {head.note}")
    return "\n".join(parts)


def _measures(measures: Sequence[Measure]) -> str:
    whole = {measure.name for measure in measures}
    rows = [
        [
            ("  " if m.name.partition("/")[0] in whole - {m.name} else "")
            + label(m.name)
            + ("" if m.is_paired else " *"),
            in_unit(m, m.a.value),
            in_unit(m, m.b.value),
            signed(m, m.difference.value),
            f"{signed(m, m.difference.low)} to {signed(m, m.difference.high)}",
            f"{m.difference.n:,}",
            m.effect,
        ]
        for m in measures
    ]
    return columns(["metric", "A", "B", "B − A", "95 % interval", "n", "jointly"], rows)


def signed(measure: Measure, value: float) -> str:
    text = in_unit(measure, value)
    return f"+{text}" if value > 0 else text


def _funnel(lines: Sequence[FunnelLine]) -> str:
    rows = [[line.step, *(_counts(side) for side in (line.a, line.b))] for line in lines if line.a != line.b]
    if not rows:
        return "Funnel: every step has the same counts in both" if lines else ""
    return f"Funnel, where it differs: in → out, rejected\n{columns(['step', 'A', 'B'], rows)}"


def _counts(side: tuple[int, int, int] | None) -> str:
    return "not done" if side is None else f"{side[0]:,} → {side[1]:,}, {side[2]:,}"


def _rejects(comparison: Comparison) -> str:
    rows = [[r.stage, r.reason, f"{r.n_a:,}", f"{r.n_b:,}"] for r in comparison.rejects if r.n_a != r.n_b]
    return f"Rejects, where they differ\n{columns(['stage', 'reason', 'A', 'B'], rows)}" if rows else ""


def _examples(comparison: Comparison, width: int) -> str:
    if not comparison.examples:
        return ""
    title = f"Answers that changed most, of {comparison.n_changed:,} that differ"
    return "\n".join([title, *(line for example in comparison.examples for line in _example(example, width))])


def _example(example: Example, width: int) -> list[str]:
    sides = [(name, reading) for name, reading in (("A", example.reading_a), ("B", example.reading_b))]
    marks = [f"{name} {reading}".rstrip() for name, reading in sides]
    stub = max(map(len, marks))
    texts = (example.a, example.b)
    answers = [f"    {mark:<{stub}}  {shown(text, 2 * width)}" for mark, text in zip(marks, texts, strict=True)]
    return [f"  ? {shown(example.prompt, 2 * width)}", *answers]


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others too; no column wider than its widest cell."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in (header, *rows)]
    return "\n".join(f"  {line}".rstrip() for line in lines)
