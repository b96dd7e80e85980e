"""What rules and the judge say of answers in the small world beside the oracle, which knows: each measure's error.

python -m benchmarks.measures_against_oracle [--prompts 500] [--engine vllm] [--json FILE]

Sets of answers to held-out requests: `planted`, written by the small world's grammar, every act equally often and one
in ten rude; `in part`, with answers besides that turn a request away and yet do it; and `sampled`, the shipped
model's own. The judge is the shipped model, asked as a run asks it.

Value and truth are shares (wins with ties as one half); the error is their difference on the same prompts, and kappa
and agreement are answer by answer, of wins only where the oracle finds one answer better. Marks of harm have a table of
their own. All with 95 % intervals.
"""

import argparse
import asyncio
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from cai.asks import in_window
from cai.candidates import sample_responses
from cai.config import EngineConfig, FeedbackConfig, PreferencesConfig
from cai.constitution import Constitution, load_constitution
from cai.engines import open_engine
from cai.engines.base import Engine
from cai.evaluation import judge_matches
from cai.gate import rate_change
from cai.intervals import Floats, Rate, bootstrap, bootstrap_mean, paired_difference, rate, share
from cai.labels.kappa import cohens_kappa
from cai.ledger import MemoryLedger
from cai.metrics.harmfulness import MAX_MASS_OUTSIDE, rate_responses, severity
from cai.probes import hedging, judged_refusal, refusal
from cai.probes.refusal import Compliance
from cai.records import Message, Prompt, Rating, Response, Sampling
from cai.smallworld import alone, oracle, world
from cai.smallworld import answers as say
from cai.verdict import Unscored

CONSTITUTION = Path("constitution/smallworld.yaml")
RUDE = 0.1
WINS = {"harmlessness": ("least-harm",), "helpfulness": ("be-helpful",), "whole constitution": ()}
"""What the judge is asked about two answers: the principles, or all of them."""


class Line(NamedTuple):
    measure: str
    answers: str
    value: Rate
    truth: Rate
    error: Rate
    agreement: Rate
    kappa: Rate


class Asked(NamedTuple):
    prompts: list[Prompt]
    requests: list[world.Request]

    def answered(self, texts: Sequence[str], by: str) -> list[Response]:
        return [Response.given(p.prompt_id, text, by) for p, text in zip(self.prompts, texts, strict=True)]


def planted(asked: Asked, seed: int) -> list[Response]:
    rng = random.Random(seed)
    made = [
        say.answer(rng, request, rng.choice(say.ACTS), is_rude=rng.random() < RUDE).text for request in asked.requests
    ]
    return asked.answered(made, f"planted {seed}")


def in_part(asked: Asked, seed: int) -> list[Response]:
    rng = random.Random(seed)
    made = [
        alone.write(rng, request, rng.choice(alone.FORMS), "eval", is_rude=rng.random() < RUDE)
        for request in asked.requests
    ]
    return asked.answered(made, f"planted in part {seed}")


# By rules


def by_rules(asked: Asked, name: str, responses: Sequence[Response]) -> Iterator[Line]:
    """The classes of refusal, and hedging, beside the oracle's acts."""
    ids = [response.prompt_id for response in responses]
    pairs = [(request.text, response.text) for request, response in zip(asked.requests, responses, strict=True)]
    acts = [oracle.read(*pair).act for pair in pairs]
    said = [getattr(refusal.read(*pair), "label", "unscored") for pair in pairs]
    hedges = [isinstance(h := hedging.read(text), hedging.Hedging) and h.rate("hedge") > 0 for _, text in pairs]
    turned_away = [label in ("full_refusal", "partial_refusal") for label in said]
    yield compared(
        "rules: refusal (full) ~ refuses", name, [s == "full_refusal" for s in said], are(acts, "refuse"), ids
    )
    yield compared("rules: turned away ~ refuses or evades", name, turned_away, are(acts, "refuse", "evade"), ids)
    yield compared("rules: full compliance ~ complies", name, are(said, "full_compliance"), are(acts, "comply"), ids)
    yield compared("rules: hedges ~ evades", name, hedges, are(acts, "evade"), ids)


def are(values: Sequence[str], *wanted: str) -> list[bool]:
    return [value in wanted for value in values]


def compared(measure: str, name: str, said: Sequence[bool], truth: Sequence[bool], ids: Sequence[str]) -> Line:
    error = rate_change(dict(zip(ids, said, strict=True)), dict(zip(ids, truth, strict=True)))
    agreement = rate([s == t for s, t in zip(said, truth, strict=True)], ids)
    return Line(measure, name, rate(said, ids), rate(truth, ids), error, agreement, cohens_kappa(said, truth, ids))


# By the judge


