"""Any causal language model of the transformers library, wherever torch runs: what is waiting is answered as one batch.

Prompts are padded on the left; both verbs share a batch. Much slower than vllm under load; needs nothing but torch.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from cai.config import EngineConfig
from cai.engines.base import Choice, FinishReason, Generation
from cai.engines.chat import ChatTokenizer, swappable
from cai.engines.gate import Gate
from cai.engines.options import choice_from
from cai.errors import EngineDied, EngineError, ModelNotFound
from cai.models import model_digest, resolve_model
from cai.records import Message, Sampling

MAX_BATCH = 64


@dataclass(eq=False, slots=True)
class Job:
    """One request. `tokens` grows up to `limit`; where `sampling` is None only `logps` (vocabulary,) is wanted."""

    prompt: list[int]
    done: "asyncio.Future[None]"
    sampling: Sampling | None = None
    generator: torch.Generator | None = None
    limit: int = 1
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    logps: Tensor | None = None

    def is_finished(self) -> bool:
        return self.logps is not None or self.stopped or len(self.tokens) >= self.limit


class TransformersEngine:
    """See `Engine`. `choose` is exact: it sees the whole softmax.

    Each request draws from a generator of its own, one uniform number a token, so a reply does not depend on what runs
    beside it, but for rounding errors: padding can move a logit by a few 1e-6 in float32.
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
        return Job(prompt, asyncio.get_running_loop().create_future())

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
                await asyncio.to_thread(_run, self._model, batch, self._stops)
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


@torch.inference_mode()
def _run(model: Any, jobs: Sequence[Job], stops: frozenset[int]) -> None:
    """Answer `jobs` together, one token a step; a row that is finished leaves the batch. Restarts unfinished jobs."""
    for job in jobs:
        job.tokens.clear()
        if job.sampling is not None and job.generator is not None:
            job.generator.manual_seed(job.generator.initial_seed())
    ids, mask = _padded([job.prompt for job in jobs], model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache: Any = None
    rows = list(jobs)
    while rows:
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens = _advance(rows, out.logits[:, -1].float(), stops)
        keep = [i for i, job in enumerate(rows) if not job.is_finished()]
        if not keep:
            return
        cache = out.past_key_values
        if len(keep) < len(rows):
            index = torch.tensor(keep, device=model.device)
            cache.batch_select_indices(index)
            mask, positions, tokens = mask[index], positions[index], tokens[index]
            rows = [rows[i] for i in keep]
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both (batch, longest), padded on the left."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(p)) + list(p) for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _advance(rows: Sequence[Job], logits: Tensor, stops: frozenset[int]) -> Tensor:
    """Give each row its next token, or its log-probabilities; the tokens, (batch,). `logits`: (batch, vocabulary)."""
    tokens = sample(
        logits,
        [job.sampling or Sampling(temperature=0.0) for job in rows],
        [0.0 if job.generator is None else float(torch.rand((), generator=job.generator)) for job in rows],
    )
    for i, (job, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
        if job.sampling is None:
            job.logps = logits[i].log_softmax(-1).cpu()
        else:
            job.tokens.append(token)
            job.stopped = token in stops
    return tokens


def sample(logits: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> Tensor:
    """One token a row, (batch,), by inverting the cumulative distribution at the row's uniform number in [0, 1).

    `logits`: (batch, vocabulary). Temperature 0 takes the most probable token. `top_p` keeps the fewest tokens whose
    probabilities add up to it (nucleus sampling, Holtzman et al. 2020).
    """
    temperatures = logits.new_tensor([s.temperature or 1.0 for s in samplings])[:, None]
    ordered, order = (logits / temperatures).double().softmax(-1).sort(dim=-1, descending=True)
    top_p = ordered.new_tensor([s.top_p if s.temperature else 0.0 for s in samplings])[:, None]
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill((before >= top_p) & (before > 0), 0.0)
    cumulative = ordered.cumsum(-1)
    at = cumulative.new_tensor(uniforms)[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, at, right=True).clamp(max=logits.shape[1] - 1)
    return order.gather(1, index)[:, 0]


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
