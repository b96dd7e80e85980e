"""The GPU check runs where there is no GPU, at toy size, so that it is whole when there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_check

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_gpu_check_measures_what_it_can_and_names_what_it_skipped(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu_check.py", "--size", "toy", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    found = {check["check"]: check for check in report["checks"]}
    for stage in ("sft", "sft/packing", "reward_model", "grpo"):
        assert found[f"toy/{stage}"]["n_steps"] >= 3
    assert found["toy/sft"]["tokens_per_s"] > 0
    assert {f"toy/step/{a}/{p}" for a in ("eager", "sdpa") for p in ("padded", "packed")} <= set(found)
    resumed = found["toy/resume"]
    assert resumed["was_killed"] and resumed["resumed"]
    assert report["failed"] == {}
    for name in report["skipped"]:
        assert name not in found
    assert report["hardware"]["cpu_cores"] >= 1 and report["versions"]["torch"]


def test_utilisation_is_of_the_device_s_own_peak():
    """An H100 on PCIe is slower than one on SXM, and an L40S is no L4."""
    assert gpu_check.peak_tflops("NVIDIA H200") == 989
    assert gpu_check.peak_tflops("NVIDIA H100 PCIe") == 756
    assert gpu_check.peak_tflops("NVIDIA H100 80GB HBM3") == 989
    assert gpu_check.peak_tflops("NVIDIA A100-SXM4-80GB") == 312
    assert gpu_check.peak_tflops("NVIDIA L4") == 121
    assert gpu_check.peak_tflops("NVIDIA L40S") is None
