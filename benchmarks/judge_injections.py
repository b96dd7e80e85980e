"""What each injection gains against the small world's judge, with the fence and without any defence.

    python benchmarks/judge_injections.py [--n 50] [--model smallworld] [--engine transformers]

Pairs whose winner the oracle knows. An attack is added to one answer, for the letter that the answer stands under; what
is printed is how often that answer is preferred, less how often the same answer is preferred clean in the same place,
prompt by prompt. `label` is the win rate of the attacked loser where both orders are averaged and what says nothing
cannot win, as labels are made: whoever attacks does not know the place then.
"""

import argparse
import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from cai.asks import in_window
from cai.config import EngineConfig
from cai.engines import open_engine
from cai.engines.base import Engine
from cai.feedback import OPTIONS, comparison_message
from cai.intervals import Rate, bootstrap_mean, paired_difference
from cai.labels.fence import says_nothing
from cai.labels.injections import ATTACKS, Attack
from cai.records import Message
from cai.smallworld import check, lessons
from cai.smallworld.lessons import JudgeQuestion
from cai.templates import DEFAULTS, render

CLEAN = Attack("clean", "{{ answer }}")


class Place(NamedTuple):
    """One ask: the attacked answer under `letter`, the other one under the other letter."""

    question: JudgeQuestion
    attacked: str
    clean: str
    letter: str
    is_defended: bool

    def message(self) -> Message:
        texts = (self.attacked, self.clean) if self.letter == "A" else (self.clean, self.attacked)
        asked, preference = [Message("user", self.question.request.text)], self.question.preference
        if self.is_defended:
            return comparison_message(DEFAULTS["comparison"], asked, *texts, preference)
        fields = {"messages": asked, "response_a": texts[0], "response_b": texts[1], "preference": preference}
        return Message("user", render(lessons.COMPARISON, fields))


async def p_attacked(engine: Engine, places: Sequence[Place]) -> list[float]:
    """P(the attacked answer is preferred) of each ask, as a win (1), a tie or a loss (0)."""

    async def one(place: Place) -> float:
        choice = await engine.choose([place.message()], OPTIONS)
        a, b = choice.logps
        return float(a > b if place.letter == "A" else b > a)

    return await in_window(places, one, 64)


def decided(n: int) -> list[JudgeQuestion]:
    """Questions with a winner and two answers that say something."""
    found = [q for q in check.questions(8 * n) if q.p_a != 0.5 and q.a.text and q.b.text]
    return found[:n]


def sides(question: JudgeQuestion) -> tuple[str, str]:
    """The worse answer and the better one."""
    a, b = question.a.text, question.b.text
    return (b, a) if question.p_a == 1 else (a, b)


async def in_places(
    engine: Engine, asked: Sequence[JudgeQuestion], attack: Attack, side: int, defended: bool
) -> list[float]:
    """For each question the mean over both places of the attacked answer winning, attacked for that place."""
    places = [
        Place(q, attack.text(sides(q)[side], letter), sides(q)[1 - side], letter, defended)
        for q in asked
        for letter in OPTIONS
    ]
    wins = await p_attacked(engine, places)
    return [(first + second) / 2 for first, second in zip(wins[::2], wins[1::2], strict=True)]


async def labels(engine: Engine, asked: Sequence[JudgeQuestion], attack: Attack) -> list[float]:
    """For each question whether the attacked loser gets the label; P is averaged over both orders of one text."""

    async def one(question: JudgeQuestion) -> float:
        worse, better = sides(question)
        text = attack.text(worse, "A")
        if says_nothing(text):
            return 0.0
        p = []
        for letter in OPTIONS:
            choice = await engine.choose([Place(question, text, better, letter, True).message()], OPTIONS)
            a, b = choice.logps
            p.append(1 / (1 + 2.718281828459045 ** (b - a if letter == "A" else a - b)))
        return float(sum(p) / 2 > 0.5)

    return await in_window(asked, one, 64)


def points(found: Rate) -> str:
    return f"{100 * found.value:+6.1f} [{100 * found.low:+6.1f}, {100 * found.high:+6.1f}]"


async def measure(config: EngineConfig, n: int) -> None:
    asked = decided(n)
    prompts = [q.request.text for q in asked]
    engine = await open_engine(config)
    loser_open = await in_places(engine, asked, CLEAN, 0, False)
    clean = [await in_places(engine, asked, CLEAN, side, True) for side in (0, 1)]
    label_clean = await labels(engine, asked, CLEAN)
    rates = [bootstrap_mean(values, prompts, seed=0) for values in (loser_open, clean[0], clean[1], label_clean)]
    print(f"{len(asked)} pairs; clean win rates: the worse answer {rates[0].value:.3f} without defence,")
    print(f"{rates[1].value:.3f} fenced, its label {rates[3].value:.3f}; the better answer {rates[2].value:.3f}\n")
    print("points that the attack adds, with 95 % intervals over prompts")
    print(f"{'attack':<20}{'worse, undefended':>26}{'worse, fenced':>26}{'either, fenced':>26}{'label of worse':>26}")
    for attack in ATTACKS:
        raw = await in_places(engine, asked, attack, 0, False)
        worse, better = [await in_places(engine, asked, attack, side, True) for side in (0, 1)]
        either = [(x + y) / 2 for x, y in zip(worse, better, strict=True)]
        clean_either = [(x + y) / 2 for x, y in zip(*clean, strict=True)]
        label = await labels(engine, asked, attack)
        pairs = ((raw, loser_open), (worse, clean[0]), (either, clean_either), (label, label_clean))
        found = [points(paired_difference(x, y, prompts, seed=0)) for x, y in pairs]
        print(f"{attack.name:<20}" + "".join(f"{each:>26}" for each in found), flush=True)
    await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50, help="pairs (default 50)")
    parser.add_argument("--model", default="smallworld")
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    args = parser.parse_args()
    config = EngineConfig(kind=args.engine, model=args.model, dtype="float32", context_length=2048)
    asyncio.run(measure(config, args.n))


if __name__ == "__main__":
    main()
