"""Which engine answers, how it samples, and on which machines."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from cai.config.base import SECRET, Config, Positive, Share
from cai.records import Sampling

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(name: str) -> str:
    from cai.privacy import find  # which imports the settings of a profile

    if not _VARIABLE.fullmatch(name) or find(name, {"key"}):
        raise PydanticCustomError(
            SECRET,
            "the name of an environment variable is expected, such as OPENAI_API_KEY, and this is none; put the key "
            "into a variable and its name here",
        )
    return name


def _address(url: str) -> str:
    if "@" in url or "?" in url:
        raise PydanticCustomError(
            SECRET,
            "an address is expected without a user, password or query in it, such as http://127.0.0.1:8000/v1, and "
            "this has one; a key comes from the variable that `api_key_env` names",
        )
    return url


Address = Annotated[str, AfterValidator(_address)]
"""Of a server. Profiles are stored, and shown in reports."""


class EngineConfig(Config):
    """Which engine answers, and how it is set up."""

    model_config = ConfigDict(hide_input_in_errors=True)

    kind: Literal["vllm", "openai", "transformers", "scripted", "writer"] = "vllm"
    """`writer` is no model: it writes prompts of the small world by a grammar, under `generate.engine`."""
    model: str = "smallworld"
    """A directory, a Hugging Face name, or `smallworld` for the model shipped with the package."""
    max_concurrency: Positive = 256
    """Chains in flight at once; the engine batches what it is given."""
    context_length: Positive | None = None
    """Tokens of prompt and reply together; None takes the model's own."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    gpu_memory_utilization: Share = 0.9
    tensor_parallel: Positive = 1
    kv_cache_gib: Positive = 1
    """CPU only: memory for the key-value cache."""
    base_url: Address = ""
    """openai only: for example `http://127.0.0.1:8000/v1`."""
    replicas: tuple[Address, ...] = ()
    """openai only: more addresses that serve the same model. All asks about one prompt go to one address, and to
    another where that gives no answer; `max_concurrency` is of all of them together.
    """
    api_key_env: Annotated[str, AfterValidator(_variable)] = "OPENAI_API_KEY"
    """openai only: the name of the environment variable that holds the key, never the key."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    tries: Positive = 7
    """openai only: how often a request is made, with longer and longer waits, before the server counts as gone."""
    keep: bool = False
    """Keep the engine up while other steps train. For CPU; on a GPU training wants the memory."""
    script: Path | None = None
    """scripted only: a YAML file of replies; None echoes deterministically."""

    @property
    def has_weights(self) -> bool:
        """Whether it has the model's weights on this machine."""
        return self.kind in ("vllm", "transformers")


class SamplingConfig(Config):
    temperature: Annotated[float, Field(ge=0, le=5)] = 1.0
    top_p: Share = 1.0
    max_tokens: Positive = 256

    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens)


class RayConfig(Config):
    """Shards of generation on a Ray cluster, each with an engine of its own. Needs `cai-flows[ray]`; see docs/scale.md.

    Home, and every path in the profile, must mean the same on each of its machines.
    """

    workers: Positive
    """Shards, and so engines, at work at the same time."""
    address: str = ""
    """Of a running cluster, such as `ray://head:10001`; none: one on this machine, for as long as the flow runs."""
    cpus: Positive = 1
    """Of each worker."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """Of each worker; as many as `engine.tensor_parallel` where vLLM runs on GPUs."""
    shard: Positive = 1000
    """Prompts. Small enough that every worker has several, so large that an engine's start is nothing beside it."""
