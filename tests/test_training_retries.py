"""What stopped a training step, and what it is tried again with: out of memory, or numbers that are none."""

import io
import json
import logging
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from launch_jobs import ROOT, policy_and_data, sft_job
from prefect import flow
from prefect.testing.utilities import prefect_test_harness
from training_fixtures import assistant, sentence, user, write_job

from cai.config import RewardModelConfig, load_profile
from cai.training.jobs import RewardModelJob


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return policy_and_data(tmp_path_factory.mktemp("launch"))


LIMITED = """
import atexit, os, pathlib, resource, sys
if "cai.training.sft" in sys.orig_argv:
    if limit := os.environ.get("TEST_MEMORY_LIMIT"):
        resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    if report := os.environ.get("TEST_MEMORY_REPORT"):
        atexit.register(lambda: pathlib.Path(report).write_text(pathlib.Path("/proc/self/status").read_text()))
"""


@pytest.fixture
def roomy_job(made, tmp_path):
    """A batch of about 15,000 tokens: what the layers keep of it is more than a hundred megabytes."""
    import random

    import pyarrow as pa

    rng = random.Random(0)
    rows = [
        {"prompt": user(sentence(rng, 25, 25)), "completion": assistant(sentence(rng, 25, 25))} for _ in range(1024)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "long.parquet")
    config = {"batch_size": 256, "max_length": 64, "epochs": 1}
    return sft_job(made, tmp_path / "out", config=config).model_copy(update={"data": tmp_path / "long.parquet"})


