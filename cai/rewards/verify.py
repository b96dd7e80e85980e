"""Verifiers as a source of reward: checks that run in a child process, which is killed where one takes too long.

A right response is 1, a wrong one 0. A check that fails, dies or takes too long has said nothing about the response:
that is unscored, with the reason. No function of a user's is imported here, in the trainer.
"""

import contextlib
import difflib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict

from cai.config import VerifierTerm
from cai.errors import ConfigError
from cai.records import Message
from cai.rewards.base import RewardInput
from cai.rewards.sandbox import START_S
from cai.rewards.verifiers import SHIPPED
from cai.verdict import Unscored

IMPORT_S = 60.0
"""Seconds that a child may take to start and to import the check."""


class Verifier:
    """One check of every response. The term's `expected` goes before the prompt's own."""

    def __init__(self, term: VerifierTerm) -> None:
        """Raises ConfigError: see `Worker`; or the term's `expected` is nothing the check can compare with."""
        self._expected = term.expected
        self._worker = Worker(term.name, term.check, term.timeout_s)
        if term.expected is not None:
            tried = self._worker.ask((), "", term.expected)
            if isinstance(tried, Unscored) and tried.reason == "bad_expected":
                self.close()
                raise ConfigError(f"reward {term.name!r}: `expected` does not fit {term.check!r}: {tried.detail}")

    def score(self, inputs: Sequence[RewardInput]) -> list[float | Unscored]:
        return [self._worker.ask(each.prompt, each.response, self._known(each)) for each in inputs]

    def close(self) -> None:
        self._worker.close()

    def _known(self, each: RewardInput) -> str | None:
        return each.expected if self._expected is None else self._expected


class Worker:
    """The child process of one check; another takes its place after it was killed or died."""

    def __init__(self, name: str, check: str, timeout_s: float) -> None:
        """Start it. `name` is the reward's, for messages.

        Raises:
            ConfigError: there is no such check, it cannot be imported, or there is no sandbox here for its tests.
        """
        self._check = check
        self._timeout_s = timeout_s
        # The sandbox keeps the time of a unit test itself: code that never ends is wrong, and not unscored.
        self._patience_s = timeout_s + START_S if check == "unit_test" else timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Worker] | None = None
        _check_name(name, check)
        failed = self._start() or (self._sandbox_fails() if check == "unit_test" else None)
        if failed is not None:
            self.close()
            raise ConfigError(f"reward {name!r}: the check {check!r} cannot be used: {failed.reason}: {failed.detail}")

    def ask(self, prompt: Sequence[Message], response: str, expected: str | None) -> float | Unscored:
        """The check's value for one response. `expected` may be missing for a function of your own only."""
        if expected is None and self._check in SHIPPED:
            return Unscored("no_expected", f"{self._check} wants the prompt's `expected`, or the term's")
        if self._process is None and (failed := self._start()):
            return failed
        turns = [asdict(message) for message in prompt]
        request = json.dumps({"prompt": turns, "response": response, "expected": expected})
        return self._answer(request, self._patience_s)

    def close(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _start(self) -> Unscored | None:
        """Start a child and wait until it has the check; what went wrong, if anything did."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cai.rewards.worker", self._check, str(self._timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # sees the modules we see
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _kill, self._process)  # at the latest when the trainer ends
        ready = self._answer("", IMPORT_S)
        return ready if isinstance(ready, Unscored) else None

    def _sandbox_fails(self) -> Unscored | None:
        tried = self.ask((), "x = 1", "assert x == 1")
        if isinstance(tried, Unscored):
            return tried
        return None if tried else Unscored("no_sandbox", "a test that must pass did not")

    def _answer(self, request: str, patience_s: float) -> float | Unscored:
        """Send a line (none: the child speaks first) and read the child's next one; end the child if none comes."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        if request:
            with contextlib.suppress(BrokenPipeError):  # it died; reading says so
                process.stdin.write(request.encode() + b"\n")
                process.stdin.flush()
        line = _read_line(process.stdout.fileno(), patience_s)
        if line is None:
            self.close()
            return Unscored("check_timed_out", f"{self._check} took more than {patience_s:g} s")
        if not line.endswith(b"\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)  # so that what is told is how it ended, and not that we ended it
            self.close()
            return Unscored("check_died", f"the process of {self._check} ended with {process.returncode}")
        answer = json.loads(line)
        return float(answer["value"]) if "value" in answer else Unscored(answer["reason"], answer["detail"])


def _check_name(name: str, check: str) -> None:
    module, colon, function = check.partition(":")
    if check in SHIPPED or (colon and function.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        return
    near = difflib.get_close_matches(check, SHIPPED, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"reward {name!r}: there is no check {check!r}; {meant}"
        f"the checks are {', '.join(SHIPPED)}, or your own function as `package.module:function`"
    )


def _read_line(fd: int, patience_s: float) -> bytes | None:
    """One line; what came of it where the file ended; None where time ran out."""
    deadline = time.monotonic() + patience_s
    poll = select.poll()  # unlike select(), it knows no largest file descriptor
    poll.register(fd, select.POLLIN | select.POLLHUP)
    got = b""
    while not got.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        more = os.read(fd, 65536)
        if not more:
            break
        got += more
    return got


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the child and all it started in its session. Its own sandbox dies with it (see `sandbox_child.seal`)."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()
