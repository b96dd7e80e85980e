"""A run killed with SIGKILL and started again ends with the same weights, bit for bit, as one left alone."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from training_fixtures import build_model, write_job, write_pairs, write_prompts, write_sft

from cai.config import RewardModelConfig
from cai.training import dpo, grpo, ppo, reward_model, rloo, sft
from cai.training.checkpoints import checkpoints
from cai.training.command import run
from cai.training.jobs import RewardModelJob, load_job
from cai.training.progress import Progress
from cai.training.rollouts import METRICS, read
from cai.training.workspace import Workspace

STAGES = {
    "sft": sft.STAGE, "reward_model": reward_model.STAGE, "grpo": grpo.STAGE, "rloo": rloo.STAGE, "ppo": ppo.STAGE,
    "dpo": dpo.STAGE,
}  # fmt: skip
SAMPLING = ("grpo", "rloo", "ppo")
"""The stages whose data are prompts, and whose length is a number of steps."""
KILL_AFTER = {"sft": 12, "reward_model": 8, "grpo": 6, "rloo": 6, "ppo": 6, "dpo": 8}
"""The checkpoint whose appearance is the signal to kill; each run has several times as many steps."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    model = build_model(folder / "tiny")
    pairs = write_pairs(folder / "pairs.parquet", 120)
    judge = RewardModelConfig(epochs=1, learning_rate=1e-3, batch_size=16, max_length=40)
    run(reward_model.STAGE, RewardModelJob(model=model, data=pairs, out=folder / "judge", config=judge))
    common = {"model": model, "seed": 3}
    gold = {"kind": "reward_model", "name": "gold", "models": [str(folder / "judge")]}
    guard = {"every": 2, "gold_prompts": 4, "gold": [gold]}
    bodies = {
        "sft": {
            **common, "data": write_sft(folder / "sft.parquet", 100),
            "config": {"epochs": 6, "learning_rate": 1e-3, "batch_size": 8, "max_length": 32, "save_steps": 4},
        },
        "reward_model": {
            **common, "data": pairs,
            "config": {
                "epochs": 10, "learning_rate": 1e-3, "batch_size": 16, "max_length": 40, "save_steps": 4,
                "held_out": 0.2,
            },
        },
        "grpo": {
            **common, "data": write_prompts(folder / "prompts.parquet", 10), "reward_models": [str(folder / "judge")],
            "config": {
                "steps": 24, "prompts_per_step": 3, "samples_per_prompt": 4, "learning_rate": 1e-3, "max_tokens": 8,
                "max_prompt_tokens": 20, "save_steps": 3,
                "guard": guard,
            },
        },
        "dpo": {
            **common, "data": pairs,
            "config": {
                "epochs": 4, "learning_rate": 1e-3, "batch_size": 16, "max_length": 40, "save_steps": 4, "beta": 0.1,
            },
        },
        "ppo": {
            **common, "data": write_prompts(folder / "prompts.parquet", 10), "reward_models": [str(folder / "judge")],
            "config": {
                "steps": 24, "prompts_per_step": 6, "learning_rate": 1e-3, "max_tokens": 8, "max_prompt_tokens": 20,
                "minibatch_size": 4, "target_kl": 0.5, "kl_horizon": 50, "save_steps": 3, "guard": guard,
            },
        },
    }  # fmt: skip
    return folder, bodies | {"rloo": bodies["grpo"]}


@pytest.fixture(scope="module")
def killed(jobs):
    """Every stage started at once, and killed with its whole group as soon as its checkpoint is there."""
    folder, bodies = jobs
    running = {}
    for stage, body in bodies.items():
        job = write_job(folder / f"{stage}-killed.json", **body, out=folder / f"{stage}-killed")
        log = (folder / f"{stage}.log").open("w")
        command = [sys.executable, "-m", f"cai.training.{stage}", "--job", str(job)]
        running[stage] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    waiting = dict(running)
    while waiting:
        for stage, process in list(waiting.items()):
            if has_checkpoint(folder / f"{stage}-killed.unfinished", KILL_AFTER[stage]) or process.poll() is not None:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                del waiting[stage]
        time.sleep(0.001)
    return {stage: process.returncode for stage, process in running.items()}


def has_checkpoint(work, step):
    found = [p for p in work.glob("checkpoint-*") if (p / "meta.json").is_file()]
    return any(int(p.name.rpartition("-")[2]) >= step for p in found)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_ends_where_the_uninterrupted_one_ends(jobs, killed, stage):
    folder, bodies = jobs
    assert killed[stage] == -signal.SIGKILL, (folder / f"{stage}.log").read_text()
    assert not (folder / f"{stage}-killed").exists()

    left_alone = load_job(write_job(folder / f"{stage}.json", **bodies[stage], out=folder / stage), STAGES[stage].kind)
    expected = run(STAGES[stage], left_alone)

    said = io.StringIO()
    again = load_job(folder / f"{stage}-killed.json", STAGES[stage].kind)
    found = run(STAGES[stage], again, Progress(stage, said))
    resumed = [json.loads(line.partition(" ")[2]) for line in said.getvalue().splitlines() if "resuming" in line]
    assert resumed and int(resumed[0]["checkpoint"].rpartition("-")[2]) < expected["n_steps"]

    assert found["model_digest"] == expected["model_digest"]
    assert found["metrics"] == expected["metrics"]
    if stage == "dpo":
        assert (again.out / "metrics.jsonl").read_bytes() == (left_alone.out / "metrics.jsonl").read_bytes()
    if stage in SAMPLING:
        for name in ("rollouts.parquet", "rejects.jsonl"):
            assert (again.out / name).read_bytes() == (left_alone.out / name).read_bytes()
        steps = [json.loads(line)["step"] for line in (again.out / "metrics.jsonl").read_text().splitlines()]
        assert steps == list(range(25))
        assert found["guard"] == expected["guard"]


