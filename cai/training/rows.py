"""The Parquet files that training reads, checked: columns, types, message lists. Rows that cannot be used become
`Reject`s, with their reason. Knows nothing of tokens or tensors.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cai.errors import DataError
from cai.records import Message, Reject, digest

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


def read_pairs(path: Path) -> tuple[list[PairRow], list[Reject]]:
    """Pairs fit to train on, and those that are not: identical responses, or a soft label outside [0, 1].

    A label below 0.5 is taken as it stands (the "rejected" response is then the better one); an empty response is a
    response.
    """
    others = ("pair_id", "prompt_id", "soft_label", "is_tie")
    pairs, rejects = [], []
    for r in _read(path, messages=("prompt", "chosen", "rejected"), others=others):
        pair = PairRow(
            r["pair_id"], r["prompt_id"], r["prompt"], r["chosen"], r["rejected"], r["soft_label"], bool(r["is_tie"])
        )
        problem = _pair_problem(pair)
        if problem is None:
            pairs.append(pair)
        else:
            detail = f"soft_label={pair.soft_label!r}"
            rejects.append(
                Reject.make("reward_model", problem, prompt_id=pair.prompt_id, parents=[pair.pair_id], detail=detail)
            )
    return pairs, rejects


def _pair_problem(pair: PairRow) -> str | None:
    label = pair.soft_label
    if label is None or not math.isfinite(label) or not 0 <= label <= 1:
        return "soft_label_out_of_range"
    return "identical_responses" if pair.chosen == pair.rejected else None


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """One JSON object a line, the fields of `Reject`; an empty file says that nothing was dropped."""
    lines = [json.dumps(asdict(reject), ensure_ascii=False) + "\n" for reject in rejects]
    path.write_text("".join(lines), encoding="utf-8")


def in_held_out(prompt_id: str, share: float) -> bool:
    """Whether pairs of this prompt are kept for measuring. By prompt, so that pairs sharing one never straddle."""
    return int(digest("held-out", prompt_id), 16) / 16**32 < share


def _read(
    path: Path, messages: Sequence[str], others: Sequence[str] = (), optional: Sequence[str] = ()
) -> list[dict[str, Any]]:
    table = _open(path, [*messages, *others], optional)
    for name in messages:
        _check_messages(path, name, table.schema.field(name).type)
    rows: list[dict[str, Any]] = table.to_pylist()
    for number, row in enumerate(rows):
        for name in messages:
            row[name] = _messages(path, number, name, row[name])
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


def _messages(path: Path, number: int, column: str, value: list[dict[str, str]] | None) -> Messages:
    if not value or any(m["role"] is None or m["content"] is None for m in value):
        raise DataError(f"{path}: row {number} has no usable messages in column {column!r}: {value!r:.200}")
    return tuple(Message(m["role"], m["content"]) for m in value)  # type: ignore[arg-type]
