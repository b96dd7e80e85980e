"""`ReportData` → one HTML file: no network, no assets beside it, the same bytes for the same data.

What models wrote is hostile: it reaches the page as escaped text or as JSON that only `textContent` reads, and the
page's content security policy runs no script but its own.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cai.card import MEASURED, plain
from cai.intervals import Rate, WinRates
from cai.report import plots
from cai.report.chains import SURROGATES, Packed, index_of, pack
from cai.report.data import ReportData, Results, Turn, Verdict, verdict
from cai.report.gating import gate_rows, gate_summary
from cai.report.measured import best_of_n_plots, elo_plot, harm_plot, other_rows, probe_rows
from cai.report.prompts import prompts_section
from cai.report.text import JUDGE_NOTE, label, metric_names, versus
from cai.report.units import Better, better

_HERE = Path(__file__).parent
_HEADLINES = ("harmful_rate", "helpful_rate", "over_refusal_rate")
_KIND = "harmful_rate/"
MAX_BYTES = 24_900_000
"""Of the page. The texts of chains are what it can have less of, and it says so."""
_NOTE = 500
"""Bytes of what it says then, and more."""
_BLOCKS = '<script type="application/octet-stream" class="chains"></script>'
"""Where blocks of chains stand: the first before the script, which shows it at once, the rest after it. No text can
look like it: `<` is escaped wherever a text is put.
"""


@dataclass(frozen=True, slots=True)
class Headline:
    """One metric's way through the models: `84 → 31 → 1 %`."""

    title: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResultRow:
    title: str
    better: Better
    is_kind: bool
    cells: tuple[tuple[str, str, int], ...]
    """Per model: value, interval, n."""


@dataclass(frozen=True, slots=True)
class WinRateRow:
    title: str
    value: str
    interval: str
    counts: tuple[int, int, int]
    """n, ties, unscored."""


def build_report(data: ReportData, *, max_bytes: int = MAX_BYTES) -> str:
    """The whole page as a string; write it as UTF-8. It stays under `max_bytes` where that holds without any chain."""
    css = (_HERE / "style.css").read_text("utf-8")
    js = "\n".join((_HERE / name).read_text("utf-8") for name in ("diff.js", "report.js"))
    template = _environment().get_template("report.html.j2")
    said = _said(data) | {"policy": _policy(css, js), "css": Markup(css), "js": Markup(js), "blocks": Markup(_BLOCKS)}

    def page(chains: Packed) -> str:
        return SURROGATES.sub("\ufffd", template.render(said, chains=chains, index=_embedded(chains.names)))

    room = max_bytes - _NOTE - len(page(Packed(index_of(data.chains), ())).encode())
    packed = pack(data.chains, room)
    blocks = [*map(_block, packed.blocks)]
    return page(packed).replace(_BLOCKS, "".join(blocks[:1]), 1).replace(_BLOCKS, "".join(blocks[1:]))


def _block(packed: str) -> str:
    return _BLOCKS.replace("></", f">{packed}</")


def _said(data: ReportData) -> dict[str, Any]:
    """What the template shows, chains apart."""
    return {
        "data": data,
        "verdict": _verdict(data),
        "summary": _summary(data),
        "gate": gate_rows(data.gating) if data.gating else [],
        "models": [label(model) for model in data.results],
        "headlines": _headlines(data.results),
        "result_rows": _result_rows(data.results),
        "result_plots": _result_plots(data),
        "win_rates": _win_rates(data.win_rates),
        "judge_note": JUDGE_NOTE,
        **prompts_section(data.prompts),
        "label_plots": _label_plots(data),
        "other_rows": other_rows(data.results),
        "probes": probe_rows(data.measurements.probes),
        "harm_plots": harm_plot(data.results, data.measurements.harm_unscored),
        "elo_plots": elo_plot(data.measurements.elo),
        "best_of_n_plots": best_of_n_plots(data.measurements.best_of_n),
        "training": _training(data),
        "most_rows": max((step.n_in for step in data.funnel), default=0),
        "most_rejects": max((reject.n_rows for reject in data.rejects), default=0),
        "longest_s": max((stage.seconds for stage in data.stages), default=0.0),
        "total_s": sum(stage.seconds for stage in data.stages),
        "measured": MEASURED,
    }


def _verdict(data: ReportData) -> Verdict | Literal["no verdict"]:
    if data.gating is not None:
        return data.gating.verdict
    return verdict(data.targets) if data.targets else "no verdict"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "count": _count, "duration": _duration, "share": _share}
    environment.filters |= {"last": _last, "svg": Markup, "label": label, "id": _id, "plain": plain}
    return environment


