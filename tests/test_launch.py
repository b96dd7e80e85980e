"""Several processes, and the files that say how many: they train as one does, and die with who started them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from launch_jobs import ROOT, assert_same_training, policy_reward_model_and_data, rows_of, sft_job
from training_fixtures import write_job

from cai.errors import ConfigError
from cai.training import processes
from cai.training.jobs import RewardModelJob, SFTJob, load_job

CONFIGS = sorted((ROOT / "deployments" / "accelerate").glob("*.yaml"))
CPU_2 = ["accelerate.commands.launch", "--config_file", str(ROOT / "deployments" / "accelerate" / "cpu-2.yaml"), "-m"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return policy_reward_model_and_data(tmp_path_factory.mktemp("launch"))


def test_a_job_that_wants_the_whole_model_says_so(made, tmp_path, monkeypatch):
    from cai.training import reward_model
    from cai.training.command import run

    job = RewardModelJob(model=made / "tiny", data=made / "pairs.parquet", out=tmp_path / "out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="reward_model wants the whole model in each process"):
        run(reward_model.STAGE, job)


@pytest.mark.parametrize("n_rows", [0, 1, 7, 8])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_parts_of_the_processes_are_the_rows_in_their_order(monkeypatch, n_rows, n):
    monkeypatch.setenv("WORLD_SIZE", str(n))
    parts = []
    for rank in range(n):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(list(processes.mine(range(n_rows))))
    assert [row for part in parts for row in part] == list(range(n_rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_adapters_are_refused_where_the_model_is_split(made, tmp_path, monkeypatch):
    from cai.training import sft
    from cai.training.command import run

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="lora_rank 4 was asked for under FSDP or DeepSpeed"):
        run(sft.STAGE, sft_job(made, tmp_path / "out", config={"lora_rank": 4}))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_shipped_launch_file_has_nothing_accelerate_does_not_know(path):
    """accelerate itself refuses an unknown key at the top, and takes any below."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(path))
    known = set(vars(launch_command_parser().parse_args(["script"])))
    assert set(config.fsdp_config) <= known
    assert set(config.deepspeed_config) <= known
    args = launch_command_parser().parse_args(["--config_file", str(path), "-m", "cai.training.sft"])
    checked, _, _ = _validate_launch_command(args)
    assert checked.multi_gpu + checked.use_fsdp + checked.use_deepspeed == 1
    assert checked.num_processes == config.num_processes > 1


def test_a_profile_s_launch_file_goes_before_the_module_and_must_say_how_many_processes(tmp_path):
    from flows.training import Launcher

    job = RewardModelJob(model=tmp_path, data=tmp_path, out=tmp_path)
    assert Launcher(None, job).argv() == []
    found = Launcher(Path("deployments/accelerate/cpu-2.yaml"), job)
    assert found.n_processes == 2
    assert found.argv()[:2] == ["accelerate.commands.launch", "--config_file"] and Path(found.argv()[2]).is_file()
    (tmp_path / "a.yaml").write_text("num_processes: many\n")
    with pytest.raises(ConfigError, match="expected num_processes to be a positive number, got 'many'"):
        Launcher(tmp_path / "a.yaml", job)
    with pytest.raises(ConfigError, match="no accelerate configuration at"):
        Launcher(tmp_path / "none.yaml", job)


def test_a_launch_file_that_splits_the_model_is_for_jobs_that_can_do_with_a_part(tmp_path):
    from flows.training import Launcher

    paths = {"model": tmp_path, "data": tmp_path, "out": tmp_path}
    fsdp = Path("deployments/accelerate/fsdp.yaml")
    assert Launcher(fsdp, SFTJob(**paths)).n_processes > 1
    whole = Launcher(fsdp, RewardModelJob(**paths))
    assert (whole.argv(), whole.n_processes) == ([], 1)


def test_only_the_main_process_reports(monkeypatch):
    from cai.training.progress import Progress

    said = io.StringIO()
    monkeypatch.setenv("RANK", "1")
    Progress("sft", said).note("resuming")
    assert said.getvalue() == ""
    monkeypatch.setenv("RANK", "0")
    Progress("sft", said).note("resuming")
    assert "resuming" in said.getvalue()