async def by_judge(
    asked: Asked,
    name: str,
    first: Sequence[Response],
    second: Sequence[Response],
    engine: Engine,
    limits: argparse.Namespace,
) -> list[Line]:
    """Win rates of the first answers over the second ones: of harmful requests, of benign ones, of all."""
    whole = load_constitution(CONSTITUTION)
    lines = []
    for what, ids in WINS.items():
        chosen = [place for place, request in enumerate(asked.requests) if is_about(what, request)]
        rules = whole if not ids else only(whole, ids)
        judged = await judge_matches(
            [asked.prompts[i] for i in chosen],
            [first[i] for i in chosen],
            [second[i] for i in chosen],
            constitution=rules,
            engine=engine,
            ledger=MemoryLedger(),
            feedback=FeedbackConfig(),
            preferences=PreferencesConfig(),
            seed=0,
            max_concurrency=limits.concurrency,
        )
        known = {asked.prompts[i].prompt_id: truth(what, asked.requests[i], first[i], second[i]) for i in chosen}
        lines.append(of_wins(f"judge: wins, {what}", name, {m.prompt_id: m.win for m in judged.matches}, known))
    return lines


def is_about(what: str, request: world.Request) -> bool:
    return what == "whole constitution" or (request.kind is not None) == (what == "harmlessness")


def only(whole: Constitution, ids: Sequence[str]) -> Constitution:
    return replace(whole, principles=tuple(p for p in whole.principles if p.id in ids))


def truth(what: str, request: world.Request, first: Response, second: Response) -> float:
    """1 where the first answer is better, 0.5 where neither is."""
    worths = []
    for answer in (first, second):
        reading = oracle.read(request.text, answer.text)
        worth = {"harmlessness": not reading.is_harmful, "helpfulness": reading.is_helpful}.get(what)
        worths.append(oracle.goodness([Message("user", request.text)], answer.text) if worth is None else float(worth))
    return 0.5 if worths[0] == worths[1] else float(worths[0] > worths[1])


def of_wins(measure: str, name: str, said: Mapping[str, float], known: Mapping[str, float]) -> Line:
    ids = [key for key in known if key in said]
    values, truths = [said[key] for key in ids], [known[key] for key in ids]
    decided = [key for key in ids if known[key] != 0.5]
    first, second = ([{0.0: "loses", 0.5: "ties", 1.0: "wins"}[of[key]] for key in decided] for of in (said, known))
    return Line(
        measure,
        name,
        share(values, ids),
        share(truths, ids),
        paired_difference(values, truths, ids, seed=0),
        rate([said[key] == known[key] for key in decided], decided),
        cohens_kappa(first, second, decided),
    )


# By the judge, of one answer alone


def of_classes(
    by: str, asked: Asked, name: str, responses: Sequence[Response], said: Sequence[Compliance | Unscored]
) -> Iterator[Line]:
    """Each of the three classes of refusal beside what the oracle calls so; what is unscored is none of them."""
    pairs = zip(asked.requests, responses, strict=True)
    known = [oracle.compliance(request.text, response.text) for request, response in pairs]
    ids = [response.prompt_id for response in responses]
    for label in get_args(Compliance):
        hits = [found == label for found in said]
        yield compared(f"{by}: {label.replace('_', ' ')}", name, hits, are(known, label), ids)


def classes_by_rules(asked: Asked, responses: Sequence[Response]) -> list[Compliance | Unscored]:
    pairs = zip(asked.requests, responses, strict=True)
    read = [refusal.read(request.text, response.text) for request, response in pairs]
    return [found if isinstance(found, Unscored) else found.label for found in read]


async def classes_by_judge(
    asked: Asked, responses: Sequence[Response], engine: Engine, concurrency: int
) -> list[Compliance | Unscored]:
    async def one(pair: tuple[world.Request, Response]) -> Compliance | Unscored:
        request, response = pair
        found = await judged_refusal.judge(request.text, response.text, engine, max_mass_outside=MAX_MASS_OUTSIDE)
        return found if isinstance(found, Unscored) else found.label

    return await in_window(list(zip(asked.requests, responses, strict=True)), one, concurrency)


class Marks(NamedTuple):
    """The judge's expected marks of harm beside the oracle's marks, 0 to 4. `distance` is the mean absolute error,
    `same` how often the most probable mark is right, `order` how often, of two answers with different marks, the judge
    marks the worse one higher (ties count one half).
    """

    answers: str
    value: Rate
    truth: Rate
    error: Rate
    distance: Rate
    same: Rate
    order: Rate
    n_unscored: int


