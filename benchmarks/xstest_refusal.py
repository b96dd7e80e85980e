"""The rules that read refusals, on the labels of XSTest's two annotators, beside the annotators themselves.

    python -m benchmarks.xstest_refusal [--data ../shared/data/xstest] [--json FILE]

The rules were written looking at the answers of two models to 234 of the 450 prompts (`DEVELOPED`); of the answers to
the other 216 only counts of right and wrong were seen. Contrasts and their safe prompts are always on one side.

`planted` are answers made up in the styles of other families of models (`planted_refusals.jsonl`), with the class that
the guideline puts them in. The rules were written looking at those that are not `kept_back`; all have one author, who
wrote the rules as well, so they say less of other models than people's labels would.

`final` is the label that was settled on, `agreed` counts only answers that both annotators labelled alike. Intervals
are 95 %; one answer a prompt, and where both models count the prompt is the cluster. Published automatic labels:
Röttger et al. 2024, on all 450 answers.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, get_args

from cai.errors import DataError
from cai.intervals import Rate, rate
from cai.labels.kappa import cohens_kappa
from cai.probes import hedging
from cai.probes.refusal import Compliance, Reading, read
from cai.records import Reject
from storage.xstest import LabelledCompletion, read_completions

MODELS = ("gpt4", "llama2new")
PUBLISHED = {"gpt4": {"string match": 0.924, "GPT-4": 0.936}, "llama2new": {"string match": 0.856, "GPT-4": 0.782}}
PLANTED = Path(__file__).with_name("planted_refusals.jsonl")
DEVELOPED = frozenset({1, 2, 3, 4, 7, 9, 10, 13, 15, 16, 18, 23, 24})
"""Places in each type's 25 prompts, drawn by digest; a contrast stands in the place of what it contrasts with."""


class Pair(NamedTuple):
    """Of one answer: the prompt it answers, what one says it does, and what the other says."""

    prompt: str
    label: str
    said: str


class Read(NamedTuple):
    row: LabelledCompletion
    said: str


def answers(folder: Path, model: str) -> list[Read]:
    rows = list(read_completions(folder / f"xstest_v2_completions_{model}.csv"))
    if rejects := [row for row in rows if isinstance(row, Reject)]:
        raise DataError(f"{len(rejects)} rows cannot be read, the first: {rejects[0].detail}")
    return [Read(row, label_of(row.prompt, row.completion)) for row in rows if isinstance(row, LabelledCompletion)]


def label_of(prompt: str, response: str) -> str:
    reading = read(prompt, response)
    return reading.label if isinstance(reading, Reading) else reading.reason


def is_developed(row: LabelledCompletion) -> bool:
    return (int(row.row_id.removeprefix("v2-")) - 1) % 25 in DEVELOPED


def planted(is_kept_back: bool) -> list[Pair]:
    rows = [json.loads(line) for line in PLANTED.read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if row["kept_back"] == is_kept_back]
    return [Pair(row["prompt"], row["label"], label_of(row["prompt"], row["response"])) for row in chosen]


def references(read: Sequence[Read]) -> Iterator[tuple[str, list[Pair]]]:
    """Whom the rules are compared with; last, the annotators with each other."""
    yield "final", [Pair(r.row.prompt, r.row.final, r.said) for r in read]
    yield "annotator 1", [Pair(r.row.prompt, r.row.first, r.said) for r in read]
    yield "annotator 2", [Pair(r.row.prompt, r.row.second, r.said) for r in read]
    yield "agreed", [Pair(r.row.prompt, r.row.first, r.said) for r in read if r.row.is_agreed]
    yield "1 against 2", [Pair(r.row.prompt, r.row.first, r.row.second) for r in read]


class Quality(NamedTuple):
    accuracy: Rate
    kappa: Rate
    by_class: dict[str, dict[str, Rate]]


def quality(pairs: Sequence[Pair]) -> Quality:
    prompts = [pair.prompt for pair in pairs]
    labels, sayings = [p.label for p in pairs], [p.said for p in pairs]
    by_class = {name: of_class(pairs, name) for name in get_args(Compliance)}
    return Quality(rate([p.label == p.said for p in pairs], prompts), cohens_kappa(labels, sayings, prompts), by_class)


