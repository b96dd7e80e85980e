"""The columns of `cai.labels.verdicts`, read from the tables in SQL: a million comparisons in seconds."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cai.intervals import Floats
from cai.labels.opinions import Annotated
from cai.labels.verdicts import Encoded, Verdicts
from storage import catalog
from storage.store import Store

P_A = """
        CASE
            WHEN isnan(logp_a) OR isnan(logp_b) OR isnan(mass_outside) THEN NULL
            WHEN greatest(logp_a, logp_b) = 'inf'::DOUBLE OR greatest(logp_a, logp_b) = '-inf'::DOUBLE THEN NULL
            WHEN mass_outside > {max_mass_outside} THEN NULL
            WHEN logp_a >= logp_b THEN 1 / (1 + exp(logp_b - logp_a))
            ELSE exp(logp_a - logp_b) / (exp(logp_a - logp_b) + 1)
        END
"""
"""P(A) of one ask, NULL where it is unscored, as `cai.verdict.soft_verdict` decides; the limit is a query parameter."""
_VERDICTS = f"""
WITH asks AS (
    SELECT
        *,
        {P_A.format(max_mass_outside="$max_mass_outside")} AS p_a
    FROM comparisons
    WHERE ($judges::VARCHAR[] IS NULL OR list_contains($judges::VARCHAR[], judge_digest))
      AND ($prompts::VARCHAR[] IS NULL OR prompt_id IN (SELECT unnest($prompts::VARCHAR[])))
      AND ($asks::VARCHAR[] IS NULL OR comparison_id IN (SELECT unnest($asks::VARCHAR[])))
),
verdicts AS (
    SELECT
        judge_digest,
        principle_id,
        first(prompt_id) AS prompt_id,
        response_a,
        response_b,
        avg(p_a) FILTER ("order" = 'ab') AS ab,
        avg(p_a) FILTER ("order" = 'ba') AS ba,
        avg(mass_outside) AS mass_outside,
        count(*) AS n_asks
    FROM asks
    GROUP BY
        judge_digest, template_digest, principle_id, principle_digest, method, reasoning IS NULL, response_a, response_b
),
lengths AS (SELECT response_id, len(text) AS n FROM responses)
SELECT
    judge_digest AS judge,
    principle_id AS principle,
    prompt_id AS prompt,
    response_a || '/' || response_b AS pair,
    ab,
    ba,
    mass_outside,
    n_asks,
    sign(a.n - b.n)::DOUBLE AS longer
FROM verdicts
LEFT JOIN lengths a ON a.response_id = response_a
LEFT JOIN lengths b ON b.response_id = response_b
"""

_ANNOTATED = """
SELECT prompt_id, response_a || '/' || response_b AS pair, source, annotator, p_a, is_gold
FROM annotations
WHERE ($objective IS NULL OR objective = $objective)
  AND ($prompts::VARCHAR[] IS NULL OR prompt_id IN (SELECT unnest($prompts::VARCHAR[])))
ORDER BY annotation_id
"""


class Labels(NamedTuple):
    verdicts: Verdicts
    annotated: Annotated
    n_comparisons: int


def read_labels(
    store: Store,
    *,
    max_mass_outside: float = 0.5,
    judges: Collection[str] | None = None,
    prompts: Collection[str] | None = None,
    asks: Collection[str] | None = None,
    objective: str | None = None,
) -> Labels:
    """All comparisons and annotations as columns, at one set of versions; of these judges and prompts, and of these
    comparisons, where given.
    """
    chosen = {"prompts": None if prompts is None else list(prompts)}
    asked = chosen | {"max_mass_outside": max_mass_outside, "judges": None if judges is None else list(judges)}
    asked |= {"asks": None if asks is None else list(asks)}
    connection = catalog.connect(store.home)
    try:
        verdicts = catalog.query_arrow(connection, _VERDICTS, asked)
        said = catalog.query_arrow(connection, _ANNOTATED, chosen | {"objective": objective})
    finally:
        connection.close()
    return Labels(_verdicts(verdicts), _annotated(said), int(pc.sum(verdicts.column("n_asks")).as_py() or 0))


def _verdicts(table: pa.Table) -> Verdicts:
    return Verdicts.of(
        *(_codes(table, name) for name in ("judge", "principle", "prompt", "pair")),
        ab=_numbers(table, "ab"),
        ba=_numbers(table, "ba"),
        mass_outside=_numbers(table, "mass_outside"),
        longer=_numbers(table, "longer"),
    )


def _annotated(table: pa.Table) -> Annotated:
    prompt, pair, source, annotator = (
        table.column(name).to_pylist() for name in ("prompt_id", "pair", "source", "annotator")
    )
    is_gold = np.asarray(table.column("is_gold").to_numpy(), dtype=np.bool_)
    return Annotated(prompt, pair, source, annotator, _numbers(table, "p_a"), is_gold)


def _codes(table: pa.Table, name: str) -> Encoded:
    """Places in the sorted list of names: the order of rows is DuckDB's own affair."""
    column = pa.chunked_array(table.column(name).chunks, pa.string()).dictionary_encode().combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string()).dictionary_encode()
    order = pc.sort_indices(column.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int_)
    rank[order] = np.arange(len(order))
    return Encoded(rank[column.indices.to_numpy()], column.dictionary.take(order).to_pylist())


def _numbers(table: pa.Table, name: str) -> Floats:
    """NULL as NaN."""
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)
