"""Attention over trees: branches that share a beginning and do not see each other, at the cost of what they see.

Used in training alone. The weights are those of a plain Llama: along any one branch the numbers are the same.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import AttentionInterface

from cai.smallworld.lessons import Piece, Tree

TREES = "smallworld_trees"


class Batch(NamedTuple):
    """Trees side by side, padded: `n_beginning` tokens, then `n_branches` times `n_branch` tokens in each row.

    `hidden`: (batch, n_beginning), true where a beginning is padding. `at` indexes the flattened positions that
    predict; `to` is what they should say, `p_a` the soft verdict or NaN, `weight` how much it counts; all (n_targets,).
    """

    ids: torch.Tensor
    positions: torch.Tensor
    hidden: torch.Tensor
    n_beginning: int
    n_branches: int
    n_branch: int
    at: torch.Tensor
    to: torch.Tensor
    p_a: torch.Tensor
    weight: torch.Tensor


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    tree: Batch,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Tensors are (batch, heads, length, head size); returns (batch, length, heads, head size)."""
    p, n, b = tree.n_beginning, tree.n_branches, tree.n_branch
    shape = (*query.shape[:2], n, b, query.shape[-1])
    q, k, v = (x[:, :, p:].reshape(shape) for x in (query, key, value))
    scores = (q @ k.mT) * scaling + torch.full((b, b), -math.inf, dtype=q.dtype).triu(1)
    if p == 0:
        out = (scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v).reshape(query.shape)
        return out.transpose(1, 2).contiguous(), None
    beginning = nn.functional.scaled_dot_product_attention(
        query[:, :, :p], key[:, :, :p], value[:, :, :p], is_causal=True, scale=scaling
    )
    shared = (query[:, :, p:] @ key[:, :, :p].mT) * scaling
    shared = shared.masked_fill(tree.hidden[:, None, None], -math.inf).reshape(*shape[:-1], p)
    weights = torch.cat([shared, scores], -1).softmax(-1, dtype=torch.float32).to(q.dtype)
    branches = (weights[..., :p].reshape(*shape[:2], n * b, p) @ value[:, :, :p]).reshape(shape) + weights[..., p:] @ v
    out = torch.cat([beginning, branches.reshape(*shape[:2], n * b, shape[-1])], 2)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(TREES, attend)


def lay_out(trees: Sequence[Tree], tokenizer) -> Batch:  # type: ignore[no-untyped-def]
    """Encode and pad. All trees must have the same number of branches, and a beginning or none alike."""
    parts = [part for tree in trees for part in (tree.beginning, *tree.branches)]
    encoded = iter(tokenizer.encode_batch([p.text for part in parts for p in part], add_special_tokens=False))
    lines = [_line(part, encoded) for part in parts]
    n = len(trees[0].branches)
    beginnings, branches = lines[:: n + 1], [line for i, line in enumerate(lines) if i % (n + 1)]
    p, b = max(len(ids) for ids, _ in beginnings), max(len(ids) for ids, _ in branches)
    ids = torch.zeros(len(trees), p + n * b, dtype=torch.long)
    positions = torch.zeros_like(ids)
    targets = []
    for row, (start, _) in enumerate(beginnings):
        ids[row, : len(start)] = torch.tensor(start, dtype=torch.long)
        positions[row, :p] = torch.arange(p)
        for j, (said, learned) in enumerate(branches[row * n : (row + 1) * n]):
            at = p + j * b
            ids[row, at : at + len(said)] = torch.tensor(said)
            positions[row, at : at + b] = torch.arange(b) + len(start)
            targets += [(row * (p + n * b) + at + i - 1, said[i], p_a, weight) for i, p_a, weight in learned]
    hidden = torch.arange(p)[None] >= torch.tensor([len(start) for start, _ in beginnings])[:, None]
    columns = [torch.tensor(column) for column in zip(*targets, strict=True)]
    return Batch(ids, positions, hidden, p, n, b, *columns)


def _line(part: Sequence[Piece], encoded) -> tuple[list[int], list[tuple[int, float, float]]]:  # type: ignore[no-untyped-def]
    """The tokens of a beginning or branch, and which are learned: (index, soft verdict or NaN, weight)."""
    ids: list[int] = []
    learned: list[tuple[int, float, float]] = []
    for piece in part:
        new = next(encoded).ids
        if piece.is_target:
            first = math.nan if piece.p_a is None else piece.p_a
            learned += [(len(ids), first, piece.decides)]
            learned += [(len(ids) + i, math.nan, 1.0) for i in range(1, len(new))]
        ids += new
    return ids, learned
