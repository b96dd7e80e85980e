"""What runs inside vLLM's worker process: a change of weights that is whole, and an end with whoever started it.

vLLM's processes outlive an owner that is killed with SIGKILL: they keep the accelerator's memory, and its turn with it.
"""

import os
import select
import signal
import sys
import threading
from typing import Any

from cai.engines.vllm_start import OWNER


class Swap:
    """Mixed into vLLM's worker, which has `model_runner`; called with `collective_rpc("swap_weights", …)`."""

    model_runner: Any

    def swap_weights(self, weights_path: str) -> None:
        """Load the weights at `weights_path` into the running model.

        vLLM's own reload leaves an output layer that is tied to the embedding with its old weights on the CPU: such a
        layer has none of its own in the checkpoint, so the copy packed for its matrix product is not made again.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        self.model_runner.reload_weights(weights_path=weights_path)
        for module in self.model_runner.get_model().modules():
            if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)


def end_with(owner: int) -> None:
    """End this process when `owner` is gone, however it went, and the one of vLLM that may stand between them."""
    if sys.platform == "linux" and owner != os.getpid():
        between = {os.getppid()} - {owner}
        threading.Thread(target=_wait, args=(os.pidfd_open(owner), between), name="owner-watch", daemon=True).start()


def _wait(owner: int, between: set[int]) -> None:
    gone = select.poll()
    gone.register(owner, select.POLLIN)
    gone.poll()
    for pid in between & {os.getppid()}:  # it is still there, and the same
        os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if owner := os.environ.get(OWNER):  # vLLM imports this in its process before it loads weights, and nobody else does
    end_with(int(owner))
