import math

import pytest
import torch

from cai.training.losses import k3, soft_dpo_loss, soft_preference_loss


def loss_of(chosen, rejected, soft_label):
    tensors = (torch.tensor([x], dtype=torch.float64) for x in (chosen, rejected, soft_label))
    return soft_preference_loss(*tensors)


def test_soft_preference_loss_by_hand():
    """Margin ln 3 means σ(Δ) = 3/4, so the loss at p = 0.9 is −0.9·ln 0.75 − 0.1·ln 0.25."""
    expected = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    assert loss_of(math.log(3), 0.0, 0.9).item() == pytest.approx(expected, abs=1e-12)


def test_hard_label_gives_the_bradley_terry_loss():
    assert loss_of(1.5, 0.5, 1.0).item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-12)


def test_more_probable_chosen_gives_lower_loss_and_a_label_below_half_turns_the_sign():
    assert loss_of(2.0, 0.0, 0.9) < loss_of(1.0, 0.0, 0.9) < loss_of(-1.0, 0.0, 0.9)
    assert loss_of(2.0, 0.0, 0.1) > loss_of(1.0, 0.0, 0.1)


def test_least_loss_is_the_entropy_of_the_label_where_the_model_agrees_with_it():
    p = 0.8
    margin = math.log(p / (1 - p))
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert loss_of(margin, 0.0, p).item() == pytest.approx(entropy, abs=1e-12)
    assert loss_of(margin + 0.01, 0.0, p) > entropy
    assert loss_of(margin - 0.01, 0.0, p) > entropy


def test_a_tie_pulls_the_margin_to_zero():
    for margin in (3.0, -3.0):
        chosen = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
        soft_preference_loss(chosen, torch.zeros(1, dtype=torch.float64), torch.tensor([0.5])).sum().backward()
        assert math.copysign(1, chosen.grad.item()) == math.copysign(1, margin)


def test_gradient_is_sigma_of_margin_minus_label():
    """dL/dΔ = σ(Δ) − p, checked against autograd in float64 over a batch, which also keeps its shape."""
    generator = torch.Generator().manual_seed(0)
    margin = torch.randn(64, generator=generator, dtype=torch.float64, requires_grad=True)
    p = torch.rand(64, generator=generator, dtype=torch.float64)
    loss = soft_preference_loss(margin, torch.zeros_like(margin), p)
    assert loss.shape == (64,)
    assert loss.dtype == torch.float64
    loss.sum().backward()
    torch.testing.assert_close(margin.grad, torch.sigmoid(margin.detach()) - p, rtol=1e-10, atol=1e-12)


def test_loss_stays_finite_at_huge_margins():
    for margin in (1e4, -1e4):
        assert torch.isfinite(loss_of(margin, 0.0, 0.7)).all()


def test_k3_is_zero_where_policy_equals_reference_and_its_expectation_is_the_exact_kl():
    generator = torch.Generator().manual_seed(0)
    policy = torch.log_softmax(torch.randn(1, 50, generator=generator, dtype=torch.float64), -1)
    reference = torch.log_softmax(torch.randn(1, 50, generator=generator, dtype=torch.float64), -1)
    assert torch.equal(k3(policy, policy), torch.zeros_like(policy))
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * k3(policy, reference)).sum(), exact)
    assert (k3(policy, reference) >= 0).all()


def dpo_loss(chosen_ratio, rejected_ratio, soft_label, beta=0.1):
    """Log-ratios policy to reference in; the reference's own log-probabilities, −20 and −30, must not matter."""
    numbers = (chosen_ratio - 20.0, rejected_ratio - 30.0, -20.0, -30.0, soft_label)
    return soft_dpo_loss(*(torch.tensor([x], dtype=torch.float64) for x in numbers), beta)


def test_soft_dpo_loss_by_hand():
    """β = 0.5 and Δ = 2·ln 3 give σ(βΔ) = 3/4, so the loss at p = 0.8 is −0.8·ln 0.75 − 0.2·ln 0.25."""
    expected = -0.8 * math.log(0.75) - 0.2 * math.log(0.25)
    assert dpo_loss(math.log(3), -math.log(3), 0.8, beta=0.5).item() == pytest.approx(expected, abs=1e-12)


def test_soft_dpo_loss_is_ln_2_at_the_reference_and_that_of_rafailov_for_a_hard_label():
    assert dpo_loss(0.0, 0.0, 0.7).item() == pytest.approx(math.log(2), abs=1e-12)
    assert dpo_loss(4.0, -6.0, 1.0).item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-12)


def test_soft_dpo_loss_wants_the_chosen_response_likelier_the_rejected_one_less_and_below_half_the_reverse():
    assert dpo_loss(1.0, 0.0, 0.9) < dpo_loss(0.0, 0.0, 0.9) < dpo_loss(0.0, 1.0, 0.9)
    assert dpo_loss(1.0, 0.0, 0.1) > dpo_loss(0.0, 0.0, 0.1) > dpo_loss(0.0, 1.0, 0.1)
    assert dpo_loss(1.0, 0.0, 0.5) > dpo_loss(0.0, 0.0, 0.5) < dpo_loss(0.0, 1.0, 0.5)


def test_soft_dpo_gradient_is_beta_times_sigma_of_the_implicit_margin_minus_the_label():
    """dL/dlog π(y_c) = β(σ(βΔ) − p), and the opposite for y_r; the reference gets none here by being a constant."""
    generator = torch.Generator().manual_seed(0)
    chosen, rejected, ref_chosen, ref_rejected = torch.randn(4, 64, generator=generator, dtype=torch.float64) * 9
    p = torch.rand(64, generator=generator, dtype=torch.float64)
    chosen.requires_grad_(), rejected.requires_grad_()
    soft_dpo_loss(chosen, rejected, ref_chosen, ref_rejected, p, 0.3).sum().backward()
    delta = (chosen - ref_chosen - rejected + ref_rejected).detach()
    torch.testing.assert_close(chosen.grad, 0.3 * (torch.sigmoid(0.3 * delta) - p), rtol=1e-10, atol=1e-12)
    assert torch.equal(rejected.grad, -chosen.grad)
