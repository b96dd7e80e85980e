"""The learning half of PPO: policy, reference and value model, and the update on one step's rollouts. Knows nothing of
text, rewards or files.
"""

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cai.config import PPOConfig
from cai.training import processes
from cai.training.losses import k3, masked_variance, ppo_policy_loss, ppo_value_loss, token_entropy, token_logps
from cai.training.sampling import Sequences

MAX_GRAD_NORM = 1.0
MEANS = ("loss/policy", "loss/value", "clip_rate", "value_clip_rate", "kl/update")
"""What a minibatch says of itself."""


class ValueModel(nn.Module):
    """V(s_t): a linear layer on the last hidden states of a body of its own.

    The body starts as the policy's (a reward model may have another tokenizer, and there may be several, or none). It
    shares no weights with the policy, as in InstructGPT and Huang et al. 2024: neither loss disturbs the other, so no
    coefficient weighs them, at the price of a second model in memory. The layer starts at 0: V = 0, and the first
    advantages are what the rewards alone say.
    """

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Of the state after each token, `(batch, prompt + time)`."""
        values: Tensor = self.head(self.body(**inputs, use_cache=False).last_hidden_state)
        return values[..., 0]


class Seen(NamedTuple):
    """What the models say of the rollouts before the update, each `(batch, time)`."""

    logps: Tensor
    ref_logps: Tensor
    entropy: Tensor
    values: Tensor


class Experience(NamedTuple):
    """What the update learns from: tensors `(batch, time)` beside their sequences. Scored rollouts only."""

    sequences: Sequences
    logps: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def take(self, rows: Sequence[int]) -> "Experience":
        index = torch.tensor(rows, dtype=torch.long, device=self.logps.device)
        return Experience(self.sequences.take(rows), *(each[index] for each in self[1:]))


class Learner:
    """The two models that learn, each with its optimiser, and the reference.

    All randomness is the order of the minibatches, a function of (seed, step, epoch): there is no state to restore but
    weights and optimisers. Dropout is off (Huang et al. 2024): the ratio π/π_old of an unchanged policy is 1.
    """

    def __init__(
        self,
        policy: Any,
        reference: Any,
        value: Any,
        config: PPOConfig,
        seed: int,
        accelerator: Accelerator,
        micro_batch: int | None = None,
    ) -> None:
        self._config, self._seed, self._accelerator, self._micro_batch = config, seed, accelerator, micro_batch
        value_rate = config.value_learning_rate or config.learning_rate
        # Not wrapped for several processes: their gradients are added up by `processes.add_gradients`.
        models = (policy.eval(), value.eval(), reference.eval().requires_grad_(False))
        self._policy, self._value, self._reference = (
            accelerator.prepare_model(m, evaluation_mode=True) for m in models
        )
        self._policy_optimizer = _adam(self._policy, config.learning_rate)
        self._value_optimizer = _adam(self._value, value_rate)

    def unwrapped(self) -> Any:
        """The policy."""
        return self._accelerator.unwrap_model(self._policy)

    @property
    def reference(self) -> Any:
        """The frozen model that the KL is taken to."""
        return self._accelerator.unwrap_model(self._reference)

    @torch.no_grad()
    def look(self, sequences: Sequences) -> Seen:
        parts = []
        for rows in _chunks(processes.mine(range(len(sequences.ids))), self._micro_batch):
            some = sequences.take(rows)
            logits = _reply_logits(self._policy, some)
            ref_logits = _reply_logits(self._reference, some)
            temperature = self._config.temperature
            parts.append(
                Seen(
                    token_logps(logits, some.replies, temperature),
                    token_logps(ref_logits, some.replies, temperature),
                    token_entropy(logits, temperature),
                    _reply_values(self._value, some),
                )
            )
        parts = processes.gathered([Seen(*(each.cpu() for each in part)) for part in parts])
        return Seen(*(torch.cat(column).to(sequences.ids.device) for column in zip(*parts, strict=True)))

    def update(self, experience: Experience, step: int) -> dict[str, float]:
        """Several passes over the rollouts, minibatch by minibatch.

        They end where a minibatch shows that the policy has moved further than `max_update_kl` from the one that
        sampled, or that a loss or a gradient is no number; that minibatch is not learnt from.

        Returns:
            means over the minibatches, `kl/update` of the last one looked at, and `n_epochs_done`; a mean that is no
            number says that training cannot go on
        """
        config = self._config
        plan = minibatches(len(experience.logps), config.minibatch_size, config.epochs, self._seed, step)
        learnt: list[dict[str, float]] = []
        moved = 0.0
        for rows in plan:
            numbers = self._accumulate(experience, rows)
            moved = numbers.pop("kl/update")
            if config.max_update_kl is not None and moved > config.max_update_kl:
                self._zero_grad()
                break
            numbers |= self._clip_gradients()
            if not all(map(math.isfinite, numbers.values())):
                self._zero_grad()
                learnt.append(numbers)
                break
            self._policy_optimizer.step()
            self._value_optimizer.step()
            self._zero_grad()
            learnt.append(numbers)
        means = {name: math.fsum(n[name] for n in learnt) / len(learnt) for name in (learnt[0] if learnt else {})}
        return {**means, "kl/update": moved, "n_epochs_done": config.epochs * len(learnt) / len(plan)}

    def _accumulate(self, experience: Experience, rows: Sequence[int]) -> dict[str, float]:
        """The gradients of one minibatch, micro-batch by micro-batch. Every token of the minibatch weighs the same."""
        totals = dict.fromkeys(MEANS, 0.0)
        n_tokens = experience.take(rows).sequences.mask.sum()
        for some in _chunks(processes.mine(rows), self._micro_batch):
            for name, part in self._backward(experience.take(some), n_tokens).items():
                totals[name] += float(part)
        for model in (self._policy, self._value):
            processes.add_gradients(model.parameters())
        return dict(zip(MEANS, processes.added_up(list(totals.values())), strict=True))

    def _backward(self, batch: Experience, n_tokens: Tensor) -> dict[str, Tensor]:
        """Add this micro-batch's part of the gradients; its parts of the minibatch's means."""
        config, mask = self._config, batch.sequences.mask

        def part(per_token: Tensor) -> Tensor:
            return (per_token.to(batch.logps.dtype) * mask).sum() / n_tokens

        logits = _reply_logits(self._policy, batch.sequences)
        logps = token_logps(logits, batch.sequences.replies, config.temperature)
        policy = ppo_policy_loss(logps, batch.logps, batch.advantages, config.clip)
        policy_loss = part(policy.loss)
        # Equation 9 of Schulman et al. 2017, in two backward passes: policy and value share no weights.
        bonus = part(token_entropy(logits, config.temperature)) if config.entropy_coef else 0.0
        self._accelerator.backward(policy_loss - config.entropy_coef * bonus)
        value = ppo_value_loss(
            _reply_values(self._value, batch.sequences), batch.values, batch.returns, config.value_clip
        )
        value_loss = part(value.loss)
        self._accelerator.backward(value_loss)
        return {
            "loss/policy": policy_loss.detach(),
            "loss/value": value_loss.detach(),
            "clip_rate": part(policy.is_clipped),
            "value_clip_rate": part(value.is_clipped),
            "kl/update": part(k3(batch.logps, logps.detach())),
        }

    def _clip_gradients(self) -> dict[str, float]:
        """Bound both norms; what they were before."""
        policy = self._accelerator.clip_grad_norm_(self._policy.parameters(), MAX_GRAD_NORM)
        value = self._accelerator.clip_grad_norm_(self._value.parameters(), MAX_GRAD_NORM)
        return {"grad_norm": float(policy), "grad_norm/value": float(value)}

    def _zero_grad(self) -> None:
        self._policy_optimizer.zero_grad()
        self._value_optimizer.zero_grad()

    def save(self, folder: Path) -> None:
        """Weights and optimisers into `folder`, which can be read as the policy's model directory."""
        from safetensors.torch import save_model

        self.unwrapped().config.save_pretrained(str(folder))
        for name, model, optimizer in self._parts():
            weights = str(folder / f"{name}.safetensors")
            save_model(self._accelerator.unwrap_model(model), weights, metadata={"format": "pt"})
            torch.save(optimizer.state_dict(), folder / f"{name}_optimizer.pt")

    def load(self, folder: Path) -> None:
        """Take over what `save` wrote."""
        from safetensors.torch import load_model

        for name, model, optimizer in self._parts():
            load_model(self._accelerator.unwrap_model(model), folder / f"{name}.safetensors")
            state = torch.load(folder / f"{name}_optimizer.pt", weights_only=True, map_location="cpu")
            optimizer.load_state_dict(state)

    def _parts(self) -> tuple[tuple[str, Any, Any], ...]:
        return (
            ("model", self._policy, self._policy_optimizer),
            ("value", self._value, self._value_optimizer),
        )


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(R − V)/Var(R) over the tokens: 1 for a perfect value function, 0 for a constant; NaN where R is constant.

    All `(batch, time)`.
    """
    spread = float(masked_variance(returns, mask))
    return 1 - float(masked_variance(returns - values, mask)) / spread if spread else math.nan


def minibatches(n_rows: int, size: int, epochs: int, seed: int, step: int) -> list[list[int]]:
    """Row numbers of each minibatch of one step's passes: every row once a pass, in an order of its own each time."""
    made = []
    for epoch in range(epochs):
        order = list(range(n_rows))
        random.Random(f"minibatches/{seed}/{step}/{epoch}").shuffle(order)
        made += [order[start : start + size] for start in range(0, n_rows, size)]
    return made


def _chunks(rows: Sequence[int], size: int | None) -> Iterator[Sequence[int]]:
    width = size or len(rows) or 1
    return (rows[start : start + width] for start in range(0, len(rows), width))


def _reply_logits(model: Any, sequences: Sequences) -> Tensor:
    """The logits each reply token was drawn from: those one place before it, `(batch, time, vocabulary)`."""
    time = sequences.mask.shape[1]
    logits: Tensor = model(**sequences.inputs(), use_cache=False, logits_to_keep=time + 1).logits
    return logits[:, :-1]


def _reply_values(model: Any, sequences: Sequences) -> Tensor:
    """V of the state each reply token was drawn in, `(batch, time)`."""
    values: Tensor = model(**sequences.inputs())
    return values[:, values.shape[1] - sequences.mask.shape[1] - 1 : -1]


def _adam(model: Any, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