def of_class(pairs: Sequence[Pair], name: str) -> dict[str, Rate]:
    """One class against the other two."""
    found = [p for p in pairs if p.said == name]
    there = [p for p in pairs if p.label == name]
    prompts = [p.prompt for p in pairs]
    return {
        "precision": rate([p.label == name for p in found], [p.prompt for p in found]),
        "recall": rate([p.said == name for p in there], [p.prompt for p in there]),
        "kappa": cohens_kappa([p.label == name for p in pairs], [p.said == name for p in pairs], prompts),
    }


def measure(folder: Path) -> dict[str, dict[str, Quality]]:
    """Of each set of answers, the quality against each reference."""
    read = {model: answers(folder, model) for model in MODELS}
    both = [r for model in MODELS for r in read[model]]
    sets = {**read, "both": both, **{f"{m}, held back": held_back(read[m]) for m in MODELS}}
    sets["both, held back"] = held_back(both)
    found = {name: {who: quality(pairs) for who, pairs in references(chosen)} for name, chosen in sets.items()}
    halves = {"planted, developed on": planted(False), "planted, held back": planted(True)}
    return found | {name: {"label": quality(pairs)} for name, pairs in halves.items()}


def held_back(read: Sequence[Read]) -> list[Read]:
    return [r for r in read if not is_developed(r.row)]


def filler_rates(folder: Path, model: str) -> dict[str, float]:
    """Mean share of sentences with filler of each kind; there is no human label to hold them to."""
    readings = [hedging.read(r.row.completion) for r in answers(folder, model)]
    scored = [r for r in readings if isinstance(r, hedging.Hedging)]
    return {kind: math.fsum(r.rate(kind) for r in scored) / len(scored) for kind in get_args(hedging.Filler)}


def shown(found: Rate) -> str:
    if math.isnan(found.value):
        return f"{'-':>22}"
    return f"{100 * found.value:6.1f} [{100 * found.low:5.1f}, {100 * found.high:5.1f}]"


def text(measured: dict[str, dict[str, Quality]]) -> Iterator[str]:
    for name, by_reference in measured.items():
        yield f"\n{name}: {next(iter(by_reference.values())).accuracy.n} answers" + published(name)
        yield f"  {'against':<13}{'accuracy %':>22}{'kappa x 100':>24}"
        for who, found in by_reference.items():
            yield f"  {who:<13}{shown(found.accuracy):>22}{shown(found.kappa):>24}"
        yield f"  {'class':<17}{'against':<13}{'precision %':>22}{'recall %':>24}{'kappa x 100':>24}"
        for label in get_args(Compliance):
            for who, found in by_reference.items():
                values = "  ".join(f"{shown(value):>22}" for value in found.by_class[label].values())
                yield f"  {label:<17}{who:<13}{values}"


def published(name: str) -> str:
    return "".join(f"; {who} {100 * value:.1f} % (published)" for who, value in PUBLISHED.get(name, {}).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/xstest"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    measured = measure(args.data)
    print("\n".join(text(measured)))
    fillers: dict[str, Any] = {model: filler_rates(args.data, model) for model in MODELS}
    print("\nmean share of sentences with filler, %")
    for model, rates in fillers.items():
        print(f"  {model:<11}" + "  ".join(f"{kind} {100 * value:.1f}" for kind, value in rates.items()))
    if args.json:
        found = {name: {who: as_json(q) for who, q in by.items()} for name, by in measured.items()}
        args.json.write_text(json.dumps({"refusal": found, "filler": fillers}, indent=1))


def as_json(found: Quality) -> dict[str, Any]:
    by_class = {label: {k: asdict(v) for k, v in values.items()} for label, values in found.by_class.items()}
    return {"accuracy": asdict(found.accuracy), "kappa": asdict(found.kappa), "by_class": by_class}


if __name__ == "__main__":
    main()
