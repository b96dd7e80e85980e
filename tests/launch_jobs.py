"""A policy and data in a folder, jobs over them, and what they left behind: what the tests of launching share."""

import json
from pathlib import Path

import pytest
from training_fixtures import build_model, write_pairs, write_prompts, write_sft

from cai.config import GRPOConfig, RewardModelConfig, SFTConfig
from cai.training.jobs import GRPOJob, RewardModelJob, SFTJob

ROOT = Path(__file__).parents[1]
ONE_SFT = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "max_length": 32, "save_steps": 2}


def policy_and_data(folder):
    build_model(folder / "tiny")
    write_pairs(folder / "pairs.parquet", 40)
    write_sft(folder / "sft.parquet", 32)
    write_prompts(folder / "prompts.parquet", 10)
    return folder


def policy_reward_model_and_data(folder):
    from cai.training import reward_model
    from cai.training.command import run

    policy_and_data(folder)
    config = RewardModelConfig(epochs=1, learning_rate=1e-3, batch_size=16, max_length=40)
    job = RewardModelJob(model=folder / "tiny", data=folder / "pairs.parquet", out=folder / "reward", config=config)
    run(reward_model.STAGE, job)
    return folder


def sft_job(folder, out, **extra):
    config = SFTConfig(**{**ONE_SFT, **extra.pop("config", {})})
    return SFTJob(model=folder / "tiny", data=folder / "sft.parquet", out=out, config=config, seed=3, **extra)


def grpo_job(folder, out, **extra):
    config = GRPOConfig(
        steps=3, prompts_per_step=3, samples_per_prompt=4, learning_rate=1e-3, max_tokens=8, max_prompt_tokens=20
    )
    data, reward = folder / "prompts.parquet", folder / "reward"
    return GRPOJob(model=folder / "tiny", reward_models=[reward], data=data, out=out, config=config, seed=1, **extra)


def rows_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def curve(out, name="loss"):
    """Of the steps; what a guard scored before the first has no loss."""
    return [row[name] for row in rows_of(out) if row["step"]]


def weights(out):
    from safetensors.torch import load_file

    return load_file(out / "model.safetensors")


def assert_same_training(one, other, tolerance, loss="loss"):
    import torch

    assert curve(one, loss) == pytest.approx(curve(other, loss), abs=tolerance)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[name], atol=tolerance, rtol=0)
