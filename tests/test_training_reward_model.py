import json

import numpy as np
import pytest
import torch
from training_fixtures import build_model, write_pairs

from cai.config import RewardModelConfig
from cai.errors import TrainingError
from cai.records import Message
from cai.training import reward_model
from cai.training.chat import load_tokenizer
from cai.training.command import run
from cai.training.jobs import RewardModelJob
from cai.training.losses import soft_preference_loss
from cai.training.reward_metrics import HeldOut, ece, entropy, measure, soft_loss
from cai.training.scoring import RewardModel, forward


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("reward")
    job = job_for(folder, model, epochs=6, n=200)
    return job, run(reward_model.STAGE, job)


def job_for(folder, model, n=60, **config):
    settings = {"learning_rate": 3e-3, "batch_size": 16, "max_length": 40, "held_out": 0.25, **config}
    return RewardModelJob(
        model=model, data=write_pairs(folder / "pairs.parquet", n), out=folder / "out",
        config=RewardModelConfig(**settings), seed=1,
    )  # fmt: skip


def test_it_learns_what_the_labels_prefer_on_prompts_it_never_saw(trained):
    metrics = trained[1]["metrics"]
    assert metrics["held_out/accuracy"] >= 0.95
    assert metrics["held_out/margin"] > 0.5
    assert metrics["held_out/loss_floor"] < metrics["held_out/loss"] < 0.6


def test_pairs_that_share_a_prompt_never_straddle_the_split(tmp_path, model):
    prepared = reward_model.prepare_rows(job_for(tmp_path, model))
    inside = {row.prompt_id for row in prepared.training.rows}
    outside = {row.prompt_id for row in prepared.held_out.rows}
    assert inside and outside and not inside & outside


def test_soft_labels_keep_the_score_difference_near_the_labels_log_odds(trained):
    """P = 0.9 everywhere: the margin should settle near ln 9 = 2.2, where hard labels would push it without end."""
    assert 1.0 < trained[1]["metrics"]["held_out/margin"] < 3.5


def test_scores_do_not_depend_on_company_or_order(trained):
    judge = RewardModel.load(trained[0].out)
    talks = [(Message("user", "how"), Message("assistant", text)) for text in ("sorry no", "sure", "tea " * 20, "")]
    together = judge.score(talks)
    alone = [judge.score([talk])[0] for talk in talks]
    assert together == pytest.approx(alone, abs=1e-5)
    assert judge.score(talks[::-1])[::-1] == pytest.approx(together, abs=1e-5)
    assert together[0] > together[1]


def test_the_score_is_read_at_the_last_token_whatever_the_padding(trained):
    judge = RewardModel.load(trained[0].out)
    ids = judge.tokenizer("<|user|> how <|end|> <|assistant|> sorry <|end|>")["input_ids"]
    with torch.no_grad():
        padded = forward(judge.model, [ids, ids + ids], judge.tokenizer.pad_token_id)[0]
        alone = judge.model(input_ids=torch.tensor([ids])).logits[0, 0]
    assert padded.item() == pytest.approx(alone.item(), abs=1e-5)


def test_long_conversations_lose_their_beginning_and_are_counted(tmp_path, model):
    prepared = reward_model.prepare_rows(job_for(tmp_path, model, max_length=8))
    assert prepared.facts["n_truncated"] > 0
    end = load_tokenizer(model).convert_tokens_to_ids("<|end|>")
    assert all(ids[-1] == end and len(ids) <= 8 for ids in prepared.training.chosen)


def test_a_model_that_blows_up_stops_with_the_step_named(tmp_path, model):
    with pytest.raises(TrainingError, match=r"step \d+: loss"):
        run(reward_model.STAGE, job_for(tmp_path, model, learning_rate=1e30))


def test_holding_out_everything_leaves_nothing_and_says_so(tmp_path, model):
    with pytest.raises(TrainingError, match="hold out fewer prompts"):
        run(reward_model.STAGE, job_for(tmp_path, model, held_out=1.0))


def test_meta_names_what_it_was_made_from(trained):
    job, meta = trained
    assert meta == {**json.loads((job.out / "meta.json").read_text()), "status": "trained"}
    assert set(meta["inputs"]) == {"data", "model"} and meta["config"]["max_length"] == 40
    assert RewardModel.load(job.out).max_length == 40


def test_numpy_and_torch_losses_agree():
    rng = np.random.default_rng(0)
    margin, p = rng.normal(size=50) * 5, rng.random(50)
    ours = soft_preference_loss(torch.tensor(margin), torch.zeros(50, dtype=torch.float64), torch.tensor(p))
    np.testing.assert_allclose(soft_loss(margin, p), ours.numpy(), rtol=1e-12)


def test_calibration_error_is_zero_for_the_truth_and_by_hand_otherwise():
    """All pairs said 0.9, truth 0.7: in both orders the gap is 0.2, so is the mean."""
    rng = np.random.default_rng(0)
    p = rng.random(1000)
    assert ece(p, p) == pytest.approx(0, abs=1e-12)
    assert ece(np.full(10, 0.95), np.full(10, 0.75)) == pytest.approx(0.2)


def test_held_out_metrics_by_hand():
    pairs = HeldOut(
        chosen=np.array([2.0, 0.0, 1.0]), rejected=np.array([0.0, 1.0, 1.0]), soft_label=np.array([1.0, 0.8, 0.5]),
        is_tie=np.array([False, False, True]), chosen_length=np.array([3.0, 3.0, 3.0]),
        rejected_length=np.array([3.0, 3.0, 3.0]),
    )  # fmt: skip
    metrics = measure(pairs)
    assert metrics["held_out/accuracy"] == 0.5
    assert metrics["held_out/margin"] == pytest.approx(1 / 3)
    sigma = [1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0)), 0.5]
    assert metrics["held_out/brier"] == pytest.approx(np.mean([(sigma[0] - 1) ** 2, (sigma[1] - 0.8) ** 2, 0]))
    assert "held_out/length_correlation" not in metrics  # lengths do not vary
    assert entropy(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, np.log(2), 0], abs=1e-12)
