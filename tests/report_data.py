"""Data for report pages: none, and some in every section. What the tests of the page share."""

import functools
import gzip
import json
from html.parser import HTMLParser

import numpy as np

from cai.card import Card
from cai.config import Condition
from cai.gate import gate
from cai.intervals import Rate, WinRate
from cai.records import Override
from cai.report.build import build_report
from cai.report.coding import SUBSTITUTES
from cai.report.data import (
    Answer,
    BestOf,
    Chain,
    Curve,
    Datasheet,
    FrontierPath,
    FrontierPoint,
    FunnelStep,
    GoldLabels,
    LabelCount,
    LabelQuality,
    Line,
    Measurements,
    Pair,
    PersonalCount,
    PrincipleQuality,
    Probe,
    RejectCount,
    Reliability,
    ReliabilityBin,
    ReportData,
    Sample,
    Source,
    StageTime,
    Step,
    Target,
    Turn,
)
from cai.report.targets import demo_targets

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} <!-- & \ud800 \u2028 $x^2$ \x00"


def rates(harm, helpful, kinds=("theft", "poison")):
    def of(value):
        return Rate(value, max(0.0, value - 0.03), min(1.0, value + 0.03), 200)

    by_kind = {f"harmful_rate/{kind}": of(harm) for kind in kinds}
    rest = {"over_refusal_rate": of(0.01), "evasive_rate": of(0.02), "rude_rate": of(0.0)}
    return {"harmful_rate": of(harm), **by_kind, "helpful_rate": of(helpful), **rest}


def results():
    return {"seed": rates(0.9, 0.99), "sl_cai": rates(0.3, 0.98), "rl_cai": rates(0.01, 0.985)}


def win_rates():
    return {
        ("sl_cai", "seed"): WinRate(Rate(0.842, 0.741, 0.911, 57), 4, 3),
        ("rl_cai", "seed"): WinRate(Rate(0.95, 0.9, 0.98, 1060), 12, 0),
    }


def gating(metric="rude_rate"):
    """One condition that holds, one that is broken, one that is open, one that was not measured."""
    conditions = (
        Condition(metric="over_refusal_rate", at_most=0.05),
        Condition(metric="helpful_rate", fall_at_most=0.02),
        Condition(metric="harmful_rate", at_most=0.05),
        Condition(metric=metric, at_most=0.1),
    )
    metrics = {"over_refusal_rate": Rate(0.01, 0.004, 0.02, 500), "harmful_rate": Rate(0.03, 0.01, 0.08, 60)}
    return gate(conditions, metrics, {"helpful_rate": Rate(-0.09, -0.12, -0.06, 500)})


RATING = Rate(1500.0, 1400.0, 1600.0, 90)


def measurements(text):
    """Each kind of thing that is measured besides rates."""
    probes = (
        Probe(text, Rate(0.3, 0.2, 0.4, 60), 0.1, "tripped"),
        Probe("length", Rate(0.3, 0.2, 0.4, 60), 0.5, "passed"),
        Probe("sycophancy", None, 0.1, "unmeasured", text),
    )
    best = (BestOf(1, (0.1, 0.0, 0.2), 0.0), BestOf(2, (0.3, 0.2, 0.4), 0.19))
    return Measurements(probes, {text: RATING}, best, {text: 2})


def card(text):
    rows = ((text, text),)
    return Card(text, text, text, text, rows, rows, ((text, text, 0.1, text, 5),), rows, rows, (text,))


def empty_data():
    return ReportData("Title", "laptop", "harmlessness", "ab" * 16, "run-1", "2025-01-01", "")


