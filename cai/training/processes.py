"""One process, or several under `accelerate launch`: who writes, who waits, how many rows each takes at once.

The launcher sets RANK and WORLD_SIZE. Only the main process writes: checkpoints, progress, rollouts and the result; the
others wait for it. All of them must see the same files.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from cai.errors import ConfigError
from cai.training.jobs import AnyJob

T = TypeVar("T")
ORPHAN_POLL_S = 1.0


def count() -> int:
    """How many processes share this job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def is_split() -> bool:
    """Whether each process has only a part of the model (FSDP, DeepSpeed), as the launcher was told."""
    return any(os.environ.get(f"ACCELERATE_USE_{how}", "").lower() == "true" for how in ("FSDP", "DEEPSPEED"))


def begin(job: AnyJob) -> None:
    """Call it first, in every process: from here on none outlives its launcher.

    Raises:
        ConfigError: the model would be split over them, and this job wants it whole.
    """
    if count() == 1:
        return
    if is_split() and not job.is_splittable:
        raise ConfigError(
            f"{job.stage} wants the whole model in each process, and was started under FSDP or DeepSpeed, which split "
            "it; only SFT, and GRPO without a guard, can do with a part; launch it with "
            "deployments/accelerate/multi-gpu.yaml, or plainly"
        )
    _die_with(os.getppid())


def meet() -> None:
    """Find the other processes, if there are any. Before it none may wait for another."""
    if count() == 1:
        return
    import torch
    from accelerate import PartialState

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        # accelerate would number the CPU by process, and torch loads no checkpoint to "cpu:1".
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState(cpu=not on_gpu)


def part() -> None:
    """Take leave of the others; what comes after must need none of them."""
    if count() > 1:
        import torch.distributed

        torch.distributed.destroy_process_group()


def wait() -> None:
    """Return once every process has come here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def mine(rows: Sequence[T]) -> Sequence[T]:
    """The rows that this process works on, maybe none; neighbours, so that `gathered` puts them back in order."""
    rank, n = int(os.environ.get("RANK", "0")), count()
    return rows[len(rows) * rank // n : len(rows) * (rank + 1) // n]


def gathered(rows: Sequence[T]) -> list[T]:
    """The rows of all processes, in the order of the processes; every process must call it."""
    if count() == 1:
        return list(rows)
    from accelerate.utils import gather_object

    found: list[T] = gather_object(list(rows))
    return found


def told(find: Callable[[], T]) -> T:
    """What the main process finds; the others wait to be told. Every process must call it."""
    if count() == 1:
        return find()
    from accelerate.utils import broadcast_object_list

    box: list[Any] = [find() if is_main() else None]
    return cast(T, broadcast_object_list(box)[0])


def added_up(numbers: Sequence[float]) -> list[float]:
    """The sums of each number over all processes; every process must call it, with as many."""
    return [math.fsum(each) for each in zip(*(gathered([tuple(numbers)])), strict=True)]


def add_gradients(parameters: Iterable[Any]) -> None:
    """Replace every gradient by the sum over all processes; one that has none has added 0.

    Unlike DistributedDataParallel it lets a process have no row at all, and weighs no process but every row the same.
    """
    if count() == 1:
        return
    import torch
    import torch.distributed

    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)


class Share(NamedTuple):
    """What one process does of every optimiser step: `accumulation` times, `micro_batch` rows at once."""

    micro_batch: int
    accumulation: int


def share(job: AnyJob) -> Share:
    """Divide the rows of one optimiser step over the processes, and each part into micro-batches.

    Raises:
        ConfigError: they do not divide.
    """
    rows, n = job.step_rows, count()
    if rows % n:
        raise ConfigError(f"{rows} rows a step cannot be divided over {n} processes; choose numbers that divide")
    micro_batch = min(job.micro_batch or rows // n, rows // n)
    if (rows // n) % micro_batch:
        raise ConfigError(
            f"micro_batch {micro_batch} must divide the {rows // n} rows that each process has a step ({rows} rows, "
            f"{n} processes); choose a divisor"
        )
    return Share(micro_batch, rows // n // micro_batch)


def _die_with(parent: int) -> None:
    """End this process when its launcher is gone: torch starts each worker in a session of its own, so that no signal
    to the launcher's group reaches it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
