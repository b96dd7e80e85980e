"""A reward model: what it learns, what it says of itself, and several as one reward."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from training_fixtures import build_model, build_model_without_padding, write_pairs
from transformers import BertConfig, BertForSequenceClassification

from cai.config import RewardModelConfig, RewardModelTerm
from cai.errors import ConfigError, TrainingError
from cai.records import Message
from cai.rewards.base import RewardInput
from cai.rewards.build import build_rewards
from cai.rewards.models import RewardModels
from cai.training import reward_model
from cai.training.chat import load_tokenizer
from cai.training.command import run
from cai.training.jobs import RewardModelJob
from cai.training.reward_ensemble import conservative, measure_ensemble
from cai.training.reward_pairs import HELD_OUT, prepare_rows, scored, write_held_out
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
    prepared = prepare_rows(job_for(tmp_path, model))
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


def test_a_model_without_a_padding_token_is_scored_at_the_end_of_its_turn(tmp_path):
    """Padding is then the token that ends a turn, and transformers' own forward reads the score one token too early:
    `shared_prefix`, which is on, refused every such model, and without it training read the wrong place.
    """
    job = job_for(tmp_path, build_model_without_padding(tmp_path / "bare"), epochs=2)
    meta = run(reward_model.STAGE, job)
    judge = RewardModel.load(job.out)
    assert judge.tokenizer.pad_token_id == judge.tokenizer.eos_token_id

    pairs = prepare_rows(job).held_out
    assert all(ids[-1] == judge.tokenizer.eos_token_id for ids in pairs.chosen)
    with torch.no_grad():
        hidden = [judge.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1] for ids in pairs.chosen]
        by_hand = [judge.model.score(each).item() for each in hidden]
        alone = [judge.model(input_ids=torch.tensor([ids])).logits.item() for ids in pairs.chosen]
    served = judge.score([row.prompt + row.chosen for row in pairs.rows])
    assert by_hand == pytest.approx(served, abs=1e-5) and alone == pytest.approx(served, abs=1e-5)
    rejected = judge.score([row.prompt + row.rejected for row in pairs.rows])
    margin = float(np.mean(served) - np.mean(rejected))
    assert meta["metrics"]["held_out/margin"] == pytest.approx(margin, abs=1e-4)
    assert meta["mean_score"] == pytest.approx(np.mean([served, rejected]), abs=1e-4)
    with pytest.raises(ValueError, match="no padding token"):  # rather than another number
        judge.model(input_ids=torch.tensor([pairs.chosen[0]] * 2))


def test_a_model_that_pools_its_score_in_its_own_way_is_refused(tmp_path, model):
    shutil.copytree(model, tmp_path / "bert")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForSequenceClassification(BertConfig(vocab_size=24, num_labels=1, **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="named `score`; BertForSequenceClassification of .* has .*'classifier'"):
        RewardModel.load(tmp_path / "bert")


def test_long_conversations_lose_their_beginning_and_are_counted(tmp_path, model):
    prepared = prepare_rows(job_for(tmp_path, model, max_length=8))
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


def test_what_it_says_of_each_held_out_pair_is_kept(trained):
    """So that two reward models can be compared on the pairs that both held out, whatever their labels."""
    job, meta = trained
    rows = [json.loads(line) for line in (job.out / HELD_OUT).open()]
    held_out = prepare_rows(job).held_out.rows
    assert len({row["pair"] for row in rows}) == len(rows) == meta["n_held_out"] == len(held_out)
    right = [row["is_right"] for row in rows if row["is_right"] is not None]
    assert sum(right) / len(right) == pytest.approx(meta["metrics"]["held_out/accuracy"])
    turned = [row._replace(chosen=row.rejected, rejected=row.chosen, soft_label=0.3) for row in held_out]
    write_held_out(job.data.parent / HELD_OUT, turned, scored(turned, [0.0] * len(rows), [1.0] * len(rows)))
    again = [json.loads(line) for line in (job.data.parent / HELD_OUT).open()]
    assert [row["pair"] for row in again] == [row["pair"] for row in rows] and False not in [
        row["is_right"] for row in again
    ]


def test_meta_has_intervals_and_accounts_for_every_row(trained):
    meta = trained[1]
    for name, found in meta["intervals"].items():
        assert found["low"] <= meta["metrics"][name] == found["value"] <= found["high"]
    assert meta["n_rows"] + meta["n_held_out"] + meta["n_rejected"] == 200
    assert 0 < meta["metrics"]["held_out/ece_floor"] < meta["metrics"]["held_out/ece_floor_95"]


def test_a_weight_is_as_many_copies(tmp_path, model):
    """Weights 3, 1, 1 and the first row three times: the same loss and the same weights of the model."""
    rows = pq.read_table(write_pairs(tmp_path / "p.parquet", 3)).to_pylist()
    pq.write_table(
        pa.Table.from_pylist([{**r, "weight": w} for r, w in zip(rows, (3, 1, 1), strict=True)]),
        tmp_path / "weighted.parquet",
    )
    pq.write_table(pa.Table.from_pylist([rows[0], rows[0], *rows]), tmp_path / "copied.parquet")
    config = RewardModelConfig(learning_rate=1e-3, epochs=4, batch_size=8, max_length=40, held_out=0)
    weighted, copied = (
        run(
            reward_model.STAGE,
            RewardModelJob(model=model, data=tmp_path / f"{name}.parquet", out=tmp_path / name, config=config),
        )
        for name in ("weighted", "copied")
    )
    for name in ("loss/first", "loss/last"):
        assert weighted["metrics"][name] == pytest.approx(copied["metrics"][name], abs=1e-5)
    assert weighted["metrics"]["loss/last"] < weighted["metrics"]["loss/first"]


def test_micro_batches_add_up_to_the_whole_batch(tmp_path, model):
    """Uneven parts and uneven weights, and still the same identity, losses and scores."""
    job = job_for(tmp_path, model, n=41, epochs=2)
    rows = [{**r, "weight": 0.5 + i % 4} for i, r in enumerate(pq.read_table(job.data).to_pylist())]
    pq.write_table(pa.Table.from_pylist(rows), job.data)
    whole = run(reward_model.STAGE, job)
    parts = run(reward_model.STAGE, job.model_copy(update={"out": tmp_path / "parts", "micro_batch": 3}))
    assert parts["job_digest"] == whole["job_digest"]
    curves = [
        [json.loads(line)["loss"] for line in (tmp_path / out / "metrics.jsonl").open()] for out in ("out", "parts")
    ]
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert parts["metrics"]["held_out/loss"] == pytest.approx(whole["metrics"]["held_out/loss"], abs=1e-4)


@pytest.fixture(scope="module")
def second_objective(tmp_path_factory, model):
    """A model that prefers what the first one does not, from pairs of its own."""
    folder = tmp_path_factory.mktemp("second")
    job = job_for(folder, model, epochs=3, n=120)
    rows = [{**r, "soft_label": 1 - r["soft_label"]} for r in pq.read_table(job.data).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), job.data)
    run(reward_model.STAGE, job)
    return job


TALKS = [RewardInput("p", (Message("user", "how"),), text, 3, False) for text in ("sorry no", "sure fine", "tea", "")]


def test_two_objectives_make_one_reward_with_the_stated_weights(trained, second_objective):
    terms = [
        RewardModelTerm(name="harmless", weight=1.0, models=(trained[0].out,)),
        RewardModelTerm(name="helpful", weight=0.25, models=(second_objective.out,)),
    ]
    rewards = build_rewards(terms, ())
    found = rewards.score(TALKS)
    for reward, talk in zip(found, TALKS, strict=True):
        one, other = (RewardModel.load(job.out).score([talk.conversation])[0] for job in (trained[0], second_objective))
        assert reward.parts == pytest.approx({"harmless": one, "helpful": other}, abs=1e-4)
        assert reward.total == pytest.approx(one + 0.25 * other, abs=1e-4)
    assert (found[0].parts["harmless"] - found[1].parts["harmless"]) > 0
    assert (found[0].parts["helpful"] - found[1].parts["helpful"]) < 0


def test_an_ensemble_is_measured_as_the_reward_combines_it(tmp_path, trained, second_objective):
    paths = [trained[0].out, second_objective.out]
    members = [RewardModel.load(path) for path in paths]
    scores = np.array([[s - m.mean_score for s in m.score([t.conversation for t in TALKS])] for m in members])
    assert conservative(scores, 0.5) == pytest.approx(RewardModels.load(paths, 0.5).score(TALKS), abs=1e-4)

    found = measure_ensemble([paths[0], paths[0]], trained[0].data, 0.5)
    assert found["ensemble"].pop("disagreement") == 0
    assert found["ensemble"] == found["models"][str(paths[0])]
    assert found["ensemble"]["accuracy"] == trained[1]["metrics"]["held_out/accuracy"]
    apart = measure_ensemble(paths, trained[0].data, 0.5)
    assert apart["ensemble"]["disagreement"] > 0.1


def test_an_offset_between_members_is_no_disagreement(tmp_path, trained, second_objective):
    """A member whose every score, and so its mean, is 30 higher is the same reward model: labels fix only differences.
    The penalty was then 15 on everything, and hid which responses the two disagree on.
    """
    one, other = (RewardModel.load(job.out) for job in (trained[0], second_objective))
    assert one.mean_score != 0 and abs(one.mean_score - other.mean_score) > 1e-3

    class Higher:
        mean_score = other.mean_score + 30

        def score(self, conversations):
            return [value + 30 for value in other.score(conversations)]

    for conservatism in (0.0, 2.0):
        expected = RewardModels([one, other], conservatism).score(TALKS)
        assert RewardModels([one, Higher()], conservatism).score(TALKS) == pytest.approx(expected, abs=1e-4)
    alone = RewardModels([one], 2.0).score(TALKS)
    assert alone == pytest.approx(one.score([talk.conversation for talk in TALKS]), abs=1e-5), "one model's is raw"


def test_where_nothing_is_held_out_the_mean_score_is_of_training_pairs(tmp_path, model):
    job = job_for(tmp_path, model, epochs=1, held_out=0.0)
    mean_score = run(reward_model.STAGE, job)["mean_score"]
    rows = prepare_rows(job).training.rows
    judge = RewardModel.load(job.out)
    scores = judge.score([row.prompt + side for row in rows for side in (row.chosen, row.rejected)])
    assert mean_score == judge.mean_score == pytest.approx(np.mean(scores), abs=1e-4)


def test_an_ensemble_that_held_out_different_prompts_cannot_be_measured(tmp_path, trained, model):
    other = job_for(tmp_path, model, epochs=1, held_out=0.5)
    run(reward_model.STAGE, other)
    with pytest.raises(ConfigError, match="`held_out` must be the same"):
        measure_ensemble([trained[0].out, other.out], trained[0].data, 0.0)
