"""The Parquet files that training reads, checked: columns, types, message lists. Rows that cannot be used become
`Reject`s, with their reason. Knows nothing of tokens or tensors.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from cai.errors import DataError
from cai.records import LabelSource, Message, Reject, digest

Messages = tuple[Message, ...]


class SFTRow(NamedTuple):
    """Ids and source are empty where the file has none: a set from elsewhere need not carry ours."""

    prompt: Messages
    completion: Messages
    prompt_id: str
    response_id: str
    revision_id: str
    source: str


class PairRow(NamedTuple):
    pair_id: str
    prompt_id: str
    prompt: Messages
    chosen: Messages
    rejected: Messages
    soft_label: float
    is_tie: bool
    weight: float = 1.0
    source: str = ""
    """Who labelled it: `ai`, `human`, `verifier`, or nothing where the file does not say."""


class PromptRow(NamedTuple):
    prompt_id: str
    prompt: Messages
    expected: str | None


def read_sft(path: Path) -> list[SFTRow]:
    others = ("prompt_id", "response_id", "revision_id", "source")
    rows = _read(path, messages=("prompt", "completion"), optional=others)
    return [SFTRow(r["prompt"], r["completion"], *(r.get(name) or "" for name in others)) for r in rows]


def read_prompts(path: Path) -> list[PromptRow]:
    rows = _read(path, messages=("prompt",), others=("prompt_id",), optional=("expected",))
    return [PromptRow(r["prompt_id"], r["prompt"], r.get("expected")) for r in rows]


_SIDES = ("prompt", "chosen", "rejected")


class Problem(NamedTuple):
    reason: str
    detail: str


def read_pairs(path: Path, stage: str = "reward_model") -> tuple[list[PairRow], list[Reject]]:
    """Pairs fit to train on, and the others as rejects of `stage` with what is wrong with them, in the file's order.

    A label below 0.5 is taken as it stands (the "rejected" response is then the better one), and an empty text is a
    response. A `weight` or `source` that is absent or null is 1 and "". Reasons of a reject: `no_id`,
    `no_messages`, `soft_label_out_of_range` (missing and NaN too), `identical_responses`, `weight_zero` (it would
    teach nothing), `weight_broken` (negative, infinite, NaN), `unknown_source`.

    Raises:
        DataError: the file lacks a column or rows, or a column is of another type.
    """
    numbers = ("soft_label", "weight")
    others = ("pair_id", "prompt_id", "soft_label", "is_tie")
    pairs, rejects = [], []
    rows = _read_raw(path, _SIDES, others, optional=("weight", "source"), numbers=numbers)
    for number, row in enumerate(rows):
        problem = _pair_problem(row)
        if problem is None:
            pairs.append(_pair(row))
        else:
            parents = [row["pair_id"] if row["pair_id"] is not None else f"row {number}"]
            prompt_id = row["prompt_id"] or ""
            rejects.append(
                Reject.make(stage, problem.reason, prompt_id=prompt_id, parents=parents, detail=problem.detail)
            )
    return pairs, rejects


def _pair(row: dict[str, Any]) -> PairRow:
    weight = row.get("weight")
    return PairRow(
        pair_id=row["pair_id"],
        prompt_id=row["prompt_id"],
        prompt=_as_messages(row["prompt"]),
        chosen=_as_messages(row["chosen"]),
        rejected=_as_messages(row["rejected"]),
        soft_label=float(row["soft_label"]),
        is_tie=bool(row["is_tie"]),
        weight=1.0 if weight is None else float(weight),
        source=row.get("source") or "",
    )


def _pair_problem(row: dict[str, Any]) -> Problem | None:
    label, weight, source = row["soft_label"], row.get("weight"), row.get("source")
    if row["pair_id"] is None or row["prompt_id"] is None:
        return Problem("no_id", f"pair_id={row['pair_id']!r}, prompt_id={row['prompt_id']!r}")
    if broken := [side for side in _SIDES if not _are_usable(row[side])]:
        return Problem("no_messages", f"{broken[0]}={row[broken[0]]!r:.200}")
    if label is None or not 0 <= label <= 1:  # NaN is in no range
        return Problem("soft_label_out_of_range", f"soft_label={label!r}")
    if _as_messages(row["chosen"]) == _as_messages(row["rejected"]):
        return Problem("identical_responses", f"soft_label={label!r}")
    if weight is not None and (not math.isfinite(weight) or weight < 0):
        return Problem("weight_broken", f"weight={weight!r}")
    if weight == 0:
        return Problem("weight_zero", f"weight={weight!r}")
    if source and source not in get_args(LabelSource):
        return Problem("unknown_source", f"source={source!r}, expected one of {get_args(LabelSource)}")
    return None


def prompt_groups(pairs: Sequence[PairRow]) -> list[str]:
    """The group of each pair, named by the least prompt id in it: the same id or the same prompt, the same group.

    Our ids are digests of the prompt, so a group is a prompt. In a set from elsewhere one text may have several ids.
    """
    above: dict[str, str] = {}
    id_of: dict[Messages, str] = {}

    def least(prompt_id: str) -> str:
        while (up := above.setdefault(prompt_id, prompt_id)) != prompt_id:
            prompt_id = up
        return prompt_id

    for pair in pairs:
        one, other = least(pair.prompt_id), least(id_of.setdefault(pair.prompt, pair.prompt_id))
        above[max(one, other)] = min(one, other)
    return [least(pair.prompt_id) for pair in pairs]


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """One JSON object a line, the fields of `Reject`; an empty file says that nothing was dropped."""
    lines = [json.dumps(asdict(reject), ensure_ascii=False) + "\n" for reject in rejects]
    path.write_text("".join(lines), encoding="utf-8")


def in_held_out(group: str, share: float) -> bool:
    """Whether the pairs of this prompt (see `prompt_groups`) are kept for measuring: all of them, or none."""
    return int(digest("held-out", group), 16) / 16**32 < share


def _read(
    path: Path, messages: Sequence[str], others: Sequence[str] = (), optional: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows whose `messages` columns are parsed; one that cannot be used is the whole file's problem."""
    rows = _read_raw(path, messages, others, optional)
    for number, row in enumerate(rows):
        for name in messages:
            if not _are_usable(row[name]):
                raise DataError(f"{path}: row {number} has no usable messages in column {name!r}: {row[name]!r:.200}")
            row[name] = _as_messages(row[name])
    return rows


