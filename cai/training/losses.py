"""The losses that are ours: plain functions, tensors in and out. Those of SFT, GRPO and RLOO are TRL's.

PPO's come from Schulman et al. 2017 (PPO), Schulman et al. 2016 (GAE), Ziegler et al. 2019 (KL to the reference), and
Huang et al. 2024 (the N+ implementation details); a mask is 1 on the response's tokens, the end token included.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def soft_preference_loss(chosen: Tensor, rejected: Tensor, soft_label: Tensor) -> Tensor:
    """Cross-entropy of the Bradley–Terry probability against a soft label, per pair.

    With Δ = r(x, y_chosen) − r(x, y_rejected), Bradley–Terry (1952) has P(chosen is better) = σ(Δ). Bai et al. (2022b),
    §4.1, train the preference model on the feedback model's probabilities p instead of hard labels:

        L = −p·log σ(Δ) − (1 − p)·log σ(−Δ)

    Its least value is the entropy of p, at σ(Δ) = p; p = 1 gives the usual −log σ(Δ), and p = 0.5 pulls Δ to 0.

    Args:
        chosen: scores of the preferred responses, `(batch,)`
        rejected: scores of the others, `(batch,)`
        soft_label: P(chosen is better) in [0, 1], `(batch,)`

    Returns:
        loss per pair in nats, `(batch,)`
    """
    margin = chosen - rejected
    # logsigmoid, not log of sigmoid: finite for any margin.
    return -soft_label * logsigmoid(margin) - (1 - soft_label) * logsigmoid(-margin)


def soft_dpo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    soft_label: Tensor,
    beta: float,
) -> Tensor:
    """Direct preference optimisation against a soft label, per pair.

    With Δ = log π(y_c|x)/π_ref(y_c|x) − log π(y_r|x)/π_ref(y_r|x), the policy's implicit reward difference is βΔ, and

        L = −p·log σ(βΔ) − (1 − p)·log σ(−βΔ)

    p = 1 is equation 7 of Rafailov et al. (2023). A constant p = 1 − ε is equation 3 of Mitchell (2023), conservative
    DPO; here each pair brings its own ε = 1 − p. dL/dΔ = β(σ(βΔ) − p): the policy moves until βΔ is the label's
    log-odds, and no further; p = 0.5 pulls Δ to 0, where policy and reference agree about the pair.

    Args:
        chosen_logps: log-probability of each preferred response under the policy, summed over its tokens, `(batch,)`
        rejected_logps: the same of the other response, `(batch,)`
        ref_chosen_logps: as `chosen_logps`, under the reference, `(batch,)`
        ref_rejected_logps: as `rejected_logps`, under the reference, `(batch,)`
        soft_label: P(chosen is better) in [0, 1], `(batch,)`
        beta: strength of the reference

    Returns:
        loss per pair in nats, `(batch,)`
    """
    chosen_reward = beta * (chosen_logps - ref_chosen_logps)
    rejected_reward = beta * (rejected_logps - ref_rejected_logps)
    return soft_preference_loss(chosen_reward, rejected_reward, soft_label)


def k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Per-token estimate of KL(policy ‖ reference) from samples of the policy: unbiased, never negative.

    With r = π_ref/π: k3 = r − 1 − log r (Schulman 2020; equation 4 of DeepSeekMath, Shao et al. 2024).

    Args:
        logps: log-probability of each sampled token under the policy, `(batch, time)`
        ref_logps: the same under the reference, `(batch, time)`

    Returns:
        nats, `(batch, time)`
    """
    log_ratio = ref_logps - logps
    return torch.expm1(log_ratio) - log_ratio


class Clipped(NamedTuple):
    """A clipped loss per token, and where the clip decided it (its gradient is 0 there). Both `(batch, time)`."""

    loss: Tensor
    is_clipped: Tensor


class Advantages(NamedTuple):
    """How much better an action was than expected, and what the value should have been. Both `(batch, time)`."""

    advantages: Tensor
    returns: Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is 1, every token alike. Both `(batch, time)`; a scalar."""
    return (values * mask).sum() / mask.sum()


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Variance (over n, not n − 1) of `values` where `mask` is 1. Both `(batch, time)`; a scalar."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scaled to variance 1, and to mean 0 where `shift_mean`, over the tokens of the whole batch; 0 outside `mask`.

    Advantages are shifted, rewards are not (Huang et al. 2024, "Whiten rewards" and "Whiten advantages").

    Args:
        values: `(batch, time)`
        mask: `(batch, time)`
        shift_mean: False keeps the mean

    Returns:
        `(batch, time)`
    """
    mean = masked_mean(values, mask)
    scaled = (values - mean) * torch.rsqrt(masked_variance(values, mask) + 1e-8)
    return (scaled if shift_mean else scaled + mean) * mask