async def marks_by_judge(
    asked: Asked, name: str, responses: Sequence[Response], engine: Engine, concurrency: int
) -> Marks:
    rows = await rate_responses(
        {prompt.prompt_id: prompt for prompt in asked.prompts},
        responses,
        constitution=load_constitution(CONSTITUTION),
        engine=engine,
        ledger=MemoryLedger(),
        max_concurrency=concurrency,
    )
    found = [severity(row) if isinstance(row, Rating) else Unscored(row.reason) for row in rows]
    scored = [i for i, value in enumerate(found) if not isinstance(value, Unscored)]
    said = [value for value in found if not isinstance(value, Unscored)]
    known = [float(oracle.mark_of_harm(asked.requests[i].text, responses[i].text)) for i in scored]
    most = [float(row.logps.index(max(row.logps))) for row in (rows[i] for i in scored) if isinstance(row, Rating)]
    ids = [responses[i].prompt_id for i in scored]
    return Marks(
        name,
        bootstrap_mean(said, ids, seed=0),
        bootstrap_mean(known, ids, seed=0),
        paired_difference(said, known, ids, seed=0),
        bootstrap_mean([abs(s - k) for s, k in zip(said, known, strict=True)], ids, seed=0),
        rate([m == k for m, k in zip(most, known, strict=True)], ids),
        same_order(said, known),
        len(rows) - len(scored),
    )


def same_order(said: Sequence[float], known: Sequence[float]) -> Rate:
    """Of pairs that `known` tells apart, the share that `said` orders alike; each value is of a prompt of its own."""
    values, truths = np.array(said), np.array(known)
    above = truths[:, None] > truths[None]
    alike = above * (1 + np.sign(values[:, None] - values[None])) / 2

    def shares(times: Floats) -> Floats:
        counted = [np.einsum("ni,ij,nj->n", times, of, times, optimize=True) for of in (alike, above.astype(float))]
        return np.asarray(counted[0] / counted[1])[:, None]

    (found,) = bootstrap(np.eye(len(values)), shares, seed=0)
    return Rate(*found, len(values))


async def measure(options: argparse.Namespace) -> tuple[list[Line], list[Marks]]:
    requests = world.requests("eval", options.prompts, seed=1)
    asked = Asked([Prompt.make([Message("user", r.text)], world.SOURCE, split="eval") for r in requests], requests)
    engine = await open_engine(
        EngineConfig(kind=options.engine, model="smallworld", dtype="float32", context_length=2048)
    )
    try:
        answers = {"planted": planted(asked, 1), "sampled": await sampled(asked, engine, options)}
        lines = [line for name, responses in answers.items() for line in by_rules(asked, name, responses)]
        second = planted(asked, 2)
        for name, responses in answers.items():
            lines += await by_judge(asked, name, responses, second, engine, options)
        marks = []
        for name, responses in {"in part": in_part(asked, 1), "sampled": answers["sampled"]}.items():
            judged = await classes_by_judge(asked, responses, engine, options.concurrency)
            lines += of_classes("rules", asked, name, responses, classes_by_rules(asked, responses))
            lines += of_classes("judge", asked, name, responses, judged)
            marks.append(await marks_by_judge(asked, name, responses, engine, options.concurrency))
        return lines, marks
    finally:
        await engine.close()


async def sampled(asked: Asked, engine: Engine, options: argparse.Namespace) -> list[Response]:
    return await sample_responses(
        asked.prompts,
        engine=engine,
        ledger=MemoryLedger(),
        sampling=Sampling(temperature=0.7, max_tokens=48),
        k=1,
        seed=0,
        stage="eval",
        max_concurrency=options.concurrency,
    )


def shown(found: Rate, times: float = 100, digits: int = 1) -> str:
    if math.isnan(found.value):
        return "(no variation)"
    value, low, high = (f"{times * x:.{digits}f}" for x in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines, marks = asyncio.run(measure(options))
    print("| measure ~ truth | answers | n | value % | truth % | error, points | agreement % | kappa × 100 |")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        rates = (line.value, line.truth, line.error, line.agreement, line.kappa)
        print(f"| {line.measure} | {line.answers} | {line.value.n} | {' | '.join(map(shown, rates))} |")
    print("\n| judge's marks of harm, 0 to 4 | n | unscored | value | truth | error | distance | same % | order % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for each in marks:
        of_scale = " | ".join(shown(x, 1, 2) for x in (each.value, each.truth, each.error, each.distance))
        cells = f"{of_scale} | {shown(each.same)} | {shown(each.order)}"
        print(f"| {each.answers} | {each.value.n} | {each.n_unscored} | {cells} |")
    if options.json:
        found = [
            {"measure": x.measure, "answers": x.answers} | {k: asdict(getattr(x, k)) for k in Line._fields[2:]}
            for x in lines
        ]
        of_harm = [{k: asdict(v) if isinstance(v, Rate) else v for k, v in m._asdict().items()} for m in marks]
        options.json.write_text(json.dumps({"measures": found, "marks of harm": of_harm}, indent=1))


if __name__ == "__main__":
    main()
