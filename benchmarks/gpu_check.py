"""What training does on this machine's GPU: speed, memory, and whether a killed run goes on. Also runs without one.

`python -m benchmarks.gpu_check [--size 100m,1b] [--out gpu.json]`

Needs torch and transformers; what else is missing is skipped by name. The models have the small world's shape, scaled,
and random weights, so quality means nothing here. `--size toy` is for a CPU, and what runs where there is no GPU.
"""

import argparse
import importlib
import io
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "cai" / "smallworld" / "model"
PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "vllm", "flash-attn", "deepspeed")
ATTENTION = ("eager", "sdpa", "flash_attention_2")
# Dense bf16 TFLOP/s of the tensor cores, without sparsity: NVIDIA's data sheets of H100, H200, A100 and L4. The first
# name that is part of the device's counts.
PEAK_TFLOPS = {"H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "L4": 121}


class Size(NamedTuple):
    """Shape of a model, and how much of everything a check does."""

    width: int
    layers: int
    heads: int
    rows: int
    """Rows of a batch."""
    length: int
    """Tokens of the longest row."""
    steps: int
    reply: int
    """Most tokens of a sampled reply."""


SIZES = {
    "toy": Size(64, 2, 2, rows=4, length=48, steps=6, reply=8),
    "100m": Size(768, 13, 12, rows=32, length=1024, steps=20, reply=256),
    "1b": Size(2048, 18, 16, rows=32, length=1024, steps=10, reply=256),
}


class Missing(Exception):
    """What a check cannot do without."""


@dataclass
class Report:
    """What was measured, what was left out and why, and what broke."""

    body: dict[str, Any]
    size: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, check: Callable[[], dict[str, Any]]) -> None:
        """Record what comes of a check; the others go on whatever it is."""
        name = f"{self.size}/{name}"
        release_memory()
        started = time.monotonic()
        try:
            found = {"check": name, **check(), "check_s": round(time.monotonic() - started, 1)}
        except Missing as error:
            self.skip(name, str(error))
        except ModuleNotFoundError as error:
            self.skip(name, f"there is no {error.name}")
        except Exception as error:
            self.failed[name] = f"{type(error).__name__}: {error}"[:2000]
            print(f"{name}: FAILED {self.failed[name]}", file=sys.stderr, flush=True)
        else:
            self.checks.append(found)
            print(json.dumps(found), file=sys.stderr, flush=True)

    def skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason
        print(f"{name}: skipped, {reason}", file=sys.stderr, flush=True)

    def write(self, path: Path | None) -> None:
        text = json.dumps(
            {**self.body, "checks": self.checks, "skipped": self.skipped, "failed": self.failed}, indent=1
        )
        if path is None:
            print(text)
        else:
            path.write_text(text + "\n", encoding="utf-8")


def on_gpu() -> bool:
    return torch.cuda.is_available()


def hardware() -> dict[str, Any]:
    found: dict[str, Any] = {"machine": platform.machine(), "cpu_cores": len(os.sched_getaffinity(0))}
    if on_gpu():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "peak_bf16_tflops": peak_tflops(properties.name),
        }
    return found


def peak_tflops(device: str) -> float | None:
    return next((peak for name, peak in PEAK_TFLOPS.items() if re.search(rf"\b{name}\b", device)), None)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def release_memory() -> None:
    import gc

    gc.collect()
    if on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory_gib() -> float | None:
    """The most that tensors held since the last check; None on a CPU, where torch does not count it."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if on_gpu() else None


def synchronised() -> float:
    """The time, once the device has done what it was given."""
    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def speed(n_parameters: int, tokens: float, seconds: float) -> dict[str, Any]:
    """Tokens per second, and MFU: the 6·N operations a trained token takes at least (Chowdhery et al. 2022, appendix B,
    attention left out) over what the device could do in that time.
    """
    per_s = tokens / seconds
    peak = peak_tflops(torch.cuda.get_device_name(0)) if on_gpu() else None
    mfu = None if peak is None else round(6 * n_parameters * per_s / (peak * 1e12), 4)
    return {"tokens_per_s": round(per_s, 1), "mfu": mfu, "peak_memory_gib": peak_memory_gib()}


def make_model(folder: Path, size: Size) -> int:
    """Write a model of the small world's shape, scaled, and random; returns its number of parameters."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(SHIPPED), local_files_only=True)
    config.hidden_size, config.intermediate_size = size.width, 3 * size.width
    config.num_hidden_layers, config.head_dim = size.layers, size.width // size.heads
    config.num_attention_heads = config.num_key_value_heads = size.heads
    torch.manual_seed(0)
    with torch.device("cuda" if on_gpu() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if on_gpu() else torch.float32)
    model.save_pretrained(str(folder))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(SHIPPED / name, folder / name)
    return sum(p.numel() for p in model.parameters())


