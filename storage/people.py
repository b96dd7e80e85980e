"""The annotations that a run mixes in: chosen from the table once, and kept in a file of the run from then on.

People go on labelling while a run is under way; its rows must not depend on when a step reads the table.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from cai.config import PeopleConfig
from cai.errors import DataError
from cai.records import Annotation
from storage.schemas import from_arrow, table_of, to_arrow
from storage.store import Store


def chosen_annotations(store: Store, config: PeopleConfig) -> list[Annotation]:
    """What people said under the config's objectives, from its sources; never gold.

    Raises:
        DataError: nothing, or nothing from one of the sources that are named.
    """
    found = [
        row
        for row in store.read(Annotation, "NOT is_gold")
        if row.objective in config.objectives and (not config.sources or row.source in config.sources)
    ]
    missing = sorted(set(config.sources) - {row.source for row in found})
    if missing or not found:
        there = store.query(
            "SELECT DISTINCT source, objective FROM annotations WHERE NOT is_gold ORDER BY ALL LIMIT 20"
        )
        known = ", ".join(f"{row['source']} ({row['objective'] or 'no objective'})" for row in there) or "none"
        what = f"source {missing[0]!r}" if missing else "any source"
        raise DataError(
            f"people say nothing under {' or '.join(config.objectives)} from {what} in {store.home}; the sources "
            f"there: {known}. Import some with `cai labels import`, or correct `people` in the profile"
        )
    return found


def write_annotations(path: Path, rows: Sequence[Annotation]) -> None:
    pq.write_table(to_arrow(table_of(Annotation), rows), path, compression="zstd")


def read_annotations(path: Path) -> list[Annotation]:
    """What `write_annotations` wrote.

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        raise DataError(f"{path} is gone, which holds what people said when this run began; start another run")
    return list(from_arrow(Annotation, pq.read_table(path).to_batches()))
