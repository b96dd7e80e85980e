"""Any causal language model of the transformers library, wherever torch runs: what is waiting is answered as one batch.

Prompts are padded on the left; both verbs share a batch. Much slower than vllm under load; needs nothing but torch.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from cai.config import EngineConfig
from cai.engines.base import Choice, FinishReason, Generation
from cai.engines.chat import ChatTokenizer, swappable
from cai.engines.gate import Gate
from cai.engines.options import choice_from
from cai.engines.transformers_decode import Row, decode
from cai.errors import EngineDied, EngineError, ModelNotFound
from cai.models import model_digest, resolve_model
from cai.records import Message, Sampling

MAX_BATCH = 64


@dataclass(eq=False, slots=True, kw_only=True)
class Job(Row):
    """One request, waiting for its answer."""

    done: "asyncio.Future[None]"


class TransformersEngine:
    """See `Engine`. `choose` is exact: it sees the whole softmax.

    A reply does not depend on what runs beside it, but for rounding errors (`transformers_decode`).
    """

    def __init__(self, path: Path, model: Any, tokenizer: ChatTokenizer, context_length: int) -> None:
        self._path = path
        self._model = model
        self._tokenizer = tokenizer
        self._digest = model_digest(path)
        self._context_length = context_length
        self._stops = _stop_ids(model, tokenizer)
        self._gate = Gate()
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._max_batch = MAX_BATCH
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def model_digest(self) -> str:
        return self._digest

    @property
    def context_length(self) -> int:
        return self._context_length

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        job = self._job(messages)
        job.sampling = sampling
        job.generator = torch.Generator().manual_seed(seed)
        job.limit = min(sampling.max_tokens, self._context_length - len(job.prompt))
        await self._answer(job)
        reason: FinishReason = "stop" if job.stopped else "length"
        return Generation(self._tokenizer.text(job.tokens), reason, len(job.prompt), len(job.tokens))

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        groups = self._tokenizer.spellings(options)
        job = self._job(messages)
        await self._answer(job)
        logps = job.logps
        assert logps is not None
        return choice_from([logps[list(group)].tolist() for group in groups], True, len(job.prompt))

    async def load(self, model: Path | str) -> None:
        path = swappable(self._path, self._tokenizer, model)
        async with self._gate.change():
            self._alive()
            dtype, device = self._model.dtype, self._model.device
            self._model = await asyncio.to_thread(_read, path, dtype, device)
            self._path, self._digest = path, model_digest(path)

    async def close(self) -> None:
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
            self._worker = None
        while not self._queue.empty():
            _fail(self._queue.get_nowait(), EngineDied("the engine was closed while the request was waiting"))
        self._model = None

    def _job(self, messages: Sequence[Message]) -> Job:
        self._alive()
        prompt = self._tokenizer.prompt(messages, self._context_length)
        return Job(prompt=prompt, done=asyncio.get_running_loop().create_future())

    def _alive(self) -> None:
        if self._closed:
            raise EngineDied("the transformers engine was closed; open another")

    async def _answer(self, job: Job) -> None:
        async with self._gate.request():
            self._alive()
            if self._worker is None:
                self._worker = asyncio.create_task(self._serve())
            self._queue.put_nowait(job)
            await job.done

    async def _serve(self) -> None:
        """Answer what is waiting, batch after batch; out of memory halves the batch and tries again."""
        waiting: list[Job] = []
        while True:
            if not waiting:
                waiting.append(await self._queue.get())
            while not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            batch = waiting[: self._max_batch]
            try:
                await asyncio.to_thread(decode, self._model, batch, self._stops)
            except torch.OutOfMemoryError as error:
                if len(batch) > 1:
                    self._max_batch = len(batch) // 2
                    continue
                _fail(batch[0], EngineError(f"no memory for one prompt of {len(batch[0].prompt)} tokens: {error}"))
            except asyncio.CancelledError:
                for job in waiting:
                    _fail(job, EngineDied("the engine was closed while the request was running"))
                raise
            except Exception as error:
                for job in batch:
                    _fail(job, EngineError(f"the model failed on a batch of {len(batch)}: {error!r}"))
            for job in batch:
                if not job.done.done():
                    job.done.set_result(None)
            waiting = waiting[len(batch) :]


def _fail(job: Job, error: EngineError) -> None:
    if not job.done.done():
        job.done.set_exception(error)


def _stop_ids(model: Any, tokenizer: ChatTokenizer) -> frozenset[int]:
    written = model.generation_config.eos_token_id
    ids = written if isinstance(written, list) else [written]
    return frozenset(i for i in [*ids, tokenizer.eos_id] if i is not None)


def _read(path: Path, dtype: Any, device: Any) -> Any:
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"{path} cannot be loaded as a causal language model: {error}") from error
    return model.to(device).eval()


async def open(config: EngineConfig) -> TransformersEngine:
    """Load the model onto the GPU where there is one, else onto the CPU.

    Raises:
        ModelNotFound: `config.model` is no usable model, or has no chat template.
        EngineError: `config.context_length` is more than the model has positions.
    """
    path = resolve_model(config.model)
    tokenizer = ChatTokenizer(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = "auto" if config.dtype == "auto" else getattr(torch, config.dtype)
    model = await asyncio.to_thread(_read, path, dtype, device)
    own = int(model.config.max_position_embeddings)
    if (config.context_length or own) > own:
        raise EngineError(
            f"context_length is {config.context_length}, the model at {path} has {own} positions; lower it"
        )
    return TransformersEngine(path, model, tokenizer, config.context_length or own)
