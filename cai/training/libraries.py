"""How torch, transformers and TRL are brought in: offline, without telemetry, on the cores we have, and without vLLM
unless it is asked for. Call `prepare()` before importing any of them.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import cast

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    # cuBLAS is deterministic only with a fixed workspace; a resumed run must end where the uninterrupted one ends.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def prepare() -> None:
    """Set the environment that the libraries read when they are imported, and the number of CPU threads."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))


def vllm_missing() -> str:
    """What a vLLM colocated with training lacks here; empty where it can run."""
    import torch

    absent = [
        name
        for name, is_there in (("no CUDA device", torch.cuda.is_available()), ("no vllm package", find_spec("vllm")))
        if not is_there
    ]
    return " and ".join(absent)


@contextmanager
def without_vllm(unless: bool = False) -> Iterator[None]:
    """Import TRL in here: it imports all of vLLM (5 s) wherever that is installed, used or not; `unless` it is used.

    A module set to None in `sys.modules` counts as not installed; one that is already loaded is left alone.
    """
    if unless or "vllm" in sys.modules:
        yield
        return
    sys.modules["vllm"] = cast(ModuleType, None)
    try:
        yield
    finally:
        del sys.modules["vllm"]


def versions() -> dict[str, str]:
    """What was installed when a model was trained."""
    found = {"python": sys.version.split()[0]}
    for name in ("cai-flows", "torch", "transformers", "trl", "accelerate", "peft", "tokenizers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
