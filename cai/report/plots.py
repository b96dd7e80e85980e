"""The drawings of the report. Each is narrow enough for a phone and carries its numbers as a table."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from cai.intervals import Rate
from cai.report.data import Curve, FrontierPath, LabelQuality, Line, Reliability, Results
from cai.report.naming import Span, name_points
from cai.report.svg import INK, MUTED, PAPER, SERIES, plain, settings, to_svg
from cai.report.text import cell, label
from cai.report.units import Unit

WIDTH = 380 / 72
"""Inches; 72 units an inch in the drawing, so 380 units: a phone's width."""
SMALL = 270 / 72
MAX_TABLE_ROWS = 60
MOST_NAMED = 9
"""Points of one path whose names can stand side by side."""


@dataclass(frozen=True, slots=True)
class Plot:
    """An inline SVG, what it is called, and the numbers it draws."""

    title: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def rates(results: Results, metrics: Sequence[str], name: str, title: str) -> Plot:
    """Grouped horizontal bars: a group a metric, a bar a model, its 95 % interval as a line."""
    models = list(results)
    thick = 0.8 / len(models)
    with settings():
        figure, axes = _figure(WIDTH, 0.55 + len(metrics) * (0.16 + 0.17 * len(models)))
        for place, model in enumerate(models):
            drawn = [
                (row, measured) for row, metric in enumerate(metrics) if (measured := _known(results, model, metric))
            ]
            ys = [row + (place - (len(models) - 1) / 2) * thick for row, _ in drawn]
            axes.barh(ys, [m.value * 100 for _, m in drawn], height=thick * 0.86, color=_series(place), linewidth=0)
            for y, (_, measured) in zip(ys, drawn, strict=True):
                axes.plot([measured.low * 100, measured.high * 100], [y, y], color=INK, linewidth=1.1)
        axes.set_yticks(range(len(metrics)), [plain(label(metric), 22) for metric in metrics])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(metrics) - 0.45, -0.55)
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
        axes.grid(axis="x")
        axes.spines["left"].set_color(MUTED)
        axes.spines["bottom"].set_visible(False)
        svg = to_svg(figure, name, f"{title}: bars of {', '.join(map(label, models))}; the numbers follow as a table")
    rows = tuple((label(metric), *(cell(results[m].get(metric)) for m in models)) for metric in metrics)
    return Plot(title, svg, ("percent ± 95 %", *map(label, models)), rows)


