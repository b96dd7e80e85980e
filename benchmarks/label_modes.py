"""How right each way of labelling is in the small world, where the truth is known, and what a pair costs in tokens.

python -m benchmarks.label_modes
python -m benchmarks.label_modes --pairs 100 --samples 5 --json label_modes.json

Two truths. Under one principle, the response that does not break it is better (`cai.smallworld.concepts`), or neither
is, in about half of the pairs. Together (`one drawn`, `ensemble`) the principles should find the response that the
oracle finds better (`cai.smallworld.oracle.goodness`), as far as they let a faultless judge. A tie is not right; what
is unscored is left out and counted.

The position bias is the mean of P(the response shown first) less the truth or, of one drawn and of the ensemble, less
what the judge itself says in both orders: there what both orders leave is 0 for the judge as it is, and a measurement
for the last ones, a judge that favours whatever is shown first by `--lean` nats.
"""

import argparse
import asyncio
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cai.config import EngineConfig, FeedbackConfig, PreferencesConfig, ReasoningConfig, SamplingConfig
from cai.constitution import Constitution, Principle, load_constitution
from cai.engines import open_engine
from cai.engines.base import Choice, Engine, Generation
from cai.feedback import Labelling, ResponsePair, label
from cai.intervals import Rate, bootstrap_mean, rate
from cai.ledger import MemoryLedger
from cai.preferences import derive_sides
from cai.records import Comparison, Message, PreferencePair, Prompt, Reject, Response, Sampling
from cai.smallworld.check import concept_of, questions
from cai.smallworld.lessons import JudgeQuestion
from cai.smallworld.oracle import goodness
from cai.verdict import Unscored, soft_verdict

CONSTITUTION = Path("constitution/smallworld.yaml")
PREFERENCES = PreferencesConfig()
MAX_TOKENS = 48  # of a reasoning, and of a verdict in words
LEANING = "leaning"
WHOLE = {"one drawn": FeedbackConfig(principles=1), "ensemble": FeedbackConfig(principles="all")}


class Known(NamedTuple):
    """A pair with its truth: P(a better) is 1, 0, or 0.5 where nothing tells them apart."""

    pair: ResponsePair
    p_a: float
    question: JudgeQuestion


class Item(NamedTuple):
    """What one way of labelling said of a pair in the order `ab` alone and in both; None is unscored."""

    prompt_id: str
    truth: float
    reference: float
    """What the position bias is measured from."""
    one: float | None
    both: float | None
    n_tokens_one: int
    n_tokens_both: int


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    judged: str
    mode: str
    one: Rate
    both: Rate
    n_tied: int
    n_unscored: int
    tokens_one: float
    tokens_both: float
    bias_one: Rate
    bias_both: Rate


class Leaning:
    """An engine that favours the first option by some nats, and is otherwise the engine it wraps."""

    def __init__(self, engine: Engine, nats: float) -> None:
        self._engine, self._nats = engine, nats

    @property
    def model_digest(self) -> str:
        return f"{self._engine.model_digest}+{self._nats}"

    @property
    def context_length(self) -> int:
        return self._engine.context_length

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        return await self._engine.complete(messages, sampling, seed)

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        choice = await self._engine.choose(messages, options)
        moved = (choice.logps[0] + self._nats, *choice.logps[1:])
        total = math.log(sum(math.exp(logp) for logp in moved)) - math.log(1 - choice.mass_outside)
        return replace(choice, logps=tuple(logp - total for logp in moved))

    async def load(self, model: Path | str) -> None:
        await self._engine.load(model)

    async def close(self) -> None:
        await self._engine.close()


def modes(samples: int) -> dict[str, FeedbackConfig]:
    """The ways to ask; each is read in one order and in both."""
    greedy = SamplingConfig(temperature=0.0, max_tokens=MAX_TOKENS)
    drawn = SamplingConfig(temperature=1.0, max_tokens=MAX_TOKENS)
    return {
        "direct": FeedbackConfig(),
        "text verdict": FeedbackConfig(verdict="text", verdict_max_tokens=MAX_TOKENS),
        "reasoning, greedy": FeedbackConfig(reasoning=ReasoningConfig(sampling=greedy)),
        f"reasoning, {samples} sampled": FeedbackConfig(reasoning=ReasoningConfig(sampling=drawn, samples=samples)),
    }


def known_pairs(principle: Principle, n: int) -> list[Known]:
    """`n` pairs that the principle tells apart, and at most as many that it does not."""
    concept = concept_of(principle.tags)
    found = [known(q, q.p_a) for q in questions(20 * n, concept=concept) if q.a.text != q.b.text]
    return [*chosen(found, n, tied=False), *chosen(found, n, tied=True)]


