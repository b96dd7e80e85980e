"""Train the small model from nothing: `python -m cai.smallworld.train [--minutes N] [--out DIR]`.

Same arguments and number of steps, same weights on the same machine. Reads nothing; writes a Hugging Face model
directory, `meta.json` last.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from cai import models
from cai.smallworld import alone, check, lessons
from cai.smallworld.lessons import Tree
from cai.smallworld.tokenizer import OPTIONS, save_tokenizer
from cai.smallworld.trees import TREES, Batch, lay_out

CONTEXT = 2048
SORTS = ("answering", "naming", "copying", "telling apart", "correcting", "judging", "classing", "marking")


@dataclass(frozen=True)
class Plan:
    """Sizes and rates. `lessons`: how many of each of `SORTS` one step reads."""

    width: int = 128
    layers: int = 4
    inner: int = 384
    heads: int = 4
    lessons: tuple[int, ...] = (20, 12, 8, 3, 4, 5, 6, 6)
    learning_rate: float = 0.007  # Muon, for the matrices
    other_rate: float = 2e-3  # AdamW, for embeddings and norms
    warmup: float = 0.02
    cooldown: float = 0.9
    verdict_weight: float = 2.0
    seed: int = 0


def losses_of(model: LlamaForCausalLM, batch: Batch, options: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each token the assistant says (n_said,), and of verdicts against soft labels (n_verdicts,)."""
    unused = torch.ones(1, 1, 1, 1, dtype=torch.bool)  # a mask of our own, so that none is made
    hidden = model.model(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=unused, use_cache=False, tree=batch
    ).last_hidden_state
    logps = model.lm_head(hidden.flatten(0, 1)[batch.at]).float().log_softmax(-1)
    is_verdict = ~batch.p_a.isnan()
    said = nn.functional.nll_loss(logps[~is_verdict], batch.to[~is_verdict], reduction="none")
    said = said * batch.weight[~is_verdict]
    a, b = (logps[is_verdict, option] for option in options)
    p_a = batch.p_a[is_verdict]
    return said, -(p_a * a + (1 - p_a) * b)


def backward(model: LlamaForCausalLM, parts: Sequence[Batch], options: tuple[int, int], plan: Plan) -> torch.Tensor:
    """Add up the gradients of one step over its parts; returns the loss of what is said, and of verdicts."""
    n_verdicts = sum(int((~p.p_a.isnan()).sum()) for p in parts)
    n_said = sum(len(p.at) for p in parts) - n_verdicts
    total = torch.zeros(2)
    for part in parts:
        with torch.autocast("cpu", torch.bfloat16):
            said, verdicts = losses_of(model, part, options)
        losses = torch.stack([said.sum() / max(n_said, 1), verdicts.sum() / max(n_verdicts, 1)])
        (losses[0] + plan.verdict_weight * losses[1]).backward()
        total += losses.detach()
    return total


def new_model(plan: Plan, vocab_size: int, pad: int, eos: int) -> LlamaForCausalLM:
    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=plan.width,
        intermediate_size=plan.inner,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=eos,
        rms_norm_eps=1e-5,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(TREES)
    model.generation_config = GenerationConfig(eos_token_id=eos, pad_token_id=pad, do_sample=True)
    return model


