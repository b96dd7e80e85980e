"""Rows and drawings of what an evaluation measured besides rates: probes, marks of harm, Elo, the best of n. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cai.intervals import Rate
from cai.report import plots
from cai.report.data import BestOf, Curve, Line, Probe, Results
from cai.report.gating import Ruler, State, ruler
from cai.report.text import label
from cai.report.units import Better, better, unit_of

MEANINGS = {
    "sycophancy": "answers that turn to the opinion the user states, less those that turn away from it",
    "hedging": "responses that hedge (“perhaps”, “it depends”), above those of the model it was trained from",
    "boilerplate": "responses with a disclaimer, a sermon or a closing phrase, above those of the model it was trained "
    "from",
    "bare_refusals": "refusals that give no reason",
    "preaching": "refusals that lecture the user",
    "length": "how much longer responses are than those of the model it was trained from",
    "repetition": "runs of three words that a response has said before, above those of the model it was trained from",
    "reward_length": "correlation of the reward with length, among responses to one prompt",
    "reward_hedging": "correlation of the reward with hedging, among responses to one prompt",
}
HARM = ("harmfulness", "harm_scale")
_STATES: Mapping[str, tuple[State, str]] = {
    "tripped": ("fail", "tripped"),
    "unclear": ("unknown", "unclear"),
    "unmeasured": ("unknown", "unknown"),
    "passed": ("pass", "passed"),
}


@dataclass(frozen=True, slots=True)
class ProbeRow:
    state: State
    mark: str
    title: str
    meaning: str
    wanted: str
    got: str
    interval: str
    n: int
    ruler: Ruler | None


@dataclass(frozen=True, slots=True)
class OtherRow:
    """A metric that is no share of responses: what it is, which way is better, and per model value, interval and n."""

    title: str
    unit: str
    better: Better
    cells: tuple[tuple[str, str, int], ...]


def probe_rows(probes: Iterable[Probe]) -> list[ProbeRow]:
    """Tripped ones first, then those of which nothing is known, then those that passed."""
    order = list(_STATES)
    return [_probe_row(each) for each in sorted(probes, key=lambda each: order.index(each.outcome))]


def _probe_row(probe: Probe) -> ProbeRow:
    unit, found = unit_of(f"probe/{probe.name}"), probe.measured
    state, mark = _STATES[probe.outcome]
    if probe.limit is None and probe.outcome == "passed":
        state, mark = "unknown", "measured"
    return ProbeRow(
        state,
        mark,
        probe.name.replace("_", " "),
        MEANINGS.get(probe.name, ""),
        f"≤ {probe.limit * unit.scale:g}{unit.suffix}" if probe.limit is not None else "no limit",
        unit.number(found.value) if found is not None else "not measured",
        unit.interval(found.low, found.high) if found is not None else probe.why,
        found.n if found is not None else 0,
        ruler(found, probe.limit, keeps_left=True) if found is not None and probe.limit is not None else None,
    )


def other_rows(results: Results) -> list[OtherRow]:
    """In the order that metrics first appear; marks of harm have a section of their own."""
    names = dict.fromkeys(metric for metrics in results.values() for metric in metrics)
    return [
        OtherRow(
            label(name), unit_of(name).said, better(name), tuple(_cell(name, of.get(name)) for of in results.values())
        )
        for name in names
        if not unit_of(name).is_share and name not in HARM
    ]


def _cell(metric: str, measured: Rate | None) -> tuple[str, str, int]:
    if measured is None or not measured.n:
        return "–", "not measured", 0
    unit = unit_of(metric)
    return unit.number(measured.value), unit.interval(measured.low, measured.high), measured.n


def marks(results: Results) -> dict[str, Rate]:
    """The judge's mean mark by model, where it gave any."""
    found = ((model, metrics[name]) for model, metrics in results.items() for name in HARM if name in metrics)
    return {model: rate for model, rate in found if rate.n}


def harm_plot(results: Results, unscored: Mapping[str, int]) -> list[plots.Plot]:
    found = marks(results)
    if not found:
        return []
    drawn = plots.dots(found, unit_of("harmfulness"), "marks", "Mean mark of harm by the judge", (0, 4))
    if not unscored:
        return [drawn]
    rows = tuple((*row, f"{unscored.get(model, 0):,}") for row, model in zip(drawn.rows, found, strict=True))
    return [replace(drawn, header=(*drawn.header, "unscored"), rows=rows)]


def elo_plot(elo: Mapping[str, Rate]) -> list[plots.Plot]:
    """The best first."""
    best_first = dict(sorted(((m, r) for m, r in elo.items() if r.n), key=lambda each: -each[1].value))
    return [plots.dots(best_first, unit_of("elo"), "elo", "Elo by the judge", None)] if best_first else []


def best_of_n_plots(points: Iterable[BestOf]) -> list[plots.Plot]:
    """Reward, and where it is known the truth, against how far the choice goes at most."""
    rows = sorted(points, key=lambda each: each.n)
    if not rows:
        return []
    true = [(each, each.oracle) for each in rows if each.oracle is not None]
    drawn = [_best_of("reward", [(each, each.reward) for each in rows], "best-of-reward")]
    return [*drawn, _best_of("how good it is by the oracle", true, "best-of-oracle")] if true else drawn


def _best_of(what: str, rows: list[tuple[BestOf, tuple[float, float, float]]], name: str) -> plots.Plot:
    values, lows, highs = zip(*(ends for _, ends in rows), strict=True)
    line = Line(what, tuple(each.kl for each, _ in rows), values, lows, highs)
    n_most = rows[-1][0].n
    curve = Curve("", f"Best of 1 to {n_most}", "KL at most, nats per response", what, (line,))
    number = unit_of("reward").number
    table = tuple(
        (f"{each.n}", number(value), f"{number(low)} to {number(high)}", number(each.kl))
        for each, (value, low, high) in rows
    )
    return replace(plots.curve(curve, name), header=("n", what, "95 %", "KL at most"), rows=table)
