"""The losses that are ours: plain functions, tensors in and out. Those of SFT, GRPO and RLOO are TRL's."""

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
