"""What all settings are: pydantic models that are frozen and refuse unknown keys."""

from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from cai.records import digest
from cai.yaml_files import Document, near

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


SECRET: Final = "secret"
"""The type of an error about a value that must not be repeated."""


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, given: Any) -> Any:
        for name, value in given.items() if isinstance(given, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields:
                parts = _parts(cls.model_fields[name].annotation)
                if bool not in parts and (int in parts or float in parts):
                    raise ValueError(f"`{name}` is a number, and yes, no, on, off, true and false are none")
        return given


def _parts(annotation: Any) -> list[Any]:
    """A type, or all that stand in it."""
    return [annotation, *(part for argument in get_args(annotation) for part in _parts(argument))]


def problems(error: ValidationError, kind: type[Config] | None = None, document: Document | None = None) -> str:
    """Every setting that is wrong, what is wrong with it, and what it was, unless that may be or hold a key.

    Args:
        error: what pydantic says.
        kind: what was to be read, where the names that it knows are to be told.
        document: the file, where the lines are to be told.
    """
    return "; ".join(_problem(e, kind, document)[:400] for e in error.errors())


_EXPECTED = {
    "tuple_type": "a list is expected, with `- ` before each entry",
    "model_type": "`key: value` lines are expected",
}


def _problem(error: ErrorDetails, kind: type[Config] | None, document: Document | None) -> str:
    found = None if document is None else document.line(error["loc"])
    line = "" if found is None else f" (line {found})"
    path = [str(part) for part in error["loc"]]
    shown = ".".join(path) or "the file"
    if error["type"] == "extra_forbidden":
        known = "" if kind is None else f"; {near(path[-1], _known(kind, path[:-1]))}"
        return f"unknown key {shown!r}{line}{known}"
    said = _EXPECTED.get(error["type"], error["msg"].removeprefix("Value error, "))
    return f"{shown}{line}: {said}{_got(error)}"


def _known(kind: type[Config], path: list[str]) -> list[str]:
    """The keys of the settings at `path`; where one of several kinds is meant, of the one that the path names."""
    kinds = [kind]
    for part in path:
        within = [k for each in kinds if part in each.model_fields for k in _kinds(each.model_fields[part].annotation)]
        tagged = [each for each in kinds if any(field.default == part for field in each.model_fields.values())]
        kinds = within or tagged or kinds
    return list(dict.fromkeys(name for each in kinds for name in each.model_fields))


def _kinds(annotation: Any) -> list[type[Config]]:
    return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, Config)]


def _got(error: ErrorDetails) -> str:
    """`api_key: sk-…` is no setting, and is in all that stands around it."""
    value = error["input"]
    return "" if error["type"] in ("extra_forbidden", SECRET) or isinstance(value, dict | list) else f", got {value!r}"


def config_digest(config: Config) -> str:
    return digest("config", config.model_dump(mode="json"))
