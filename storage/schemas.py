"""How each record lies in Parquet: one table a record, one Arrow schema, one key column, and the way there and back.

The schema follows from the dataclass, so a record cannot drift from its table. Nothing here touches a disk.
"""

import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from cai.errors import StorageError
from cai.records import (
    Annotation,
    Approval,
    Attempt,
    Comparison,
    Contamination,
    Evaluation,
    EvaluationItem,
    GateVerdict,
    Message,
    Model,
    Override,
    PreferencePair,
    Promotion,
    Prompt,
    R,
    Rating,
    Recalibration,
    Record,
    Reject,
    Response,
    Revision,
    Rollout,
    Run,
    Score,
)


@dataclass(frozen=True)
class Table:
    """A table's name, the record it holds, its key column, and the columns its rows are kept together by."""

    name: str
    kind: type[Record]
    key: str
    sort: tuple[str, ...]
    schema: pa.Schema


class _Spec(NamedTuple):
    name: str
    kind: type[Record]
    key: str
    sort: tuple[str, ...]


# Parents before children: rows are committed in this order, and versions are read in the reverse of it.
_SPECS = (
    _Spec("runs", Run, "run_id", ()),
    _Spec("prompts", Prompt, "prompt_id", ("prompt_id",)),
    _Spec("evaluation_items", EvaluationItem, "item_id", ("prompt_id",)),
    _Spec("contaminations", Contamination, "contamination_id", ("prompt_id",)),
    _Spec("responses", Response, "response_id", ("prompt_id",)),
    _Spec("revisions", Revision, "revision_id", ("prompt_id",)),
    _Spec("comparisons", Comparison, "comparison_id", ("prompt_id",)),
    _Spec("ratings", Rating, "rating_id", ("prompt_id",)),
    _Spec("attempts", Attempt, "attempt_id", ("prompt_id",)),
    _Spec("annotations", Annotation, "annotation_id", ("prompt_id",)),
    _Spec("recalibrations", Recalibration, "recalibration_id", ()),
    _Spec("preferences", PreferencePair, "pair_id", ("prompt_id",)),
    _Spec("models", Model, "model_digest", ()),
    _Spec("gatings", GateVerdict, "gating_id", ()),
    _Spec("overrides", Override, "override_id", ()),
    _Spec("promotions", Promotion, "promotion_id", ()),
    _Spec("approvals", Approval, "approval_id", ()),
    _Spec("scores", Score, "score_id", ()),
    _Spec("rollouts", Rollout, "rollout_id", ("prompt_id",)),
    _Spec("evaluations", Evaluation, "evaluation_id", ()),
    _Spec("rejects", Reject, "reject_id", ("prompt_id",)),
)

_SCALARS: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _arrow_type(hint: Any) -> pa.DataType:
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _SCALARS[type(inner[0])]
    if hint is Message:
        return pa.struct(
            [pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)]
        )
    if origin is tuple:
        return pa.list_(pa.field("element", _arrow_type(inner[0])))
    if origin is dict:
        return pa.map_(_arrow_type(inner[0]), _arrow_type(inner[1]))
    raise TypeError(f"no Arrow type for {hint!r}; add one to storage/schemas.py")


def _field(name: str, hint: Any) -> pa.Field:
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (a for a in get_args(hint) if a is not type(None))
        return pa.field(name, _arrow_type(inner), nullable=True)
    return pa.field(name, _arrow_type(hint), nullable=False)


def _table(spec: _Spec) -> Table:
    hints = get_type_hints(spec.kind)
    schema = pa.schema([_field(f.name, hints[f.name]) for f in fields(spec.kind)])
    return Table(spec.name, spec.kind, spec.key, spec.sort, schema)


TABLES: dict[str, Table] = {spec.name: _table(spec) for spec in _SPECS}
_BY_KIND: dict[type, Table] = {table.kind: table for table in TABLES.values()}


def table_of(kind: type[R]) -> Table:
    return _BY_KIND[kind]


def row_id(row: Record) -> str:
    return str(getattr(row, _BY_KIND[type(row)].key))


def to_arrow(table: Table, rows: Sequence[Record]) -> pa.Table:
    """`rows`, sorted by the table's sort columns (then as given), in its schema.

    Raises:
        StorageError: a value that does not fit its column; names the row and the column.
    """
    try:
        made = pa.table([_column(rows, f) for f in table.schema], schema=table.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        raise StorageError(f"{_culprit(table, rows)}; expected {table.schema.names}: {error}") from error
    return made.sort_by([(name, "ascending") for name in table.sort]) if table.sort else made


def _column(rows: Sequence[Record], field: pa.Field) -> pa.Array:
    values = list(map(attrgetter(field.name), rows))
    if pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
        return _messages(values, field.type)
    if pa.types.is_map(field.type):
        values = [sorted(value.items()) for value in values]
    return pa.array(values, field.type)


def _messages(values: Sequence[Sequence[Message]], kind: pa.DataType) -> pa.Array:
    """Column by column: a dict for each message would take three times as long."""
    flat = list(chain.from_iterable(values))
    columns = [pa.array(list(map(attrgetter(f.name), flat)), f.type) for f in kind.value_type]
    offsets = pa.array(accumulate(map(len, values), initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(kind.value_type)), kind)


def _culprit(table: Table, rows: Sequence[Record]) -> str:
    for row in rows:
        for field in table.schema:
            try:
                _column([row], field)
            except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, AttributeError, TypeError):
                return f"row {row_id(row)!r} of {table.name} cannot be stored: column {field.name!r} holds another type"
    return f"rows of {table.name} cannot be stored"


def from_arrow(kind: type[R], batches: Iterable[pa.RecordBatch]) -> Iterable[R]:
    """Records from batches that have at least the columns of `kind`'s table."""
    schema = table_of(kind).schema
    for batch in batches:
        columns = [_values(batch.column(f.name), f) for f in schema]
        yield from (kind(*values) for values in zip(*columns, strict=True))


def _values(column: pa.Array, field: pa.Field) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_map(field.type):
        return [dict(value) for value in values]
    if not pa.types.is_list(field.type):
        return values
    if pa.types.is_struct(field.type.value_type):
        return [tuple(Message(m["role"], m["content"]) for m in messages) for messages in values]
    return [tuple(value) for value in values]
