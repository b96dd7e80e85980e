"""What ours adds to TRL's policy trainers: every sampled reply is kept with its reward and KL, and what could not be
scored is None, which TRL (1.16) leaves out of the baseline and gives no advantage.
"""

from collections.abc import Sequence
from typing import Any

import torch

from cai.records import Message
from cai.rewards.base import RewardInput, Rewards
from cai.training.losses import k3
from cai.training.rollouts import Sample

ORDER = "sample_order"
REFERENCE = "ref_per_token_logps"
"""TRL's name of the reference's log-probabilities in a GRPO batch; an RLOO batch has none."""


def recording(trainer: type[Any]) -> type[Any]:
    """TRL's GRPO or RLOO trainer, with `samples`: the replies of the step in hand, each with its KL (k3, nats a token).

    In RLOO the KL that counts is in the reward, by the log-ratio itself; it is recorded by k3 all the same.
    """

    class Recording(trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.samples: list[Sample] = []
            self._logps: torch.Tensor | None = None
            self._ref_logps: torch.Tensor | None = None
            super().__init__(*args, **kwargs)

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
            # TRL shuffles the batch after this; what is in it travels along, so that each KL finds its sample.
            output[ORDER] = torch.arange(len(inputs), device=output["completion_ids"].device)
            if self._ref_logps is not None:
                output[REFERENCE] = self._ref_logps
            return output

        def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            found = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
            if torch.is_grad_enabled():
                self._logps = found[0].detach()
            elif model is self.ref_model:
                self._ref_logps = found[0]
            return found

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
            if REFERENCE in inputs and self._logps is not None:
                mask = inputs["completion_mask"]
                per_token = k3(self._logps, inputs[REFERENCE]) * mask
                means = per_token.sum(-1) / mask.sum(-1).clamp(min=1)
                for i, value in zip(inputs[ORDER].tolist(), means.tolist(), strict=True):
                    self.samples[i].kl = value
            return loss

    return Recording


class Reward:
    """The reward function TRL calls: all terms of the config as one, None where a term could not score."""

    __name__ = "reward"  # TRL names the metric after it

    def __init__(self, rewards: Rewards, stops: set[int], samples: list[Sample]) -> None:
        """`stops` are the tokens that end a reply: one that ends otherwise was cut off."""
        self._rewards = rewards
        self._stops = stops
        self._samples = samples

    def __call__(
        self,
        prompts: Sequence[Sequence[dict[str, Any]]],
        completions: Sequence[Sequence[dict[str, Any]]],
        completion_ids: Sequence[Sequence[int]],
        prompt_id: Sequence[str],
        expected: Sequence[str | None],
        trainer_state: Any,
        **_: Any,
    ) -> list[float | None]:
        inputs = [
            RewardInput(
                name,
                tuple(Message(m["role"], m["content"]) for m in prompt),
                reply[-1]["content"],
                len(ids),
                is_cut_off=not self._stops.intersection(ids[-1:]),
                expected=known,
            )
            for name, prompt, reply, ids, known in zip(
                prompt_id, prompts, completions, completion_ids, expected, strict=True
            )
        ]
        earned = self._rewards.score(inputs)
        self._samples[:] = [
            Sample(
                trainer_state.global_step + 1,
                each.prompt_id,
                each.response,
                got.total,
                dict(got.parts),
                got.reason,
                None,
                each.n_tokens,
            )
            for each, got in zip(inputs, earned, strict=True)
        ]
        return [got.total for got in earned]