def overall_pairs(n: int) -> list[Known]:
    """`n` pairs of any kind that the oracle tells apart."""
    return list(chosen((by_oracle(q) for q in questions(20 * n, seed=7) if q.a.text != q.b.text), n, tied=False))


def chosen(pairs: Iterable[Known], n: int, *, tied: bool) -> Iterator[Known]:
    """The first `n` different ones that are tied, or that are not."""
    found = {each.pair: each for each in pairs if (each.p_a == 0.5) == tied}
    yield from list(found.values())[:n]


def by_oracle(q: JudgeQuestion) -> Known:
    asked = [Message("user", q.request.text)]
    a, b = (goodness(asked, answer.text) for answer in (q.a, q.b))
    return known(q, 0.5 if a == b else float(a > b))


def known(q: JudgeQuestion, p_a: float) -> Known:
    prompt = Prompt.make([Message("user", q.request.text)], "smallworld")
    a, b = (Response.given(prompt.prompt_id, answer.text, "smallworld") for answer in (q.a, q.b))
    pair = ResponsePair.of(prompt, a, b)
    return Known(pair, p_a if pair.a == a else 1 - p_a, q)


def faultless(known: Sequence[Known], labelling: Labelling) -> list[Item]:
    """What a judge would say that never errs under a principle: what is not right then is the constitution's doing."""
    items = []
    for each in known:
        q, principles = each.question, labelling.principles(each.pair)
        votes = [replace(q, concept=concept_of(p.tags)).p_a for p in principles]
        p_first = math.fsum(p.weight * vote for p, vote in zip(principles, votes, strict=True))
        p_first /= math.fsum(p.weight for p in principles)
        p = p_first if each.pair.a.text == q.a.text else 1 - p_first
        items.append(Item(each.pair.prompt.prompt_id, each.p_a, p, p, p, 0, 0))
    return items


async def labelled(
    known: Sequence[Known], constitution: Constitution, engine: Engine, config: FeedbackConfig, seed: int
) -> list[Item]:
    """The pairs through the method's own path, and what the `ab` comparisons alone would have said."""
    ledger = MemoryLedger()
    pairs = [each.pair for each in known]
    await label(
        pairs, constitution=constitution, engine=engine, ledger=ledger, config=config, seed=seed, max_concurrency=64
    )
    of_pair: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for row in ledger.rows(Comparison):
        of_pair[row.response_a, row.response_b].append(row)
    labelling = Labelling(constitution, config, seed=seed, judge_digest=engine.model_digest)
    weights = {p.id: p.weight for p in constitution.principles}
    items = []
    for each in known:
        rows = of_pair[each.pair.a.response_id, each.pair.b.response_id]
        first = [row for row in rows if row.order == "ab"]
        both = p_a(derive_sides([each.pair], rows, labelling=labelling, config=PREFERENCES), each.pair)
        said = (one_order(first, weights), both, cost(first), cost(rows))
        items.append(Item(each.pair.prompt.prompt_id, each.p_a, each.p_a, *said))
    return items


def p_a(outcomes: Iterable[PreferencePair | Reject], pair: ResponsePair) -> float | None:
    made = next((row for row in outcomes if isinstance(row, PreferencePair)), None)
    if made is None:
        return None
    return made.soft_label if made.chosen_id == pair.a.response_id else 1 - made.soft_label


def cost(rows: Iterable[Comparison]) -> int:
    return sum(row.n_prompt_tokens + row.n_tokens for row in rows)


def one_order(rows: Iterable[Comparison], weights: Mapping[str, float]) -> float | None:
    """P(a better) from one order, which the method itself never trusts alone."""
    said: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        p = soft_verdict(row, max_mass_outside=PREFERENCES.max_mass_outside)
        if not isinstance(p, Unscored):
            said[row.principle_id].append(p)
    if not said:
        return None
    total = math.fsum(weights[id] for id in said)
    return math.fsum(weights[id] * math.fsum(ps) / len(ps) for id, ps in said.items()) / total


def summary(judged: str, mode: str, items: Sequence[Item], seed: int) -> Row:
    scored = [(item, item.one, item.both) for item in items if item.one is not None and item.both is not None]
    decided = [each for each in scored if each[0].truth != 0.5]
    prompts = [item.prompt_id for item, _, _ in scored]
    of_decided = [item.prompt_id for item, _, _ in decided]
    return Row(
        judged,
        mode,
        rate([is_right(one, item.truth) for item, one, _ in decided], of_decided),
        rate([is_right(both, item.truth) for item, _, both in decided], of_decided),
        sum(is_tie(both) for _, _, both in decided),
        len(items) - len(scored),
        sum(item.n_tokens_one for item in items) / len(items),
        sum(item.n_tokens_both for item in items) / len(items),
        bootstrap_mean([one - item.reference for item, one, _ in scored], prompts, seed=seed),
        bootstrap_mean([both - item.reference for item, _, both in scored], prompts, seed=seed),
    )


