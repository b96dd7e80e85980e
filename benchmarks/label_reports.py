"""What the reports on labels cost over a million comparisons in a real store: seconds of each, and memory in all.

    python benchmarks/label_reports.py [--comparisons 1000000] [--json FILE]

Prints one JSON object. Peak memory is that of a process that only reads and reports. Rows: two judges, eight
principles, both orders, three pairs a prompt; ten people and a gold set on a tenth of the pairs.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cai.records import digest
from storage import catalog, delta, named
from storage.schemas import TABLES
from storage.store import Store

JUDGES, PRINCIPLES, PEOPLE = 2, 8, 10
BATCH = 250_000
QUERIES = ("position_bias", "principles", "label_entropy", "length_bias", "judge_accuracy")


def write(home: Path, n_comparisons: int) -> None:
    """Straight into the tables: the way through records is measured elsewhere."""
    rng = np.random.default_rng(0)
    n_pairs = n_comparisons // (JUDGES * PRINCIPLES * 2)
    prompts = [digest("prompt", i // 3) for i in range(n_pairs)]
    pairs = [sorted((digest("r", i, 0), digest("r", i, 1))) for i in range(n_pairs)]
    quality = rng.normal(0, 1.5, n_pairs)
    _append(home, "responses", _responses(prompts, pairs, rng))
    _append(home, "annotations", _annotations(prompts, pairs, quality, rng))
    for start in range(0, n_comparisons, BATCH):
        rows = np.arange(start, min(start + BATCH, n_comparisons))
        _append(home, "comparisons", _comparisons(rows, prompts, pairs, quality, rng))


def _comparisons(rows: Any, prompts: Any, pairs: Any, quality: Any, rng: Any) -> dict[str, Any]:
    order, rest = rows % 2, rows // 2
    principle, rest = rest % PRINCIPLES, rest // PRINCIPLES
    judge, pair = rest % JUDGES, rest // JUDGES
    logit = quality[pair] + rng.normal(0, 1, len(rows)) + np.where(order == 0, 0.1, -0.1)
    logp_a, logp_b = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    return {
        "comparison_id": [digest(int(row)) for row in rows],
        "prompt_id": [prompts[p] for p in pair],
        "response_a": [pairs[p][0] for p in pair],
        "response_b": [pairs[p][1] for p in pair],
        "order": np.where(order == 0, "ab", "ba"),
        "principle_id": [f"principle-{k:02d}" for k in principle],
        "judge_digest": [digest("judge", int(k)) for k in judge],
        "principle_digest": [digest("principle", int(k)) for k in principle],
        "logp_a": logp_a,
        "logp_b": logp_b,
        "mass_outside": rng.uniform(0, 0.02, len(rows)),
        "exact": np.ones(len(rows), dtype=bool),
        "method": ["options"] * len(rows),
    }


def _responses(prompts: Any, pairs: Any, rng: Any) -> dict[str, Any]:
    ids = [response for pair in pairs for response in pair]
    texts = ["x" * int(n) for n in rng.integers(100, 900, len(ids))]
    stage = ["candidate"] * len(ids)
    return {"response_id": ids, "prompt_id": np.repeat(prompts, 2), "text": texts, "stage": stage}


def _annotations(prompts: Any, pairs: Any, quality: Any, rng: Any) -> dict[str, Any]:
    labelled = np.repeat(np.arange(len(pairs) // 10), PEOPLE + 1)
    who = np.tile(np.arange(PEOPLE + 1), len(pairs) // 10)
    right = (rng.random(len(who)) < 0.85) | (who == PEOPLE)
    return {
        "annotation_id": [digest("annotation", i) for i in range(len(who))],
        "prompt_id": [prompts[p] for p in labelled],
        "response_a": [pairs[p][0] for p in labelled],
        "response_b": [pairs[p][1] for p in labelled],
        "p_a": ((quality[labelled] > 0) == right).astype(float),
        "source": ["people.csv"] * len(who),
        "annotator": [f"person {k}" for k in who],
        "is_gold": who == PEOPLE,
    }


def _append(home: Path, name: str, columns: dict[str, Any]) -> None:
    schema = TABLES[name].schema
    n = len(next(iter(columns.values())))
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else _blank(f, n) for f in schema]
    path = home / "tables" / name
    delta.append(delta.create_table(path, schema), path, pa.table(arrays, schema=schema))


def _blank(field: pa.Field, n: int) -> pa.Array:
    if field.nullable:
        return pa.nulls(n, field.type)
    return pa.array(["d" * 32 if pa.types.is_string(field.type) else 0] * n, field.type)


def measure(home: Path) -> dict[str, Any]:
    """Each report by itself, then named queries; peak memory of it all."""
    from cai.labels.agreement import judge_quality, principle_agreement
    from cai.labels.opinions import opinions_of
    from cai.labels.report import label_report
    from cai.labels.sources import against_gold, panels
    from storage.verdicts import read_labels

    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        started = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - started, 2)
        return result

    labels = timed("read the columns in SQL", lambda: read_labels(Store(home)))
    timed("bias, consistency, entropy, mass outside, length", lambda: judge_quality(labels.verdicts))
    timed("agreement of principles, kappa, alpha", lambda: principle_agreement(labels.verdicts))
    opinions = timed("opinions by source", lambda: opinions_of(labels.verdicts, labels.annotated))
    timed("accuracy, kappa and calibration against gold", lambda: against_gold(opinions))
    timed("sources against each other, flip test", lambda: panels(opinions))
    timed("the whole report, read included", lambda: label_report(*read_labels(Store(home))[:2]))
    for name in QUERIES:
        timed(f"cai sql {name}", lambda name=name: catalog.query(catalog.connect(home), named.resolve(name)))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"n_comparisons": labels.n_comparisons, "seconds": seconds, "peak_gib": round(peak_gib, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure), indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.comparisons)
        command = [sys.executable, __file__, "--measure", folder]
        report = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(report, end="")
    if arguments.json:
        arguments.json.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
