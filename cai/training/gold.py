"""The policy on prompts held aside from training: what the proxy and the gold rewards say of the same replies, how far
the policy has gone from where it started, and whether it still speaks. `guard.py` decides what follows from it.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cai.errors import TrainingError
from cai.rewards.base import Rewarded, RewardInput, Rewards
from cai.rewards.build import build_rewards
from cai.rewards.penalties import repeated_share
from cai.training.chat import end_tokens, render
from cai.training.guard import Guard
from cai.training.jobs import PolicyJob
from cai.training.rows import PromptRow
from cai.training.trainer import load_policy

TRIGRAMS = 3
BATCH = 32
"""Replies sampled together; their logits over the whole vocabulary are in memory twice."""


def open_guard(
    job: PolicyJob, tokenizer: Any, held_aside: Sequence[PromptRow], proxy: Rewards, reference: Any, folder: Path
) -> Guard:
    """The guard of a job, or one that watches nothing where the job has none.

    `proxy` is what is trained on, `reference` the frozen model the run starts from (None: it is loaded), `folder` where
    the checkpoints and metrics.jsonl are; the latter must be rewound already.
    """
    config = job.config.guard
    if config is None:
        return Guard(None, job.config.steps, folder, None)
    scorer = GoldScorer(
        prompts=tuple(held_aside),
        tokenizer=tokenizer,
        stops=frozenset(end_tokens(tokenizer, job.model)),
        temperature=job.config.temperature,
        max_tokens=job.config.max_tokens,
        reference=load_policy(job.model).eval() if reference is None else reference,
        proxy=proxy,
        gold=build_rewards(config.gold, job.reward_models) if config.gold else None,
        seed=job.seed,
    )
    return Guard(config, job.config.steps, folder, scorer)


class Spoken(NamedTuple):
    """Replies of one batch with the sums over their tokens, each `(batch,)`, of KL and entropy in nats."""

    texts: list[str]
    n_tokens: list[int]
    is_cut_off: list[bool]
    kl: list[float]
    entropy: list[float]


@dataclass(frozen=True)
class GoldScorer:
    prompts: Sequence[PromptRow]
    tokenizer: Any
    stops: frozenset[int]
    temperature: float
    max_tokens: int
    reference: Any
    proxy: Rewards
    gold: Rewards | None
    seed: int

    def score(self, model: Any) -> dict[str, float]:
        """One reply a prompt, always from the same random numbers; the trainer's are left as they were.

        Raises:
            TrainingError: gold could score fewer than two of them.
        """
        inputs: list[RewardInput] = []
        kl: list[float] = []
        entropy: list[float] = []
        for start in range(0, len(self.prompts), BATCH):
            rows = self.prompts[start : start + BATCH]
            with _undisturbed(model, self.seed + start):
                spoken = self._speak(model, rows)
            inputs += [
                RewardInput(row.prompt_id, row.prompt, text, n, cut, row.expected)
                for row, text, n, cut in zip(rows, spoken.texts, spoken.n_tokens, spoken.is_cut_off, strict=True)
            ]
            kl += spoken.kl
            entropy += spoken.entropy
        n_tokens = sum(each.n_tokens for each in inputs)
        return {
            **self._judged(inputs),
            "guard/kl": statistics.fmean(kl),
            "guard/entropy": math.fsum(entropy) / n_tokens,
            "guard/repetition": statistics.fmean(repeated_share(each.response, TRIGRAMS) for each in inputs),
            "guard/length": n_tokens / len(inputs),
            "guard/n": float(len(inputs)),
        }

    def _judged(self, inputs: Sequence[RewardInput]) -> dict[str, float]:
        numbers = _mean("proxy", self.proxy.score(inputs))
        if self.gold is None:
            return numbers
        rewarded = self.gold.score(inputs)
        found = _mean("gold", rewarded)
        if not found:
            reason = next((each.reason for each in rewarded if each.reason), "")
            raise TrainingError(
                f"gold could score fewer than 2 of {len(inputs)} replies ({reason}), so nothing guards the run; repair "
                "`guard.gold` and run the same command again"
            )
        return {**numbers, **found, **_parts(rewarded)}

    def is_finite(self, model: Any) -> bool:
        """Looks at the answer to one prompt: a broken weight spoils every logit."""
        ids = self.tokenizer(render(self.tokenizer, [self.prompts[0].prompt], ask=True), return_tensors="pt")
        with _undisturbed(model, self.seed):
            logits = model(input_ids=ids["input_ids"].to(next(model.parameters()).device)).logits
        return bool(logits.isfinite().all())

    def close(self) -> None:
        """End what gold started; the proxy belongs to the trainer."""
        if self.gold is not None:
            self.gold.close()

    def _speak(self, model: Any, rows: Sequence[PromptRow]) -> Spoken:
        device = next(model.parameters()).device
        prompts = self.tokenizer(
            render(self.tokenizer, [row.prompt for row in rows], ask=True),
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        ).to(device)
        whole = model.generate(
            input_ids=prompts["input_ids"], attention_mask=prompts["attention_mask"], generation_config=self._sampling()
        )
        replies = whole[:, prompts["input_ids"].shape[1] :]
        ends = torch.isin(replies, torch.tensor(sorted(self.stops), device=device))
        said = (ends.cumsum(1) - ends.long()) == 0  # up to and with the first token that ends it
        seen = torch.cat([prompts["attention_mask"], said.long()], dim=1)
        here = self._log_probabilities(model, whole, seen, replies.shape[1])
        there = self._log_probabilities(self.reference.to(device), whole, seen, replies.shape[1])
        p = here.exp()
        # Over all tokens that could have come next, not only the one that did: the same expectation, less noise.
        kl = ((p * (here - there)).sum(-1) * said).sum(-1)
        entropy = (-(p * here).sum(-1) * said).sum(-1)
        ids = [reply[mask].tolist() for reply, mask in zip(replies, said, strict=True)]
        return Spoken(
            texts=self.tokenizer.batch_decode(ids, skip_special_tokens=True),
            n_tokens=[len(each) for each in ids],
            is_cut_off=[not self.stops.intersection(each[-1:]) for each in ids],
            kl=kl.tolist(),
            entropy=entropy.tolist(),
        )

    def _sampling(self) -> Any:
        """Plain sampling, as in training. All is named, since `generate` fills gaps from the model's own settings."""
        from transformers import GenerationConfig

        return GenerationConfig(
            do_sample=True, temperature=self.temperature, top_k=0, top_p=1.0, repetition_penalty=1.0, use_cache=True,
            max_new_tokens=self.max_tokens, pad_token_id=self.tokenizer.pad_token_id, eos_token_id=sorted(self.stops),
            disable_compile=True,
        )  # fmt: skip

    def _log_probabilities(self, model: Any, ids: torch.Tensor, seen: torch.Tensor, n: int) -> torch.Tensor:
        """`(batch, n, vocabulary)`: of each of the last `n` tokens, before it came, at the sampling temperature."""
        positions = (seen.cumsum(-1) - 1).clamp(min=0)
        found = model(input_ids=ids, attention_mask=seen, position_ids=positions, logits_to_keep=n + 1).logits
        return (found[:, :-1].float() / self.temperature).log_softmax(-1)


@contextmanager
def _undisturbed(model: Any, seed: int) -> Iterator[None]:
    """Random numbers from `seed`, no gradients, no dropout; afterwards all is as it was."""
    device = next(model.parameters()).device
    was_training = model.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)


def _mean(name: str, rewarded: Sequence[Rewarded]) -> dict[str, float]:
    """Mean and its standard error over what could be scored; nothing of fewer than two."""
    totals = [each.total for each in rewarded if each.total is not None]
    if len(totals) < 2:
        return {}
    sem = statistics.stdev(totals) / math.sqrt(len(totals))
    return {f"{name}/mean": statistics.fmean(totals), f"{name}/sem": sem, f"{name}/n": float(len(totals))}


def _parts(rewarded: Sequence[Rewarded]) -> dict[str, float]:
    """`golds/NAME`: the mean of each term, before weighting."""
    names = dict.fromkeys(name for each in rewarded for name in each.parts)
    values = {name: [v for each in rewarded if (v := each.parts[name]) is not None] for name in names}
    return {f"golds/{name}": statistics.fmean(found) for name, found in values.items() if found}
