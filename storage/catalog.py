"""DuckDB over the tables, for reading only: views named like the tables, at stated versions, and nothing else in reach.

A connection may open the live Parquet files and no other file, and `query` runs one SELECT and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cai.errors import DataError, StorageError
from storage.delta import local_files, open_table
from storage.place import tables_of
from storage.schemas import TABLES, Table

# DuckDB 2 takes COPY, INSERT, UPDATE and DELETE inside a WITH and still calls the statement a SELECT, and a COPY to a
# path that may be read overwrites it. So the parsed tree is checked, by what is allowed.
_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
# These run SQL that is hidden in a string from that check.
_FUNCTIONS = frozenset({"query", "json_execute_serialized_sql"})
_HINT = "one SELECT (also WITH, FROM, DESCRIBE, SUMMARIZE or SHOW TABLES) is expected"
_VERDICTS = """
CREATE VIEW verdicts AS
SELECT
    judge_digest,
    principle_id,
    response_a,
    response_b,
    avg(1 / (1 + exp(logp_b - logp_a))) FILTER ("order" = 'ab') AS ab,
    avg(1 / (1 + exp(logp_b - logp_a))) FILTER ("order" = 'ba') AS ba
FROM comparisons
WHERE mass_outside <= 0.5 AND greatest(logp_a, logp_b) BETWEEN -1e300 AND 1e300
GROUP BY
    judge_digest, template_digest, principle_id, principle_digest, method, reasoning IS NULL, response_a, response_b
HAVING count(DISTINCT "order") = 2
"""
"""What each judge said under each principle of each pair that it could be asked about in both orders: P(a better)."""
_LOCKS = (
    "autoload_known_extensions=false",
    "autoinstall_known_extensions=false",
    "allow_community_extensions=false",
    "python_enable_replacements=false",
    "enable_external_access=false",
    "lock_configuration=true",
)


def connect(home: Path, versions: Mapping[str, int] | None = None) -> duckdb.DuckDBPyConnection:
    """A locked connection with a view for every table, and one for the verdicts that comparisons come to.

    Args:
        home: whose tables. One that is not there is an empty view with the right columns.
        versions: table name → version to read; a table that is not named is read at its newest.

    Raises:
        DataError: `versions` names an unknown table.
        StorageError: a table cannot be opened, or not at that version.
    """
    wanted = dict(versions or {})
    if unknown := sorted(set(wanted) - set(TABLES)):
        raise DataError(f"no table named {unknown[0]!r}; the tables are {', '.join(TABLES)}")
    files: dict[str, list[str]] = {}
    for name in reversed(TABLES):  # children first: whatever a child row points to is then seen too
        place = tables_of(home) / name
        handle = open_table(place, wanted.get(name))
        files[name] = [] if handle is None else local_files(handle, place)
    return over_files(files, home / "spill")


def over_files(files: Mapping[str, Sequence[str]], spill: Path, only: Table | None = None) -> duckdb.DuckDBPyConnection:
    """A locked connection over these Parquet files, by table name; to one table alone, where that is enough: each view
    takes a millisecond. `spill` takes what does not fit in memory.
    """
    connection = duckdb.connect(":memory:")
    for name, table in TABLES.items() if only is None else [(only.name, only)]:
        paths = files.get(name, ())
        if not paths:
            _empty_view(connection, table)
            continue
        columns = ", ".join(f'"{column}"' for column in table.schema.names)
        try:
            connection.execute(f'CREATE VIEW "{name}" AS SELECT {columns} FROM read_parquet({_sql_list(paths)})')
        except duckdb.Error as error:
            raise StorageError(f"table {name!r} cannot be read: {error}; `cai tables verify` says more") from error
    if only is None:
        connection.execute(_VERDICTS)
    allowed = [path for paths in files.values() for path in paths]
    connection.execute(f"SET allowed_paths={_sql_list(allowed)}")
    connection.execute(f"SET temp_directory={_quoted(str(spill))}")
    for setting in _LOCKS:
        connection.execute(f"SET {setting}")
    return connection


def _empty_view(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    columns = ", ".join(f'CAST(NULL AS {_sql_type(f.type)}) AS "{f.name}"' for f in table.schema)
    connection.execute(f'CREATE VIEW "{table.name}" AS SELECT {columns} WHERE false')


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_map(kind):
        return f"MAP({_sql_type(kind.key_type)}, {_sql_type(kind.item_type)})"
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{f.name}" {_sql_type(f.type)}' for f in kind) + ")"
    return {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN"}[str(kind)]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql_list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_quoted, texts)) + "]"


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise `DataError` unless `sql` is one statement that only reads."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise DataError(f"this is not SQL that DuckDB reads: {error}") from error
    if len(statements) != 1:
        raise DataError(f"{_HINT}, got {len(statements)} statements")
    if (kind := _statement_kind(statements[0])) != "SELECT":
        raise DataError(f"{_HINT}, got {kind}; the tables are read-only here, `cai export` writes files")
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
    if tree.get("error"):
        raise DataError(f"{_HINT}; this one cannot be checked: {tree.get('error_message')}")
    _check_tree(tree)


def _statement_kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # DuckDB 2.0 has kinds that its Python enumeration lacks, UPDATE EXTENSIONS for one
        return "another statement"


def _check_tree(tree: Any) -> None:
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            kind, function = node.get("type"), node.get("function_name")
            if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _NODES:
                raise DataError(f"{_HINT}, got one that also does {kind.split('_')[0]}; the tables are read-only here")
            if isinstance(function, str) and function.lower() in _FUNCTIONS:
                raise DataError(f"{function}() is not allowed: it runs SQL that cannot be checked; write it out")
            stack.extend(node.values())


def query(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()
) -> list[dict[str, Any]]:
    """The rows of one SELECT, as dicts in column order. A name that comes twice gets `_2`, `_3`, …

    Raises:
        DataError: it is not one reading statement, or DuckDB refuses it.
    """
    names, rows = query_rows(connection, sql, params)
    return [dict(zip(names, row, strict=True)) for row in rows]


def query_rows(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()
) -> tuple[list[str], list[tuple[Any, ...]]]:
    check_select(connection, sql)
    try:
        cursor = connection.execute(sql, params if isinstance(params, Mapping) else list(params))
        rows = cursor.fetchall()
    except duckdb.Error as error:
        raise DataError(f"the query failed: {error}") from error
    return _unique([column[0] for column in cursor.description or ()]), rows


def query_arrow(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()
) -> pa.Table:
    """The rows of one SELECT as columns: for many of them."""
    check_select(connection, sql)
    try:
        relation: Any = connection.sql(sql, params=params if isinstance(params, Mapping) else list(params))
        return relation.to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"the query failed: {error}") from error


def _unique(names: Sequence[str]) -> list[str]:
    taken: list[str] = []
    for name in names:
        n, unique = 1, name
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        taken.append(unique)
    return taken
