"""Replies sampled from the policy itself, and the tensors that its updates are computed on.

A reply depends on the weights and on (seed, step, row) alone: not on what is sampled beside it, nor in which process,
nor on whether the run was resumed.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cai.engines.transformers_decode import Row, decode, padded_left
from cai.records import Sampling, digest
from cai.training import processes


class Sequences(NamedTuple):
    """Prompts, padded on the left, each followed by its reply, padded on the right."""

    ids: Tensor
    """`(batch, prompt + time)`"""
    attention_mask: Tensor
    """1 on tokens, 0 on padding, `(batch, prompt + time)`"""
    mask: Tensor
    """1 on the reply's tokens, its end token included, `(batch, time)`"""

    @property
    def replies(self) -> Tensor:
        """The tokens of the replies, `(batch, time)`."""
        return self.ids[:, self.ids.shape[1] - self.mask.shape[1] :]

    def inputs(self) -> dict[str, Tensor]:
        """What a model is called with: a token's position counts from the prompt's first token, not from padding."""
        positions = (self.attention_mask.cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": self.ids, "attention_mask": self.attention_mask, "position_ids": positions}

    def take(self, rows: Sequence[int]) -> "Sequences":
        index = torch.tensor(rows, dtype=torch.long, device=self.ids.device)
        return Sequences(*(each[index] for each in self))


def sample_replies(
    model: Any,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    stops: Collection[int],
    seed: int,
    step: int,
    at_once: int | None = None,
) -> list[list[int]]:
    """One reply to each prompt, as tokens, the one that ends it included; one without it was cut off.

    `at_once`: how many are sampled together; None: all that this process samples. Of several each samples its part.
    """
    rows = [
        Row(prompt=prompt, sampling=sampling, generator=_generator(seed, step, i), limit=sampling.max_tokens)
        for i, prompt in enumerate(prompts)
    ]
    mine = processes.mine(rows)
    width = at_once or len(mine) or 1
    for start in range(0, len(mine), width):
        decode(model, mine[start : start + width], stops)
    return processes.gathered([row.tokens for row in mine])


def _generator(seed: int, step: int, row: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(digest("rollout", seed, step, row)[:15], 16))


def sequences(prompts: Sequence[list[int]], replies: Sequence[list[int]], device: torch.device) -> Sequences:
    ids, attention_mask = padded_left(prompts, device)
    time = max(map(len, replies))
    padded = torch.tensor([reply + [0] * (time - len(reply)) for reply in replies], device=device)
    mask = torch.tensor([[1] * len(reply) + [0] * (time - len(reply)) for reply in replies], device=device)
    return Sequences(torch.cat([ids, padded], dim=1), torch.cat([attention_mask, mask], dim=1), mask)
