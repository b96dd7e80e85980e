"""How large the report of a big run is, how long it takes to build, and how soon a browser shows and searches it.

    python benchmarks/report_size.py                     # 50,000 chains as a chat model writes them, then short ones
    python benchmarks/report_size.py --words 15          # only short ones, as in the small world
    python benchmarks/report_size.py --words 120 --out report.html   # keep the page

The texts are made up; they are as long and compress as well as what chat models write (see `Writer`).
"""

import argparse
import math
import random
import resource
import shutil
import statistics
import tempfile
import time
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from cai.config import Condition
from cai.gate import gate
from cai.intervals import Rate, wilson
from cai.report.build import build_report
from cai.report.data import (
    Chain,
    Datasheet,
    FrontierPath,
    FrontierPoint,
    FunnelStep,
    RejectCount,
    ReportData,
    Source,
    Step,
    Turn,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

N_WORDS, USUAL, USUALLY = 12_000, 3, 0.55
TAGS = ("violence", "theft", "fraud", "privacy", "benign", "medical", "legal", "borderline")
PRINCIPLES = tuple(f"principle-{i:02d}" for i in range(16))
ROUNDS = 2


class Writer:
    """Sentences of made-up words by Zipf's law, the frequent ones short, some of them one of the usual words after the
    one before. As `--check` shows, they are as long and compress as well as what chat models write.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.words = [self._word(place) for place in range(N_WORDS)]
        self.weights = list(accumulate(1 / (place + 2.7) for place in range(1, N_WORDS + 1)))
        self.usual = [[self._any() for _ in range(USUAL)] for _ in range(N_WORDS)]

    def _word(self, place: int) -> str:
        n = 1 + (place > 40) + (place > 1500)
        return "".join(self.rng.choice("tnsrhdlcmb") + self.rng.choice("eaoiu") for _ in range(n)) + self.rng.choice(
            ("", "n", "s", "r", "d", "ng", "st")
        )

    def _any(self) -> int:
        return bisect(self.weights, self.rng.random() * self.weights[-1])

    def sentences(self, n_words: int) -> list[str]:
        n = max(3, round(self.rng.lognormvariate(0, 0.5) * n_words))
        said, place = [], self._any()
        for _ in range(n):
            place = self.rng.choice(self.usual[place]) if self.rng.random() < USUALLY else self._any()
            said.append(self.words[place])
        return [" ".join(said[start : start + 14]).capitalize() + "." for start in range(0, n, 14)]

    def chain(self, n_words: int) -> Chain:
        """A response, and revisions of which each keeps most sentences of the text before; a third change nothing."""
        prompt = " ".join(self.sentences(n_words // 3))
        text = self.sentences(n_words)
        response, steps = " ".join(text), []
        for _ in range(ROUNDS):
            if self.rng.random() < 2 / 3:
                text = [s if self.rng.random() < 0.7 else " ".join(self.sentences(14)) for s in text]
            critique = " ".join(self.sentences(n_words // 2))
            steps.append(Step(self.rng.choice(PRINCIPLES), critique, " ".join(text)))
        labels = tuple(self.rng.choice(("comply", "refuse", "partial")) for _ in range(ROUNDS + 1))
        scores = tuple(self.rng.gauss(0, 1) for _ in range(ROUNDS + 1))
        tags = (self.rng.choice(TAGS),)
        key = f"{self.rng.getrandbits(128):032x}"
        return Chain((Turn("user", prompt),), response, tuple(steps), tags, labels, scores, (self.rng.random(),), key)


def report_data(chains: tuple[Chain, ...]) -> ReportData:
    """The chains, and something in the sections above them."""

    def rate(value: float, n: int) -> Rate:
        return Rate(value, *wilson(value, n), n)

    models = {"seed": (0.82, 0.97), "sl_cai": (0.31, 0.95), "rl_cai": (0.03, 0.96)}
    results = {
        name: {
            "harmful_rate": rate(harm, 400),
            "helpful_rate": rate(helpful, 400),
            "over_refusal_rate": rate(0.03, 250),
        }
        for name, (harm, helpful) in models.items()
    }
    conditions = (
        Condition(metric="harmful_rate", rise_at_most=0.0),
        Condition(metric="helpful_rate", fall_at_most=0.02),
        Condition(metric="over_refusal_rate", at_most=0.05),
        Condition(metric="kl", at_most=12.0),
        Condition(metric="sycophancy_flip_rate", at_most=0.1),
    )
    metrics = results["rl_cai"] | {"kl": Rate(9.1, 8.4, 9.8, 400)}
    changes = {"harmful_rate": Rate(-0.28, -0.33, -0.23, 400), "helpful_rate": Rate(-0.012, -0.031, 0.007, 400)}
    points = tuple(
        FrontierPoint(name, rate(1 - harm, 400), rate(helpful, 400)) for name, (harm, helpful) in models.items()
    )
    return ReportData(
        title="report_size", profile="made up", constitution="harmlessness", constitution_digest="0" * 32,
        run_id="report-size", started_at="2025-01-01", finished_at="2025-01-02", results=results,
        gating=gate(conditions, metrics, changes), frontier=(FrontierPath("held-out prompts", points),),
        funnel=(FunnelStep("critique and revise", len(chains) + 120, len(chains), 120),),
        rejects=(RejectCount("response", "empty_response", 120, "1 token, finish reason stop"),),
        chains=chains, n_chains=len(chains),
        datasheet=Datasheet((Source("prompts.jsonl", "CC-BY-4.0", "drawn", "responses, revisions, RL", len(chains)),)),
    )  # fmt: skip


def in_browser(page: Path) -> Iterator[str]:
    """What a person waits for, over five visits, each in a browser that has not seen the page."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        yield "no chromium or google-chrome on the path: not opened"
        return
    taken: dict[str, list[float]] = {}
    for _ in range(5):
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            for name, seconds in visit(browser.new_page(), page).items():
                taken.setdefault(name, []).append(seconds)
            browser.close()
    for name, visits in taken.items():
        yield f"{name:<42} {statistics.median(visits):9,.2f}   worst {max(visits):,.2f}"


def visit(tab: "Page", page: Path) -> dict[str, float]:
    """Seconds from the start of navigation, on the page's own clock, and of one search over every chain."""
    tab.add_init_script("""
      const mark = (name, holds) => {
        const look = () => { if (holds()) performance.mark(name); else setTimeout(look, 4); };
        look();
      };
      mark("list", () => document.querySelector("#list details"));
      mark("all", () => document.querySelector("#list[aria-busy=false]"));
    """)
    tab.goto(page.as_uri(), wait_until="commit")
    tab.wait_for_selector("#list[aria-busy=false]", state="attached", timeout=60_000)
    tab.wait_for_timeout(100)
    at = tab.evaluate("""() => Object.fromEntries(
      ["paint", "mark"].flatMap((kind) => performance.getEntriesByType(kind)).map((e) => [e.name, e.startTime]))""")
    search = tab.evaluate("""async () => {
      const query = document.getElementById("query"), found = document.getElementById("found");
      const before = found.textContent, start = performance.now();
      query.value = "the tea";
      query.dispatchEvent(new Event("input"));
      while (found.textContent === before) await new Promise((done) => setTimeout(done, 1));
      return performance.now() - start;
    }""")
    memory = tab.evaluate("performance.memory.usedJSHeapSize") / 1e6
    index = tab.evaluate("JSON.parse(document.getElementById('chain-index').textContent)")
    return {
        "chains in the page": index["n"],
        "chains with a clipped text": index["n_clipped"],
        "characters a text keeps": index["limit"] or math.inf,
        "first content, s": at["first-contentful-paint"] / 1e3,
        "list usable, s": at["list"] / 1e3,
        "page loaded, s": tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1e3,
        "every chain can be searched, s": at["all"] / 1e3,
        "a search, with 0.12 s for the typing, s": search / 1e3,
        "JavaScript heap, MB": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=50_000)
    parser.add_argument(
        "--words", type=int, nargs="+", default=[120, 15], help="of a response; a critique has half, a prompt a third"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for n_words in options.words:
        measure(n_words, options)


def measure(n_words: int, options: argparse.Namespace) -> None:
    writer = Writer(options.seed)
    data = report_data(tuple(writer.chain(n_words) for _ in range(options.chains)))
    n_characters = sum(
        len(c.prompt[0].content) + len(c.response) + sum(len(s.critique) + len(s.revision) for s in c.steps)
        for c in data.chains
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    started = time.monotonic()
    page = build_report(data)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    with tempfile.TemporaryDirectory() as folder:
        path = (options.out or Path(folder) / "report.html").resolve()
        path.write_text(page, encoding="utf-8")
        print(f"{options.chains:,} chains of {n_characters / options.chains:,.0f} characters, {ROUNDS} rounds")
        print(
            f"page {path.stat().st_size / 1e6:.2f} MB, built in {seconds:.1f} s, {after - before:,.0f} MB more memory"
        )
        for line in in_browser(path):
            print(line)


if __name__ == "__main__":
    main()
