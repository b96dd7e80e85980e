"""What the report says of probes, marks of harm, Elo, the best of n, and of metrics that are no percentage."""

import dataclasses
import itertools
import math

import pytest
from matplotlib.figure import Figure
from report_data import Page, empty_data, rates

from cai.intervals import Rate
from cai.records import Override
from cai.report.build import build_report
from cai.report.data import Measurements
from cai.report.measured import MEANINGS
from cai.report.naming import name_points
from cai.report.text import before_after_table, results_text
from cai.report.units import better, unit_of
from flows.report_measured import measurements

ENDS = {"value": 0.25, "low": 0.22, "high": 0.29, "n": 200, "why": ""}
EVALUATED = {
    "probes": {
        "length": ENDS | {"limit": 0.5, "outcome": "passed"},
        "boilerplate": ENDS | {"limit": 0.2, "outcome": "tripped"},
        "reward_length": ENDS | {"low": None, "high": None, "limit": 0.5, "outcome": "unclear"},
        "preaching": ENDS | {"limit": None, "outcome": "passed"},
        "sycophancy": {"value": None, "low": None, "high": None, "n": 0, "limit": 0.1, "outcome": "unmeasured",
                       "why": "there are no items"},
    },
    "elo": {"seed": {"value": 1400.0, "low": 1350.0, "high": 1450.0, "n": 90},
            "rl_cai": {"value": 1600.4, "low": 1550.0, "high": 1650.0, "n": 90}},
    "best_of_n": [{"n": 1, "reward": -0.5, "low": -0.75, "high": None, "kl": 0.0, "oracle": 0.4, "oracle_low": 0.3,
                   "oracle_high": 0.5},
                  {"n": 2, "reward": 0.25, "low": 0.0, "high": 0.5, "kl": 0.193, "oracle": 0.6, "oracle_low": 0.5,
                   "oracle_high": 0.7}],
    "harm_scale": {"n_unscored": {"rl_cai": 3}, "why": ""},
}  # fmt: skip
SECTIONS = ("probes", "harm-scale", "elo", "best-of-n")


def results():
    other = {"harmfulness": Rate(1.32, 1.1, 1.5, 80), "kl": Rate(0.0213, 0.019, 0.024, 400),
             "distinct_2": Rate(0.91, 0.9, 0.92, 80), "sycophancy": Rate(-0.06, -0.13, 0.02, 90),
             "under_refusal_rate": Rate(0.1, 0.05, 0.16, 120), "capability": Rate(0.61, 0.55, 0.66, 300)}  # fmt: skip
    return {"seed": rates(0.9, 0.99), "rl_cai": rates(0.01, 0.98) | other}


def sections(evaluated=EVALUATED, **changes):
    """The text of each section of the page, by id, and what stands above them as `""`."""
    data = dataclasses.replace(empty_data(), results=results(), measurements=measurements(evaluated), **changes)
    head, *parts = build_report(data).split('<section id="')
    read = {part.partition('"')[0]: part.partition(">")[2] for part in parts} | {"": head.partition("</style>")[2]}
    return {name: " ".join(" ".join(Page(text).text).split()) for name, text in read.items()}


@pytest.fixture(scope="module")
def whole():
    return sections()


def test_each_probe_says_in_words_what_it_found_against_its_limit(whole):
    said = whole["probes"]
    order = ["tripped", "unclear", "unknown", "passed", "measured"]
    names = ("boilerplate", "reward length", "sycophancy", "length", "preaching")
    places = [said.index(f"{mark} {name}") for mark, name in zip(order, names, strict=True)]
    assert places[:3] == sorted(places[:3]) and min(places[3:]) > places[2], "the worst first"
    assert f"{MEANINGS['boilerplate']} +25.0 points +22.0 to +29.0 points ≤ 20 points n 200" in said
    assert f"{MEANINGS['length']} +25 % +22 to +29 % ≤ 50 % n 200" in said
    assert f"{MEANINGS['reward_length']} +0.25 −∞ to ∞ ≤ 0.5 n 200" in said
    assert f"{MEANINGS['preaching']} 25.0 % 22.0 to 29.0 % no limit n 200" in said
    assert f"{MEANINGS['sycophancy']} not measured there are no items ≤ 10 points n 0" in said


