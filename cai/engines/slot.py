"""One engine at a time, with the weights that are wanted next."""

import asyncio
from pathlib import Path

from cai.config import EngineConfig
from cai.engines import open_engine
from cai.engines.base import Engine
from cai.errors import ModelNotFound
from cai.models import model_digest, resolve_model


class EngineSlot:
    """Its engine is kept, its weights swapped, or another one started in its place, whichever is cheapest."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._config: EngineConfig | None = None
        self._lock = asyncio.Lock()

    async def get(self, config: EngineConfig, model: Path | str) -> Engine:
        """The engine of this config with that model's weights; whatever was got before answers no more.

        Raises:
            ModelNotFound: `model` is no usable model.
            EngineUnreachable, EngineError: see `open_engine`.
        """
        async with self._lock:
            wanted = config.model_copy(update={"model": ""})
            if self._engine is not None and self._config == wanted and await _swapped(self._engine, config, model):
                return self._engine
            await self._close()
            self._engine = await open_engine(config.model_copy(update={"model": str(model)}))
            self._config = wanted
            return self._engine

    async def close(self) -> None:
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        if self._engine is not None:
            await self._engine.close()
            self._engine = None


async def _swapped(engine: Engine, config: EngineConfig, model: Path | str) -> bool:
    """Whether the running engine has that model now; if not, another has to be opened for it."""
    if config.kind == "openai":
        return False  # a new connection costs one request, and no weights of ours are in it
    if config.kind == "scripted":
        await engine.load(model)
        return True
    path = resolve_model(model)
    if engine.model_digest == model_digest(path):
        return True
    try:
        await engine.load(path)
    except ModelNotFound:  # of another shape or tokenizer
        return False
    return True
