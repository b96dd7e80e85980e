"""A verifier as the reward, and a judge as the reward, on a task that can be computed: sums of two digits.

`python benchmarks/verifier_reward.py [--seeds 3] [--steps 60]` prints a table; about 3 min a seed on one core.

A model of 0.3 M parameters learns from nothing, by SFT, to answer half of the hundred sums, and to score answers to the
same half from 1 to 10 (the right one 10, every other 1). Then GRPO trains it on all hundred sums, once with the
`numeric` verifier as its only reward, once with itself as the judge (d-RLAIF) and nothing else changed. So the judge
knows its job and exactly the sums that the policy was taught; of the others it knows what it can generalise.

Rates are shares of right answers, over all hundred sums, sampled at temperature 1; 95 % intervals, a sum a cluster.
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
from cai.records import Message, Sampling
from cai.rewards.base import RewardInput
from cai.rewards.judge import question
from cai.rewards.verifiers import numeric
from cai.training import grpo, sft
from cai.training.command import run
from cai.training.jobs import GRPOJob, SFTJob

N_KNOWN = 50
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


SUMS = [Sum(left, right) for left in range(10) for right in range(10)]
ANSWERS = [str(n) for n in range(19)]


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


def lessons(known: list[Sum], judge: JudgeTerm) -> list[dict[str, object]]:
    """Every answer to a known sum, judged; the right one and the sum itself as often as all wrong ones together."""
    rows = []
    for each in known:
        right: list[dict[str, object]] = []
        for answer in ANSWERS:
            asked = question(judge, RewardInput("", each.messages, answer, 1, False))
            score = "10" if answer == each.answer else "1"
            row = {"prompt": dicts((asked,)), "completion": dicts((Message("assistant", score),))}
            (right if answer == each.answer else rows).append(row)
        said = {"prompt": dicts(each.messages), "completion": dicts((Message("assistant", each.answer),))}
        rows += (len(ANSWERS) - 1) * [*right, said]
    return rows


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


async def sample(model: Path, seed: int) -> dict[Sum, list[bool]]:
    """Whether each of `SAMPLES` answers to every sum is right."""
    engine = await open_engine(EngineConfig(kind="transformers", model=str(model), dtype="float32"))

    async def one(item: tuple[Sum, int]) -> bool:
        each, i = item
        said = await engine.complete(each.messages, Sampling(1.0, 1.0, 4), seed * 100_000 + i)
        return numeric(each.messages, said.text, each.answer)

    items = [(each, j * SAMPLES + i) for j, each in enumerate(SUMS) for i in range(SAMPLES)]
    found = await in_window(items, one, 256)
    await engine.close()
    return {each: found[j * SAMPLES : (j + 1) * SAMPLES] for j, each in enumerate(SUMS)}


def train(start: Path, out: Path, data: Path, term: AnyRewardTerm, seed: int, steps: int) -> dict[str, float]:
    config = GRPOConfig(
        steps=steps, prompts_per_step=25, samples_per_prompt=16, learning_rate=5e-4, beta=0.0, max_tokens=4,
        max_prompt_tokens=32, save_steps=1000, rewards=(term,),
    )  # fmt: skip
    metrics = run(grpo.STAGE, GRPOJob(model=start, data=data, out=out, config=config, seed=seed))["metrics"]
    return {end: metrics[f"reward/mean/{end}"] for end in ("first", "last")}


def experiment(folder: Path, seed: int, steps: int, rows: dict[str, dict[tuple[int, Sum], list[bool]]]) -> None:
    known = sorted(random.Random(seed).sample(SUMS, N_KNOWN))
    blank = make_model(folder / "blank", seed)
    start = folder / "start"
    taught = write(folder / "sft.parquet", lessons(known, judge_term(blank)))
    config = SFTConfig(epochs=6, learning_rate=2e-3, batch_size=64, max_length=128)
    run(sft.STAGE, SFTJob(model=blank, data=taught, out=start, config=config, seed=seed))
    prompts = [{"prompt": dicts(s.messages), "prompt_id": s.name, "expected": s.answer} for s in SUMS]
    data = write(folder / "prompts.parquet", prompts)
    terms = {"verifier": VerifierTerm(name="verifier", check="numeric"), "judge": judge_term(start)}
    models = {"start": start}
    for name, term in terms.items():
        earned = train(start, folder / name, data, term, seed, steps)
        print(json.dumps({"seed": seed, "reward": name, **{k: round(v, 3) for k, v in earned.items()}}), flush=True)
        models[name] = folder / name
    for name, model in models.items():
        for each, right in asyncio.run(sample(model, seed)).items():
            kind = "taught" if each in known else "not taught"
            for group in ("all", kind):
                rows.setdefault(f"{name}/{group}", {})[seed, each] = right


def table(rows: dict[str, dict[tuple[int, Sum], list[bool]]]) -> None:
    print("| model | all sums | taught by SFT | not taught |\n|---|---|---|---|")
    for name in ("start", "verifier", "judge"):
        cells = []
        for group in ("all", "taught", "not taught"):
            found = rows[f"{name}/{group}"]
            outcomes = [right for answers in found.values() for right in answers]
            clusters = [key for key, answers in found.items() for _ in answers]
            rate = intervals.rate(outcomes, clusters)
            cells.append(f"{100 * rate.value:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})")
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    chosen = parser.parse_args()
    started = time.monotonic()
    rows: dict[str, dict[tuple[int, Sum], list[bool]]] = {}
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as name:
            experiment(Path(name), seed, chosen.steps, rows)
    table(rows)
    print(f"\n{chosen.seeds} seeds, {chosen.steps} GRPO steps, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
