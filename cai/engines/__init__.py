"""Engines: `base` is the protocol, the other modules one engine each; `open_engine` builds the one a config names."""

import importlib

from cai.config import EngineConfig
from cai.engines.base import Engine
from cai.errors import EngineError

# kind: (module, what to do in the checkout where its libraries are missing); imported when its kind is asked for.
_MODULES = {
    "vllm": ("cai.engines.vllm", "make -B setup, or make setup-gpu on a machine with a GPU"),
    "openai": ("cai.engines.openai", "pip install httpx"),
    "transformers": ("cai.engines.transformers", "pip install transformers torch"),
    "scripted": ("cai.engines.scripted", "pip install -e ."),
    "writer": ("cai.smallworld.writer", "pip install -e ."),
}


async def open_engine(config: EngineConfig) -> Engine:
    """Start the engine of `config.kind`; close it with `await engine.close()`.

    Raises:
        ModelNotFound: `config.model` is no usable model.
        EngineUnreachable: openai: no server answers at `config.base_url`.
        EngineError: the engine's library is not installed, or the engine does not start.
    """
    name, remedy = _MODULES[config.kind]
    try:
        module = importlib.import_module(name)
        opened: Engine = await module.open(config)
    except ImportError as error:
        raise EngineError(
            f"engine {config.kind!r} needs a library that is not installed ({error}); {remedy}"
        ) from error
    return opened
