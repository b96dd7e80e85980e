"""`vllm serve` behind the openai engine, beside the same weights in this process."""

import asyncio
import os
import socket
import subprocess
import sys
import time

import pytest
from tiny_model import save_tiny_model

from cai.config import EngineConfig
from cai.engines import open_engine
from cai.engines.options import NEVER
from cai.errors import PromptTooLong
from cai.records import Message, Sampling


@pytest.mark.slow
def test_vllm_serve_answers_as_the_engine_in_process_does(tmp_path, port):
    """The same weights behind a real server: same greedy words, log-probabilities within the top 20."""
    path = save_tiny_model(tmp_path / "model", 3)
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(path), "--dtype", "float32"),
        *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny", "--enforce-eager"),
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096", "--kv-cache-memory-bytes", str(2**28)),
    ]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    greedy, ask = Sampling(temperature=0.0, max_tokens=8), [Message("user", "help w1")]

    async def answers(config):
        engine = await open_engine(config)
        try:
            with pytest.raises(PromptTooLong):
                await engine.complete([Message("user", "good " * 400)], greedy, 0)
            choice = await engine.choose(ask, ["A", "B"])
            full = await engine.complete([Message("user", "good " * 240)], Sampling(max_tokens=100), 0)
            return (await engine.complete(ask, greedy, 0)).text, choice, full.n_prompt_tokens + full.n_tokens
        finally:
            await engine.close()

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        url = f"http://127.0.0.1:{port}/v1"
        text, served, n_full = asyncio.run(answers(EngineConfig(kind="openai", model="tiny", base_url=url)))
    finally:
        process.terminate()
        process.wait(30)
    own_text, own, n_own = asyncio.run(answers(EngineConfig(kind="transformers", model=str(path))))
    # The server decodes token by token, which leaves a space in front.
    assert text.strip() == own_text.strip() and max(n_full, n_own) <= 256
    for seen, true in zip(served.logps, own.logps, strict=True):
        assert seen == NEVER or seen <= true + 1e-3
