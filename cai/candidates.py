"""Responses: one a prompt to start a chain from, or k a prompt to be compared or measured. It judges nothing."""

from collections.abc import Iterable, Iterator
from typing import Literal

from cai.asks import Asker, Key, OnProgress, count_distinct, distinct, in_window
from cai.engines.base import Engine
from cai.records import Ledger, Prompt, Reject, Response, Sampling, seed_from

Stage = Literal["initial", "candidate", "eval", "draft", "attempt"]


async def sample_responses(
    prompts: Iterable[Prompt],
    *,
    engine: Engine,
    ledger: Ledger,
    sampling: Sampling,
    k: int,
    seed: int,
    stage: Stage,
    max_concurrency: int,
    progress: OnProgress | None = None,
) -> list[Response]:
    """`k` responses to each distinct prompt, by prompt and then by index; those rejected are left out (and written).

    A prompt's k asks stand side by side, so that all but the first find its tokens in the engine's prefix cache.
    """
    n_prompts = count_distinct(prompts)
    n_total = None if n_prompts is None else n_prompts * k
    asker = Asker(stage, engine, ledger, n_total=n_total, progress=progress)

    async def one(item: tuple[Prompt, int]) -> Response | Reject:
        row = await respond(asker, item[0], sampling=sampling, seed=seed, index=item[1], stage=stage)
        asker.close_item(rejected=isinstance(row, Reject))
        return row

    rows = await in_window(_samples(prompts, k), one, max_concurrency)
    asker.report()
    return [row for row in rows if isinstance(row, Response)]


async def respond(
    asker: Asker, prompt: Prompt, *, sampling: Sampling, seed: int, index: int, stage: Stage
) -> Response | Reject:
    """One response: found (whichever stage asked for it), or asked for and written, or rejected."""
    response_id = Response.make_id(prompt.prompt_id, asker.model_digest, sampling, seed, index)
    key = Key(response_id, prompt.prompt_id, (prompt.prompt_id,))
    if done := asker.find(Response, response_id) or asker.find_reject(["response"], key):
        return done
    row_seed = seed_from(response_id)
    said = await asker.complete("response", key, prompt.messages, sampling, row_seed)
    if isinstance(said, Reject):
        return said
    response = Response(
        response_id=response_id,
        prompt_id=prompt.prompt_id,
        model_digest=asker.model_digest,
        stage=stage,
        index=index,
        seed=row_seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        text=said.text,
        finish_reason=said.finish_reason,
        n_prompt_tokens=said.n_prompt_tokens,
        n_tokens=said.n_tokens,
    )
    asker.add(response)
    return response


def _samples(prompts: Iterable[Prompt], k: int) -> Iterator[tuple[Prompt, int]]:
    return ((prompt, index) for prompt in distinct(prompts) for index in range(k))
