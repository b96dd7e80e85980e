"""Scoring a policy on prompts held aside: repeatable, disturbing nothing, each number that of each reply alone."""

import pytest
import torch
from training_fixtures import build_model

from cai.errors import TrainingError
from cai.records import Message
from cai.rewards.base import Rewards, Term
from cai.training import gold
from cai.training.chat import end_tokens, load_tokenizer, render
from cai.training.gold import BATCH, GoldScorer
from cai.training.rows import PromptRow
from cai.training.trainer import load_policy
from cai.verdict import Unscored


class Sorries:
    """Gold that cannot be gamed: 1 for a reply of some words that begins with "sorry", less for each "sorry" more."""

    def score(self, inputs):
        return [self._of(each.response.split()) for each in inputs]

    @staticmethod
    def _of(words):
        return max(0.0, 1.0 - 0.4 * (words.count("sorry") - 1)) if "sorry" in words else 0.0

    def close(self):
        pass


class Blind(Sorries):
    def score(self, inputs):
        return [Unscored("blind", "") for _ in inputs]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


def scorer_for(policy, n=6, **changes):
    tokenizer = load_tokenizer(policy)
    rewards = Rewards([Term("sorries", 1.0, Sorries())])
    rows = [PromptRow(f"p{i}", (Message("user", " ".join(["please"] * (1 + i % 5))),), None) for i in range(n)]
    settings = {
        "prompts": rows, "tokenizer": tokenizer, "stops": frozenset(end_tokens(tokenizer, policy)),
        "temperature": 0.7, "max_tokens": 8, "reference": load_policy(policy).eval(), "proxy": rewards,
        "gold": rewards, "seed": 4, **changes,
    }  # fmt: skip
    return GoldScorer(**settings), load_policy(policy)


def moved(model, size=0.05):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights += size * torch.randn(weights.shape, generator=generator)
    return model


def test_scoring_is_repeatable_and_disturbs_nothing(policy):
    scorer, model = scorer_for(policy, n=BATCH + 3)
    model.train()
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = scorer.score(moved(model))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and all(p.grad is None for p in model.parameters())
    torch.rand(3)
    assert scorer.score(model) == first
    assert first["guard/n"] == BATCH + 3 and 0 < first["guard/length"] <= 8


def test_kl_and_entropy_are_those_of_each_reply_alone(policy):
    """Prompts and replies of several lengths, padded on both sides, against each worked out by itself in float64. A
    distribution depends on what came before it only, so the tokens but the last say all.
    """
    scorer, model = scorer_for(policy, n=10, max_tokens=4, stops=frozenset(range(12)))
    assert scorer.score(model)["guard/kl"] == pytest.approx(0, abs=1e-6)
    moved(model, 0.2)
    with gold._undisturbed(model, 3):
        spoken = scorer._speak(model, scorer.prompts)
        assert len(set(spoken.n_tokens)) > 2 and set(spoken.is_cut_off) == {False, True}
        for row, text, n, kl, entropy in zip(
            scorer.prompts, spoken.texts, spoken.n_tokens, spoken.kl, spoken.entropy, strict=True
        ):
            asked = render(scorer.tokenizer, [row.prompt], ask=True)[0]
            ids = scorer.tokenizer(" ".join([asked, *text.split()[: n - 1]]), return_tensors="pt")["input_ids"]
            here, there = (
                (each(ids).logits[0, -n:].double() / 0.7).log_softmax(-1) for each in (model, scorer.reference)
            )
            assert kl == pytest.approx(float((here.exp() * (here - there)).sum()), rel=1e-4)
            assert entropy == pytest.approx(-float((here.exp() * here).sum()), rel=1e-4)


def test_gold_and_proxy_are_means_with_their_errors_and_terms_apart(policy):
    scorer, model = scorer_for(policy, n=40)
    found = scorer.score(model)
    assert found["gold/mean"] == found["proxy/mean"] == found["golds/sorries"]
    assert 0 < found["gold/mean"] < 1 and 0 < found["gold/sem"] < 0.1
    assert found["gold/n"] == 40


def test_gold_that_can_score_nothing_is_an_error_and_not_a_quiet_guard(policy):
    scorer, model = scorer_for(policy, gold=Rewards([Term("blind", 1.0, Blind())]))
    with pytest.raises(TrainingError, match=r"fewer than 2 of 6 replies \(blind: blind\)"):
        scorer.score(model)
    quiet, _ = scorer_for(policy, proxy=Rewards([Term("blind", 1.0, Blind())]))
    assert "proxy/mean" not in quiet.score(model)
