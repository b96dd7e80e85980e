"""How fast prompts come in, and in how much memory: rows a second and peak resident memory of an import, by its size.

    python benchmarks/import_prompts.py              # 100,000, 300,000 and 1,000,000 prompts, each in its own process
    python benchmarks/import_prompts.py --rows 50000

The prompts are JSON lines of one to three turns, some 250 bytes each, 2 % of them met before, checked against 500
held-out ones. It must be 20,000 rows a second or more, and the memory of the largest no more than that of the smallest
and a tenth.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SIZES = (100_000, 300_000, 1_000_000)
MIN_ROWS_S, MAX_GROWTH = 20_000, 1.1


def lines(n: int, seed: int = 0) -> Iterator[str]:
    """Dialogues out of a vocabulary of 5,000 words; the same ones first, whatever `n`."""
    draw = random.Random(seed)
    words = [f"{draw.choice('bcdfglmnprst')}{draw.choice('aeiou')}{i:x}" for i in range(5_000)]

    def said(low: int, high: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(low, high)))

    for i in range(n):
        number = draw.randrange(i) if i and draw.random() < 0.02 else i
        own = random.Random(number)
        question = f"{' '.join(own.choices(words, k=own.randint(8, 30)))} {number}?"
        if own.random() < 0.7:
            yield json.dumps({"prompt": question, "tags": [f"topic {number % 40}"]})
        else:
            before = [{"role": "user", "content": said(3, 8)}, {"role": "assistant", "content": said(8, 20)}]
            yield json.dumps({"messages": [*before, {"role": "user", "content": question}]})


def measure(file: Path, home: Path) -> dict[str, float]:
    """One import, in this process."""
    from cai.config import PromptSource
    from cai.held_out import HeldOutGuard
    from cai.records import Message, Prompt
    from flows.importing import Import, import_folder, run_import
    from storage.store import Store

    draw = random.Random(1)
    held = [Prompt.make([Message("user", f"held out {' '.join(map(str, draw.sample(range(9_999), 20)))}")], "held")]
    held += [Prompt.make([Message("user", " ".join(line.split()[:20]))], "held") for line in lines(500, seed=2)]
    sources = [PromptSource(path=str(file), licence="MIT", origin="made up")]
    wish = Import(sources, HeldOutGuard(held), folder=import_folder(home, sources, "train", 0))
    start, cpu = time.perf_counter(), time.process_time()
    report = run_import(Store(home), wish)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu_s = time.process_time() - cpu
    return {
        "rows": report.n_rows,
        "prompts": report.n_prompts,
        "rejects": report.n_rejected,
        "rows_s": report.n_rows / seconds,
        "rows_cpu_s": report.n_rows / cpu_s,
        "peak_mib": peak,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--one", nargs=2, metavar=("FILE", "HOME"), help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.one:
        print(json.dumps(measure(*map(Path, wish.one))))
        return 0
    found = []
    print("rows       prompts    rejects  rows/s   rows/CPU s  peak MiB")
    for n in wish.rows:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "prompts.jsonl"
            with file.open("w") as out:
                out.writelines(f"{line}\n" for line in lines(n))
            command = [sys.executable, __file__, "--one", str(file), f"{folder}/home"]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        row = found[-1]
        counts = f"{row['rows']:<10,} {row['prompts']:<10,} {row['rejects']:<8,}"
        print(f"{counts} {row['rows_s']:<8,.0f} {row['rows_cpu_s']:<11,.0f} {row['peak_mib']:,.0f}", flush=True)
    slow = [row["rows"] for row in found if row["rows_s"] < MIN_ROWS_S]
    growth = found[-1]["peak_mib"] / found[0]["peak_mib"]
    print(f"memory of the last over the first: {growth:.2f} (at most {MAX_GROWTH}); "
          f"slower than {MIN_ROWS_S:,} rows/s: {slow or 'none'}")  # fmt: skip
    return int(bool(slow) or growth > MAX_GROWTH)


if __name__ == "__main__":
    raise SystemExit(main())
