import math

import pytest
import torch

from cai.training.losses import (
    adapted_kl_coef,
    gae,
    k1,
    k3,
    kl_rewards,
    masked_mean,
    ppo_policy_loss,
    ppo_value_loss,
    soft_dpo_loss,
    soft_preference_loss,
    token_entropy,
    token_logps,
    whiten,
)


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


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def test_k1_is_zero_where_policy_equals_reference_and_its_expectation_is_the_exact_kl():
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 1, 50, generator=generator, dtype=torch.float64).log_softmax(-1)
    assert torch.equal(k1(policy, policy), torch.zeros_like(policy))
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * k1(policy, reference)).sum(), exact)
    assert exact > 0 and (k1(policy, reference) < 0).any()


def test_masked_mean_weighs_every_token_alike():
    values = torch.tensor([[1.0, 2.0, 99.0], [6.0, 99.0, 99.0]])
    assert masked_mean(values, torch.tensor([[1, 1, 0], [1, 0, 0]])).item() == 3.0


def test_whitening_by_hand():
    """1, 3, 8 have mean 4 and variance 26/3; the masked 100 does not count and becomes 0."""
    values, mask = torch.tensor([[1.0, 3.0], [8.0, 100.0]], dtype=torch.float64), torch.tensor([[1, 1], [1, 0]])
    deviation = math.sqrt(26 / 3)
    expected = torch.tensor([[-3, -1], [4, 0]], dtype=torch.float64) / deviation
    torch.testing.assert_close(whiten(values, mask), expected)
    torch.testing.assert_close(whiten(values, mask, shift_mean=False), (expected + 4) * mask)
    torch.testing.assert_close(whiten(torch.ones(2, 2), mask), torch.zeros(2, 2))


def test_token_logps_and_entropy_by_hand():
    """Logits ln 1, ln 3 give 1/4 and 3/4; at temperature 1/2 they give 1/10 and 9/10."""
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)]]], dtype=torch.float64)
    tokens = torch.tensor([[0, 1]])
    torch.testing.assert_close(token_logps(logits, tokens, 1.0), row(math.log(0.25), math.log(0.75)))
    torch.testing.assert_close(token_logps(logits, tokens, 0.5), row(math.log(0.1), math.log(0.9)))
    entropy = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    torch.testing.assert_close(token_entropy(logits, 0.5), row(entropy, entropy))
    torch.testing.assert_close(token_entropy(torch.zeros(1, 1, 8), 1.0), torch.full((1, 1), math.log(8)))


