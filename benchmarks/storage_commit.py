"""What a durable commit costs beside a plain Parquet write, and what asking 200,000 comparisons costs.

    python benchmarks/storage_commit.py [--commits 100] [--json FILE]

Prints one JSON object. The ratios are of medians and 99th percentiles measured in turns, so a busy machine moves both.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from cai.records import Comparison, digest
from storage import catalog, named
from storage.schemas import TABLES, to_arrow
from storage.store import Store

ROWS = 1_000
QUERIED_ROWS = 200_000


def comparisons(start: int, n: int) -> list[Comparison]:
    """`n` rows; 40 to a prompt (two responses, 20 principles, both orders), ids as long as real ones."""
    found = []
    for i in range(start, start + n):
        pair = digest(i // 40)
        row = Comparison(
            comparison_id=digest("comparison", i), prompt_id=pair, response_a="a" + pair[1:], response_b="b" + pair[1:],
            order="ab" if i % 2 else "ba", principle_id=f"principle-{i % 40 // 2}", principle_digest="p" * 32,
            constitution_digest="c" * 32, template_digest="t" * 32, judge_digest="j" * 32, logp_a=-0.01 * (i % 97),
            logp_b=-1.2, mass_outside=1e-4, exact=True,
        )  # fmt: skip
        found.append(row)
    return found


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * (len(times) - 1))]


def commits(folder: Path, n_commits: int) -> dict[str, float]:
    store, table = Store(folder / "home"), TABLES["comparisons"]
    ours, plain = [], []
    for k in range(n_commits + 3):
        rows = comparisons(k * ROWS, ROWS)
        arrow, path = to_arrow(table, rows), folder / f"plain{k}.parquet"
        one = seconds(partial(store.append, rows))
        other = seconds(partial(pq.write_table, arrow, path, compression="zstd"))
        if k >= 3:  # the first ones load code and make the table
            ours.append(one)
            plain.append(other)
    middle = statistics.median
    return {
        "commit_p50_ms": middle(ours) * 1e3,
        "commit_p99_ms": p99(ours) * 1e3,
        "plain_write_p50_ms": middle(plain) * 1e3,
        "plain_write_p99_ms": p99(plain) * 1e3,
        "commit_over_plain_p50": middle(ours) / middle(plain),
        "commit_over_plain_p99": p99(ours) / p99(plain),
    }


def queries(folder: Path) -> dict[str, float]:
    store = Store(folder / "queried")
    for start in range(0, QUERIED_ROWS, 2_000):
        store.append(comparisons(start, 2_000))
    result: dict[str, float] = {"files": store.files()["comparisons"][0], "bytes": store.files()["comparisons"][1]}
    result |= {f"{name}_ms": value for name, value in timed(store).items()}
    result["compact_s"] = seconds(store.compact)
    result["bytes_compacted"] = store.files()["comparisons"][1]
    result |= {f"{name}_compacted_ms": value for name, value in timed(store).items()}
    return result


def timed(store: Store) -> dict[str, float]:
    key = comparisons(QUERIED_ROWS // 2, 1)[0]
    with catalog.connect(store.home) as connection:
        asks = {
            "position_bias": (named.resolve("position_bias"), []),
            "one_prompt": ("SELECT * FROM comparisons WHERE prompt_id = ?", [key.prompt_id]),
            "one_row": ("SELECT * FROM comparisons WHERE comparison_id = ?", [key.comparison_id]),
        }
        best = {
            name: min(seconds(partial(catalog.query, connection, *ask)) for _ in range(5)) * 1e3
            for name, ask in asks.items()
        }
    return best | {"connect": min(seconds(lambda: catalog.connect(store.home).close()) for _ in range(5)) * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storage-"))
    try:
        result = commits(folder, arguments.commits) | queries(folder)
    finally:
        shutil.rmtree(folder)
    text = json.dumps({name: round(value, 3) for name, value in result.items()}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
