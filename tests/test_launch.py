"""However a job is launched, it does the same work: in micro-batches, in several processes, short of memory."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from prefect import flow
from prefect.testing.utilities import prefect_test_harness
from training_fixtures import assistant, build_model, sentence, user, write_job, write_pairs, write_prompts, write_sft

from cai.config import GRPOConfig, RewardModelConfig, SFTConfig, load_profile
from cai.errors import ConfigError
from cai.training import processes
from cai.training.jobs import GRPOJob, RewardModelJob, SFTJob, halved, load_job

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "deployments" / "accelerate").glob("*.yaml"))
ONE_SFT = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "max_length": 32, "save_steps": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A policy, a reward model, and data."""
    from cai.training import reward_model
    from cai.training.command import run

    folder = tmp_path_factory.mktemp("launch")
    policy = build_model(folder / "tiny")
    config = RewardModelConfig(epochs=1, learning_rate=1e-3, batch_size=16, max_length=40)
    pairs = write_pairs(folder / "pairs.parquet", 40)
    run(reward_model.STAGE, RewardModelJob(model=policy, data=pairs, out=folder / "reward", config=config))
    write_sft(folder / "sft.parquet", 32)
    write_prompts(folder / "prompts.parquet", 10)
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


def test_a_micro_batch_is_halved_down_to_one_row_and_always_divides(made, tmp_path):
    job, tried = sft_job(made, tmp_path, config={"batch_size": 96}), []
    while job is not None:
        tried.append(job.micro_batch)
        job = halved(job)
    assert tried == [None, 48, 24, 12, 6, 3, 1]
    assert halved(sft_job(made, tmp_path), n_processes=2).micro_batch == 2
    assert halved(sft_job(made, tmp_path, micro_batch=1)) is None


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


CPU_2 = ["accelerate.commands.launch", "--config_file", str(ROOT / "deployments" / "accelerate" / "cpu-2.yaml"), "-m"]


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
        "dpo": {**of_pairs, "batch_size": 4},
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
    import pyarrow.parquet as pq

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
    train = stages.train.with_options(retry_delay_seconds=0)

    @flow
    def one_step() -> dict:
        return train(str(run.home), run.run_id, "sft", "sl_cai", roomy_job)

    with prefect_test_harness():
        result = one_step()
    logging.getLogger("prefect").setLevel(logging.WARNING)  # it says goodbye at exit, when stderr is closed
    assert json.loads((run.path / "jobs" / "sft.json").read_text())["micro_batch"] == 128
    log = (run.logs / "sft.log").read_text()
    assert "out of memory with 256 rows at once" in log
    meta = json.loads((tmp_path / "half" / "meta.json").read_text())
    assert result["model_digest"] == meta["model_digest"]


def test_only_memory_and_what_passes_by_itself_are_tried_again():
    from prefect.client.schemas.objects import TaskRun
    from prefect.states import Failed

    from flows.stages import _may_fit_or_pass
    from flows.supervise import StepFailed

    def again(kind: str, run_count: int) -> bool:
        state = Failed(data=StepFailed(kind, "as told"))
        return _may_fit_or_pass(None, TaskRun.model_construct(run_count=run_count), state)

    assert again("OutOfMemory", 1) and again("OutOfMemory", 7) and again("killed", 7)
    assert again("EngineDied", 1) and not again("EngineDied", 2)
    assert again("NotFinite", 1) and not again("NotFinite", 2)
    assert not again("too_large", 1) and not again("ConfigError", 1)


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


def test_only_the_main_process_reports(monkeypatch):
    from cai.training.progress import Progress

    said = io.StringIO()
    monkeypatch.setenv("RANK", "1")
    Progress("sft", said).note("resuming")
    assert said.getvalue() == ""
    monkeypatch.setenv("RANK", "0")
    Progress("sft", said).note("resuming")
    assert "resuming" in said.getvalue()