def _policy(css: str, js: str) -> str:
    """Content security policy: no network at all, and no script or style but ours."""
    own = f"style-src {_hash(css)}; script-src {_hash(js)}"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    """The source expression that lets exactly this inline text run (CSP level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(value: object) -> Markup:
    """JSON that cannot end its script element, whatever it holds: no `<`, `>` or `&` is left in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _summary(data: ReportData) -> str:
    """One sentence under the verdict: how many conditions or targets were met, and which were not."""
    if data.gating is not None:
        return gate_summary(data.gating)
    if not data.targets and (data.results or data.win_rates):
        return "No targets were set: what was measured stands below, without a verdict."
    if not data.targets:
        return "No targets were set or measured: this run made data, and measured no model."
    missed = [target.title for target in data.targets if target.passed is False]
    unknown = sum(target.passed is None for target in data.targets)
    met = f"{len(data.targets) - len(missed) - unknown} of {len(data.targets)} targets met"
    parts = [met, f"{unknown} not measured"] if unknown else [met]
    return f"{', '.join(parts)}. Missed: {'; '.join(missed)}." if missed else f"{', '.join(parts)}."


def _headlines(results: Results) -> list[Headline]:
    headlines = []
    for metric in _HEADLINES:
        values = [metrics[metric] for metrics in results.values() if metric in metrics]
        if values:
            headlines.append(Headline(label(metric), tuple(_number(each) for each in values)))
    return headlines


def _number(measured: Rate) -> str:
    return "–" if math.isnan(measured.value) else f"{measured.value * 100:.1f}".removesuffix(".0")


def _result_rows(results: Results) -> list[ResultRow]:
    """Overall rates with the kinds of harm right under `harmful`."""
    names = metric_names(results)
    ordered = sorted(names, key=lambda name: (name.partition("/")[0] != "harmful_rate", names.index(name)))
    return [
        ResultRow(
            label(name), better(name), name.startswith(_KIND), tuple(_cell(of.get(name)) for of in results.values())
        )
        for name in ordered
    ]


def _cell(measured: Rate | None) -> tuple[str, str, int]:
    if measured is None or not measured.n:
        return "–", "not measured", 0
    return _percent(measured.value), f"{measured.low * 100:.1f}–{measured.high * 100:.1f}", measured.n


def _win_rates(win_rates: WinRates) -> list[WinRateRow]:
    return [
        WinRateRow(versus(model, other), *_cell(won.rate)[:2], (won.rate.n, won.n_ties, won.n_unscored))
        for (model, other), won in win_rates.items()
    ]


def _result_plots(data: ReportData) -> list[plots.Plot]:
    results = data.results
    names = metric_names(results)
    kinds = [name for name in names if name.startswith(_KIND)]
    overall = [name for name in names if not name.startswith(_KIND)]
    drawn = []
    if kinds:
        drawn.append(plots.rates(results, kinds, "harm", "Harmful requests complied with, by kind"))
    if overall:
        drawn.append(plots.rates(results, overall, "overall", "Overall"))
    drawn += [plots.frontier(path, f"frontier{place}") for place, path in enumerate(data.frontier) if path.points]
    return drawn


def _label_plots(data: ReportData) -> list[plots.Plot]:
    if data.labels is None:
        return []
    drawn = [plots.soft_labels(data.labels, "soft")] if sum(data.labels.soft_labels) else []
    if data.labels.principles:
        drawn.append(plots.position_bias(data.labels, "bias"))
    if data.labels.gold is not None and data.labels.gold.reliability is not None:
        drawn.append(plots.reliability(data.labels.gold.reliability, "gold", "Judge: said against gold"))
    return drawn


def _training(data: ReportData) -> list[tuple[str, list[plots.Plot]]]:
    """Plots by training step, in the order the steps first appear."""
    groups: dict[str, list[plots.Plot]] = {}
    for place, each in enumerate(data.curves):
        if any(line.x for line in each.lines):
            groups.setdefault(each.group, []).append(plots.curve(each, f"curve{place}"))
    if data.reliability is not None:
        groups.setdefault("Reward model", []).append(
            plots.reliability(data.reliability, "reliability", "Reward model: said against true")
        )
    return list(groups.items())


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value * 100:.1f} %"


def _count(value: int) -> str:
    return f"{value:,}"


def _duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _share(value: float, most: float) -> str:
    """Length of a bar out of 100; something that is there is never drawn as nothing."""
    return f"{max(0.6, 100 * value / most):.2f}" if most and value else "0"


def _last(turns: Sequence[Turn]) -> str:
    return next((turn.content for turn in reversed(turns) if turn.role == "user"), "")


def _id(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
