"""What probes found, held to the limits of a profile (`evaluation.probes`). Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from cai.config import ProbesConfig
from cai.errors import DataError
from cai.intervals import Rate


class NotMeasured(NamedTuple):
    """There was nothing to measure: a number would say what nobody knows."""

    why: str


class Finding(NamedTuple):
    """`tripped`: the whole 95 % interval lies above the limit; `passed`: none of it does; `unclear`: more prompts would
    say; `unmeasured`: there was nothing to measure. Without a limit nothing trips.
    """

    probe: str
    measured: Rate | NotMeasured
    limit: float | None
    outcome: Literal["passed", "tripped", "unclear", "unmeasured"]


def findings(measured: Mapping[str, Rate | NotMeasured], limits: ProbesConfig) -> list[Finding]:
    """Each probe's finding, by the name that its limit has in `ProbesConfig`.

    Raises:
        DataError: a name that no limit has.
    """
    known = limits.model_dump()
    if strays := sorted(set(measured) - set(known)):
        raise DataError(f"no limit is named {strays[0]!r}; there are {', '.join(known)}")
    return [Finding(name, rate, known[name], _outcome(rate, known[name])) for name, rate in measured.items()]


def to_json(found: Sequence[Finding]) -> dict[str, dict[str, Any]]:
    """`{probe: {"value", "low", "high", "n", "limit", "outcome", "why"}}`; a number that is not known is null, and
    `why` says why nothing was measured.
    """
    return {row.probe: _plain(row.measured) | {"limit": row.limit, "outcome": row.outcome} for row in found}


def _plain(measured: Rate | NotMeasured) -> dict[str, Any]:
    if isinstance(measured, NotMeasured):
        return {"value": None, "low": None, "high": None, "n": 0, "why": measured.why}
    ends = {name: getattr(measured, name) for name in ("value", "low", "high")}
    return {name: end if math.isfinite(end) else None for name, end in ends.items()} | {"n": measured.n, "why": ""}


def _outcome(rate: Rate | NotMeasured, limit: float | None) -> Literal["passed", "tripped", "unclear", "unmeasured"]:
    if isinstance(rate, NotMeasured):
        return "unmeasured"
    if limit is None:
        return "passed"
    if not rate.n or math.isnan(rate.value):
        return "unclear"
    return "tripped" if rate.low > limit else "passed" if rate.high <= limit else "unclear"
