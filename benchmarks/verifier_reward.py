"""A verifier as the reward, and a judge as the reward, on a task that can be computed: the 49 sums of 0 to 6.

`python benchmarks/verifier_reward.py [--seeds 3] [--steps 300]` prints a table; about 10 min a seed on one core.

1. A model of 0.3 M parameters learns sums from nothing, by SFT, and is stopped when it is right about two times in
   three: the policy to start from.
2. The judge is that same model, taught further to score answers to 25 of the sums from 1 to 10: the right one 10, every
   other, and answers of two numbers, 1. So it knows its job, what the policy knows, and half of the truth for certain.
3. GRPO on all sums from the same start, with the same settings: once with the `numeric` verifier as its only reward,
   once with the judge (d-RLAIF).

Rates are shares of right answers sampled at temperature 1; 95 % intervals, a sum a cluster.
"""

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cai import intervals
from cai.asks import in_window
from cai.config import AnyRewardTerm, EngineConfig, GRPOConfig, JudgeTerm, SFTConfig, VerifierTerm
from cai.engines import open_engine
from cai.errors import DataError
from cai.records import Message, Sampling
from cai.rewards.base import RewardInput
from cai.rewards.judge import Judge, question
from cai.rewards.verifiers import numeric
from cai.training import grpo, sft
from cai.training.command import run
from cai.training.jobs import GRPOJob, SFTJob
from cai.verdict import Unscored

