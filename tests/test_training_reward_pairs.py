"""Pairs of a reward model: which are kept, on which side of the split, how they are measured and laid out as rows."""

import math
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from training_fixtures import assistant, build_model, sentence, user

from cai.config import RewardModelConfig
from cai.errors import ConfigError, DataError
from cai.records import Message
from cai.training import reward_model
from cai.training.jobs import RewardModelJob
from cai.training.losses import soft_preference_loss
from cai.training.reward_metrics import intervals, measure, soft_loss
from cai.training.reward_pairs import Pairs, prepare_rows, scored, split_rows
from cai.training.rows import PairRow, read_pairs
from cai.training.scoring import PairRows, PairScorer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


def messages_or_nothing(kind, rng):
    return {"text": assistant("sure " + sentence(rng)), "empty": assistant(""), "none": [], "null": None}[kind]


def random_row(i, rng):
    """One preference row of a random kind, and the reason it must be refused for, or None."""
    label = rng.choice([0.0, 0.5, 1.0, rng.random()] * 5 + [math.nan, -0.1, 1.5, math.inf, None])
    chosen, rejected = (rng.choice(["text"] * 16 + ["empty"] * 4 + ["none", "null"]) for _ in range(2))
    weight = rng.choice([None, 1.0, 0.25, 3.0] * 5 + [0.0, -1.0, math.nan, math.inf])
    source = rng.choice([None, "", "ai", "human", "verifier"] * 5 + ["oracle"])
    pair_id = rng.choice([None] + [f"pair-{i}"] * 20)
    row = {
        "prompt": user(f"how {rng.randrange(2000)}"), "chosen": messages_or_nothing(chosen, rng),
        "rejected": messages_or_nothing(rejected, rng), "soft_label": label, "is_tie": label == 0.5,
        "pair_id": pair_id, "prompt_id": f"prompt-{rng.randrange(3000)}", "weight": weight, "source": source,
    }  # fmt: skip
    if chosen == "text" and rng.random() < 0.2:
        row["rejected"] = row["chosen"]
    reasons = {
        "no_id": pair_id is None,
        "no_messages": not row["chosen"] or not row["rejected"],
        "soft_label_out_of_range": label is None or not 0 <= label <= 1,
        "identical_responses": row["chosen"] == row["rejected"],
        "weight_broken": weight is not None and (weight < 0 or not math.isfinite(weight)),
        "weight_zero": weight == 0,
        "unknown_source": source == "oracle",
    }
    return row, next((reason for reason, holds in reasons.items() if holds), None)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_ten_thousand_random_rows_are_each_kept_or_refused_with_the_reason(tmp_path, model, labels):
    rng = random.Random(7)
    made = [random_row(i, rng) for i in range(10_000)]
    pq.write_table(pa.Table.from_pylist([row for row, _ in made]), tmp_path / "pairs.parquet")
    pairs, rejects = read_pairs(tmp_path / "pairs.parquet")
    assert [p.pair_id for p in pairs] == [row["pair_id"] for row, reason in made if reason is None]
    assert [reject.reason for reject in rejects] == [reason for _, reason in made if reason is not None]
    assert len(Counter(reject.reason for reject in rejects)) == 7
    assert all(reject.detail for reject in rejects)
    assert {p.weight for p in pairs} == {1.0, 0.25, 3.0} and {p.source for p in pairs} == {
        "",
        "ai",
        "human",
        "verifier",
    }
    assert any(p.chosen[-1].content == "" for p in pairs)  # an empty response is a response
    assert {0.0, 0.5, 1.0} < {p.soft_label for p in pairs}

    config = RewardModelConfig(max_length=40, held_out=0.25, labels=labels)
    prepared = prepare_rows(RewardModelJob(model=model, data=tmp_path / "pairs.parquet", out=tmp_path, config=config))
    facts = prepared.facts
    assert facts["n_rows"] + facts["n_held_out"] + facts["n_rejected"] == 10_000
    assert sum(facts["rejected"].values()) == len(prepared.rejects)
    trained_on = {row.soft_label for row in prepared.training.rows}
    assert trained_on == {0.0, 1.0} if labels == "hard" else len(trained_on) > 100
    assert ("tie" in facts["rejected"]) == (labels == "hard")
    assert any(row.soft_label == 0.5 for row in prepared.held_out.rows)  # measured alike, whatever was trained on
    no_straddle(prepared.training.rows, prepared.held_out.rows)


def test_a_column_of_another_type_is_the_files_problem(tmp_path):
    row = random_row(0, random.Random(0))[0]
    pq.write_table(pa.Table.from_pylist([{**row, "weight": "much"}]), tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match="column 'weight' must hold numbers, it is string"):
        read_pairs(tmp_path / "pairs.parquet")


def no_straddle(training, held_out):
    for key in (lambda row: row.prompt, lambda row: row.prompt_id):
        assert not {key(row) for row in training} & {key(row) for row in held_out}


@pytest.mark.parametrize("seed", range(20))
def test_no_prompt_straddles_whatever_its_ids(seed):
    """Prompts under several ids, and ids of several prompts: as few or as many as chance has it."""
    rng = random.Random(seed)
    n, n_texts, n_ids = rng.randint(1, 300), rng.randint(1, 300), rng.randint(1, 300)
    rows = [
        pair_row(i)._replace(
            prompt=(Message("user", str(rng.randrange(n_texts))),), prompt_id=str(rng.randrange(n_ids))
        )
        for i in range(n)
    ]
    split = split_rows(rows, share=rng.random())
    assert sorted(r.pair_id for r in split.training + split.held_out) == sorted(r.pair_id for r in rows)
    no_straddle(split.training, split.held_out)
    again = split_rows(rows[::-1], share=1.0)
    assert not again.training and len(again.held_out) == n


