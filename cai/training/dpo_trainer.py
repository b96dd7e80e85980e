"""TRL's DPO trainer with a soft label for each pair: rows that are tokenised already, and a loss and numbers of ours.
Import it under `without_vllm()`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer

from cai.training import processes
from cai.training.chat import IGNORED
from cai.training.losses import k3, soft_dpo_loss


class Collator:
    """Rows of `dpo.as_dataset` to one batch: the chosen responses first, `(2·pairs, time)`, then the rejected ones in
    the same order.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad = pad_token_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        ids = [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows]
        labels = [row["chosen_labels"] for row in rows] + [row["rejected_labels"] for row in rows]
        return {
            "input_ids": _padded(ids, self._pad),
            "attention_mask": _padded([[1] * len(row) for row in ids], 0),
            "labels": _padded(labels, IGNORED),
            "soft_label": torch.tensor([row["soft_label"] for row in rows], dtype=torch.float32),
            "is_tie": torch.tensor([row["is_tie"] for row in rows]),
            "weight": torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
        }


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


class Halves(NamedTuple):
    """Of the chosen responses, and of the rejected ones, `(pairs,)` each."""

    chosen: Tensor
    rejected: Tensor

    @staticmethod
    def of(rows: Tensor) -> "Halves":
        return Halves(*rows.chunk(2))


class SoftDPOTrainer(DPOTrainer):
    """The reference is a frozen copy that sees the same batches, not log-probabilities computed before: those would
    differ in the last bit, for the padding differs, and a policy that equals its reference must have no gradient.
    """

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # tokenised already, so that labels and lengths are ours to check

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        assert not return_outputs, "nothing is evaluated in here"
        per_token = _per_token_logps(model, inputs)
        with torch.no_grad():
            ref_per_token = _per_token_logps(self.ref_model, inputs)
        logps, ref_logps = Halves.of(per_token.sum(1)), Halves.of(ref_per_token.sum(1))
        losses = soft_dpo_loss(*logps, *ref_logps, inputs["soft_label"], self.beta)
        with torch.no_grad():
            taught = inputs["weight"] > 0
            numbers = pair_metrics(logps, ref_logps, inputs["soft_label"], inputs["is_tie"], taught, self.beta)
            numbers["drift/k3"] = k3(ref_per_token, per_token)[inputs["labels"][:, 1:] != IGNORED].tolist()
        # TRL takes the mean over the list when it logs a step, and knows no mean of an empty one.
        for of_one in processes.gathered([numbers]):
            for name, found in of_one.items():
                self._metrics["train"][name] += found
        return (inputs["weight"] * losses).mean()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        for name in [name for name, found in self._metrics["train"].items() if not found]:
            del self._metrics["train"][name]
        super().log(logs, start_time)


def _per_token_logps(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Log-probability of every token of the responses, 0 elsewhere, `(2·pairs, time − 1)`."""
    found = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        labels=inputs["labels"],
        use_cache=False,
        fused_lm_head=True,  # TRL's: it returns log-probabilities, and never holds all logits at once
    )
    logps: Tensor = found.log_probs
    return logps


def pair_metrics(
    logps: Halves, ref_logps: Halves, soft_label: Tensor, is_tie: Tensor, taught: Tensor, beta: float
) -> dict[str, list[float]]:
    """What the pairs say of the policy, one by one, those not `taught` left out: its implicit rewards β·log π/π_ref,
    and how often they agree with the labels.

    `rewards/accuracies` is of the pairs that are no ties. A label below 0.5 prefers the rejected response, and agreeing
    with it means a negative margin.
    """
    rewards = Halves(beta * (logps.chosen - ref_logps.chosen), beta * (logps.rejected - ref_logps.rejected))
    margins = rewards.chosen - rewards.rejected
    agrees = margins * (soft_label - 0.5) > 0
    return {
        "rewards/chosen": rewards.chosen[taught].tolist(),
        "rewards/rejected": rewards.rejected[taught].tolist(),
        "rewards/margins": margins[taught].tolist(),
        "rewards/accuracies": agrees[taught & ~is_tie].float().tolist(),
        "logps/chosen": logps.chosen[taught].tolist(),
        "logps/rejected": logps.rejected[taught].tolist(),
    }
