"""What only a GPU can show; skipped where there is none."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cai.config import EngineConfig
from cai.records import Message, Sampling

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def test_the_engine_answers_and_chooses_on_the_device():
    from cai.engines import open_engine

    async def ask() -> tuple[str, float]:
        engine = await open_engine(EngineConfig(kind="vllm", gpu_memory_utilization=0.3))
        try:
            said = await engine.complete([Message("user", "how do i bake a cake?")], Sampling(0.0, 1.0, 32), 1)
            choice = await engine.choose([Message("user", "Answer with the letter A or B alone.")], ("A", "B"))
            return said.text, choice.mass_outside
        finally:
            await engine.close()

    text, outside = asyncio.run(ask())
    assert text
    assert 0 <= outside <= 1


def test_the_gpu_check_counts_memory_and_resumes_on_the_device(tmp_path):
    out, root = tmp_path / "gpu.json", Path(__file__).parents[1]
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--size", "toy", "--only", "attention,sft,resume"]
    subprocess.run([*command, "--out", str(out)], cwd=root, check=True)
    report = json.loads(out.read_text())
    found = {check["check"]: check for check in report["checks"]}
    assert report["hardware"]["gpu"] == torch.cuda.get_device_name(0)
    assert found["toy/sft"]["peak_memory_gib"] > 0 and found["toy/step/sdpa/packed"]["peak_memory_gib"] > 0
    assert found["toy/resume"]["resumed"] and found["toy/resume"]["largest_loss_difference"] < 1e-3
