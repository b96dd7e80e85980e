"""Preference pairs with their shared beginning computed once, against both conversations in full: time and loss.

python -m benchmarks.shared_prefix --data hh-rlhf/harmless-base-test.jsonl.gz

One JSON line: forward and backward over the same pairs in turns, the ratio of the times, the difference in loss, and
how many of the tokens are shared. A random Llama and a BPE tokenizer trained on the pairs stand in for a real model:
what is measured is shape, not sense.
"""

import argparse
import gzip
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from cai.training.batches import batches

PAD = 0
BATCH, LIMIT, VOCABULARY = 16, 512, 8000


def read_texts(path: Path, n: int) -> list[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(n), strict=False)]
    return [(row["chosen"], row["rejected"]) for row in rows]


def encode(texts: list[tuple[str, str]]) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of both sides; too long ones lose their beginning, as in training."""
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
    parser.add_argument("--data", type=Path, required=True, help="pairs of HH-RLHF, .jsonl.gz")
    parser.add_argument("--pairs", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    chosen_options = parser.parse_args()
    if not chosen_options.data.is_file():
        print(f"skipped: no pairs of HH-RLHF at {chosen_options.data}", file=sys.stderr)
        return
    print(json.dumps(measure(chosen_options)))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from cai.training.losses import soft_preference_loss
    from cai.training.scoring import PairScorer, shared_length

    chosen, rejected = encode(read_texts(options.data, options.pairs))
    model = new_model(options.layers, options.width)
    if torch.cuda.is_available():
        model = model.to("cuda")
    scorer = PairScorer(model, PAD)

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
