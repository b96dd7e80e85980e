"""Every error this project raises on purpose.

CAIError
├── ConfigError            a profile or a command line that cannot be run as written
├── ConstitutionError      a constitution file that breaks a rule; carries file and line
├── DataError              an input file or table that is not what it says it is
├── SelfTestFailed         the judge's labels do not follow known winners; it must not label
├── NotApproved            a gate, a person or a silence said no: the run ends here, and nothing is broken
├── EngineError
│   ├── ModelNotFound      the model directory or name cannot be loaded
│   ├── EngineUnreachable  no answer from a server; waiting may help
│   ├── NoSuchOption       the model has no word of its own for an option it should choose
│   ├── EngineDied         the engine stopped under us; a restart may help
│   └── PromptTooLong      the prompt does not fit the context: one row's problem, not the run's
├── StorageError           a table that cannot be read or written (a full disk, a torn file)
└── TrainingError          a training step that cannot go on (NaN, a torn checkpoint, no rows)
    ├── OutOfMemory        it does not fit; fewer rows at once may
    └── NotFinite          a loss or a gradient is no number; an earlier checkpoint may

A message says what was expected, what came, where, and what to do. Whatever concerns one row becomes a
`Reject` row; an error is for what concerns the run.
"""

import re


class CAIError(Exception):
    pass


class ConfigError(CAIError):
    pass


class ConstitutionError(CAIError):
    """A constitution that cannot be used; `line` is 1-based, None where no line is to blame."""

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        where = "" if file is None else f" ({file}:{line})" if line is not None else f" ({file})"
        super().__init__(message + where)
        self.file = file
        self.line = line


class DataError(CAIError):
    pass


class SelfTestFailed(CAIError):
    pass


class NotApproved(CAIError):
    pass


class EngineError(CAIError):
    pass


class ModelNotFound(EngineError):
    pass


class EngineUnreachable(EngineError):
    pass


class EngineDied(EngineError):
    pass


class NoSuchOption(EngineError):
    pass


class PromptTooLong(EngineError):
    pass


class StorageError(CAIError):
    pass


class TrainingError(CAIError):
    pass


class OutOfMemory(TrainingError):
    pass


class NotFinite(TrainingError):
    pass


def without_password(url: str) -> str:
    """The URL as it may be shown: no user and no password in it."""
    return re.sub(r"//[^@/]*@", "//", url)
