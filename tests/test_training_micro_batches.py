"""A batch in parts trains as the whole batch does; how it is evened out, halved and shared by processes."""

import pytest
from launch_jobs import assert_same_training, curve, grpo_job, policy_reward_model_and_data, sft_job

from cai.errors import ConfigError
from cai.training import processes
from cai.training.jobs import halved


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return policy_reward_model_and_data(tmp_path_factory.mktemp("launch"))


@pytest.mark.parametrize("config", [{}, {"batch_size": 12}, {"packing": True, "batch_size": 4}], ids=str)
def test_micro_batches_train_sft_as_the_whole_batch_does(made, tmp_path, config):
    """32 rows in batches of 12 leave a part of a batch at the end of the epoch; rows of a batch differ in length."""
    from cai.training import sft
    from cai.training.command import run

    whole = sft_job(made, tmp_path / "whole", config=config)
    run(sft.STAGE, whole)
    run(sft.STAGE, sft_job(made, tmp_path / "micro", config=config, micro_batch=2))
    assert_same_training(whole.out, tmp_path / "micro", 2e-5)


def test_micro_batches_train_grpo_as_the_whole_batch_does(made, tmp_path):
    """A micro-batch may hold a part of a group: advantages are there before the batch is cut."""
    from cai.training import grpo
    from cai.training.command import run

    run(grpo.STAGE, grpo_job(made, tmp_path / "whole"))
    run(grpo.STAGE, grpo_job(made, tmp_path / "micro", micro_batch=3))
    assert_same_training(tmp_path / "whole", tmp_path / "micro", 2e-5)
    for name in ("reward/mean", "length/mean"):
        assert curve(tmp_path / "whole", name) == pytest.approx(curve(tmp_path / "micro", name), abs=2e-5)


def test_numbers_that_do_not_divide_are_refused(made, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="micro_batch 3 must divide the 8 rows"):
        processes.share(sft_job(made, tmp_path, micro_batch=3))
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="8 rows a step cannot be divided over 3 processes"):
        processes.share(sft_job(made, tmp_path))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.share(sft_job(made, tmp_path)) == (4, 1)
    assert processes.share(sft_job(made, tmp_path, micro_batch=8)) == (4, 1)
    assert processes.share(grpo_job(made, tmp_path, micro_batch=2)) == (2, 3)


@pytest.mark.parametrize("config", [{"batch_size": 12}, {"packing": True, "batch_size": 5}], ids=str)
def test_rows_are_evened_out_with_rows_that_carry_no_loss(made, tmp_path, config):
    """accelerate would fill the last batches with rows from the beginning, which would then be trained on twice."""
    from cai.training import sft

    job = sft_job(made, tmp_path, config=config)
    dataset = sft.as_dataset(job, sft.prepare_rows(job).examples)
    evened = sft.evened(dataset, 1, job.step_rows)
    assert len(dataset) % job.step_rows and not len(evened) % job.step_rows
    assert evened[: len(dataset)] == dataset[:]
    assert {label for row in evened[len(dataset) :]["labels"] for label in row} == {-100}


def test_a_micro_batch_is_halved_down_to_one_row_and_always_divides(made, tmp_path):
    job, tried = sft_job(made, tmp_path, config={"batch_size": 96}), []
    while job is not None:
        tried.append(job.micro_batch)
        job = halved(job)
    assert tried == [None, 48, 24, 12, 6, 3, 1]
    assert halved(sft_job(made, tmp_path), n_processes=2).micro_batch == 2
    assert halved(sft_job(made, tmp_path, micro_batch=1)) is None
