"""What the labelling page reads and writes: stored pairs, gold, the labels and skips of one annotator.

Which pair comes when is decided in `cai/labels/page/queue.py`.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cai.errors import DataError
from cai.labels.page.queue import SOURCE, Pair, annotation_id
from cai.labels.page.sitting import SKIPPED, STAGE
from cai.records import Annotation, Message, Prompt, Reject, Response
from storage import catalog
from storage.store import Store

MANY_FILES = 32  # a commit slows down with the number of files

_PAIRS = """
    SELECT prompt_id, response_a, response_b FROM comparisons
    UNION SELECT prompt_id, least(chosen_id, rejected_id), greatest(chosen_id, rejected_id) FROM preferences
    UNION SELECT prompt_id, response_a, response_b FROM annotations WHERE NOT is_gold
"""
_WHOLE = """
    prompt_id IN (SELECT prompt_id FROM prompts)
    AND response_a IN (SELECT response_id FROM responses) AND response_b IN (SELECT response_id FROM responses)
"""


class Found(NamedTuple):
    """`n_without_text` pairs are left out: their prompt or a response of theirs is not stored."""

    pairs: list[Pair]
    n_without_text: int


def stored_pairs(store: Store, responses: Collection[str] | None = None) -> Found:
    """Every pair that was compared, preferred or annotated; only pairs of `responses` where these are given."""
    if responses is None:
        return _found(store, f"SELECT *, {_WHOLE} AS is_whole FROM ({_PAIRS})", ())
    ids = "(SELECT unnest(?::VARCHAR[]))"
    sql = f"SELECT *, {_WHOLE} AS is_whole FROM ({_PAIRS}) WHERE response_a IN {ids} AND response_b IN {ids}"
    return _found(store, sql, (list(responses),) * 2)


def pairs_in_file(store: Store, path: Path) -> Found:
    """The stored preference pairs that a Parquet file names in its column `pair_id`, as `cai export` writes it.

    Raises:
        DataError: it is no such file, or names a pair that is not stored.
    """
    try:
        wanted = set(pq.read_table(path, columns=["pair_id"])["pair_id"].to_pylist())
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise DataError(f"expected a Parquet file with a column pair_id, as `cai export` writes it: {error}") from error
    sql = f"""
        SELECT DISTINCT prompt_id, response_a, response_b, {_WHOLE} AS is_whole, pair_id FROM (
            SELECT prompt_id, least(chosen_id, rejected_id) AS response_a,
                greatest(chosen_id, rejected_id) AS response_b, pair_id
            FROM preferences WHERE pair_id IN (SELECT unnest(?::VARCHAR[]))
        )
    """
    rows = _rows(store, sql, (sorted(map(str, wanted)),))
    if missing := sorted(wanted - {row[4] for row in rows}):
        raise DataError(
            f"{len(missing)} of {len(wanted)} pairs in {path} are not stored in {store.home}, such as {missing[0]!r}; "
            "name the --home that the file was exported from"
        )
    return _split(rows)


def gold(store: Store, objective: str) -> dict[Pair, float]:
    """P(a better) of each gold pair that fits the objective or states none; the mean where several sources say it."""
    sql = f"""
        SELECT prompt_id, response_a, response_b, avg(p_a) FROM annotations
        WHERE is_gold AND objective IN (?, '') AND {_WHOLE} GROUP BY ALL
    """
    return {Pair(*row[:3]): row[3] for row in _rows(store, sql, (objective,))}


def labels(store: Store, objective: str, annotator: str) -> dict[Pair, float]:
    """What one annotator has said on the page."""
    sql = f"""
        SELECT prompt_id, response_a, response_b, p_a FROM annotations
        WHERE source = '{SOURCE}' AND NOT is_gold AND objective = ? AND annotator = ?
    """
    return {Pair(*row[:3]): row[3] for row in _rows(store, sql, (objective, annotator))}


def skips(store: Store, queue: Collection[Pair], objective: str, annotator: str) -> dict[Pair, str]:
    """Why one annotator skipped pairs of a queue."""
    by_id = {annotation_id(pair, annotator, objective): pair for pair in queue}
    sql = f"""
        SELECT parent_ids[1], detail FROM rejects
        WHERE stage = '{STAGE}' AND reason = '{SKIPPED}' AND parent_ids[1] IN (SELECT unnest(?::VARCHAR[]))
    """
    return {by_id[key]: detail for key, detail in _rows(store, sql, (list(by_id),))}


def annotators(store: Store) -> list[tuple[str, str]]:
    """Who has labelled on the page, and for what: pseudonym and objective."""
    sql = f"SELECT DISTINCT annotator, objective FROM annotations WHERE source = '{SOURCE}' ORDER BY ALL"
    return [(row[0], row[1]) for row in _rows(store, sql, ())]


class TableShelf:
    """Decisions go to the tables `annotations` and `rejects`, a commit each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._n_kept = 0
        self.texts = lru_cache(maxsize=16)(self._texts)

    def _texts(self, pair: Pair) -> tuple[tuple[Message, ...], str, str]:
        found = self._store.find_all(Response, [pair.response_a, pair.response_b])
        messages = self._store.find_all(Prompt, [pair.prompt_id])[pair.prompt_id].messages
        return messages, found[pair.response_a].text, found[pair.response_b].text

    def label(self, row: Annotation, withdrawn: Reject) -> None:
        self._put(row)
        self._store.remove(Reject, [withdrawn.reject_id])

    def skip(self, row: Reject, withdrawn: str) -> None:
        self._put(row)
        self._store.remove(Annotation, [withdrawn])

    def _put(self, row: Annotation | Reject) -> None:
        """An append where the id is new, which is the rule, and costs a tenth of a merge."""
        if not sum(self._store.append([row]).values()):
            self._store.upsert([row])
        self._n_kept += 1

    def tidy(self) -> None:
        """Make few files of many, now and then. Not while someone waits."""
        if self._n_kept >= MANY_FILES:
            self._n_kept = 0
            self._store.merge_small(MANY_FILES)


@contextmanager
def _reading(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = catalog.connect(store.home)
    try:
        yield connection
    finally:
        connection.close()


def _rows(store: Store, sql: str, params: Collection[Any]) -> list[tuple[Any, ...]]:
    with _reading(store) as connection:
        return connection.execute(sql, list(params)).fetchall()


def _found(store: Store, sql: str, params: Collection[Any]) -> Found:
    return _split(_rows(store, sql, params))


def _split(rows: Collection[tuple[Any, ...]]) -> Found:
    whole = sorted({Pair(*row[:3]) for row in rows if row[3]})
    return Found(whole, sum(not row[3] for row in rows))
