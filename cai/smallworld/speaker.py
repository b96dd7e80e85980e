"""A model directory that answers in batches by plain transformers: to check the small model, not for the method."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cai.smallworld.lessons import turn
from cai.smallworld.tokenizer import OPTIONS

Turns = Sequence[tuple[str, str]]  # (role, content)


class Speaker:
    def __init__(self, directory: Path, *, dtype: torch.dtype = torch.float32, batch_size: int = 64) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
        self.batch_size = batch_size

    @torch.inference_mode()
    def say(self, conversations: Sequence[Turns], temperature: float = 1.0, max_tokens: int = 48) -> list[str]:
        texts = []
        for batch in self._batches(conversations):
            how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
            out = self.model.generate(**batch, max_new_tokens=max_tokens, **how)
            texts += self.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    def p_a(self, questions: Sequence[str]) -> list[tuple[float, float]]:
        """For each question: P(A) against B, and the probability of saying neither."""
        return [(shares[0], outside) for shares, outside in self.choose(questions, OPTIONS)]

    @torch.inference_mode()
    def choose(self, questions: Sequence[str], options: Sequence[str]) -> list[tuple[list[float], float]]:
        """For each question: the share of each option, which add up to 1, and the probability of saying none."""
        ids = self.tokenizer.convert_tokens_to_ids(list(options))
        found: list[tuple[list[float], float]] = []
        for batch in self._batches([[("user", q)] for q in questions]):
            positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            logits = self.model(**batch, position_ids=positions, logits_to_keep=1).logits[:, -1].float()
            chosen = logits.softmax(-1)[:, ids]
            said = chosen.sum(-1)
            found += zip((chosen / said[:, None]).tolist(), (1 - said).tolist(), strict=True)
        return found

    def _batches(self, conversations: Sequence[Turns]) -> Iterator[dict[str, torch.Tensor]]:
        texts = ["".join(turn(*t) for t in turns) + "<|assistant|>" for turns in conversations]
        for i in range(0, len(texts), self.batch_size):
            chosen = texts[i : i + self.batch_size]
            yield self.tokenizer(chosen, return_tensors="pt", padding=True, add_special_tokens=False)
