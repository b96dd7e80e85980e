"""Changing a running engine's weights against starting another, and what the engine answers a second.

python -m benchmarks.engine_swap --model smallworld
python -m benchmarks.engine_swap --model DIR --kind transformers --json swap.json

The second model is a copy of the first with its weights a little moved; replies must differ after the swap and be the
first ones again after swapping back, or the run fails. Label asks come in groups of five that differ in their last 22
words, as five principles about one pair do.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cai.config import EngineConfig
from cai.engines import open_engine
from cai.engines.base import Engine
from cai.models import META, resolve_model
from cai.records import Message, Sampling

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_tokens=15)
N_SHARED_WORDS, N_OWN_WORDS, N_PRINCIPLES = 60, 22, 5


def moved_copy(model: Path, folder: Path) -> Path:
    """`model` with noise of a tenth of each tensor's spread added."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    (folder / META).unlink(missing_ok=True)
    generator = torch.Generator().manual_seed(0)
    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        for name, tensor in weights.items():
            noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std().nan_to_num() * 0.1
            weights[name] = (tensor.float() + noise).to(tensor.dtype)
        save_file(weights, file, metadata={"format": "pt"})
    return folder


def words_of(model: Path) -> list[str]:
    """Plain words that are one token each, so that lengths mean the same for any tokenizer."""
    vocabulary = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 1)
    return words or ["word"]


def asks(words: Sequence[str], n: int, rng: random.Random) -> list[list[Message]]:
    """`n` conversations, in groups that share all but their end."""
    found: list[list[Message]] = []
    while len(found) < n:
        shared = " ".join(rng.choices(words, k=N_SHARED_WORDS))
        for _ in range(min(N_PRINCIPLES, n - len(found))):
            own = " ".join(rng.choices(words, k=N_OWN_WORDS))
            found.append([Message("user", f"{shared} {own}")])
    return found


async def rate(work: Callable[[int], Awaitable[object]], n: int, concurrency: int) -> float:
    """Calls a second with `concurrency` of them in flight."""
    places = asyncio.Semaphore(concurrency)

    async def one(i: int) -> None:
        async with places:
            await work(i)

    start = time.perf_counter()
    await asyncio.gather(*(one(i) for i in range(n)))
    return n / (time.perf_counter() - start)


async def swap_seconds(engine: Engine, first: Path, second: Path, probe: list[Message]) -> float:
    """Median over both directions; checks that the swap changes the replies, and that swapping back restores them."""
    before = (await engine.complete(probe, SAMPLING, 1)).text
    seconds = []
    for _ in range(3):
        for path in (second, first):
            start = time.perf_counter()
            await engine.load(path)
            seconds.append(time.perf_counter() - start)
            if ((await engine.complete(probe, SAMPLING, 1)).text == before) != (path == first):
                raise SystemExit(f"after loading {path.name} the replies are not that model's")
    return statistics.median(seconds)


async def measure(config: EngineConfig, n_complete: int, n_choose: int) -> dict[str, float]:
    first = resolve_model(config.model)
    rng = random.Random(0)
    words = words_of(first)
    with tempfile.TemporaryDirectory() as folder:
        second = moved_copy(first, Path(folder) / "moved")
        start = time.perf_counter()
        engine = await open_engine(config)
        first_start_s = time.perf_counter() - start
        start = time.perf_counter()
        await engine.close()
        engine = await open_engine(config)
        restart_s = time.perf_counter() - start
        try:
            probes = asks(words, n_complete + n_choose, rng)
            swap_s = await swap_seconds(engine, first, second, probes[0])
            completes, chooses = probes[:n_complete], probes[n_complete:]
            complete_rate = await rate(
                lambda i: engine.complete(completes[i], SAMPLING, i), n_complete, config.max_concurrency
            )
            choose_rate = await rate(lambda i: engine.choose(chooses[i], ("A", "B")), n_choose, config.max_concurrency)
        finally:
            await engine.close()
    return {
        "first start, with imports (s)": first_start_s,
        "restart: close and open (s)": restart_s,
        "swap of weights (s)": swap_s,
        "restart / swap": restart_s / swap_s,
        f"complete, {SAMPLING.max_tokens} tokens (1/s)": complete_rate,
        "choose (1/s)": choose_rate,
        "load average, 5 minutes": os.getloadavg()[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smallworld")
    parser.add_argument("--kind", default="vllm", choices=["vllm", "transformers"])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--complete", type=int, default=1000, help="completions to time")
    parser.add_argument("--choose", type=int, default=3000, help="choices to time")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    config = EngineConfig(kind=args.kind, model=args.model, dtype=args.dtype, max_concurrency=args.concurrency)
    figures = asyncio.run(measure(config, args.complete, args.choose))
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:10.3f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