def test_kl_rewards_add_up_to_the_score_less_the_kl_of_the_response():
    """Ziegler et al. 2019, equation 2: 2 − 0.5·(0.4 − 0.2) over two tokens; the score comes with the last of them."""
    kl, mask = torch.tensor([[0.4, -0.2, 9.0], [0.1, 0.1, 0.1]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    rewards = kl_rewards(torch.tensor([2.0, -1.0]), kl, mask, 0.5)
    torch.testing.assert_close(rewards, torch.tensor([[-0.2, 2.1, 0.0], [-0.05, -0.05, -1.05]]))
    assert kl_rewards(torch.tensor([2.0]), kl[:1], mask[:1], 1.0).sum() < rewards[0].sum()


def test_gae_by_hand():
    """γ = λ = ½: δ = (−¼, −¼, ½), so Â₃ = ½, Â₂ = −¼ + ¼·½, Â₁ = −¼ + ¼·Â₂."""
    rewards, values, mask = row(0, 0, 1), row(0.5, 0.5, 0.5), torch.ones(1, 3)
    found = gae(rewards, values, mask, 0.5, 0.5)
    torch.testing.assert_close(found.advantages, row(-0.28125, -0.125, 0.5))
    torch.testing.assert_close(found.returns, row(0.21875, 0.375, 1.0))
    monte_carlo = gae(rewards, values, mask, 1.0, 1.0)  # λ = 1: what is earned from here on, less the value
    torch.testing.assert_close(monte_carlo.advantages, row(0.5, 0.5, 0.5))
    torch.testing.assert_close(monte_carlo.returns, row(1.0, 1.0, 1.0))
    one_step = gae(rewards, values, mask, 1.0, 0.0)  # λ = 0: the next value stands for all that follows
    torch.testing.assert_close(one_step.advantages, row(0.0, 0.0, 0.5))


def test_gae_sees_nothing_after_the_end_of_a_response():
    mask = torch.tensor([[1, 1, 0, 0]])
    padded = gae(row(0, 1, 7, 7), row(0.5, 0.2, 9, -9), mask, 0.9, 0.8)
    alone = gae(row(0, 1), row(0.5, 0.2), torch.ones(1, 2), 0.9, 0.8)
    for found, expected in zip(padded, alone, strict=True):
        torch.testing.assert_close(found, torch.cat([expected, torch.zeros(1, 2, dtype=torch.float64)], 1))


def test_the_policy_loss_by_hand():
    """Ratios 1.5 and 0.5 with either sign of advantage, ε = 0.2: only a move that goes too far the right way is cut."""
    ratios, advantages = row(1.5, 1.5, 0.5, 0.5), row(1, -1, 1, -1)
    logps = ratios.log().requires_grad_()
    found = ppo_policy_loss(logps, torch.zeros(1, 4), advantages, 0.2)
    torch.testing.assert_close(found.loss, row(-1.2, 1.5, -0.5, 0.8))
    assert found.is_clipped.tolist() == [[True, False, False, True]]
    found.loss.sum().backward()
    torch.testing.assert_close(logps.grad, row(0, 1.5, -0.5, 0))


def test_the_policy_loss_falls_where_a_better_token_becomes_more_probable():
    old = row(-1.0, -1.0)
    better = ppo_policy_loss(old + 0.01, old, row(2.0, 2.0), 0.2).loss
    worse = ppo_policy_loss(old + 0.01, old, row(-2.0, -2.0), 0.2).loss
    still = ppo_policy_loss(old, old, row(2.0, -2.0), 0.2)
    torch.testing.assert_close(still.loss, row(-2.0, 2.0))
    assert (better < -2).all() and (worse > 2).all() and not still.is_clipped.any()


def test_the_value_loss_by_hand():
    """Old value 0, return 1, ε = 0.2. At 0.1 nothing is cut; at 0.5 it counts as at 0.2 and no longer pulls; at −0.5
    the full error counts.
    """
    values = row(0.1, 0.5, -0.5).requires_grad_()
    found = ppo_value_loss(values, torch.zeros(1, 3), torch.ones(1, 3), 0.2)
    torch.testing.assert_close(found.loss, row(0.5 * 0.81, 0.5 * 0.64, 0.5 * 2.25))
    assert found.is_clipped.tolist() == [[False, True, False]]
    found.loss.sum().backward()
    torch.testing.assert_close(values.grad, row(-0.9, 0.0, -1.5))


def test_rounding_is_no_clipping():
    generator = torch.Generator().manual_seed(0)
    old, returns = torch.randn(2, 10, 100, generator=generator)
    values = old + 0.01 * torch.randn(10, 100, generator=generator)
    assert not ppo_value_loss(values, old, returns, 0.2).is_clipped.any()
    assert not ppo_policy_loss(values, old, returns, 0.2).is_clipped.any()


def test_the_kl_coefficient_grows_where_the_kl_is_above_its_target_and_by_a_fifth_at_most():
    assert adapted_kl_coef(0.1, 5.5, 5.0, 100, 100) == pytest.approx(0.11)
    assert adapted_kl_coef(0.1, 4.5, 5.0, 100, 100) == pytest.approx(0.09)
    assert adapted_kl_coef(0.1, 1000.0, 5.0, 100, 100) == pytest.approx(0.12)
    assert adapted_kl_coef(0.1, -3.0, 5.0, 100, 100) == pytest.approx(0.08)
    assert adapted_kl_coef(0.1, 5.0, 5.0, 100, 100) == 0.1
    assert adapted_kl_coef(0.1, 1000.0, 5.0, 50, 10_000) == pytest.approx(0.1 * (1 + 0.2 / 200))