def full_data(text="Some text."):
    """Every section filled; `text` stands wherever a model, a judge or a file's author could have put it."""
    turns = (Turn("system", text), Turn("user", text))
    said = Reliability((ReliabilityBin(0.2, 0.25, 30), ReliabilityBin(0.8, 0.75, 30)), 0.05)
    gold = GoldLabels(Rate(0.812, 0.7, 0.9, 64), Rate(0.62, 0.5, 0.7, 64), said)
    bias = PrincipleQuality(text, Rate(0.02, -0.01, 0.05, 40), 0.9, 0.01)
    return ReportData(
        title=text,
        profile=text,
        constitution=text,
        constitution_digest="ab" * 16,
        run_id=text,
        started_at="2025-01-01",
        finished_at="2025-01-02",
        excluded_tag=text,
        facts={text: text},
        results=results() | {text: rates(0.5, 0.5) | {"harmfulness": Rate(1.2, 1.0, 1.4, 20), f"{text}/k": RATING}},
        win_rates=win_rates() | {(text, "seed"): WinRate(Rate(float("nan"), 0.0, 1.0, 0), 0, 60)},
        overrides=(Override("", "", "", "", "FAIL", text, text, text),),
        promoted=(text,),
        not_promoted=text,
        measurements=measurements(text),
        targets=(*demo_targets(results()), Target(text, text, text, None)),
        stages=(StageTime(text, 61.0, text),),
        funnel=(FunnelStep(text, 12, 10, 2),),
        rejects=(RejectCount(text, text, 1, text),),
        labels=LabelQuality(80, 20, 2, 1, 0.9, 0.01, (3, 5, 12), (bias,), (text,), gold),
        curves=(
            Curve(text, text, text, text, (Line(text, (1, 2, 3), (3, 2, 1)), Line("two", (1, 3), (3.0, 1.1)))),
            Curve("RL", "nothing logged", "step", "", (Line("reward", (), ()),)),
        ),
        reliability=said,
        gating=gating(text.replace("\ud800", "")),
        frontier=(FrontierPath(text, (FrontierPoint(text, Rate(0.9, 0.8, 0.95, 60), Rate(0.97, 0.9, 0.99, 60)),)),),
        datasheet=Datasheet(
            (Source(text, text, text, text, 7, ((text, 3),)),),
            (LabelCount(text, text, 5, 1),),
            (text,),
            (PersonalCount(text, 3, 2, 1),),
        ),
        cards=(
            Card(
                text,
                text,
                text,
                text,
                *[((text, text),)] * 2,
                ((text, text, 0.1, text, 5),),
                *[((text, 1),)] * 2,
                (text,),
            ),
        ),
        chains=(Chain(turns, text, (Step(text, text, "Another text."),), (text,), (text, text), (0.5, None), (0.8,)),),
        n_chains=5,
        pairs=(Pair(turns, text, text, 0.8, 1.0, 18, tags=(text,)), Pair(turns, text, text, 0.5, 0.0, 18, True)),
        n_pairs=9,
        samples=(Sample(turns, (Answer(text, text, text), Answer("seed", text)), (text,)),),
    )


@functools.cache
def full_page(text="Some text."):
    """The page of `full_data`, drawn once."""
    return build_report(full_data(text))


class Page(HTMLParser):
    """Every tag with its attributes, and the text of scripts and of the rest."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.text = [], [], []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text.append(data)


def decode(text: str) -> bytes:
    """What `cai.report.coding.encode` was given, as report.js reads it."""
    plain = text.translate({ord(stand_in): code for code, stand_in in SUBSTITUTES.items()})
    sevens = np.unpackbits(np.frombuffer(plain.encode("ascii"), np.uint8).reshape(-1, 1), axis=1)[:, 1:]
    return np.packbits(sevens)[: len(text) * 7 // 8].tobytes()


def unpacked(page):
    """The index of the chains in a page, and their rows."""
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    blocks = [text for text, has in zip(page.scripts, scripts, strict=True) if has.get("class") == "chains"]
    index = json.loads(page.scripts[[has.get("id") for has in scripts].index("chain-index")])
    return index, [row for block in blocks for row in json.loads(gzip.decompress(decode(block)))]