@pytest.mark.slow
def test_ppo_killed_at_three_random_points_ends_where_the_uninterrupted_one_ends(jobs, tmp_path):
    """Each kill comes in the middle of a step, when so many are in metrics.jsonl; some fall between checkpoints."""
    folder, bodies = jobs
    path = write_job(tmp_path / "j.json", **bodies["ppo"], out=tmp_path / "out")
    for steps in sorted(random.Random(5).sample(range(2, 21), 3)):
        process = subprocess.Popen(
            [sys.executable, "-m", "cai.training.ppo", "--job", str(path)], stderr=subprocess.PIPE
        )
        while process.poll() is None and len(read(tmp_path / "out.unfinished" / METRICS)) < steps:
            time.sleep(0.001)
        process.kill()
        _, said = process.communicate()
        assert process.returncode == -signal.SIGKILL, said.decode()
    found = run(ppo.STAGE, load_job(path, ppo.PPOJob))
    alone = load_job(write_job(folder / "ppo.json", **bodies["ppo"], out=folder / "ppo"), ppo.PPOJob)
    expected = run(ppo.STAGE, alone)
    assert (found["model_digest"], found["metrics"]) == (expected["model_digest"], expected["metrics"])
    assert (tmp_path / "out" / "rollouts.parquet").read_bytes() == (alone.out / "rollouts.parquet").read_bytes()


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_between_the_last_step_and_the_result_costs_nothing(jobs, tmp_path, stage):
    """All steps done, nothing published yet; and then published, with the unfinished work still there."""
    folder, bodies = jobs
    body = {**bodies[stage], "config": {**bodies[stage]["config"], "epochs": 1, "steps": 6}}
    del body["config"]["epochs" if stage in SAMPLING else "steps"]
    job = load_job(write_job(tmp_path / "j.json", **body, out=tmp_path / "out"), STAGES[stage].kind)
    quiet = Progress(stage, io.StringIO())
    STAGES[stage].train(job, Workspace(job), quiet)
    shutil.copytree(tmp_path / "out.unfinished", tmp_path / "kept")
    first = run(STAGES[stage], job, quiet)
    assert not (tmp_path / "out.unfinished").exists()
    shutil.copytree(tmp_path / "kept", tmp_path / "out.unfinished")
    assert run(STAGES[stage], job, quiet)["status"] == "already done"
    assert not (tmp_path / "out.unfinished").exists()
    fresh = run(STAGES[stage], job.model_copy(update={"out": tmp_path / "fresh"}), quiet)
    assert (first["model_digest"], first["metrics"]) == (fresh["model_digest"], fresh["metrics"])


@pytest.mark.parametrize("extra", [{"lora_rank": 4}, {"packing": True, "batch_size": 2}], ids=["lora", "packing"])
def test_adapters_and_packed_rows_resume_exactly_too(jobs, tmp_path, extra):
    """The newest checkpoint torn, so that the run goes on from the one before."""
    folder, bodies = jobs
    body = {**bodies["sft"], "config": {**bodies["sft"]["config"], "epochs": 1, **extra}}
    job = load_job(write_job(tmp_path / "j.json", **body, out=tmp_path / "out"), sft.SFTJob)
    sft.STAGE.train(job, Workspace(job), Progress("sft", io.StringIO()))
    older, newest = checkpoints(tmp_path / "out.unfinished")
    os.truncate(newest / "optimizer.pt", 100)
    said = io.StringIO()
    resumed = run(sft.STAGE, job, Progress("sft", said))
    assert f'"resuming", "checkpoint": "{older.name}"' in said.getvalue()
    fresh = run(sft.STAGE, job.model_copy(update={"out": tmp_path / "fresh"}), Progress("sft", io.StringIO()))
    assert (resumed["model_digest"], resumed["metrics"]) == (fresh["model_digest"], fresh["metrics"])


def test_unfinished_work_of_another_job_is_discarded_aloud(jobs, tmp_path):
    folder, bodies = jobs
    job = load_job(write_job(tmp_path / "j.json", **bodies["sft"], out=tmp_path / "out"), sft.SFTJob)
    torn = tmp_path / "out.unfinished" / "checkpoint-4"
    torn.mkdir(parents=True)
    (torn / "model.safetensors").write_bytes(b"torn")
    said = io.StringIO()
    run(sft.STAGE, job, Progress("sft", said))
    assert "discarded the unfinished work of another job" in said.getvalue()
    assert "resuming" not in said.getvalue()


def test_a_disk_that_cannot_take_the_checkpoint_is_one_clear_error_and_nothing_is_lost(jobs, tmp_path):
    """The file size limit stands in for a full disk: writing fails in the middle of a file."""
    folder, bodies = jobs
    job = write_job(tmp_path / "j.json", **bodies["reward_model"], out=tmp_path / "out")
    command = f"ulimit -f 100; exec {sys.executable} -m cai.training.reward_model --job {job}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: could not write checkpoint" in done.stderr and "free some space" in done.stderr
    assert not (tmp_path / "out").exists()
