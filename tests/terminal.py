"""`cai` as a person types it, for the tests that run for minutes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CAI = [sys.executable, "-c", "from cai.cli import main; main()"]


def cai(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*CAI, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def value(rates: dict, model: str, metric: str) -> float:
    """A rate of the JSON that `cai demo --json` writes."""
    return rates[model][metric]["value"]
