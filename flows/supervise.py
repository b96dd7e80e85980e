"""A supervised child process: its own process group, a lifeline, output pumped line by line, a cause of death.

Everything heavy runs in one of these, so that cancel, `kill -9` of the flow, timeouts and memory clean-up are true: the
child holds the read end of a pipe, and when the parent is gone, however it went, the child kills its whole group.

    python -m flows.supervise FD MODULE ARGS...     # what the parent runs; not for people
"""

import collections
import contextlib
import json
import math
import os
import queue
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import CAIError

GRACE_S = 10.0
RUNS_GRACE_S = 2 * GRACE_S
"""What a worker gives its runs: they end their steps, and tell the server."""
POLL_S = 0.1
TAIL = 30
# Lines a child writes for its parent rather than for people: `progress {...}`, `result {...}`, `failed {...}`.
MARKS = ("progress", "result", "failed")
SUPERVISED = "CAI_SUPERVISED"  # tells a command that `failed {...}` is heard
MEMORY = "out of memory is the usual reason (see `dmesg`)"
WORKER_KILLED = "Signal 9 (SIGKILL) received by PID"
"""In the last words of torch's launcher, whose own exit code is 1 whatever ended its workers."""


class StepFailed(CAIError):
    """A child that did not finish. `kind` is the name of the error it reported, or how it died."""

    def __init__(self, kind: str, message: str, tail: Sequence[str] = ()) -> None:
        super().__init__(message + ("\n" + "\n".join(tail) if tail else ""))
        self.kind = kind

    def __reduce__(self) -> tuple[type["StepFailed"], tuple[str, str]]:
        """What another process makes of it: the same kind and message."""
        return type(self), (self.kind, str(self))

    @property
    def is_transient(self) -> bool:
        """Worth another try: an engine that died. A server that does not answer was waited for by the engine itself."""
        return self.kind in {"EngineDied", "killed", "signal"}

    @property
    def is_not_finite(self) -> bool:
        """Worth one more try, from an earlier checkpoint."""
        return self.kind == "NotFinite"

    @property
    def is_out_of_memory(self) -> bool:
        """It did not fit: so said the step, or it had no time to (the kernel ends with SIGKILL who asks too much)."""
        return self.kind in {"OutOfMemory", "killed"}


Log = Callable[[str], None]


class Mark(NamedTuple):
    """A line a child wrote for its parent."""

    name: str
    fields: dict[str, Any]