def load_model(folder: Path, attention: str = "sdpa") -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, attn_implementation=attention, local_files_only=True
    )
    return model.to("cuda" if on_gpu() else "cpu")


def autocast() -> Any:
    return torch.autocast("cuda", torch.bfloat16) if on_gpu() else nullcontext()


def row_lengths(size: Size, seed: int = 0) -> list[int]:
    """From an eighth of the longest to the longest, as replies vary; padding them costs nearly half of a batch."""
    rng = random.Random(seed)
    return [rng.randint(size.length // 8, size.length) for _ in range(size.rows)]


def padded(lengths: list[int], vocabulary: int) -> dict[str, torch.Tensor]:
    width = max(lengths)
    real = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = torch.randint(6, vocabulary, (len(lengths), width)) * real
    return {"input_ids": ids, "attention_mask": real.long(), "labels": ids.masked_fill(~real, -100)}


def packed(lengths: list[int], vocabulary: int) -> dict[str, torch.Tensor]:
    """One long row; the positions start again at each of its parts, which is how they are kept apart."""
    ids = torch.randint(6, vocabulary, (1, sum(lengths)))
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    return {"input_ids": ids, "position_ids": positions, "labels": ids.masked_fill(positions == 0, -100)}


def training_step_speed(model: Any, size: Size, is_packed: bool, n_parameters: int) -> dict[str, Any]:
    """Forward, backward and AdamW, on torch and transformers alone."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=on_gpu())
    device = next(model.parameters()).device
    started, tokens = 0.0, 0
    for step in range(size.steps):
        if step == 2:  # what the first steps wait for (kernels, allocations) happens once
            started, tokens = synchronised(), 0
        lengths = row_lengths(size, step)
        batch = (packed if is_packed else padded)(lengths, model.config.vocab_size)
        with autocast():
            loss = model(**{name: tensor.to(device) for name, tensor in batch.items()}, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(lengths)
    return speed(n_parameters, tokens, synchronised() - started)


def attention_check(folder: Path, size: Size, attention: str, is_packed: bool, n_parameters: int) -> dict[str, Any]:
    if attention == "flash_attention_2":
        importlib.import_module("flash_attn")
        if not on_gpu():
            raise Missing("there is no GPU")
    return training_step_speed(load_model(folder, attention), size, is_packed, n_parameters)


def generation_check(folder: Path, size: Size) -> dict[str, Any]:
    """Sampling with transformers, as RL does where there is no vLLM."""
    model = load_model(folder).eval()
    ids = torch.randint(6, model.config.vocab_size, (size.rows, 16), device=model.device)
    started = synchronised()
    with torch.no_grad(), autocast():
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=size.reply,
            min_new_tokens=size.reply,
        )  # fmt: skip
    seconds = synchronised() - started
    return {"generated_tokens_per_s": round((made.shape[1] - 16) * size.rows / seconds, 1),
            "peak_memory_gib": peak_memory_gib()}  # fmt: skip


def vllm_check(folder: Path, size: Size) -> dict[str, Any]:
    """Sampling with vLLM on the same GPU as a model that is being trained, which is left 0.7 of the memory."""
    if not on_gpu():
        raise Missing("there is no GPU")
    vllm = importlib.import_module("vllm")
    trained = load_model(folder)
    engine = vllm.LLM(model=str(folder), gpu_memory_utilization=0.3, max_model_len=2 * size.reply + 64)
    sampling = vllm.SamplingParams(temperature=1.0, max_tokens=size.reply, ignore_eos=True)
    prompts = [{"prompt_token_ids": random.Random(i).choices(range(6, 800), k=16)} for i in range(size.rows)]
    engine.generate(prompts[:1], sampling, use_tqdm=False)
    started = time.perf_counter()
    made = engine.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - started
    del trained
    return {"generated_tokens_per_s": round(sum(len(m.outputs[0].token_ids) for m in made) / seconds, 1)}


def write_data(folder: Path, size: Size) -> None:
    """Rows of random words of the tokenizer: replies, pairs and prompts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vocabulary = json.loads((SHIPPED / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isalpha() and word.islower())
    rng = random.Random(0)

    def turn(role: str, low: int, high: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(rng.choices(words, k=rng.randint(low, high)))}]

    n_rows, longest = size.rows * size.steps, size.length - 24
    replies = [{"prompt": turn("user", 4, 12), "completion": turn("assistant", longest // 8, longest)}
               for _ in range(n_rows)]  # fmt: skip
    pairs = [
        {
            "prompt": turn("user", 4, 12), "chosen": turn("assistant", longest // 8, longest),
            "rejected": turn("assistant", longest // 8, longest), "soft_label": rng.uniform(0.5, 1), "is_tie": False,
            "pair_id": str(i), "prompt_id": str(i),
        }
        for i in range(n_rows)
    ]  # fmt: skip
    prompts = [{"prompt": turn("user", 4, 12), "prompt_id": str(i)} for i in range(n_rows)]
    for name, rows in {"sft": replies, "pairs": pairs, "prompts": prompts}.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


class Work(NamedTuple):
    """One training command: its data, its settings, and the models it needs besides its own."""

    data: str
    config: dict[str, Any]
    needs_reward_model: bool = False


def works(size: Size) -> dict[str, Work]:
    batch = {"batch_size": size.rows, "max_length": size.length, "epochs": 1, "learning_rate": 1e-5, "save_steps": 1000}
    sampled = {
        "steps": max(3, size.steps // 3), "prompts_per_step": size.rows // 4, "samples_per_prompt": 4,
        "max_tokens": size.reply, "max_prompt_tokens": 64, "learning_rate": 1e-6, "save_steps": 1000,
    }  # fmt: skip
    return {
        "sft": Work("sft", batch),
        "sft/packing": Work("sft", {**batch, "packing": True, "batch_size": max(1, size.rows // 2)}),
        "reward_model": Work("pairs", {**batch, "held_out": 0.0}),
        "dpo": Work("pairs", {**batch, "learning_rate": 1e-6}),
        "grpo": Work("prompts", sampled, True),
        "rloo": Work("prompts", sampled, True),
        "ppo": Work(
            "prompts",
            {**sampled, "samples_per_prompt": 1, "prompts_per_step": size.rows, "minibatch_size": size.rows // 2},
            True,
        ),  # fmt: skip
    }


def command_check(folder: Path, name: str, work: Work, n_parameters: int) -> dict[str, Any]:
    """A training command as it is run, in this process; timed from its first step to its last."""
    job = job_body(folder, work, folder / f"out-{name.replace('/', '-')}")
    stage = importlib.import_module(f"cai.training.{name.partition('/')[0]}").STAGE
    from cai.training.command import run
    from cai.training.progress import Progress

    times: list[float] = []

    class Clock(Progress):
        """Hears every step."""

        def report(self, step: int, n_steps: int, **numbers: float) -> None:
            times.append(synchronised())

    meta = run(stage, stage.kind.model_validate(job), Clock(name, stream=io.StringIO()))
    seconds, share = times[-1] - times[0], 1 - 1 / len(times)
    found = {"n_steps": meta["n_steps"], "s_per_step": round(seconds / (len(times) - 1), 4)}
    if "n_tokens" in meta:
        return {**found, **speed(n_parameters, share * meta["n_tokens"], seconds), "metrics": meta["metrics"]}
    return {**found, "peak_memory_gib": peak_memory_gib(), "metrics": meta["metrics"]}


def job_body(folder: Path, work: Work, out: Path) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": str(folder / "model"), "data": str(folder / f"{work.data}.parquet"), "out": str(out),
        "config": work.config,
    }  # fmt: skip
    if work.needs_reward_model:
        body["reward_models"] = [str(folder / "out-reward_model")]
    return body


def resume_check(folder: Path, size: Size) -> dict[str, Any]:
    """SFT killed with SIGKILL after its first checkpoint and started again, against a run that was left alone.

    Bits are promised on a CPU; on a GPU the losses are what counts.
    """
    if size.width > 1024:
        raise Missing("shown at the smaller sizes; a checkpoint of this one takes 12 GB")
    from cai.training import sft
    from cai.training.command import run
    from cai.training.jobs import SFTJob
    from cai.training.progress import Progress

    work = works(size)["sft"]
    work = work._replace(config={**work.config, "epochs": 3, "save_steps": size.steps // 2})
    alone, killed = (SFTJob(**job_body(folder, work, folder / name)) for name in ("alone", "killed"))
    run(sft.STAGE, alone, Progress("sft", io.StringIO()))
    path = folder / "killed.json"
    path.write_text(killed.model_dump_json(), encoding="utf-8")
    with running([sys.executable, "-m", "cai.training.sft", "--job", str(path)]) as process:
        while process.poll() is None and not list((folder / "killed.unfinished").glob("checkpoint-*/meta.json")):
            time.sleep(0.005)
    said = io.StringIO()
    run(sft.STAGE, killed, Progress("sft", said))
    curves = [[json.loads(line)["loss"] for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
              for name in ("alone", "killed")]  # fmt: skip
    digests = {json.loads((folder / name / "meta.json").read_text())["model_digest"] for name in ("alone", "killed")}
    return {
        "was_killed": process.returncode == -signal.SIGKILL,
        "resumed": '"resuming"' in said.getvalue(),
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*curves, strict=True)),
        "same_weights_bit_for_bit": len(digests) == 1,
    }


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed with its group on leaving the block."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def check_size(report: Report, name: str, only: set[str]) -> None:
    """Every check of one size, in a folder that is thrown away."""
    report.size, size = name, SIZES[name]

    def wanted(part: str) -> bool:
        return not only or part in only

    with tempfile.TemporaryDirectory(prefix="gpu-check-") as made:
        folder = Path(made)
        n = make_model(folder / "model", size)
        report.body["parameters"][name] = n
        if wanted("attention"):
            for attention in ATTENTION:
                for is_packed in (False, True):
                    label = f"step/{attention}/{'packed' if is_packed else 'padded'}"
                    report.attempt(label, partial(attention_check, folder / "model", size, attention, is_packed, n))
        if wanted("generate"):
            report.attempt("generate", lambda: generation_check(folder / "model", size))
        if wanted("vllm"):
            report.attempt("vllm/colocated", lambda: vllm_check(folder / "model", size))
        commands(report, folder, size, n, wanted)


def commands(report: Report, folder: Path, size: Size, n_parameters: int, wanted: Callable[[str], bool]) -> None:
    """The training commands, and the resume; they need what the package needs."""
    names = [stage for stage in works(size) if wanted(stage)]
    if any(works(size)[stage].needs_reward_model for stage in names) and "reward_model" not in names:
        names.insert(0, "reward_model")
    if not names and not wanted("resume"):
        return
    try:
        write_data(folder, size)
    except ModuleNotFoundError as error:
        for stage in names:
            report.skip(f"{report.size}/{stage}", f"there is no {error.name}")
        return
    for stage in names:
        work = works(size)[stage]
        report.attempt(stage, partial(command_check, folder, stage, work, n_parameters))
    if wanted("resume"):
        report.attempt("resume", lambda: resume_check(folder, size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="100m,1b" if on_gpu() else "toy", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--only", default="", help="attention, generate, vllm, resume, or stages as sft,grpo; all")
    parser.add_argument("--out", type=Path, help="a JSON file; without it the JSON goes to stdout")
    chosen = parser.parse_args()
    sys.path.insert(0, str(ROOT))  # started as a file, it would find no `cai` that is not installed
    sizes = chosen.size.split(",")
    if unknown := set(sizes) - set(SIZES):
        parser.error(f"--size: no {', '.join(sorted(unknown))}; choose of {', '.join(SIZES)}")
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    report = Report({"hardware": hardware(), "versions": versions(), "parameters": {}})
    for name in sizes:
        check_size(report, name, set(filter(None, chosen.only.split(","))))
    report.write(chosen.out)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