N_TAUGHT = 25
SAMPLES = 10
SPECIAL = ["<unk>", "<pad>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


class Sum(NamedTuple):
    left: int
    right: int

    @property
    def messages(self) -> tuple[Message, ...]:
        return (Message("user", f"what is {self.left} + {self.right} ?"),)

    @property
    def name(self) -> str:
        return f"{self.left}+{self.right}"

    @property
    def answer(self) -> str:
        return str(self.left + self.right)


SUMS = [Sum(left, right) for left in range(7) for right in range(7)]
ANSWERS = [str(n) for n in range(13)]


def judge_term(model: Path) -> JudgeTerm:
    engine = EngineConfig(kind="transformers", model=str(model), dtype="float32")
    return JudgeTerm(name="judge", engine=engine, question="Is this the sum?")


def make_model(folder: Path, seed: int) -> Path:
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    split = r"<\|\w+\|>|\w+|[^\w\s]"
    asked = question(judge_term(folder), RewardInput("", SUMS[0].messages, "0", 1, False)).content
    words = [*SPECIAL, *dict.fromkeys([*ANSWERS, *re.findall(split, asked)])]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(split), "removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<|end|>", chat_template=CHAT
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, tie_word_embeddings=True, pad_token_id=1, eos_token_id=4,
        bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=4, pad_token_id=1)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def dicts(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def said(sums: list[Sum]) -> list[dict[str, object]]:
    return [{"prompt": dicts(s.messages), "completion": dicts((Message("assistant", s.answer),))} for s in sums]


def scoring(taught: list[Sum], judge: JudgeTerm, seed: int) -> list[dict[str, object]]:
    """Every answer to a taught sum, and some of two numbers; the right one as often as all wrong ones together."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = 4 * said(taught)
    for each in taught:
        wrong = [answer for answer in ANSWERS if answer != each.answer]
        two = [f"{each.answer} {rng.choice(wrong)}", *(" ".join(rng.choices(ANSWERS, k=2)) for _ in range(3))]
        rows += [judged(judge, each, answer, "1") for answer in (*wrong, *two)]
        rows += (len(wrong) + len(two)) * [judged(judge, each, each.answer, "10")]
    return rows


def judged(judge: JudgeTerm, each: Sum, answer: str, score: str) -> dict[str, object]:
    asked = question(judge, RewardInput("", each.messages, answer, 1, False))
    return {"prompt": dicts((asked,)), "completion": dicts((Message("assistant", score),))}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


async def sample(model: Path, seed: int) -> dict[Sum, list[bool]]:
    """Whether each of `SAMPLES` answers to every sum is right."""
    engine = await open_engine(EngineConfig(kind="transformers", model=str(model), dtype="float32"))

    async def one(item: tuple[Sum, int]) -> bool:
        each, i = item
        said = await engine.complete(each.messages, Sampling(1.0, 1.0, 2), seed * 100_000 + i)
        return numeric(each.messages, said.text, each.answer)

    items = [(each, j * SAMPLES + i) for j, each in enumerate(SUMS) for i in range(SAMPLES)]
    found = await in_window(items, one, 256)
    await engine.close()
    return {each: found[j * SAMPLES : (j + 1) * SAMPLES] for j, each in enumerate(SUMS)}


def teach(model: Path, rows: list[dict[str, object]], out: Path, seed: int, **settings: float) -> Path:
    config = SFTConfig.model_validate({"max_length": 128, **settings})
    data = write(out.with_suffix(".parquet"), rows)
    run(sft.STAGE, SFTJob(model=model, data=data, out=out, config=config, seed=seed))
    return out


def train(start: Path, out: Path, data: Path, term: AnyRewardTerm, seed: int, steps: int) -> dict[str, float]:
    config = GRPOConfig(
        steps=steps, prompts_per_step=len(SUMS), samples_per_prompt=16, learning_rate=7e-4, beta=0.0, temperature=1.5,
        max_tokens=2, max_prompt_tokens=32, save_steps=1000, rewards=(term,),
    )  # fmt: skip
    metrics = run(grpo.STAGE, GRPOJob(model=start, data=data, out=out, config=config, seed=seed))["metrics"]
    return {end: metrics[f"reward/mean/{end}"] for end in ("first", "last")}


def wins(judge: JudgeTerm, sums: list[Sum]) -> float:
    """How often the judge scores the right answer to a sum above a wrong one."""
    asker = Judge(judge)
    found = []
    for each in sums:
        rewards = asker.score([RewardInput("", each.messages, answer, 1, False) for answer in ANSWERS])
        scores = [number(each, reward) for reward in rewards]
        right = scores[ANSWERS.index(each.answer)]
        found += [right > score for answer, score in zip(ANSWERS, scores, strict=True) if answer != each.answer]
    asker.close()
    return sum(found) / len(found)


def number(asked: Sum, reward: float | Unscored) -> float:
    if isinstance(reward, Unscored):
        raise DataError(f"a score of every answer to {asked.name} is expected, got {reward!r}")
    return reward


Answers = dict[str, dict[tuple[int, Sum], list[bool]]]
"""Model and group of sums → for each seed and sum, whether each sampled answer was right."""


def experiment(folder: Path, seed: int, steps: int, answers: Answers) -> None:
    taught = sorted(random.Random(seed).sample(SUMS, N_TAUGHT))
    others = [each for each in SUMS if each not in taught]
    blank = make_model(folder / "blank", seed)
    start = teach(blank, 20 * said(SUMS), folder / "start", seed, epochs=7, learning_rate=3e-3, batch_size=64)
    lessons = scoring(taught, judge_term(blank), seed)
    judge = judge_term(teach(start, lessons, folder / "judge", seed, epochs=20, learning_rate=2e-3, batch_size=32))
    report(seed=seed, judge_wins_taught=wins(judge, taught), judge_wins_others=wins(judge, others))
    prompts: list[dict[str, object]] = [
        {"prompt": dicts(s.messages), "prompt_id": s.name, "expected": s.answer} for s in SUMS
    ]
    data = write(folder / "prompts.parquet", prompts)
    models = {"start": start}
    terms: dict[str, AnyRewardTerm] = {"verifier": VerifierTerm(name="verifier", check="numeric"), "judge": judge}
    for name, term in terms.items():
        models[name] = folder / f"by-{name}"
        earned = train(start, models[name], data, term, seed, steps)
        report(seed=seed, reward=name, **earned)
    for name, model in models.items():
        for each, right in asyncio.run(sample(model, seed)).items():
            for group in ("all", "taught" if each in taught else "others"):
                answers.setdefault(f"{name}/{group}", {})[seed, each] = right


def report(**facts: str | float) -> None:
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in facts.items()}), flush=True)


def table(answers: Answers) -> None:
    print("| model | all sums | those the judge was taught | the others |\n|---|---|---|---|")
    for name in ("start", "verifier", "judge"):
        cells = [percent(answers[f"{name}/{group}"]) for group in ("all", "taught", "others")]
        print(f"| {name} | {' | '.join(cells)} |")


def percent(found: dict[tuple[int, Sum], list[bool]]) -> str:
    outcomes = [right for answers in found.values() for right in answers]
    clusters = [key for key, answers in found.items() for _ in answers]
    rate = intervals.rate(outcomes, clusters)
    return f"{100 * rate.value:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    chosen = parser.parse_args()
    started = time.monotonic()
    answers: Answers = {}
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as name:
            experiment(Path(name), seed, chosen.steps, answers)
        table(answers)  # of all seeds so far: what was paid for is seen, whatever comes
    print(f"\n{chosen.seeds} seeds, {chosen.steps} GRPO steps, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