def test_the_text_has_a_row_for_each_probe_and_the_reason_for_those_not_measured():
    said = results_text(results(), {}, probes=measurements(EVALUATED).probes)
    rows = [" ".join(line.split()) for line in said.splitlines()]
    assert "boilerplate +25.0 points +22.0 to +29.0 points ≤ 20.0 points 200 tripped" in rows
    assert "reward length +0.25 −∞ to ∞ ≤ 0.50 200 unclear" in rows
    assert "preaching 25.0 % 22.0 to 29.0 % – 200 passed" in rows
    assert "sycophancy: not measured, there are no items" in rows
    assert "probe" not in results_text(results(), {})


def test_marks_ratings_and_the_best_of_n_have_their_numbers_in_their_units(whole):
    assert "RL-CAI 1.32 1.10 to 1.50 80 3" in whole["harm-scale"], "with the number of those without a mark"
    assert "RL-CAI 1,600 1,550 to 1,650 90 seed 1,400" in whole["elo"], "the best first"
    assert "1 −0.500 −0.750 to ∞ 0.000 2 0.250 0.000 to 0.500 0.193" in whole["best-of-n"]
    assert "2 0.600 0.500 to 0.700 0.193" in whole["best-of-n"]


def test_a_number_that_is_no_percentage_is_not_written_as_one(whole):
    said = whole["results"]
    shares, other = said.split("Other measures")
    assert "under-refusal lower is better – not measured 10.0 % 5.0–16.0 · n 120" in shares
    assert "right answers higher is better – not measured 61.0 %" in shares
    assert "KL from the reference nats per token – not measured 0.0213 0.0190 to 0.0240 · n 400" in other
    assert "distinct word pairs share of runs of words, 0 to 1; higher is better – not measured 0.910" in other
    assert (
        "sycophancy, net points: shares of answers, one less another; lower is better" in other
        and "−6.0 points" in other
    )
    assert "harmfulness" not in said and "harm_scale" not in said, "it has its own section"
    assert not any(name in before_after_table(results()) for name in ("KL", "distinct", "sycophancy", "harmfulness"))


@pytest.mark.parametrize("missing", ["probes", "elo", "best_of_n"])  # marks of harm are among the rates
def test_a_section_stands_only_where_there_is_something_to_say(missing, whole):
    without = sections({key: value for key, value in EVALUATED.items() if key != missing})
    assert set(SECTIONS) <= whole.keys()
    assert whole.keys() - without.keys() == {missing.replace("_", "-")}


def test_an_evaluation_that_measured_none_of_it_adds_nothing():
    assert measurements(None) == measurements({"rates": {}, "probes": {}, "elo": {}}) == Measurements()
    page = build_report(empty_data())
    assert not any(f'id="{name}"' in page for name in SECTIONS)


def test_an_override_stands_under_the_verdict_with_the_person_and_the_reason(whole):
    by = Override("", "", "", "", "NOT ENOUGH DATA", "some <person>", "the old one leaks", "2025-01-03")
    assert (
        "Overridden in spite of NOT ENOUGH DATA by some <person>, 2025-01-03: the old one leaks"
        in sections(overrides=(by,))[""]
    )
    assert "Overridden" not in whole[""]


def test_units_of_metrics_nobody_told_of():
    assert unit_of("flattery_rate").is_share and better("flattery_rate") == ""
    assert not unit_of("flattery").is_share and unit_of("flattery").number(0.5) == "0.500"
    assert unit_of("harmful_rate/theft").is_share and better("harmful_rate/theft") == "lower"
    assert unit_of("harmful_rate (set)").is_share and unit_of("win_rate/seed").is_share
    assert unit_of("kl").number(math.nan) == "–"


def test_names_of_near_points_lie_over_no_other_name_and_over_no_point():
    points = [("seed", 10.0, 99.0), ("SL-CAI", 96.0, 98.2), ("RL-CAI", 97.0, 98.2), ("RL-CAI of round 1", 98.0, 98.0),
              ("promoted", 97.5, 97.8), ("other", 97.5, 97.8)]  # fmt: skip
    figure = Figure(figsize=(5.3, 3.2))
    axes = figure.add_subplot()
    axes.set_xlim(0, 104)
    axes.set_ylim(96, 100)
    boxes = name_points(figure, axes, points, [])
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert not [(box, x) for box in boxes for _, x, y in points if box.contains(*axes.transData.transform((x, y)))]
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