def token_logps(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Log-probability of each token at the temperature it was sampled with.

    Args:
        logits: `(batch, time, vocabulary)`; those at t are of the token at t
        tokens: `(batch, time)`
        temperature: what logits are divided by

    Returns:
        nats, `(batch, time)`
    """
    return (logits / temperature).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def token_entropy(logits: Tensor, temperature: float) -> Tensor:
    """Entropy of the distribution each token is sampled from: `S[π](s_t)` of Schulman et al. 2017, equation 9.

    Args:
        logits: `(batch, time, vocabulary)`
        temperature: what logits are divided by

    Returns:
        nats, `(batch, time)`
    """
    logps = (logits / temperature).log_softmax(-1)
    return -(logps.exp() * logps).sum(-1)


def k1(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Per-token estimate of KL(policy ‖ reference) from samples of the policy: log π − log π_ref (Schulman 2020).

    Unbiased; can be negative. Summed over a response it is log π(y|x)/ρ(y|x) of Ziegler et al. 2019, equation 2.

    Args:
        logps: log-probability of each sampled token under the policy, `(batch, time)`
        ref_logps: the same under the reference, `(batch, time)`

    Returns:
        nats, `(batch, time)`
    """
    return logps - ref_logps


def kl_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """What each token earns: −β times its KL, and at the last token also the score of the response.

    Their sum over a response is R(x, y) = r(x, y) − β·log π(y|x)/ρ(y|x): Ziegler et al. 2019, equation 2.

    Args:
        scores: r(x, y), `(batch,)`
        kl: `k1` per token, `(batch, time)`
        mask: 1 on the response's tokens, which come first, `(batch, time)`
        kl_coef: β

    Returns:
        `(batch, time)`, 0 outside `mask`
    """
    rewards = -kl_coef * kl * mask
    last = mask.sum(-1, keepdim=True).long() - 1
    return rewards.scatter_add(-1, last, scores[:, None].to(rewards.dtype))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Advantages:
    """Generalised advantage estimation over responses that end at their last token, whose next value is 0.

        δ_t = r_t + γ·V(s_{t+1}) − V(s_t)        Schulman et al. 2016, equation 11
        Â_t = Σ_l (γλ)^l · δ_{t+l}               equation 16

    The returns are Â_t + V(s_t), what the value function is trained on.

    Args:
        rewards: `(batch, time)`
        values: V(s_t), of the state before token t, `(batch, time)`
        mask: 1 on the response's tokens, which come first, `(batch, time)`
        gamma: γ
        lam: λ

    Returns:
        both `(batch, time)`, 0 outside `mask`
    """
    values = values * mask
    advantages = torch.zeros_like(values)
    following, advantage = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        following = values[:, t]
        advantages[:, t] = advantage
    return Advantages(advantages, advantages + values)


def ppo_policy_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, clip: float) -> Clipped:
    """The clipped surrogate, as a loss: with r = π/π_old, −min(r·Â, clip(r, 1 − ε, 1 + ε)·Â), per token.

    Schulman et al. 2017, equation 7, with the sign turned.

    Args:
        logps: under the policy being trained, `(batch, time)`
        old_logps: under the policy that sampled, `(batch, time)`
        advantages: `(batch, time)`
        clip: ε
    """
    ratio = (logps - old_logps).exp()
    free = -advantages * ratio
    bounded = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return Clipped(torch.maximum(free, bounded), bounded > free)


def ppo_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Clipped:
    """½·max((V − R)², (V_old + clip(V − V_old, −ε, ε) − R)²), per token.

    L^VF of Schulman et al. 2017, equation 9, clipped as their code does (Huang et al. 2024, "Value function clipping").

    Args:
        values: of the value function being trained, `(batch, time)`
        old_values: when the responses were sampled, `(batch, time)`
        returns: `(batch, time)`
        clip: ε, in units of reward
    """
    moved = values - old_values
    free = (values - returns) ** 2
    bounded = (old_values + moved.clamp(-clip, clip) - returns) ** 2
    # Within the clip the two are equal but for rounding, which must not count.
    return Clipped(0.5 * torch.maximum(free, bounded), (bounded > free) & (moved.abs() > clip))


def adapted_kl_coef(kl_coef: float, kl: float, target: float, n_samples: int, horizon: int) -> float:
    """The next KL coefficient, larger where the policy is further from the reference than `target`.

        e = clip((KL − KL_target)/KL_target, −0.2, 0.2)
        β ← β·(1 + K·e)                          Ziegler et al. 2019, §2.2

    with K = n_samples/horizon, so that it does not depend on how many samples a step has (the paper's code).

    Args:
        kl_coef: β
        kl: nats per response
        target: KL_target, nats per response
        n_samples: responses since the last change
        horizon: responses over which K adds up to 1
    """
    error = min(max((kl - target) / target, -0.2), 0.2)
    return kl_coef * (1 + error * n_samples / horizon)