def _read_raw(
    path: Path,
    messages: Sequence[str],
    others: Sequence[str] = (),
    optional: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> list[dict[str, Any]]:
    table = _open(path, [*messages, *others], optional)
    for name in messages:
        _check_messages(path, name, table.schema.field(name).type)
    for name in numbers:
        if name in table.schema.names:
            _check_number(path, name, table.schema.field(name).type)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _open(path: Path, columns: list[str], optional: Sequence[str]) -> pa.Table:
    if not path.is_file():
        raise DataError(f"no data file at {path}; expected a Parquet file with the columns {columns}")
    try:
        names = pq.read_schema(path).names
        missing = [name for name in columns if name not in names]
        if missing:
            raise DataError(f"{path} lacks the columns {missing}: expected {columns}, it has {names}")
        table = pq.read_table(path, columns=[*columns, *(name for name in optional if name in names)])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}; write it again") from error
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows, so there is nothing to train on; run the stage that fills it")
    return table


def _check_messages(path: Path, column: str, kind: pa.DataType) -> None:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    fields = {kind.value_type.field(i).name for i in range(kind.value_type.num_fields)} if is_list else set()
    if not {"role", "content"} <= fields:
        raise DataError(f"{path}: column {column!r} must be a list of {{role, content}}, it is {kind}")


def _check_number(path: Path, column: str, kind: pa.DataType) -> None:
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise DataError(f"{path}: column {column!r} must hold numbers, it is {kind}; write it as float64")


def _are_usable(value: list[dict[str, str]] | None) -> bool:
    return bool(value) and all(
        m is not None and m["role"] is not None and m["content"] is not None for m in value or ()
    )


def _as_messages(value: list[dict[str, str]]) -> Messages:
    return tuple(Message(m["role"], m["content"]) for m in value)  # type: ignore[arg-type]
