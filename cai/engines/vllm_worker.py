"""What runs inside vLLM's worker process: a change of weights that is whole."""

from typing import Any


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
