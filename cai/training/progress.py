"""What a training command says while it works: `progress {json}` lines on stderr, at most one every two seconds. Of
several processes only the main one speaks, unless it fails.
"""

import json
import math
import os
import sys
import time
from typing import TextIO

from cai.errors import CAIError
from cai.training import processes

EVERY_S = 2.0
SUPERVISED = "CAI_SUPERVISED"
"""Set where a program listens (`flows.supervise`), which wants an error's name as well."""


class Progress:
    """Prints the first report, the last, and one every `EVERY_S` seconds between."""

    def __init__(self, stage: str, stream: TextIO | None = None, every_s: float = EVERY_S) -> None:
        self._stage = stage
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._said_at = -math.inf

    def report(self, step: int, n_steps: int, **numbers: float) -> None:
        now = time.monotonic()
        if now - self._said_at < self._every_s and step != n_steps:
            return
        self._said_at = now
        rounded = {name: float(f"{value:.5g}") for name, value in numbers.items() if math.isfinite(value)}
        self._write("progress", {"stage": self._stage, "step": step, "n_steps": n_steps, **rounded})

    def note(self, event: str, **facts: str | int | float | list[str] | None) -> None:
        """Something that happens once: a resume, a discarded leftover, rows left out."""
        self._write("note", {"stage": self._stage, "event": event, **facts})

    def _write(self, kind: str, body: dict[str, object]) -> None:
        if not processes.is_main():
            return
        self._stream.write(f"{kind} {json.dumps(body, ensure_ascii=False)}\n")
        self._stream.flush()


def report_failure(error: CAIError) -> None:
    """Say why the command ends: one line on stderr."""
    if os.environ.get(SUPERVISED):
        sys.stderr.write(f"failed {json.dumps({'error': type(error).__name__, 'message': str(error)})}\n")
    else:
        sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()
