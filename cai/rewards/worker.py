"""The child process in which checks run: a JSON request a line in, a JSON answer a line out, until its input ends.

    python -m cai.rewards.worker CHECK TIMEOUT_S     # what `verify.Worker` runs; not for people

An answer is `{"value": 1.0}`, or `{"reason": …, "detail": …}` where there is none.
"""

import functools
import importlib
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

from cai.records import Message
from cai.rewards.sandbox import SandboxError
from cai.rewards.sandbox_child import die_with_parent
from cai.rewards.verifiers import SHIPPED, BadExpected, json_schema, unit_test

Answer = dict[str, float | str]


def find(check: str, timeout_s: float) -> Callable[..., Any]:
    """The function of that name: a shipped one, or `package.module:function`, imported here and nowhere else."""
    if check in SHIPPED:
        if check == "json_schema":
            json_schema((), "{}", "{}")  # what it imports is not to count as the time of the first response
        return functools.partial(unit_test, timeout_s=timeout_s) if check == "unit_test" else SHIPPED[check]
    module, _, name = check.partition(":")
    found: Callable[..., Any] = vars(importlib.import_module(module))[name]
    if not callable(found):
        raise TypeError(f"{check} is a {type(found).__name__}, not a function")
    return found


def answer(check: Callable[..., Any], request: dict[str, Any]) -> Answer:
    """What the check says about one response; whatever it raises is a reason, and no verdict."""
    prompt = tuple(Message(turn["role"], turn["content"]) for turn in request["prompt"])
    try:
        return _as_answer(check(prompt, request["response"], request["expected"]))
    except BadExpected as error:
        return _none("bad_expected", str(error))
    except SandboxError as error:
        return _none("no_sandbox", str(error))
    except Exception as error:
        return _none("check_failed", f"{type(error).__name__}: {error}")


def _as_answer(value: object) -> Answer:
    if value is None:
        return _none("check_cannot_tell", "it returned None")
    if not isinstance(value, int | float) or not math.isfinite(value):
        return _none("bad_result", f"expected a bool or a finite number, got {value!r}")
    return {"value": float(value)}


def _none(reason: str, detail: str) -> Answer:
    return {"reason": reason, "detail": detail[:500]}


def main(check: str, timeout_s: str) -> None:
    die_with_parent()  # its input ends too, but a check that hangs does not read it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a check prints goes to the log, and is never read as an answer

    def say(what: Answer) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        found = find(check, float(timeout_s))
    except Exception as error:
        return say(_none("check_not_found", f"{type(error).__name__}: {error}"))
    say({"value": 1.0})
    for line in sys.stdin:
        say(answer(found, json.loads(line)))


if __name__ == "__main__":
    main(*sys.argv[1:])
