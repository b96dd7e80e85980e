"""Preference pairs with their shared beginning computed once, against both conversations in full: time and loss.

python -m benchmarks.shared_prefix --data hh-rlhf/harmless-base-test.jsonl.gz
python -m benchmarks.shared_prefix --data HOME/runs/ID/preferences.parquet --model HOME/models/sl_cai-DIGEST

One JSON line: forward and backward over the same pairs in turns, the ratio of the times, the difference in loss, and
how many of the tokens are shared. For pairs of HH-RLHF a random Llama and a BPE tokenizer trained on them stand in for
a real model: what is measured is shape, not sense.
"""

import argparse
import gzip
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from cai.training.batches import batches

PAD = 0  # of the stand-in
BATCH, LIMIT, VOCABULARY = 16, 512, 8000


class Subject(NamedTuple):
    """A reward model, its padding token, and tokens of both sides, cut as in training."""

    model: Any
    pad: int
    chosen: list[list[int]]
    rejected: list[list[int]]


def real(model: Path, data: Path, n: int) -> Subject:
    from cai.training.chat import encode_texts, load_tokenizer, render
    from cai.training.reward_model import new_reward_model
    from cai.training.rows import read_pairs

    tokenizer, rows = load_tokenizer(model), read_pairs(data)[0][:n]
    chosen = encode_texts(tokenizer, render(tokenizer, [r.prompt + r.chosen for r in rows]), LIMIT).ids
    rejected = encode_texts(tokenizer, render(tokenizer, [r.prompt + r.rejected for r in rows]), LIMIT).ids
    return Subject(new_reward_model(model, tokenizer.pad_token_id), tokenizer.pad_token_id, chosen, rejected)


def stand_in(data: Path, n: int, layers: int, width: int) -> Subject:
    chosen, rejected = encode(read_texts(data, n))
    return Subject(new_model(layers, width), PAD, chosen, rejected)


def read_texts(path: Path, n: int) -> list[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(n), strict=False)]
    return [(row["chosen"], row["rejected"]) for row in rows]


def encode(texts: list[tuple[str, str]]) -> tuple[list[list[int]], list[list[int]]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<pad>"], show_progress=False)
    tokenizer.train_from_iterator((text for pair in texts for text in pair), trainer)
    chosen, rejected = zip(*texts, strict=True)
    return tuple([e.ids[-LIMIT:] for e in tokenizer.encode_batch(list(side))] for side in (chosen, rejected))  # type: ignore[return-value]


def new_model(layers: int, width: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    return LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
            num_attention_heads=width // 64, num_key_value_heads=width // 64, max_position_embeddings=LIMIT,
            pad_token_id=PAD, num_labels=1,
        )
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="pairs: .jsonl.gz of HH-RLHF, or .parquet")
    parser.add_argument("--model", type=Path, help="with .parquet: the model to start from")
    parser.add_argument("--pairs", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args()
    if not options.data.is_file():
        print(f"skipped: no pairs at {options.data}", file=sys.stderr)
        return
    print(json.dumps(measure(options)))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from cai.training.losses import soft_preference_loss
    from cai.training.scoring import PairScorer, shared_length

    if options.model:
        subject = real(options.model, options.data, options.pairs)
    else:
        subject = stand_in(options.data, options.pairs, options.layers, options.width)
    chosen, rejected = subject.chosen, subject.rejected
    model = subject.model.to("cuda" if torch.cuda.is_available() else "cpu")
    scorer = PairScorer(model, subject.pad)

    def step(batch: list[int], shared: bool) -> tuple[float, float]:
        """Loss of one batch, and seconds of its forward and backward."""
        started = time.perf_counter()
        scores = scorer([chosen[i] for i in batch], [rejected[i] for i in batch], shared)
        loss = soft_preference_loss(scores[0], scores[1], torch.ones(len(batch), device=scores.device)).mean()
        loss.backward()
        model.zero_grad()
        value = float(loss.detach())
        return value, time.perf_counter() - started

    lengths = [max(len(a), len(b)) for a, b in zip(chosen, rejected, strict=True)]
    order = batches(lengths, BATCH, seed=0, epoch=0)
    step(order[0], True), step(order[0], False)  # warm up
    plain_s, shared_s, gaps = [], [], []
    for batch in order:
        (one, a), (two, b) = step(batch, False), step(batch, True)
        plain_s.append(a)
        shared_s.append(b)
        gaps.append(abs(one - two))
    n_tokens = sum(map(len, chosen)) + sum(map(len, rejected))
    n_shared = sum(shared_length(a, b) for a, b in zip(chosen, rejected, strict=True))
    return {
        "n_pairs": len(chosen),
        "shared_token_rate": round(2 * n_shared / n_tokens, 3),
        "plain_s": round(sum(plain_s), 2),
        "shared_s": round(sum(shared_s), 2),
        "speedup": round(sum(plain_s) / sum(shared_s), 3),
        "speedup_median": round(statistics.median(a / b for a, b in zip(plain_s, shared_s, strict=True)), 3),
        "max_loss_difference": max(gaps),
    }


if __name__ == "__main__":
    main()