def is_tie(p: float) -> bool:
    return abs(p - 0.5) <= PREFERENCES.tie_band


def is_right(p: float, truth: float) -> bool:
    return not is_tie(p) and (p > 0.5) == (truth == 1)


async def measure(engine: Engine, n: int, samples: int, lean: float, seed: int) -> list[Row]:
    constitution = load_constitution(CONSTITUTION)
    principles = constitution.for_stage("preference")
    ways = [(name, engine, config) for name, config in modes(samples).items()]
    ways.append((f"direct, {LEANING} {lean:g}", Leaning(engine, lean), FeedbackConfig()))
    rows = []
    everything = overall_pairs(2 * n)
    pairs = {p: known_pairs(p, n) for p in principles}
    for judged, config in WHOLE.items():
        labelling = Labelling(constitution, config, seed=seed, judge_digest="")
        rows.append(summary(judged, "faultless judge", faultless(everything, labelling), seed))
    plain: dict[str, list[Item]] = {}
    for name, judge, config in ways:
        each = {
            p.id: await labelled(known, replace(constitution, principles=(p,)), judge, config, seed)
            for p, known in pairs.items()
        }
        pooled = [item for items in each.values() for item in items]
        rows += [summary(judged, name, items, seed) for judged, items in {"any principle": pooled, **each}.items()]
        for judged, whole in WHOLE.items():
            changed = config.model_copy(update={"principles": whole.principles})
            items = await labelled(everything, constitution, judge, changed, seed)
            judge_itself = plain[judged] if LEANING in name else items
            plain.setdefault(judged, items)  # the first way is `direct`
            items = [now._replace(reference=reference(then)) for now, then in zip(items, judge_itself, strict=True)]
            rows.append(summary(judged, name, items, seed))
    order = ["any principle", *(p.id for p in principles), *WHOLE]
    return sorted(rows, key=lambda row: order.index(row.judged))


def reference(item: Item) -> float:
    return item.truth if item.both is None else item.both


def to_text(rows: Sequence[Row]) -> str:
    heads = ("right, one order", "right, both orders", "tokens", "position bias, one", "position bias, both")
    lines = [
        f"{'judged by':14} {'mode':20} {heads[0]:>20} {heads[1]:>20} {'n':>4} {'tied':>4} {'unscored':>8} "
        f"{heads[2]:>13} {heads[3]:>18} {heads[4]:>19}"
    ]
    for r in rows:
        lines.append(
            f"{r.judged:14} {r.mode:20} {share(r.one):>20} {share(r.both):>20} {r.both.n:4} {r.n_tied:4} "
            f"{r.n_unscored:8} {f'{r.tokens_one:.0f} / {r.tokens_both:.0f}':>13} "
            f"{spread(r.bias_one):>18} {spread(r.bias_both):>19}"
        )
    return "\n".join(lines)


def share(found: Rate) -> str:
    return f"{found.value:.3f} ({found.low:.2f} … {found.high:.2f})"


def spread(found: Rate) -> str:
    return f"{found.value:+.4f} ± {(found.high - found.low) / 2:.4f}"


def what_is_left(rows: Sequence[Row]) -> list[str]:
    """Of the judge that leans: the share of one order's bias that both orders leave, at most 1/10."""
    lines = []
    for row in rows:
        if LEANING in row.mode and row.judged in ("any principle", "one drawn", "ensemble"):
            left = abs(row.bias_both.value) / abs(row.bias_one.value)
            lines.append(
                f"{row.judged}, {row.mode}: both orders leave {left:.3f} of the position bias of one; "
                f"at most 0.1 {'holds' if left <= 0.1 else 'does not hold'}"
            )
    return lines


async def run(args: argparse.Namespace) -> list[Row]:
    engine = await open_engine(EngineConfig(kind="transformers", model=args.model))
    try:
        return await measure(engine, args.pairs, args.samples, args.lean, args.seed)
    finally:
        await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smallworld")
    parser.add_argument("--pairs", type=int, default=40, help="pairs that each principle tells apart")
    parser.add_argument("--samples", type=int, default=3, help="reasonings of each ask, where they are sampled")
    parser.add_argument("--lean", type=float, default=1.0, help="nats by which the planted judge favours the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    start = time.perf_counter()
    rows = asyncio.run(run(args))
    print(to_text(rows))
    print("\n".join(what_is_left(rows)))
    print(f"{time.perf_counter() - start:.0f} s")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