def curve(data: Curve, name: str) -> Plot:
    """Lines over steps, or over what `x_label` says, named at their ends where there are several."""
    lines = [line for line in data.lines if line.x]
    with settings():
        figure, axes = _figure(SMALL, 2.25)
        for place, line in enumerate(lines):
            colour = _series(place + 2 if len(lines) == 1 else place)
            if line.low:
                low, high = _finite(line.low), _finite(line.high)
                axes.fill_between(line.x, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(line.x, line.y, color=colour, marker="o" if len(line.x) < 3 else "", markersize=4)
        if data.mark is not None:
            axes.axvline(data.mark, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        if len(lines) > 1:
            _name_ends(axes, data)
        axes.set_xlabel(plain(data.x_label))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=data.x_label == "step"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        title = f"{data.title}, {data.y_label}" if data.y_label else data.title
        svg = to_svg(figure, name, f"{title} over {data.x_label}; the numbers follow as a table")
    xs = sorted({x for line in lines for x in line.x})
    shown = _thin(xs)
    points = [_points(line) for line in lines]
    rows = tuple((_number(x), *(of.get(x, "–") for of in points)) for x in shown)
    notes = [f"{len(shown)} of {len(xs)} points"] if len(shown) < len(xs) else []
    notes += ["95 % interval shaded"] if any(line.low for line in lines) else []
    notes += [data.note] if data.note else []
    notes += [f"kept at {data.x_label} {_number(data.mark)}"] if data.mark is not None else []
    return Plot(title, svg, (data.x_label, *(line.name for line in lines)), rows, "; ".join(notes))


def frontier(path: FrontierPath, name: str) -> Plot:
    """Helpful against harmless, with both intervals: up and to the right is better. Each point is named where the path
    says that names matter, else the first and the last.
    """
    title = "Harmlessness against helpfulness"
    names = [label(point.name) for point in path.points]
    named = range(len(names)) if path.names_all and len(names) <= MOST_NAMED else sorted({0, len(names) - 1})
    xs, ys = ([rate.value * 100 for rate in each] for each in _both(path))
    with settings():
        figure, axes = _figure(WIDTH, 3.2)
        axes.plot(xs, ys, color=_series(2), linewidth=1.2)
        axes.scatter(xs, ys, s=26, color=_series(2), zorder=3)
        for x, y, harmless, helpful in zip(xs, ys, *_both(path), strict=True):
            axes.plot([harmless.low * 100, harmless.high * 100], [y, y], color=_series(2), linewidth=0.9)
            axes.plot([x, x], [helpful.low * 100, helpful.high * 100], color=_series(2), linewidth=0.9)
        axes.set_xlabel("harmful requests not complied with, % →")
        axes.set_ylabel("benign requests helped with, % →")
        axes.margins(0.14)
        axes.set_xticks(_percents(axes.get_xlim()))
        axes.set_yticks(_percents(axes.get_ylim()))
        axes.grid()
        name_points(figure, axes, [(plain(names[place], 20), xs[place], ys[place]) for place in named], _crosses(path))
        said = f"{title}, {path.name}, with 95 % intervals: {' then '.join(names)}; the numbers follow as a table"
        svg = to_svg(figure, name, said)
    rows = tuple(
        (each, cell(point.harmless), cell(point.helpful), f"{point.harmless.n:,}, {point.helpful.n:,}")
        for each, point in zip(names, path.points, strict=True)
    )
    return Plot(title, svg, ("model", "harmless, % ± 95 %", "helpful, % ± 95 %", "n"), rows, path.name)


def _percents(ends: tuple[float, float]) -> list[float]:
    """Ticks between two ends, none above 100 %."""
    return [tick for tick in MaxNLocator(5).tick_values(*ends) if ends[0] <= tick <= min(ends[1], 100)]


def _crosses(path: FrontierPath) -> list[Span]:
    """What a name must not hide: the intervals, and the way from point to point."""
    spans = []
    for harmless, helpful in zip(*_both(path), strict=True):
        x, y = harmless.value * 100, helpful.value * 100
        spans += [
            ((harmless.low * 100, y), (harmless.high * 100, y)),
            ((x, helpful.low * 100), (x, helpful.high * 100)),
        ]
    points = [(a.value * 100, b.value * 100) for a, b in zip(*_both(path), strict=True)]
    return [*spans, *itertools.pairwise(points)]


def _both(path: FrontierPath) -> tuple[list[Rate], list[Rate]]:
    return [point.harmless for point in path.points], [point.helpful for point in path.points]


def reliability(data: Reliability, name: str, title: str) -> Plot:
    """Observed against predicted; on the diagonal, probabilities mean what they say."""
    bins = [each for each in data.bins if each.n]
    most = max((each.n for each in bins), default=1)
    with settings():
        figure, axes = _figure(SMALL, 2.6)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.plot([b.predicted for b in bins], [b.observed for b in bins], color=_series(2))
        sizes = [14 + 70 * each.n / most for each in bins]
        xs, ys = [each.predicted for each in bins], [each.observed for each in bins]
        axes.scatter(xs, ys, s=sizes, color=_series(2), edgecolors=PAPER, linewidths=1, zorder=3)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.04)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.set_xlabel("predicted P(a better)")
        axes.grid()
        svg = to_svg(
            figure, name, f"Reliability diagram, calibration error {data.ece:.3f}; the numbers follow as a table"
        )
    rows = tuple((f"{b.predicted:.3f}", f"{b.observed:.3f}", f"{b.n:,}") for b in bins)
    return Plot(title, svg, ("predicted", "observed", "pairs"), rows, f"expected calibration error {data.ece:.3f}")


def soft_labels(data: LabelQuality, name: str) -> Plot:
    """How sure the judge was: counts of pairs by P(chosen is better)."""
    title = "Soft labels, pairs by P(chosen better)"
    n_bins = len(data.soft_labels)
    edges = [0.5 + 0.5 * place / n_bins for place in range(n_bins + 1)]
    with settings():
        figure, axes = _figure(WIDTH, 2.9)
        axes.bar(edges[:-1], data.soft_labels, width=0.44 / n_bins, align="edge", color=_series(2), linewidth=0)
        axes.set_xlim(0.5, 1)
        axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
        axes.set_xlabel("soft label")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        svg = to_svg(figure, name, "Histogram of soft labels; the numbers follow as a table")
    spans = zip(edges[:-1], edges[1:], data.soft_labels, strict=True)
    rows = tuple((f"{low:.3g} to {high:.3g}", f"{count:,}") for low, high, count in spans)
    return Plot(title, svg, ("soft label", "pairs"), rows)


def position_bias(data: LabelQuality, name: str) -> Plot:
    """A dot a principle with its interval: right of zero the judge favours what it reads first."""
    title = "Position bias by principle"
    chosen = sorted(data.principles, key=lambda each: -abs(each.position_bias.value))[:24]
    with settings():
        figure, axes = _figure(WIDTH, 0.75 + 0.24 * len(chosen))
        axes.axvline(0, color=MUTED, linewidth=1)
        for row, each in enumerate(chosen):
            bias = each.position_bias
            low, high = max(-0.5, bias.low), min(0.5, bias.high)  # of one prompt the interval has no end
            axes.plot([low, high], [row, row], color=_series(2), linewidth=1.6)
            axes.plot([bias.value], [row], color=_series(2), marker="o", markersize=5)
        ends = (abs(v) for each in chosen for v in (each.position_bias.low, each.position_bias.high))
        reach = min(0.5, max([0.05, *(end for end in ends if not math.isnan(end))]))
        axes.set_xlim(-1.08 * reach, 1.08 * reach)
        axes.set_ylim(len(chosen) - 0.4, -0.6)
        axes.set_yticks(range(len(chosen)), [plain(each.principle_id, 26) for each in chosen])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
        axes.set_xlabel("← favours the second   ·   favours the first →")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        svg = to_svg(figure, name, f"{title}, with 95 % intervals; the numbers follow as a table")
    rows = tuple(
        (
            each.principle_id,
            f"{each.position_bias.value:+.3f} ({each.position_bias.low:+.3f} to {each.position_bias.high:+.3f})",
            f"{each.position_bias.n:,}",
            f"{each.consistency * 100:.1f} %",
            f"{each.mass_outside * 100:.2f} %",
        )
        for each in data.principles
    )
    note = f"the {len(chosen)} largest of {len(data.principles)} drawn" if len(chosen) < len(data.principles) else ""
    return Plot(title, svg, ("principle", "bias (95 %)", "n", "same winner both ways", "mass outside"), rows, note)


def dots(measured: Mapping[str, Rate], unit: Unit, name: str, title: str, span: tuple[float, float] | None) -> Plot:
    """A dot a model with its interval, on the whole of a scale that has ends."""
    with settings():
        figure, axes = _figure(WIDTH, 0.75 + 0.3 * len(measured))
        for row, rate in enumerate(measured.values()):
            axes.plot(_finite([rate.low, rate.high]), [row, row], color=_series(2), linewidth=1.6)
            axes.plot([rate.value], [row], color=_series(2), marker="o", markersize=5)
        if span is not None:
            room = 0.02 * (span[1] - span[0])
            axes.set_xlim(span[0] - room, span[1] + room)
        axes.set_ylim(len(measured) - 0.4, -0.6)
        axes.set_yticks(range(len(measured)), [plain(label(model), 26) for model in measured])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel(unit.said)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        svg = to_svg(figure, name, f"{title}, with 95 % intervals; the numbers follow as a table")
    rows = tuple(
        (label(model), unit.number(rate.value), unit.interval(rate.low, rate.high), f"{rate.n:,}")
        for model, rate in measured.items()
    )
    return Plot(title, svg, ("model", "value", "95 %", "n"), rows)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03))
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    return figure, axes


