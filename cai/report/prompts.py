"""The drawings of what prompts cover. The numbers follow each as a table, as everywhere in the report. Pure."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from cai.coverage.stats import Count, PromptStats
from cai.coverage.text import mastery_said, percent, repeats_said, unread_said, words_said
from cai.report.plots import WIDTH, Plot
from cai.report.svg import INK, MUTED, PAPER, SERIES, plain, settings, to_svg

MOST_BARS = 14
MOST_TAGS = 9
_NAME = 30


def prompts_section(stats: PromptStats | None) -> dict[str, Any]:
    """What `prompts.html.j2` shows."""
    if stats is None or not stats.n:
        return {"prompts": None}
    said = [words_said(stats), repeats_said(stats), mastery_said(stats)]
    if stats.unread:
        said.append(unread_said(stats))
    return {
        "prompts": stats,
        "prompt_plots": prompt_plots(stats),
        "prompts_said": [f"{line[0].upper()}{line[1:]}" for line in said],
        "rate_said": percent,
    }


def prompt_plots(stats: PromptStats) -> list[Plot]:
    """Topics, topics by tags, kinds and tags, lengths and turns; what there is only one of is not drawn."""
    topics = [topic.counted for topic in stats.topics]
    tags = stats.facets.get("tag", ())
    drawn = [bars(topics, "topics", "Topics, named by their words")] if len(topics) > 1 else []
    if len(topics) > 1 and len(tags) > 1:
        drawn.append(grid(stats, "topics-by-tag", "Topics by tag"))
    named = (("kind", "Kinds"), ("tag", "Tags"), ("source", "Sources"), ("turns", "Turns of the user"))
    for facet, title in named:
        if len(counts := stats.facets.get(facet, ())) > 1:
            ordered = sorted(counts, key=lambda count: count.name) if facet == "turns" else counts
            drawn.append(bars(ordered, facet, title))
    if len(stats.lengths) > 1:
        drawn.append(bars(stats.lengths, "lengths", "Words of the user"))
    return drawn


def bars(counts: Sequence[Count], name: str, title: str) -> Plot:
    """Share of all prompts, and as a dot how often the policy answers them well, where that was read."""
    shown = counts[:MOST_BARS]
    known = [(row, count.well.value) for row, count in enumerate(shown) if count.well is not None]
    with settings():
        figure, axes = _figure(0.6 + 0.27 * len(shown))
        axes.barh(range(len(shown)), [100 * count.share for count in shown], height=0.6, color=SERIES[2], linewidth=0)
        if known:
            ys, xs = [row for row, _ in known], [100 * value for _, value in known]
            axes.plot(xs, ys, color=SERIES[1], marker="o", markersize=6, linestyle="", markeredgecolor=PAPER)
        _name_rows(axes, [count.name for count in shown])
        axes.set_xlim(0, 103 if known else None)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("% of prompts" + (" · dot: answered well" if known else ""))
        axes.grid(axis="x")
        svg = to_svg(figure, f"prompts-{name}", f"{title}: share of prompts; the numbers follow as a table")
    rows = tuple(
        (count.name, f"{count.n:,}", f"{100 * count.share:.1f} %", "–" if count.well is None else percent(count.well))
        for count in counts
    )
    note = f"the {len(shown)} largest of {len(counts)} drawn" if len(shown) < len(counts) else ""
    return Plot(title, svg, (name, "prompts", "share", "answered well"), rows, note)


def grid(stats: PromptStats, name: str, title: str) -> Plot:
    """A dot where prompts of a topic bear a tag, its area their number: what is empty is not covered."""
    topics, tags = stats.topics[:MOST_BARS], [count.name for count in stats.facets["tag"][:MOST_TAGS]]
    cells = [
        (row, column, topic.by_tag[column])
        for row, topic in enumerate(topics)
        for column in range(len(tags))
        if topic.by_tag[column]
    ]
    most = max(n for _, _, n in cells)
    with settings():
        figure, axes = _figure(1.5 + 0.27 * len(topics))
        rows, columns, numbers = zip(*cells, strict=True)
        axes.scatter(columns, rows, s=[6 + 150 * n / most for n in numbers], color=SERIES[2], linewidths=0)
        _name_rows(axes, [topic.counted.name for topic in topics])
        axes.set_xticks(range(len(tags)), [plain(tag, 18) for tag in tags], rotation=40, ha="right")
        axes.tick_params(axis="x", labelcolor=INK)
        axes.set_xlim(-0.6, len(tags) - 0.4)
        axes.grid(visible=True)
        svg = to_svg(figure, f"prompts-{name}", f"{title}: dots as large as the number of prompts; the numbers follow")
    all_tags = [count.name for count in stats.facets["tag"]]
    table = tuple((topic.counted.name, *(f"{n:,}" if n else "–" for n in topic.by_tag)) for topic in stats.topics)
    note = f"the {len(tags)} most frequent of {len(all_tags)} tags drawn" if len(tags) < len(all_tags) else ""
    return Plot(title, svg, ("topic", *all_tags), table, note)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [plain(name, _NAME) for name in names])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_color(MUTED)
    axes.spines["bottom"].set_visible(False)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03))
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    return figure, axes
