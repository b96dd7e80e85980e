"""What all settings are: pydantic models that are frozen and refuse unknown keys."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cai.records import digest

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def problems(error: ValidationError) -> str:
    """Every setting that is wrong, what is wrong with it, and what it was."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}, got {e['input']!r}"[:300] for e in error.errors()
    )


def config_digest(config: Config) -> str:
    return digest("config", config.model_dump(mode="json"))