def _series(place: int) -> str:
    return SERIES[place % len(SERIES)]


def _known(results: Results, model: str, metric: str) -> Rate | None:
    measured = results[model].get(metric)
    return measured if measured is not None and measured.n else None


def _name_ends(axes: Axes, data: Curve) -> None:
    """Put each line's name right of its last point, pushed apart where they would touch."""
    lines = [(place, line) for place, line in enumerate(line for line in data.lines if line.x)]
    low, high = axes.get_ylim()
    step = (high - low) * 0.11
    right = max(line.x[-1] for _, line in lines)
    at = float("-inf")
    for place, line in sorted(lines, key=lambda entry: entry[1].y[-1]):
        at = max(line.y[-1], at + step)
        axes.annotate(
            plain(line.name, 16), (right, at), (5, 0), textcoords="offset points", va="center", color=_series(place)
        )


def _points(line: Line) -> dict[float, str]:
    """The numbers of a line as its table says them, by x."""
    if not line.low:
        return {x: _number(y) for x, y in zip(line.x, line.y, strict=True)}
    ends = zip(line.x, line.y, line.low, line.high, strict=True)
    return {x: f"{_number(y)} ({_number(low)} to {_number(high)})" for x, y, low, high in ends}


def _finite(ends: Sequence[float]) -> list[float]:
    """Interval ends as they can be drawn: where there is none, there is no shade."""
    return [end if math.isfinite(end) else math.nan for end in ends]


def _thin(xs: list[float]) -> list[float]:
    if len(xs) <= MAX_TABLE_ROWS:
        return xs
    step = (len(xs) - 1) / (MAX_TABLE_ROWS - 1)
    return [xs[round(place * step)] for place in range(MAX_TABLE_ROWS)]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
