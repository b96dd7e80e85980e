"""Runs code that nobody has read, against tests: in a process of its own that has shut itself in before it starts.

Inside (`sandbox_child.py`) are an interpreter without site-packages and environment, an empty temporary directory, and
a seccomp filter that allows a list of system calls and refuses all others. What that keeps out:

- processes: no fork, no exec, no signal to another process; threads only, as many as fit the memory;
- files: nothing can be opened for writing, made, renamed, linked or removed, in the temporary directory either;
- the network: no socket of any kind;
- time and memory: `timeout_s` by the clock and of the processor, `MEMORY` of address space; the process is killed with
  its group, and dies with its parent.

What it does not keep out: the code can read every file that this user can read (it has no way to pass on what it
read, other than right or wrong), and it uses a processor for `timeout_s`.

Success is a random token, written after the last test by the interpreter that ran them: printing, exiting early,
replacing `os.write` or closing files writes none. It remains forgeable for code that digs in its own interpreter
(frames, the garbage collector, raw memory) for the token or the tests, or whose objects lie when they are compared;
look at what a policy wrote before a high reward is believed.

Linux on x86_64 and aarch64. Elsewhere nothing is run.
"""

import contextlib
import json
import os
import platform
import secrets
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEMORY = 512 * 2**20
START_S = 20.0
"""Seconds that the interpreter may take to start and to shut itself in, beside `timeout_s`."""

SEALED = b"sealed\n"
_CHILD = Path(__file__).with_name("sandbox_child.py")


class SandboxError(RuntimeError):
    """The sandbox could not be closed, so nothing was run."""


def passes(code: str, tests: str, timeout_s: float) -> bool:
    """Whether `code` runs, and then `tests` with its names, within `timeout_s`. False too where it cannot be parsed,
    takes too long or too much memory, or ends before the tests do.

    Raises:
        SandboxError: this machine cannot close the sandbox.
    """
    token = secrets.token_hex(16)
    limits = {"cpu_s": timeout_s, "memory": MEMORY}
    job = {"token": token, "code": code, "tests": tests, "parent": os.getpid(), **limits}
    with tempfile.TemporaryDirectory(prefix="cai-sandbox-") as folder, _start(folder) as process:
        try:
            return _passed(process, json.dumps(job).encode(), token.encode(), timeout_s)
        finally:
            process.kill()  # it has no other process: it cannot make one


def _start(folder: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={},
        start_new_session=True,
    )


def _passed(process: "subprocess.Popen[bytes]", job: bytes, token: bytes, timeout_s: float) -> bool:
    assert process.stdin and process.stdout and process.stderr
    with contextlib.suppress(BrokenPipeError):  # it died before it was closed, and says below why
        process.stdin.write(job)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    out = process.stdout.fileno()
    if _read(out, len(SEALED), START_S) != SEALED:
        process.kill()
        why = process.stderr.read(4000).decode(errors="replace").strip().splitlines()
        raise SandboxError(why[-1] if why else f"not closed within {START_S} s on {platform.machine()}")
    return _read(out, len(token), timeout_s) == token


def _read(fd: int, n: int, timeout_s: float) -> bytes:
    """`n` bytes, or as many as came before the end of the file or of the time."""
    deadline = time.monotonic() + timeout_s
    got = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    while len(got) < n:
        left_ms = (deadline - time.monotonic()) * 1000
        if left_ms <= 0 or not poll.poll(left_ms):
            break
        more = os.read(fd, n - len(got))
        if not more:
            break
        got += more
    return got
