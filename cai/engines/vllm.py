"""vLLM in process: continuous batching through its asynchronous engine, on a GPU or, with its CPU build, on a laptop.

The engine proper is a child process of vLLM's; `close` ends it. How it is started: `vllm_start.py`.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai.config import EngineConfig
from cai.engines import vllm_start
from cai.engines.base import Choice, FinishReason, Generation
from cai.engines.chat import ChatTokenizer, swappable
from cai.engines.gate import Gate
from cai.engines.options import choice_from
from cai.errors import EngineDied, EngineError
from cai.models import model_digest, resolve_model
from cai.records import Message, Sampling


class VLLMEngine:
    """See `Engine`. `choose` is exact: it reads the log-probabilities of exactly the tokens that spell the options.

    A reply depends on its messages, sampling and seed. On the CPU 60 replies drawn alone were those drawn among 512
    others; a GPU's kernels may round differently in another batch, which can change a drawn token.
    """

    def __init__(self, started: vllm_start.Started, path: Path, tokenizer: ChatTokenizer) -> None:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        self._started = started
        self._llm = started.llm
        self._path = path
        self._tokenizer = tokenizer
        self._digest = model_digest(path)
        self._gate = Gate()
        self._numbers = itertools.count()
        self._dead = ""
        self._context_length: int = self._llm.model_config.max_model_len
        self._params = SamplingParams
        self._final = RequestOutputKind.FINAL_ONLY
        self._tokens_input = tokens_input

    @property
    def model_digest(self) -> str:
        return self._digest

    @property
    def context_length(self) -> int:
        return self._context_length

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        prompt = self._tokenizer.prompt(messages, self.context_length)
        params = self._params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=seed,
            detokenize=False,
            output_kind=self._final,
            skip_clone=True,
        )
        output = await self._ask(prompt, params)
        reply = output.outputs[0]
        reason: FinishReason = "stop" if reply.finish_reason == "stop" else "length"
        text = self._tokenizer.text(reply.token_ids)
        return Generation(text, reason, len(prompt), len(reply.token_ids), output.num_cached_tokens or 0)

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        groups = self._tokenizer.spellings(options)
        prompt = self._tokenizer.prompt(messages, self.context_length)
        params = self._params(
            temperature=0.0,
            max_tokens=1,
            logprob_token_ids=[token for group in groups for token in group],
            detokenize=False,
            output_kind=self._final,
            skip_clone=True,
        )
        output = await self._ask(prompt, params)
        seen = output.outputs[0].logprobs[0]
        return choice_from([[seen[token].logprob for token in group] for group in groups], True, len(prompt))

    async def load(self, model: Path | str) -> None:
        """Swap the weights in place: 0.03 s for a small model, against seconds for a start.

        Raises:
            ModelNotFound: the model has another shape or tokenizer; the engine goes on with the one it has.
            EngineDied: the weights could not be read; they are undefined now, so the engine is closed.
        """
        path = swappable(self._path, self._tokenizer, model)
        async with self._gate.change():
            self._alive()
            try:
                await self._llm.collective_rpc("swap_weights", kwargs={"weights_path": str(path)})
                await self._llm.reset_prefix_cache()
            except Exception as error:
                self._end(f"the weights of {path} could not be loaded: {vllm_start.reason(error)}")
                raise EngineDied(self._dead) from error
            self._path, self._digest = path, model_digest(path)

    async def close(self) -> None:
        self._end("it was closed")

    def _alive(self) -> None:
        if self._dead:
            raise EngineDied(f"the vLLM engine is not running: {self._dead}; open another")

    async def _ask(self, prompt: list[int], params: Any) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        async with self._gate.request():
            self._alive()
            try:
                outputs = self._llm.generate(self._tokens_input(prompt), params, str(next(self._numbers)))
                (final,) = [output async for output in outputs]
            except EngineDeadError as error:
                self._end(self._started.reason(error))
                raise EngineDied(f"vLLM's engine process ended: {self._dead}; open another") from error
            except EngineGenerateError as error:
                raise EngineError(f"vLLM failed on a request of {len(prompt)} tokens: {error.__cause__!r}") from error
            return final

    def _end(self, why: str) -> None:
        """Stop vLLM's processes; the first reason counts."""
        if not self._dead:
            self._dead = why
            self._started.stop()


async def open(config: EngineConfig) -> VLLMEngine:
    """Start the engine; blocks the event loop while it starts.

    Raises:
        ModelNotFound: `config.model` is no usable model, or has no chat template.
        EngineError: vLLM does not start; says why, in vLLM's words.
    """
    path = resolve_model(config.model)
    vllm_start.forget_reasons()
    try:
        started = vllm_start.start(config, path)
    except ImportError:
        raise
    except Exception as error:
        raise EngineError(f"vLLM does not start for {path}: {vllm_start.reason(error)}") from error
    try:
        return VLLMEngine(started, path, ChatTokenizer(path))
    except BaseException:
        started.stop()
        raise
