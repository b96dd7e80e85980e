"""A reward model at work: conversations in, one raw score each out. GRPO and evaluation both score with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

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

    @staticmethod
    def load(path: Path) -> "RewardModel":
        """Read a model that `python -m cai.training.reward_model` wrote.

        Raises:
            ModelNotFound: there is none.
        """
        from transformers import AutoModelForSequenceClassification

        folder = resolve_model(path)
        model = AutoModelForSequenceClassification.from_pretrained(
            str(folder), num_labels=1, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        trained_with = (read_meta(folder) or {}).get("config", {}).get("max_length")
        limit = model.config.max_position_embeddings
        return RewardModel(model.to(device).eval(), load_tokenizer(folder), min(trained_with or limit, limit))

    def score(self, conversations: Sequence[Messages]) -> list[float]:
        """One raw score a conversation that ends with the assistant's reply; NaN stays NaN."""
        return score(self.model, self.tokenizer, render(self.tokenizer, conversations), self.max_length)


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
    """Scores of token lists, `(batch,)`, float32; read at each row's last token."""
    width = max(len(row) for row in ids)
    padded = torch.full((len(ids), width), pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for i, row in enumerate(ids):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    device = next(model.parameters()).device
    logits = model(input_ids=padded.to(device), attention_mask=mask.to(device)).logits
    return logits[:, 0].float()