def steps_of(plan: Plan, tokenizer) -> Iterator[list[Batch]]:  # type: ignore[no-untyped-def]
    """Fresh lessons for ever, the same for the same seed; those of one step in parts of about one length."""
    rng = random.Random(f"lessons/{plan.seed}")
    n_answering, n_naming, n_copying, n_telling, n_correcting, n_judging, n_classing, n_marking = plan.lessons
    while True:
        correcting = sorted((lessons.correcting(rng) for _ in range(n_correcting)), key=_length)
        judges = (lessons.judging, lessons.telling_apart_pairs)
        judging = sorted((judges[i % 2](rng) for i in range(n_judging)), key=_length)
        telling = [lessons.telling_apart(rng) for _ in range(n_telling)]
        groups = (telling, correcting[: n_correcting // 2], correcting[n_correcting // 2 :], judging)
        short = (lessons.answering(rng, n_answering), lessons.naming(rng, n_naming), lessons.copying(rng, n_copying))
        single = (alone.classing(rng, n_classing), alone.marking(rng, n_marking))
        yield [lay_out(trees, tokenizer) for trees in (*([tree] for tree in (*short, *single)), *groups)]


def _length(tree: Tree) -> int:
    return max(sum(len(piece.text) for piece in branch) for branch in tree.branches)


class Schedule:
    """Warm up, hold, cool down to nothing; `done` is the share of the work behind us, from 0 to 1."""

    def __init__(self, plan: Plan, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.plan = plan
        self.groups = [(group, group["lr"]) for o in optimizers for group in o.param_groups]

    def set(self, done: float) -> None:
        rate = min(1.0, (done + 1e-4) / self.plan.warmup, max(0.0, (1 - done) / self.plan.cooldown))
        for group, full in self.groups:
            group["lr"] = full * rate


def optimizers_of(model: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=plan.learning_rate, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(out: Path, *, minutes: float | None, steps: int | None, plan: Plan, init: Path | None = None) -> None:
    """Train for so many steps, or so many minutes (the number of steps is then measured, and stands in `meta.json`)."""
    out.mkdir(parents=True, exist_ok=True)
    (out / models.META).unlink(missing_ok=True)
    save_tokenizer(out)
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(out)
    model = new_model(plan, len(auto), auto.pad_token_id, auto.eos_token_id)
    if init is not None:
        model.load_state_dict(_weights(init, len(auto)))
    optimizers = optimizers_of(model, plan)
    options = tuple(auto.convert_tokens_to_ids(OPTIONS))
    done = _loop(model, optimizers, steps_of(plan, auto.backend_tokenizer), options, plan, minutes, steps, out)
    model.save_pretrained(out)
    finish(out, {"steps": done, **asdict(plan)}, init)


def _weights(init: Path, vocab_size: int) -> dict[str, torch.Tensor]:
    """Of an earlier model, with rows for the words that were put behind those it knows."""
    earlier = LlamaForCausalLM.from_pretrained(init, dtype=torch.float32)
    earlier.resize_token_embeddings(vocab_size, mean_resizing=False)
    return earlier.state_dict()


def _loop(model, optimizers, stream, options, plan, minutes, steps, out) -> int:  # type: ignore[no-untyped-def]
    schedule, started, n = Schedule(plan, optimizers), time.monotonic(), 0
    average = torch.zeros(2)
    while True:
        done = n / steps if steps else (time.monotonic() - started) / (60 * minutes)
        if done >= 1:
            return n
        schedule.set(done)
        loss = backward(model, next(stream), options, plan)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        n += 1
        average += (loss - average) / min(n, 50)
        if n % 50 == 0:
            seconds = time.monotonic() - started
            losses = f"said {average[0]:.4f}  verdicts {average[1]:.4f}"
            sys.stderr.write(f"step {n}  {losses}  {seconds / n:.2f} s/step  {done:.0%}\n")
        if n % 500 == 0:
            model.save_pretrained(out)


def finish(out: Path, leg: dict[str, object], init: Path | None) -> None:
    """Measure what came out and write `meta.json`, last. `legs` are the runs it took, those before `init` included."""
    before = (models.read_meta(init) or {}).get("legs", []) if init is not None else []
    meta = {
        "name": "smallworld",
        "stage": "seed",
        "model_digest": models.content_digest(out),
        "legs": [*before, leg],
        "figures": {f.name: round(f.value, 4) for f in check.figures(out)},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    temporary = out / f".{models.META}"
    temporary.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, out / models.META)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to train (default 30)")
    parser.add_argument("--steps", type=int, help="train for exactly this many steps instead")
    parser.add_argument("--out", type=Path, default=models.SMALLWORLD, help="where the model goes")
    parser.add_argument("--init", type=Path, help="go on from this model instead of nothing")
    parser.add_argument("--rate", type=float, default=Plan.learning_rate, help="Muon's learning rate, at its height")
    parser.add_argument("--other-rate", type=float, default=Plan.other_rate, help="AdamW's, for embeddings and norms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--lessons",
        type=int,
        nargs=len(SORTS),
        default=Plan.lessons,
        metavar="N",
        help=f"how many a step of {', '.join(SORTS)}",
    )
    args = parser.parse_args()
    plan = Plan(seed=args.seed, learning_rate=args.rate, other_rate=args.other_rate, lessons=tuple(args.lessons))
    train(args.out, minutes=args.minutes, steps=args.steps, plan=plan, init=args.init)


if __name__ == "__main__":
    main()