def named(text: str) -> set[int]:
    """Ids of the processes whose command line has the text."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_bytes().decode(errors="replace"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_two_processes_train_as_one_does_die_with_who_started_them_go_on_and_publish_once(made, tmp_path, monkeypatch):
    """torch starts its workers in sessions of their own: a signal to their launcher's group does not reach them."""
    from cai.training import sft
    from cai.training.command import run

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = sft_job(made, tmp_path / "two")
    path = write_job(tmp_path / "job-of-two.json", **json.loads(job.model_dump_json()))
    argv, log = [*CPU_2, "cai.training.sft", "--job", str(path)], tmp_path / "log"
    code = f"import pathlib, flows.supervise as s; s.run_step({argv!r}, log=print, logfile=pathlib.Path({str(log)!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not list((tmp_path / "two.unfinished").glob("checkpoint-*/meta.json")):
        assert parent.poll() is None, log.read_text()
        time.sleep(0.005)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while named(str(path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert named(str(path)) == set()
    assert not job.out.exists()

    again = subprocess.run([sys.executable, "-m", *argv], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert [json.loads(line)["status"] for line in again.stdout.splitlines()] == ["trained"]
    assert again.stderr.count('"resuming"') == 1
    steps = [json.loads(line[9:])["step"] for line in again.stderr.splitlines() if line.startswith("progress ")]
    assert steps == sorted(set(steps)), "only the main process reports"
    assert not (tmp_path / "two.unfinished").exists()
    run(sft.STAGE, sft_job(made, tmp_path / "one"))
    assert_same_training(job.out, tmp_path / "one", 2e-5)
    assert run(sft.STAGE, job)["status"] == "already done"


EVERY_JOB = """
import os
import sys
from importlib import import_module
from pathlib import Path

import torch.distributed
from accelerate.state import AcceleratorState

from cai.training.command import run
from cai.training.jobs import load_job

of_this = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
for path in map(Path, sys.argv[1:]):  # the launcher's store has met once, and would not again; a port could be taken
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}.store", **of_this)
    stage = import_module(f"cai.training.{path.stem}").STAGE
    run(stage, load_job(path, stage.kind))
    AcceleratorState._reset_state(reset_partial_state=True)  # the next job is another command, in real life
"""


@pytest.mark.slow
def test_two_processes_train_every_kind(made, tmp_path, monkeypatch):
    """Rows that do not divide, micro-batches, and a guard that only one process scores for."""
    from importlib import import_module

    from cai.training.command import run

    of_pairs = {"learning_rate": 1e-3, "batch_size": 5, "max_length": 40, "epochs": 1}
    sampled = {
        "steps": 2, "prompts_per_step": 3, "samples_per_prompt": 2, "learning_rate": 1e-3, "max_tokens": 8,
        "max_prompt_tokens": 20,
    }  # fmt: skip
    guard = {
        "every": 1,
        "gold_prompts": 2,
        "gold": [{"kind": "length", "name": "short", "free_tokens": 3, "scale_tokens": 4}],
    }
    configs = {
        "reward_model": of_pairs,
        "dpo": {**of_pairs, "batch_size": 6},
        "rloo": {**sampled, "guard": guard},
        "ppo": {**sampled, "minibatch_size": 3, "target_kl": 0.5, "guard": guard},
    }
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    paths = []
    for stage, config in configs.items():
        data = "pairs" if stage in ("reward_model", "dpo") else "prompts"
        body = {"model": str(made / "tiny"), "data": str(made / f"{data}.parquet"), "seed": 1, "config": config}
        if data == "prompts":
            body["reward_models"] = [str(made / "reward")]
        if stage in ("reward_model", "ppo"):
            body["micro_batch"] = 2
        paths.append(write_job(tmp_path / "two" / f"{stage}.json", **body, out=str(tmp_path / "two" / stage)))
        if stage != "rloo":  # in TRL's, each process draws random numbers of its own: the samples differ
            one = write_job(tmp_path / "one" / f"{stage}.json", **body, out=str(tmp_path / "one" / stage))
            module = import_module(f"cai.training.{stage}").STAGE
            run(module, load_job(one, module.kind))
    (tmp_path / "every_job.py").write_text(EVERY_JOB)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    command = [sys.executable, "-m", *CPU_2, "every_job", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    for stage, loss in {"reward_model": "loss", "dpo": "loss", "ppo": "loss/policy"}.items():
        one, two = (tmp_path / n / stage for n in ("one", "two"))
        assert_same_training(one, two, 2e-5, loss)
    for stage in ("rloo", "ppo"):
        meta = json.loads((tmp_path / "two" / stage / "meta.json").read_text())
        assert meta["guard"]["stopped"] is None
        assert [row["step"] for row in rows_of(tmp_path / "two" / stage)] == [0, 1, 2]
        assert pq.read_table(tmp_path / "two" / stage / "rollouts.parquet").num_rows == 12


@pytest.mark.slow
def test_a_killed_worker_is_known_as_killed(tmp_path, monkeypatch):
    """torch's launcher ends with code 1 whatever happened; out of memory is the usual reason for SIGKILL."""
    from flows.supervise import StepFailed, run_step

    body = "import os, signal\nif os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "worker_under_test.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    with pytest.raises(StepFailed, match="a process of the step was ended by SIGKILL") as error:
        run_step([*CPU_2, "worker_under_test"], log=print, logfile=tmp_path / "log")
    assert error.value.is_out_of_memory