class Child:
    """A running child. Use as a context manager: leaving it, for whatever reason, ends the whole process group."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        logfile: Path,
        env: Mapping[str, str] | None = None,
        is_heard: bool = True,
        holds: Sequence[int] = (),
    ) -> None:
        """`argv` is a module and its arguments. All its output goes to `logfile`, and is kept for `listen` unless
        `is_heard` says that nobody will. What the parent has locked by the files `holds`, the child has locked too.
        """
        self._is_heard = is_heard
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL)
        self._lines: queue.Queue[Mark | str] = queue.Queue()
        self._failure: dict[str, Any] | None = None
        read, write = os.pipe()
        self._lifeline = write
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.supervise", str(read), *argv],
            pass_fds=(read, *holds),
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**_threads(), **os.environ, **(env or {}), "PYTHONUNBUFFERED": "1", SUPERVISED: "1"},
        )
        os.close(read)
        logfile.parent.mkdir(parents=True, exist_ok=True)
        self._pump = threading.Thread(target=self._read, args=(logfile,), daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one JSON line to the child's standard input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait(GRACE_S)
            self.raise_if_dead()

    def listen(self, log: Log, timeout_s: float | None = None) -> Iterator[Mark]:
        """The child's marks as they come, until it ends well; its other lines go to `log`. Nothing runs on a thread
        of ours: a run's logger knows its run only on the thread of the run.

        Raises:
            StepFailed: the child ended otherwise, or not within `timeout_s` seconds.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            is_over = not self._pump.is_alive()
            try:
                line = self._lines.get(timeout=POLL_S)
            except queue.Empty:
                if not is_over:
                    self._end_what_is_left()
                    continue
                self.raise_if_dead()
                return
            if isinstance(line, Mark):
                yield line
            else:
                log(line)
        raise StepFailed("timeout", f"the step did not end within {timeout_s} s", self._tail)

    def raise_if_dead(self) -> None:
        """Raise `StepFailed` if the child has ended with anything but success."""
        code = self._process.poll() if self._pump.is_alive() else self._process.wait(GRACE_S)
        if code in (None, 0):
            return
        self._pump.join(5)
        if self._failure is not None:
            raise StepFailed(str(self._failure["error"]), str(self._failure["message"]))
        if code is not None and code < 0:
            if code != -signal.SIGKILL:
                raise StepFailed("signal", f"the step was ended by {signal.Signals(-code).name}", self._tail)
            raise StepFailed("killed", f"the step was ended by SIGKILL; {MEMORY}", self._tail)
        if any(WORKER_KILLED in line for line in self._tail):
            raise StepFailed("killed", f"a process of the step was ended by SIGKILL; {MEMORY}", self._tail)
        raise StepFailed("exit", f"the step exited with code {code}", self._tail)

    def _end_what_is_left(self) -> None:
        """A child that is gone may leave processes in its group, which hold its output open (vLLM's does at times)."""
        if self._process.poll() is not None:
            self._signal_group(signal.SIGKILL)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End the group: SIGTERM, then SIGKILL after `grace_s` seconds. Safe to call twice."""
        for sig, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, GRACE_S)):
            if not self._signal_group(sig):
                break
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline and self._signal_group(0):
                self._process.poll()
                time.sleep(0.02)
        self._process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self._pump.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()

    def _signal_group(self, sig: int) -> bool:
        try:
            os.killpg(self._process.pid, sig)
        except ProcessLookupError:
            return False
        return True

    def _read(self, logfile: Path) -> None:
        assert self._process.stdout is not None
        with logfile.open("ab", buffering=0) as file:
            for line in self._process.stdout:
                with contextlib.suppress(OSError):  # a full disk; the child must still be heard, or it waits for ever
                    file.write(line.encode())
                self._handle(line.rstrip())

    def _handle(self, line: str) -> None:
        if not self._is_heard:
            self._tail.append(line)
            return
        mark = _read_mark(line)
        if mark is not None and mark.name == "failed":
            self._failure = mark.fields
        if mark is None:
            self._tail.append(line)
        self._lines.put(mark or line)


def _read_mark(line: str) -> Mark | None:
    """None for somebody's text, which may begin like a mark."""
    name, _, body = line.partition(" ")
    if name not in MARKS:
        return None
    try:
        fields = json.loads(body)
    except json.JSONDecodeError:
        return None
    is_whole = isinstance(fields, dict) and (name != "failed" or {"error", "message"} <= fields.keys())
    return Mark(name, fields) if is_whole else None


def run_step(
    argv: Sequence[str],
    *,
    log: Log,
    logfile: Path,
    on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    holds: Sequence[int] = (),
) -> dict[str, Any]:
    """Run one module to its end and return the fields of its last `result` line ({} where it wrote none).

    Raises:
        StepFailed: see `Child.listen`.
    """
    result: dict[str, Any] = {}
    with Child(argv, logfile=logfile, env=env, holds=holds) as child:
        for name, fields in child.listen(log, timeout_s):
            if name == "progress":
                on_progress(fields)
            elif name == "result":
                result.update(fields)
    return result


def _threads() -> dict[str, str]:
    """Threads that wait for a busy core must not spin: a step of a second takes ten (measured: 237 tokens a second
    spinning on both cores of a busy machine, 650 on one). Waiting so, two threads on a busy machine take 1.15 times as
    long as one, and on a quiet one 0.79.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE"}


def mark(name: str, fields: Mapping[str, Any]) -> None:
    """Tell the parent something, from inside a child."""
    sys.stdout.write(f"{name} {json.dumps(fields, default=str)}\n")
    sys.stdout.flush()


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when every write end is closed: the parent is gone
    os.killpg(0, signal.SIGKILL)


def _child(lifeline: int, argv: list[str]) -> None:
    os.set_inheritable(lifeline, False)
    threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
    sys.argv = argv
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except CAIError as error:
        mark("failed", {"error": type(error).__name__, "message": str(error)})
        sys.exit(1)


if __name__ == "__main__":
    _child(int(sys.argv[1]), sys.argv[2:])