def small_run(folder: Path):
    """A run over the scripted engine, whose models need no memory."""
    from flows.runs import create_run

    (folder / "prompts.txt").write_text("how do i bake a cake?\n")
    (folder / "script.yaml").write_text(yaml.safe_dump({"rules": []}))
    profile = {
        "name": "small",
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted", "script": str(folder / "script.yaml")},
        "prompts": [{"path": str(folder / "prompts.txt")}],
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    return create_run(load_profile(folder / "profile.yaml"), folder / "home")


@pytest.mark.slow
def test_what_runs_out_of_memory_is_tried_again_with_half_the_rows_at_once(roomy_job, tmp_path, monkeypatch):
    """For real: a limit on the address space that lets half of the batch through and not the whole of it."""
    from flows import stages
    from flows.supervise import run_step

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(LIMITED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(ROOT)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # arenas of threads are address space too, more of it by chance
    half = roomy_job.model_copy(update={"micro_batch": 128, "out": tmp_path / "half"})
    path = write_job(tmp_path / "half.json", **json.loads(half.model_dump_json()))
    report = {"TEST_MEMORY_REPORT": str(tmp_path / "status")}
    run_step(["cai.training.sft", "--job", str(path)], log=print, logfile=tmp_path / "log", env=report)
    peak_kib = int((tmp_path / "status").read_text().partition("VmPeak:")[2].split()[0])
    monkeypatch.setenv("TEST_MEMORY_LIMIT", str(peak_kib * 1024 + 30 * 2**20))

    run = small_run(tmp_path)
    run.finish("sft_set", {"versions": {}})
    train = stages.training.with_options(retry_delay_seconds=0, retry_condition_fn=stages.tried_again())

    @flow
    def one_step() -> dict:
        return train(str(run.home), run.run_id, "sft", "sl_cai", roomy_job)

    with prefect_test_harness(server_startup_timeout=180):  # a minute, where other tests are at work
        result = one_step()
    logging.getLogger("prefect").setLevel(logging.WARNING)  # it says goodbye at exit, when stderr is closed
    assert json.loads((run.path / "jobs" / "sft.json").read_text())["micro_batch"] == 128
    log = (run.logs / "sft.log").read_text()
    assert "out of memory with 256 rows at once" in log
    meta = json.loads((tmp_path / "half" / "meta.json").read_text())
    assert result["model_digest"] == meta["model_digest"]


def tries(*kinds: str) -> list[bool]:
    """Whether one step, failing of these one after the other, is tried again each time."""
    from prefect.states import Failed

    from flows.stages import tried_again
    from flows.supervise import StepFailed

    condition = tried_again()
    return [condition(None, None, Failed(data=StepFailed(kind, "as told"))) for kind in kinds]


def test_only_memory_and_what_passes_by_itself_are_tried_again():
    assert all(tries(*["OutOfMemory"] * 7, "killed"))
    assert tries("EngineDied", "EngineDied") == [True, False] == tries("NotFinite", "NotFinite")
    assert tries("too_large", "ConfigError") == [False, False]


def test_a_try_with_fewer_rows_uses_up_no_other_try():
    """A step that had once run out of memory failed at its first NaN, and the earlier checkpoint was never tried."""
    assert tries("OutOfMemory", "NotFinite", "killed", "EngineDied", "OutOfMemory", "NotFinite") == [
        *[True] * 5,
        False,
    ]
    assert tries("NotFinite") == [True], "another step has tries of its own"


def test_a_nan_goes_back_to_the_checkpoint_before_the_one_that_bred_it(made, tmp_path, monkeypatch):
    """The newest checkpoint has weights that are no numbers; whoever went on from it would fail for ever."""
    import torch
    from safetensors.torch import load_file, save_file

    from cai.training import reward_model
    from cai.training.checkpoints import checkpoints, seal
    from cai.training.command import run as train
    from cai.training.progress import Progress
    from cai.training.workspace import Workspace
    from flows.supervise import StepFailed
    from flows.training import run_training

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = RewardModelConfig(epochs=2, learning_rate=1e-3, batch_size=8, max_length=40, save_steps=2, held_out=0.0)
    job = RewardModelJob(model=made / "tiny", data=made / "pairs.parquet", out=tmp_path / "out", config=config)
    workspace = Workspace(job)
    workspace.open(Progress("reward_model", io.StringIO()))
    prepared = reward_model.prepare_rows(job)
    reward_model.Run(job, prepared, workspace.folder, Progress("reward_model", io.StringIO())).to_the_end()
    *_, before, newest = checkpoints(workspace.folder)
    weights_file = newest / "model.safetensors"
    save_file({k: torch.full_like(v, torch.nan) for k, v in load_file(weights_file).items()}, weights_file)
    seal(newest, int(newest.name.rpartition("-")[2]))

    run = small_run(tmp_path)
    with pytest.raises(StepFailed, match=f"step 9: loss nan.*the last good checkpoint is .*{before.name};") as error:
        run_training(run, "reward_model", job, log=print, on_progress=print)
    assert error.value.is_not_finite
    run_training(run, "reward_model", job, log=print, on_progress=print)
    left_alone = train(reward_model.STAGE, job.model_copy(update={"out": tmp_path / "left-alone"}))
    assert json.loads((job.out / "meta.json").read_text())["model_digest"] == left_alone["model_digest"]


def test_the_job_file_remembers_what_was_tried_and_only_for_the_same_job(made, tmp_path):
    from flows.training import as_last_tried

    job, path = sft_job(made, tmp_path / "out"), tmp_path / "job.json"
    assert as_last_tried(job, path) == job
    path.write_text(job.model_copy(update={"micro_batch": 2}).model_dump_json())
    assert as_last_tried(job, path).micro_batch == 2
    other = sft_job(made, tmp_path / "out", config={"epochs": 3})
    assert as_last_tried(other, path).micro_batch is None
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"config": written["config"] | {"a_setting_that_is_gone": 1}}))
    assert as_last_tried(job, path) == job


def test_a_supervised_command_names_its_error_and_any_other_says_it_in_one_line(capsys, monkeypatch):
    from cai.errors import OutOfMemory
    from cai.training.progress import SUPERVISED, report_failure

    monkeypatch.delenv(SUPERVISED, raising=False)
    report_failure(OutOfMemory("too much"))
    monkeypatch.setenv(SUPERVISED, "1")
    report_failure(OutOfMemory("too much"))
    assert capsys.readouterr().err.splitlines() == [
        "error: too much", 'failed {"error": "OutOfMemory", "message": "too much"}'
    ]  # fmt: skip
