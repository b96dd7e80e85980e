"""Replies from a causal language model of the transformers library: a batch of rows, one token a step, exact sampling.

Each row draws from a generator of its own, so a reply does not depend on what it shares a batch with, but for rounding
errors: padding can move a logit by a few 1e-6 in float32. The model's own generation settings are not read.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cai.records import Sampling


@dataclass(eq=False, slots=True, kw_only=True)
class Row:
    """One reply in the making. `tokens` grows up to `limit`, the token that ends it included; where `sampling` is None
    only `logps` (vocabulary,) is wanted.
    """

    prompt: list[int]
    sampling: Sampling | None = None
    generator: torch.Generator | None = None
    limit: int = 1
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    logps: Tensor | None = None

    def is_finished(self) -> bool:
        return self.logps is not None or self.stopped or len(self.tokens) >= self.limit


@torch.inference_mode()
def decode(model: Any, rows: Sequence[Row], stops: Collection[int]) -> None:
    """Answer `rows` together, one token a step; a row that is finished leaves the batch. Restarts unfinished rows."""
    for row in rows:
        row.tokens.clear()
        if row.sampling is not None and row.generator is not None:
            row.generator.manual_seed(row.generator.initial_seed())
    ids, mask = padded_left([row.prompt for row in rows], model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache: Any = None
    going = list(rows)
    while going:
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens = _advance(going, out.logits[:, -1].float(), stops)
        keep = [i for i, row in enumerate(going) if not row.is_finished()]
        if not keep:
            return
        cache = out.past_key_values
        if len(keep) < len(going):
            index = torch.tensor(keep, device=model.device)
            cache.batch_select_indices(index)
            mask, positions, tokens = mask[index], positions[index], tokens[index]
            going = [going[i] for i in keep]
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(going), 1)], dim=1)
        positions = positions[:, -1:] + 1


def padded_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both (batch, longest), padded on the left."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(p)) + list(p) for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _advance(rows: Sequence[Row], logits: Tensor, stops: Collection[int]) -> Tensor:
    """Give each row its next token, or its log-probabilities; the tokens, (batch,). `logits`: (batch, vocabulary)."""
    tokens = sample(
        logits,
        [row.sampling or Sampling(temperature=0.0) for row in rows],
        [0.0 if row.generator is None else float(torch.rand((), generator=row.generator)) for row in rows],
    )
    for i, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
        if row.sampling is None:
            row.logps = logits[i].log_softmax(-1).cpu()
        else:
            row.tokens.append(token)
            row.stopped = token in stops
    return tokens


def sample(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> Tensor:
    """One token a row, (batch,), by inverting the cumulative distribution at the row's uniform number in [0, 1).

    `logits`: (batch, vocabulary). Temperature 0 takes the most probable token. `top_p` keeps the fewest tokens whose
    probabilities add up to it (nucleus sampling, Holtzman et al. 2020).
    """
    temperatures = logits.new_tensor([s.temperature or 1.0 for s in samplings])[:, None]
    ordered, order = (logits / temperatures).double().softmax(-1).sort(dim=-1, descending=True)
    top_p = ordered.new_tensor([s.top_p if s.temperature else 0.0 for s in samplings])[:, None]
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill((before >= top_p) & (before > 0), 0.0)
    cumulative = ordered.cumsum(-1)
    at = cumulative.new_tensor(uniforms)[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, at, right=True).clamp(max=logits.shape[1] - 1)
    return order.gather(1, index)[:, 0]
