"""How vLLM is started: settings for CPU and GPU, quiet logs, no telemetry, and a start of seconds where that is safe.

Measured on two cores with a model of 0.9 M parameters: vLLM's own way, which spawns an engine process that spawns a
worker, starts in 16 s and compiles two sampler functions for 15 s more; one forked process that compiles nothing
starts in 2 s. (Importing vLLM comes on top: 6 s.)
"""

import atexit
import json
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from cai.config import EngineConfig

GIB = 1024**3
# The CPU backend's own block is 128 tokens, and only whole blocks are cached. At 32, prompts of 90 tokens that share
# their first 68 were labelled 2.4 times faster. Its kernels want a multiple of 32.
CPU_BLOCK = 32
CPU_BATCHED_TOKENS = 16384
LOG_LEVEL = "ERROR"
STOP_S = 20.0
OWNER = "CAI_ENGINE_OWNER"
"""Set while vLLM starts its processes: the id of the process that they are for; see `vllm_worker`."""

# Read when vllm and torch are imported, so they are set before; a value the user has set stays.
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # Two sampler helpers would be compiled with a C++ compiler on the first request, for nothing on a small batch.
    "TORCHDYNAMO_DISABLE": "1",
}


class Started(NamedTuple):
    """A running `AsyncLLM` and the processes it started."""

    llm: Any
    processes: tuple[BaseProcess, ...]

    def stop(self) -> None:
        """End it and see to it that nothing of it is left. Safe to call twice."""
        self.llm.shutdown(timeout=STOP_S)
        # It shuts down once more when it is deleted, which fails if the interpreter is half gone by then.
        self.llm.shutdown = lambda timeout=None: None
        for process in self.processes:
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()

    def reason(self, error: BaseException) -> str:
        """Why it failed: the signal that ended a process, or what vLLM logged."""
        for process in self.processes:
            process.join(1.0)
            if process.exitcode is not None and process.exitcode < 0:
                name = signal.Signals(-process.exitcode).name
                hint = "; the system may have been out of memory" if name == "SIGKILL" else ""
                return f"its process was ended by {name}{hint}"
        return reason(error)


def start(config: EngineConfig, path: Path) -> Started:
    """Start vLLM for the model at `path`. Blocks; whatever vLLM raises comes through."""
    before = set(multiprocessing.active_children())
    _prepare_environment()
    with _quiet():
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = current_platform.is_cpu()
        arguments = _arguments(config, path, on_cpu)
        single = on_cpu and config.tensor_parallel == 1
        # With this variable at 1 vLLM's CPU platform insists on a worker process of its own.
        with _environment(VLLM_ENABLE_V1_MULTIPROCESSING="0" if single else None), _threads(single):
            settings = AsyncEngineArgs(**arguments).create_engine_config(UsageContext.ENGINE_CONTEXT)
            method = ("fork" if _fork_is_safe() else "spawn") if single else None
            with _environment(VLLM_WORKER_MULTIPROC_METHOD=method, **{OWNER: str(os.getpid())}), _no_wakeup_fd():
                llm = AsyncLLM.from_vllm_config(settings, disable_log_stats=True)
    return Started(llm, tuple(set(multiprocessing.active_children()) - before))


def _arguments(config: EngineConfig, path: Path, on_cpu: bool) -> dict[str, Any]:
    common: dict[str, Any] = {
        "model": str(path),
        "dtype": config.dtype,
        "max_model_len": config.context_length,
        "max_num_seqs": config.max_concurrency,
        "tensor_parallel_size": config.tensor_parallel,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "use_tqdm_on_load": False,
        "worker_extension_cls": "cai.engines.vllm_worker.Swap",
    }
    if not on_cpu:
        return common | {"gpu_memory_utilization": config.gpu_memory_utilization}
    written = json.loads((path / "config.json").read_text(encoding="utf-8"))
    own_dtype = written.get("dtype") or written.get("torch_dtype") or "auto"
    longest = config.context_length or int(written.get("max_position_embeddings") or 0)
    return common | {
        # vLLM's auto makes bfloat16 of float32: 1.3 to 1.5 times faster, and log-probabilities that are 0.1 nats off.
        "dtype": own_dtype if config.dtype == "auto" else config.dtype,
        "enforce_eager": True,
        # A seeded request that chunked prefill splits kills the CPU engine ("CPU Generator does not use offset").
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, longest),
        "block_size": CPU_BLOCK,
        "kv_cache_memory_bytes": config.kv_cache_gib * GIB,
        "distributed_executor_backend": "uni" if config.tensor_parallel == 1 else "mp",
    }


def reason(error: BaseException) -> str:
    """Why vLLM failed: the last exception its processes logged, else the error itself."""
    log = _log_file()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    raised = [line for line in lines if "Error: " in line or "Exception: " in line]
    told = next((line for line in raised if "stack trace" not in line), "")
    return " ".join((told or f"{type(error).__name__}: {error}").split())[:400]


def forget_reasons() -> None:
    """Empty the log, so that the next reason belongs to the engine that starts now."""
    if (log := _log_file()).is_file():
        log.write_text("")


@lru_cache(maxsize=1)
def _log_file() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="cai-vllm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "vllm.log"


def _prepare_environment() -> None:
    """Errors of vLLM on stderr (more with VLLM_LOGGING_LEVEL=INFO), and in a file from which `reason` reads."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # What vLLM says before it has set its own logging up would go to stderr whatever its level.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    if "VLLM_LOGGING_CONFIG_PATH" in os.environ:
        return
    level = os.environ.get("VLLM_LOGGING_LEVEL", LOG_LEVEL).upper()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", level)
    handlers = {
        "stderr": {"class": "logging.StreamHandler", "level": level, "stream": "ext://sys.stderr", "formatter": "line"},
        "file": {
            "class": "logging.FileHandler",
            "level": "WARNING",
            "filename": str(_log_file()),
            "delay": True,
            "formatter": "line",
        },
    }
    body = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "vllm %(process)d %(levelname)s %(message)s"}},
        "handlers": handlers,
        "loggers": {"vllm": {"handlers": list(handlers), "level": "WARNING" if level == "ERROR" else level}},
    }
    path = _log_file().with_name("logging.json")
    path.write_text(json.dumps(body), encoding="utf-8")
    os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(path)


def _fork_is_safe() -> bool:
    """A forked child must not wait for the OpenMP threads it did not inherit: it has one thread, or none ran here.

    OpenMP's threads bear the process's own name; those of Arrow, Delta and ZeroMQ have theirs, and are not used there.
    """
    import torch

    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return False
    names = [(task / "comm").read_text() for task in tasks.iterdir()]
    own = Path("/proc/self/comm").read_text()
    return torch.get_num_threads() == 1 or names.count(own) <= threading.active_count()


@contextmanager
def _threads(single: bool) -> Iterator[None]:
    """One core less than there are for the engine's arithmetic, unless OMP_NUM_THREADS says otherwise."""
    if not single or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    import torch

    before = torch.get_num_threads()
    n_threads = max(1, len(os.sched_getaffinity(0)) - 1)
    torch.set_num_threads(n_threads)
    try:
        with _environment(OMP_NUM_THREADS=str(n_threads)):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set variables for the duration; None leaves one alone."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop the warnings libraries raise at import; where warnings are errors, a forked engine would die of one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _no_wakeup_fd() -> Iterator[None]:
    """A forked child that keeps the event loop's wake-up socket would report its own signals to our loop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
