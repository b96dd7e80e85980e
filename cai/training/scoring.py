"""A reward model at work: conversations in, one raw score each out. GRPO and evaluation both score with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cai.errors import ConfigError
from cai.models import read_meta, resolve_model
from cai.training.chat import encode_texts, load_tokenizer, render
from cai.training.rows import Messages

BATCH = 64


@dataclass(frozen=True)
class RewardModel:
    """A loaded reward model. `max_length` is what it was trained with: longer conversations lose their beginning."""

    model: Any
    tokenizer: Any
    max_length: int
    mean_score: float = 0.0
    """Of the pairs it was measured on, by meta.json; 0 where that does not say (an older model, or from elsewhere)."""

    @staticmethod
    def load(path: Path) -> "RewardModel":
        """Read a model that `python -m cai.training.reward_model` wrote.

        Raises:
            ModelNotFound: there is none.
            ConfigError: it does not read its score where ours do.
        """
        folder = resolve_model(path)
        model, meta = read_scorer(folder), read_meta(folder) or {}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        trained_with = meta.get("config", {}).get("max_length")
        limit = model.config.max_position_embeddings
        return RewardModel(
            model.to(device).eval(),
            load_tokenizer(folder),
            min(trained_with or limit, limit),
            float(meta.get("mean_score", 0.0)),
        )

    def score(self, conversations: Sequence[Messages]) -> list[float]:
        """One raw score a conversation that ends with the assistant's reply; NaN stays NaN."""
        return score(self.model, self.tokenizer, render(self.tokenizer, conversations), self.max_length)


def read_scorer(folder: Path) -> Any:
    """A body with a scalar head, in float32; the head is new, and random, where the model has none.

    Raises:
        ConfigError: the architecture has no head `score` to read at one token. All that write text have it but two
            (CTRL, ModernBERT's decoder); those that only read text pool it in ways of their own.
    """
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        str(folder), num_labels=1, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    if "score" not in dict(model.named_children()):
        raise ConfigError(
            f"a reward model reads its score at the last token, by a head named `score`; {type(model).__name__} of "
            f"{folder} has {[name for name, _ in model.named_children()]}; use a decoder such as Llama, Mistral or Qwen"
        )
    return model


def score(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> list[float]:
    """Scores of conversations already rendered by the chat template, in the order given."""
    return score_ids(model, encode_texts(tokenizer, texts, max_length).ids, tokenizer.pad_token_id)


@torch.no_grad()
def score_ids(model: Any, ids: Sequence[Sequence[int]], pad_token_id: int) -> list[float]:
    """Scores of tokenised conversations, in the order given."""
    was_training = model.training
    model.eval()
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # batches of like length: less padding
    scores = [0.0] * len(ids)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        found = forward(model, [ids[i] for i in chosen], pad_token_id).tolist()
        for i, value in zip(chosen, found, strict=True):
            scores[i] = value
    model.train(was_training)
    return scores


def forward(model: Any, ids: Sequence[Sequence[int]], pad_token_id: int) -> torch.Tensor:
    """Scores of token lists, `(batch,)`, float32; read at each row's last token.

    transformers' own forward reads them at the last token that is not the padding token: one too early where a model
    without one pads with its end of turn (Llama 3, Mistral).
    """
    width = max(len(row) for row in ids)
    padded = torch.full((len(ids), width), pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for i, row in enumerate(ids):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    device = next(model.parameters()).device
    hidden = model.base_model(input_ids=padded.to(device), attention_mask=mask.to(device)).last_hidden_state
    ends = torch.tensor([len(row) - 1 for row in ids], device=device)
    scores: torch.Tensor = model.score(hidden)[torch.arange(len(ids), device=device), ends, 0]
    return scores.float()


class PairScorer(torch.nn.Module):
    """A reward model that scores pairs. Both conversations mostly begin alike: what they share is computed once.

    A pair becomes one row [shared | rest of chosen | rest of rejected]. Each rest sees what is shared and itself, at
    the positions it has in its own conversation, so that the scores are those of the conversations one by one. That
    holds where every layer attends causally to everything before it.
    """

    def __init__(self, model: Any, pad_token_id: int) -> None:
        super().__init__()
        self.model = model
        self._pad = pad_token_id

    def forward(
        self, chosen: Sequence[Sequence[int]], rejected: Sequence[Sequence[int]], shared_prefix: bool
    ) -> torch.Tensor:
        """Scores of both sides, `(2, batch)`, float32."""
        if not shared_prefix:
            return forward(self.model, [*chosen, *rejected], self._pad).view(2, -1)
        rows = PairRows.of(chosen, rejected, self._pad)
        device = next(self.model.parameters()).device
        hidden = self.model.base_model(
            input_ids=rows.ids.to(device), attention_mask=rows.mask.to(device), position_ids=rows.positions.to(device)
        ).last_hidden_state
        last = hidden[torch.arange(len(chosen), device=device), rows.ends.to(device)]
        return self.model.score(last)[:, :, 0].float()


class PairRows(NamedTuple):
    """Pairs as rows of one tensor; `time` is the longest row's."""

    ids: torch.Tensor
    """`(batch, time)`"""
    positions: torch.Tensor
    """Of each token in its own conversation, `(batch, time)`"""
    mask: torch.Tensor
    """Whether token i sees token j, `(batch, 1, time, time)`"""
    ends: torch.Tensor
    """Where chosen and rejected end, `(2, batch)`"""

    @staticmethod
    def of(chosen: Sequence[Sequence[int]], rejected: Sequence[Sequence[int]], pad_token_id: int) -> "PairRows":
        pairs = [(a, b, shared_length(a, b)) for a, b in zip(chosen, rejected, strict=True)]
        width = max(len(a) + len(b) - k for a, b, k in pairs)
        ids = torch.full((len(pairs), width), pad_token_id, dtype=torch.long)
        positions = torch.zeros((len(pairs), width), dtype=torch.long)
        segments = torch.full((len(pairs), width), 3, dtype=torch.long)  # 0 shared, 1 chosen, 2 rejected, 3 padding
        for row, (a, b, k) in enumerate(pairs):
            n = len(a) + len(b) - k
            ids[row, :n] = torch.tensor([*a, *b[k:]])
            positions[row, : len(a)] = torch.arange(len(a))
            positions[row, len(a) : n] = torch.arange(k, len(b))
            segments[row, :k], segments[row, k : len(a)], segments[row, len(a) : n] = 0, 1, 2
        sees = (segments[:, None, :] == 0) | (segments[:, :, None] == segments[:, None, :])
        mask = sees & torch.ones(width, width, dtype=torch.bool).tril()
        ends = torch.tensor([[len(a) - 1 for a, _, _ in pairs], [len(a) + len(b) - k - 1 for a, b, k in pairs]])
        return PairRows(ids, positions, mask[:, None], ends)


def shared_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many first tokens two conversations share; the last token of either is its own, where its score is read."""
    limit = min(len(a), len(b)) - 1
    return next((i for i in range(limit) if a[i] != b[i]), max(limit, 0))
