"""What the report shows of an evaluation besides rates and win rates, from the result of the step."""

import math
from collections.abc import Mapping
from typing import Any

from cai.evaluation import from_json
from cai.intervals import Rate
from cai.report.data import BestOf, Measurements, Probe

Stored = Mapping[str, Any]


def measurements(evaluated: Stored | None) -> Measurements:
    """Of a result that lacks a part, or was never made, that part is empty."""
    found = evaluated or {}
    return Measurements(
        tuple(_probe(name, row) for name, row in (found.get("probes") or {}).items()),
        from_json({"elo": found.get("elo") or {}})["elo"],
        tuple(_best_of(row) for row in found.get("best_of_n") or ()),
        (found.get("harm_scale") or {}).get("n_unscored") or {},
    )


def _probe(name: str, row: Stored) -> Probe:
    measured = None
    if row.get("value") is not None:
        measured = Rate(row["value"], *_ends(row, ""), int(row["n"]))
    return Probe(
        name,
        measured,
        row.get("limit"),
        row["outcome"] if measured else "unmeasured",
        row.get("why") or row.get("reason") or "",
    )


def _best_of(row: Stored) -> BestOf:
    oracle = (row["oracle"], *_ends(row, "oracle_")) if row.get("oracle") is not None else None
    return BestOf(int(row["n"]), (row["reward"], *_ends(row, "")), row["kl"], oracle)


def _ends(row: Stored, prefix: str) -> tuple[float, float]:
    """An end that is not known is infinitely far away."""
    low, high = row.get(f"{prefix}low"), row.get(f"{prefix}high")
    return -math.inf if low is None else low, math.inf if high is None else high