def test_numpy_and_torch_losses_agree():
    rng = np.random.default_rng(0)
    margin, p = rng.normal(size=50) * 5, rng.random(50)
    ours = soft_preference_loss(torch.tensor(margin), torch.zeros(50, dtype=torch.float64), torch.tensor(p))
    np.testing.assert_allclose(soft_loss(margin, p), ours.numpy(), rtol=1e-12)


def test_held_out_metrics_by_hand():
    rows = [pair_row(i, soft_label=label, is_tie=label == 0.5) for i, label in enumerate([1.0, 0.8, 0.5])]
    metrics = measure(scored(rows, [2.0, 0.0, 1.0], [0.0, 1.0, 1.0], [[3, 3, 3], [3, 3, 3]]))
    assert metrics["held_out/accuracy"] == 0.5
    assert metrics["held_out/margin"] == pytest.approx(1 / 3)
    sigma = [1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0)), 0.5]
    assert metrics["held_out/brier"] == pytest.approx(np.mean([(sigma[0] - 1) ** 2, (sigma[1] - 0.8) ** 2, 0]))
    assert "held_out/length_correlation" not in metrics  # lengths do not vary
    assert not any(name.startswith("held_out/source") for name in metrics)  # there is but one


def test_held_out_metrics_are_given_for_each_source():
    rows = [pair_row(i, soft_label=0.9, source=source) for i, source in enumerate(["ai", "human", "human", ""])]
    metrics = measure(scored(rows, [1, 1, -1, -1], [0, 0, 0, 0]))
    assert metrics["held_out/accuracy"] == 0.5
    by_source = {name: metrics[f"held_out/source/{name}/accuracy"] for name in ("ai", "human", "unstated")}
    assert by_source == {"ai": 1.0, "human": 0.5, "unstated": 0.0}
    assert metrics["held_out/source/human/n"] == 2


def pair_row(i, soft_label=1.0, is_tie=False, source="ai", group=None):
    talk = (Message("user", f"request {i if group is None else group}"),)
    sides = ((Message("assistant", "yes"),), (Message("assistant", "no"),))
    prompt_id = f"prompt-{i if group is None else group}"
    return PairRow(f"pair-{i}", prompt_id, talk, *sides, soft_label, is_tie, source=source)


def test_intervals_are_finite_even_of_one_prompt():
    rows = [pair_row(i, soft_label=0.9, group=0) for i in range(5)]
    found = intervals(scored(rows, [1, 2, 3, -1, 5], [0] * 5))
    assert set(found) == {"held_out/accuracy", "held_out/brier", "held_out/ece"}
    assert all(0 <= rate.low <= rate.value <= rate.high <= 1 and rate.n == 5 for rate in found.values())
    assert intervals(scored([], [], [])) == {}


def pairs_of_every_shape(rng, vocabulary=24):
    """Much, little and nothing shared; one conversation the beginning of the other; one token alone."""

    def ids(n):
        return [rng.randrange(2, vocabulary) for _ in range(n)]

    shared = ids(12)
    return (
        [shared + ids(3), ids(5), shared, shared + [7], [3], shared[:1] + ids(9)],
        [shared + ids(6), ids(8), shared + ids(4), shared, [4], shared[:1] + ids(2)],
    )  # fmt: skip


def test_a_shared_prefix_changes_neither_loss_nor_gradients(model):
    chosen, rejected = pairs_of_every_shape(random.Random(0))
    labels = torch.linspace(0, 1, len(chosen))
    scorer = PairScorer(reward_model.new_reward_model(model, 1), 1)
    found = {}
    for shared in (True, False):
        scorer.zero_grad()
        loss = soft_preference_loss(*scorer(chosen, rejected, shared), labels).mean()
        loss.backward()
        found[shared] = (loss.item(), {name: p.grad.clone() for name, p in scorer.named_parameters()})
    assert found[True][0] == pytest.approx(found[False][0], abs=1e-6)
    for name, gradient in found[True][1].items():
        torch.testing.assert_close(gradient, found[False][1][name], atol=1e-5, rtol=1e-4)


def test_a_row_of_a_pair_by_hand():
    """Shared 5 6, then 7 of chosen, then 8 9 of rejected, which does not see the 7."""
    rows = PairRows.of([[5, 6, 7]], [[5, 6, 8, 9]], pad_token_id=1)
    assert rows.ids.tolist() == [[5, 6, 7, 8, 9]]
    assert rows.positions.tolist() == [[0, 1, 2, 2, 3]]
    assert rows.ends.tolist() == [[2], [4]]
    sees = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    assert rows.mask[0, 0].int().tolist() == sees


def test_a_model_that_does_not_see_everything_before_is_refused_a_shared_prefix():
    from transformers import MistralConfig, MistralForSequenceClassification

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=24, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=4, num_labels=1, pad_token_id=1, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    scorer = PairScorer(MistralForSequenceClassification(config), 1)
    chosen, rejected = pairs_of_every_shape(random.Random(0))
    with pytest.raises(ConfigError, match="set `shared_prefix: false`"):
        reward_model.check_shared_prefix(scorer, Pairs([], chosen, rejected))
