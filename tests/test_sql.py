"""Questions about the tables: they see one consistent state, and can read the tables and do nothing else."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import storage_rows as rows
from click.testing import CliRunner

from cai.cli import tables as cli
from cai.cli.tables import format_table
from cai.errors import DataError, StorageError
from cai.records import Message, Prompt, Reject
from storage import catalog, named
from storage.schemas import TABLES
from storage.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "home")
    store.append(rows.one_of_each())
    return store


def run(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_every_table_is_a_view_with_its_columns_stored_or_not(tmp_path):
    empty, full = Store(tmp_path / "empty"), Store(tmp_path / "full")
    full.append(rows.one_of_each())
    with catalog.connect(full.home) as one, catalog.connect(empty.home) as none:
        for name, table in TABLES.items():
            described = [catalog.query(c, f"DESCRIBE {name}") for c in (one, none)]
            assert [row["column_name"] for row in described[0]] == table.schema.names
            types = [[(row["column_name"], row["column_type"]) for row in d] for d in described]
            assert types[0] == types[1], "an empty view has the types of a stored one"
            counted = [catalog.query(c, f"SELECT count(*) AS n FROM {name}") for c in (one, none)]
            assert counted == [[{"n": 1}], [{"n": 0}]]


def test_parameters_are_values_and_never_sql(store):
    assert store.query("SELECT ? AS x", ["'; DROP TABLE prompts"]) == [{"x": "'; DROP TABLE prompts"}]
    assert store.query("SELECT $a + 1 AS x", {"a": 2}) == [{"x": 3}]


def test_nested_columns_and_doubled_names_can_be_asked_for(store):
    sql = "SELECT messages[1].role AS role, tags, metrics['a'] AS a, 1 AS x, 2 AS x FROM prompts, models"
    assert store.query(sql) == [{"role": "user", "tags": ["a", "b"], "a": 1.0, "x": 1, "x_2": 2}]


def test_a_query_at_earlier_versions_sees_the_earlier_rows(store):
    versions = store.versions()
    store.append([rows.prompt(2), rows.response(2)])
    sql = "SELECT (SELECT count(*) FROM prompts) AS p, (SELECT count(*) FROM responses) AS r"
    with catalog.connect(store.home, versions) as old:
        assert catalog.query(old, sql) == [{"p": 1, "r": 1}]
    assert store.query(sql) == [{"p": 2, "r": 2}]
    with pytest.raises(DataError, match="no table named 'nope'"):
        catalog.connect(store.home, {"nope": 1})
    with pytest.raises(StorageError, match="prompts"):
        catalog.connect(store.home, {"prompts": 77})


REFUSED = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('{tables}/prompts/../../../../../../../../etc/passwd')",
    "SELECT * FROM read_text('{tables}/prompts/_delta_log/00000000000000000000.json')",
    "SELECT * FROM read_text('{link}')",
    "SELECT * FROM glob('/**')",
    "SELECT * FROM glob('{tables}/*')",
    "SELECT * FROM read_parquet('{tables}/../other.parquet')",
    "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
    "SELECT * FROM read_parquet('s3://bucket/x')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{tables}/log')",
    "SELECT * FROM secret_frame",
    "COPY prompts TO '{tables}/out.parquet'",
    "COPY prompts TO '{live}'",
    "COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)",
    "WITH x AS (COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)) SELECT * FROM x",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)) SELECT * FROM x)",
    "DESCRIBE WITH x AS (COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)) SELECT * FROM x",
    "SUMMARIZE WITH x AS (COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)) SELECT * FROM x",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)) SELECT 1 FROM x)",
    "SELECT 1 UNION ALL (WITH x AS (COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)) SELECT 1 FROM x)",
    "FROM query('WITH x AS (COPY (SELECT 1) TO ''{live}'' (USE_TMP_FILE false)) SELECT * FROM x')",
    "FROM QUERY('SELECT 1')",
    'FROM "query"($$SELECT 1$$)',
    "FROM system.main.query('SELECT 1')",
    "FROM json_execute_serialized_sql('{serialized}')",
    "FROM system.main.\"JSON_EXECUTE_SERIALIZED_SQL\"('{serialized}')",
    "PRAGMA json_execute_serialized_sql('{serialized}')",
    "WITH x AS (INSERT INTO prompts SELECT * FROM prompts RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM prompts RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE prompts SET source = '' RETURNING *) SELECT * FROM x",
    "INSERT INTO prompts SELECT * FROM prompts",
    "DELETE FROM prompts",
    "UPDATE prompts SET source = ''",
    "MERGE INTO prompts USING responses ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE prompts",
    "ATTACH '{tables}/x.db'",
    "ATTACH '/etc/passwd' AS x",
    "DETACH memory",
    "USE memory",
    "EXPORT DATABASE '{tables}/dump'",
    "IMPORT DATABASE '{tables}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{tables}/evil.so'",
    "FORCE INSTALL delta FROM 'http://127.0.0.1:1'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET allowed_paths = ['/etc/passwd']",
    "SET allowed_directories = ['/']",
    "SET GLOBAL lock_configuration = false",
    "RESET lock_configuration",
    "SET VARIABLE x = 1",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "PRAGMA import_database('{tables}')",
    "CALL pragma_version()",
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW prompts AS SELECT 1",
    "CREATE MACRO x() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "DROP VIEW prompts",
    "ALTER VIEW prompts RENAME TO x",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE COPY prompts TO '{tables}/x'",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY prompts TO '{tables}/x'",
    "SELECT 1; DROP VIEW prompts",
    "",
    "   ",
    "-- nothing",
    ";",
    "SELECT",
    "no sql at all",
]


@pytest.fixture(scope="module")
def besieged(tmp_path_factory):
    """Tables with a link to a secret among them and a Parquet file beside them, and one connection for all attacks."""
    store = Store(tmp_path_factory.mktemp("besieged"))
    store.append(rows.one_of_each())
    (store.home / "other.parquet").write_bytes(b"PAR1")
    (store.root / "prompts" / "link").symlink_to("/etc/passwd")
    with catalog.connect(store.home) as connection:
        yield store, connection
    assert store.verify() == []


@pytest.mark.parametrize("payload", REFUSED)
def test_whatever_reaches_past_the_tables_is_refused_and_changes_nothing(besieged, payload):
    store, connection = besieged
    live = next((store.root / "prompts").glob("*.parquet"))
    link = store.root / "prompts" / "link"
    writing = f"WITH x AS (COPY (SELECT 1) TO '{live}' (USE_TMP_FILE false)) SELECT * FROM x"
    serialized = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [writing]).fetchall()[0][0]
    secret_frame = rows.one_of_each()  # what a replacement scan would find
    before = {p: p.read_bytes() for p in sorted(store.home.rglob("*")) if p.is_file()}
    for key, value in {"tables": store.root, "live": live, "link": link, "serialized": serialized}.items():
        payload = payload.replace("{" + key + "}", str(value).replace("'", "''"))
    with pytest.raises(DataError):
        catalog.query(connection, payload)
    assert {p: p.read_bytes() for p in sorted(store.home.rglob("*")) if p.is_file()} == before and secret_frame


@pytest.mark.parametrize("sql", [
    "SELECT * FROM prompts",
    "FROM prompts",
    "TABLE prompts",
    "VALUES (1)",
    "WITH a AS (SELECT 1 AS x) SELECT * FROM a UNION SELECT 2 ORDER BY 1",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
    "DESCRIBE prompts",
    "SUMMARIZE prompts",
    "SHOW TABLES",
    "SELECT count(*) FROM prompts;",
    "SELECT 'COPY x; DROP TABLE y' AS text -- COPY",
    "SELECT stage, count(*) FROM rejects GROUP BY ALL HAVING count(*) > 0",
    "SELECT * FROM (SELECT source, split FROM prompts) PIVOT (count(*) FOR split IN ('train', 'eval'))",
    "SELECT unnest(messages), row_number() OVER () FROM prompts",
])  # fmt: skip
def test_whatever_only_reads_is_answered(besieged, sql):
    assert catalog.query(besieged[1], sql)


def test_every_named_query_runs_on_full_and_on_empty_tables(store, tmp_path):
    store.append([rows.comparison(1, "ba"), rows.annotation(1, is_gold=True)])
    store.append([replace(rows.response(1, 1), text="a longer answer than the other")])
    with catalog.connect(store.home) as full, catalog.connect(tmp_path / "none") as empty:
        for name, answers in named.names().items():
            assert catalog.query(full, named.resolve(name)), f"one of each row is enough for {name}"
            catalog.query(empty, named.resolve(name))
            assert answers.endswith("."), f"the first line of {name}.sql says what it answers"


@pytest.fixture
def judged(tmp_path):
    """Two pairs under two principles: `kind` is judged the same in both orders, `terse` by position alone."""
    store = Store(tmp_path / "judged")
    for n in range(2):
        store.append([rows.comparison(n, order, "kind", logp_a=-0.1) for order in ("ab", "ba")])
        a, b = (rows.comparison(n, order, "terse", logp_a=lp) for order, lp in (("ab", 0.0), ("ba", -4.8)))
        store.append([a, b])
    return store


def test_position_bias_is_the_shift_between_the_orders_by_principle(judged):
    found = {row["principle_id"]: row for row in judged.query(named.resolve("position_bias"))}
    assert found["kind"]["mean_bias"] == 0 and found["kind"]["n"] == 2
    by_hand = 1 / (1 + math.exp(-2.4)) - 1 / (1 + math.exp(2.4))
    assert found["terse"]["mean_bias"] == pytest.approx(by_hand, abs=1e-4) and found["terse"]["flips_rate"] == 1


def test_a_verdict_is_what_a_judge_said_in_both_orders(judged):
    judged.append([rows.comparison(9), replace(rows.comparison(8), mass_outside=0.6), rows.comparison(8, "ba")])
    found = judged.query("SELECT principle_id, ab, ba FROM verdicts ORDER BY ALL")
    kind, told = 1 / (1 + math.exp(-2.4 + 0.1)), [1 / (1 + math.exp(x)) for x in (-2.4, 2.4)]
    assert [row["principle_id"] for row in found] == ["kind", "kind", "terse", "terse"], "8 and 9 were heard in one"
    assert [row[side] for row in found for side in ("ab", "ba")] == pytest.approx([kind] * 4 + told * 2)


def test_principles_counts_asks_and_pairs(judged):
    found = {row["principle_id"]: row for row in judged.query(named.resolve("principles"))}
    assert (found["kind"]["n_asks"], found["kind"]["n_pairs"]) == (4, 2)
    by_hand = 1 / (1 + math.exp(-2.4 + 0.1)) - 0.5
    assert found["kind"]["mean_abs_delta"] == pytest.approx(by_hand, abs=1e-4)


def test_the_funnel_counts_rows_and_rejects_by_reason(store):
    store.append([rows.reject(2), Reject.make("import", "empty_prompt", parents=["f", "1"])])
    counted = {(r["what"], r["step"], r["reason"]): r["n"] for r in store.query(named.resolve("funnel"))}
    assert counted[("rows", "prompts", "")] == 1
    assert counted[("rejects", "chains", "prompt_too_long")] == 2
    assert counted[("rejects", "import", "empty_prompt")] == 1


def test_sql_json_has_no_nan_and_csv_and_table_agree(store):
    sql = "SELECT model, value, high, metrics, 0.5::DECIMAL(3, 2) AS half FROM evaluations, models"
    done = run(cli.sql, sql, "--home", store.home, "--format", "json")
    wanted = {"model": "seed", "value": None, "high": None, "metrics": {"a": 1.0, "loss": None}, "half": 0.5}
    assert done.exit_code == 0 and json.loads(done.stdout) == [wanted]
    done = run(cli.sql, sql, "--home", store.home, "--format", "csv")
    assert done.stdout == 'model,value,high,metrics,half\nseed,,,"{""a"": 1.0, ""loss"": null}",0.5\n'
    assert "seed" in run(cli.sql, sql, "--home", store.home).stdout


def test_sql_lists_named_queries_and_names_them_when_one_is_unknown(store):
    assert "position_bias" in run(cli.sql, "--list").stdout
    assert run(cli.sql, "funnel", "--home", store.home).exit_code == 0
    done = run(cli.sql, "funel", "--home", store.home)
    assert isinstance(done.exception, DataError) and "funnel" in str(done.exception)
    assert run(cli.sql, "--home", store.home).exit_code == 2


def test_sql_says_how_many_rows_it_did_not_print(store):
    done = run(cli.sql, "FROM range(10)", "--home", store.home, "--limit", "3", "--format", "json")
    assert len(json.loads(done.stdout)) == 3 and "7 more rows" in done.stderr


def test_text_of_a_model_cannot_drive_the_terminal(store):
    store.append([Prompt.make([Message("user", "\x1b[2J\x07red\nline")], "test")])
    done = run(cli.sql, "SELECT messages[1].content AS c FROM prompts", "--home", store.home)
    assert "\x1b" not in done.stdout and r"\x1b[2J\x07red\nline" in done.stdout


def test_a_cell_is_cut_to_its_width():
    assert format_table(["a"], [["x" * 100]]).splitlines()[2] == "x" * 59 + "…"
    assert format_table(["a", "n"], []).endswith("(no rows)")


def test_tables_shows_rows_versions_and_rejects_and_compacts(store):
    store.append([rows.prompt(n) for n in range(2, 9)])
    summary = json.loads(run(cli.tables, "--home", store.home, "--format", "json").stdout)
    stored = summary["tables"]["prompts"]
    assert (stored["rows"], stored["version"], stored["files"]) == (8, 2, 2) and stored["bytes"] > 0
    assert stored["bytes_on_disk"] == stored["bytes"]
    assert summary["rejects"] == [{"stage": "chains", "reason": "prompt_too_long", "n": 1}]
    assert "prompt_too_long" in run(cli.tables, "--home", store.home).stdout
    assert "prompts: 2 files -> 1" in run(cli.tables, "--home", store.home, "compact").stdout
    assert "nothing to compact" in run(cli.tables, "--home", store.home, "compact").stdout
    assert "deleted 1 files" in run(cli.tables, "--home", store.home, "vacuum", "--keep-days", "0").stdout
    assert len(rows.ids_at(store.home, "prompts", 1)) == 1, (
        "the stored model was trained on version 1, so its file stays"
    )
    assert f"all well: {7 + len(rows.one_of_each())} rows" in run(cli.tables, "--home", store.home, "verify").stdout


def test_verify_fails_where_a_file_is_broken(store):
    next((store.root / "prompts").glob("*.parquet")).write_bytes(b"nothing")
    done = run(cli.tables, "--home", store.home, "verify")
    assert isinstance(done.exception, DataError) and "1 problems" in str(done.exception) and "prompts: " in done.stdout


@pytest.mark.parametrize("command", [[cli.tables], [cli.sql, "funnel"], [cli.export, "prompts", "x.jsonl"]])
def test_a_home_without_tables_is_an_error_that_says_what_to_do(tmp_path, command):
    done = run(command[0], *command[1:], "--home", tmp_path / "typo")
    assert isinstance(done.exception, DataError) and "--home" in str(done.exception)
    assert not (tmp_path / "typo").exists() and not Path("x.jsonl").exists()


@pytest.mark.parametrize("path", ["tables", "tables compact", "tables vacuum", "tables verify", "sql", "export",
                                  "export sft", "export preferences", "export prompts"])  # fmt: skip
def test_help_shows_an_example(path):
    first, *rest = path.split()
    done = run(getattr(cli, first), *rest, "--help")
    assert done.exit_code == 0 and f"  cai {first}" in done.stdout and "\\b" not in done.stdout
