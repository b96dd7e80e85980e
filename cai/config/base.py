"""What all settings are: pydantic models that are frozen and refuse unknown keys."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from cai.records import digest

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


SECRET: Final = "secret"
"""The type of an error about a value that must not be repeated."""


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def problems(error: ValidationError) -> str:
    """Every setting that is wrong, what is wrong with it, and what it was, unless that may be or hold a key."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}{_got(e)}"[:300] for e in error.errors())


def _got(error: ErrorDetails) -> str:
    """`api_key: sk-…` is no setting, and is in all that stands around it."""
    value = error["input"]
    return "" if error["type"] in ("extra_forbidden", SECRET) or isinstance(value, dict | list) else f", got {value!r}"


def config_digest(config: Config) -> str:
    return digest("config", config.model_dump(mode="json"))
