"""Code that tries not to be tested fairly, or to get out."""

import os
import platform
import sys
import time

import pytest

from cai.rewards import sandbox_child
from cai.rewards.sandbox import SandboxError, passes
from cai.rewards.verifiers import BadExpected, unit_test

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in sandbox_child.ALLOWED, reason="no sandbox on this machine"
)

TESTS = "assert double(4) == 8\nassert double(-1) == -2\n"
RIGHT = "def double(x):\n    return 2 * x\n"


def test_right_code_passes_and_wrong_code_does_not():
    assert passes(RIGHT, TESTS, 5)
    assert not passes(RIGHT.replace("2 *", "3 *"), TESTS, 5)
    assert not passes("", TESTS, 5)
    assert not passes("def double(", TESTS, 5)


def test_functions_named_test_are_called():
    tests = "def test_it():\n    assert double(4) == 8\n"
    assert passes(RIGHT, tests, 5)
    assert not passes("def double(x): return 0", tests, 5)
    assert not passes("def double(x): return 0\ndef test_it(): pass", tests, 5), "the response cannot replace a test"


def test_ordinary_code_of_the_standard_library_runs():
    code = """
import collections, dataclasses, functools, heapq, itertools, json, math, random, re, string, threading, typing

@dataclasses.dataclass
class Point:
    x: int

@functools.lru_cache
def double(x):
    found = []
    thread = threading.Thread(target=lambda: found.append(Point(2 * x).x))
    thread.start()
    thread.join()
    print(found)
    return found[0]
"""
    assert passes(code, TESTS, 5)


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise SystemExit",
        "print('sealed')\nprint('ok')\nimport os\nos.write(1, b'ok')\nos.write(2, b'ok')\nos._exit(0)",
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'0' * 32)\n    except OSError: pass\nos._exit(0)",
        "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit(0)",
        "def double(x):\n    import os\n    os._exit(0)",
        "x = '''",
        "if False:",
    ],
)
def test_ending_before_the_tests_do_or_saying_ok_is_not_passing(code):
    assert not passes(code, TESTS, 5)


@pytest.mark.parametrize("code", ["while True: pass", "import time\ntime.sleep(60)", "(" * 50])
def test_an_endless_response_is_wrong_after_its_time(code):
    started = time.monotonic()
    assert not passes(code, TESTS, 0.5)
    assert time.monotonic() - started < 10


def test_a_memory_hog_is_wrong():
    assert not passes("x = bytearray(2**30)\n" + RIGHT, TESTS, 5)
    assert not passes("x = []\nwhile True: x.append(bytearray(2**20))", TESTS, 5)


def caught(action: str, error: str = "PermissionError") -> str:
    """Right code if `action` is refused."""
    return f"import os, socket\ntry:\n    {action}\n    got_out = True\nexcept {error}:\n    got_out = False\n" + RIGHT


@pytest.mark.parametrize(
    "action",
    [
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "os.system('true') and os.fork()",
        "os.kill(os.getppid(), 9)",
        "os.killpg(0, 0)",
        "os.setsid()",
        "open('here', 'w')",
        "open('FOLDER/there', 'w')",
        "open('FOLDER/old', 'a')",
        "os.open('FOLDER/old', os.O_RDWR)",
        "os.truncate('FOLDER/old', 0)",
        "os.remove('FOLDER/old')",
        "os.rename('FOLDER/old', 'FOLDER/new')",
        "os.symlink('FOLDER/old', 'FOLDER/new')",
        "os.mkdir('FOLDER/new')",
        "os.chmod('FOLDER/old', 0o777)",
        "os.utime('FOLDER/old')",
        "open(f'/proc/{os.getppid()}/mem', 'wb')",
        "socket.socket()",
        "socket.socketpair()",
        "__import__('fcntl').fcntl(0, 8, os.getppid())",
        "__import__('resource').prlimit(os.getppid(), 0, (0, 0))",
        "__import__('ctypes').CDLL(None, use_errno=True).unshare(0) and os.fork()",
    ],
)
def test_there_is_no_way_out(action, tmp_path):
    (tmp_path / "old").write_text("mine")
    before = (tmp_path / "old").stat()
    code = caught(action.replace("FOLDER", str(tmp_path)))
    assert passes(code, TESTS + "assert not got_out", 5)
    assert not passes(code, TESTS + "assert got_out", 5)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    after = (tmp_path / "old").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, before.st_size)


def test_a_fork_bomb_makes_no_process():
    assert not passes("import os\nwhile True: os.fork()", TESTS, 5)
    bomb = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()"
    assert not passes(bomb, TESTS, 1)


def test_it_sees_no_environment_no_packages_and_an_empty_folder(monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    tests = """
import os, sys
assert "SECRET" not in os.environ and "HOME" not in os.environ
assert os.listdir(".") == []
assert not any(path.endswith("site-packages") for path in sys.path)
"""
    assert passes("x = 1", tests, 5)


def test_nothing_runs_where_the_sandbox_cannot_be_closed(monkeypatch, tmp_path):
    """The child is given a parent that is not its own, as when its parent has died: it must refuse before it runs."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(SandboxError, match="parent has gone"):
        passes(f"open({str(tmp_path / 'ran')!r}, 'w')", "", 5)
    assert not list(tmp_path.iterdir())


def test_the_filter_jumps_to_where_it_should():
    """BPF jumps forwards only, over at most 255 steps, and ends in a verdict: by machine, ours or not."""
    for machine in sandbox_child.ALLOWED:
        steps = sandbox_child.program(machine)
        assert len(steps) < 4096 and steps[-1][0] == 0x06
        jumps = [(i, jump) for i, (code, *both, _) in enumerate(steps) if code != 0x06 for jump in both]
        assert all(0 <= jump < 256 and i + 1 + jump < len(steps) for i, jump in jumps)


def test_the_code_of_a_response_is_its_last_block_or_all_of_it():
    assert unit_test((), RIGHT, TESTS)
    assert unit_test((), f"First a try:\n```python\nno code\n```\nthen:\n```python\n{RIGHT}```\nDone.", TESTS)
    assert not unit_test((), f"```python\n{RIGHT}```\nor\n```\nelse\n```", TESTS)
    with pytest.raises(BadExpected, match="no Python"):
        unit_test((), RIGHT, "assert (")
