"""Nothing a flow starts may outlive it, and every death has a cause."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flows.supervise import Child, StepFailed, run_step


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module a child can run by name."""

    def write(body: str) -> str:
        (tmp_path / "step_under_test.py").write_text(textwrap.dedent(body))
        return "step_under_test"

    paths = [str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return write


def with_a_child(pid: Path) -> str:
    """A step that starts a process, writes its id into `pid`, and waits."""
    return f"""
        import subprocess, sys, time, pathlib
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(pid)!r}).write_text(str(child.pid))
        time.sleep(60)
        """


def run(name: str, tmp_path: Path, **kwargs):
    lines: list[str] = []
    result = run_step([name], log=lines.append, logfile=tmp_path / "log.txt", **kwargs)
    return result, lines


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_marks_reach_the_parent_and_other_lines_the_log(module, tmp_path):
    name = module(
        """
        from flows.supervise import mark
        mark("progress", {"n_done": 1})
        print("hello")
        mark("result", {"n_rows": 3})
        """
    )
    progress: list[dict] = []
    result, lines = run(name, tmp_path, on_progress=progress.append)
    assert result == {"n_rows": 3}
    assert progress == [{"n_done": 1}]
    assert lines == ["hello"]
    assert "hello" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("said", ["result 5", 'progress "50"', "result", "failed {}", 'failed {"error": "no message"}'])
def test_what_a_library_prints_is_no_mark_even_where_it_begins_like_one(module, tmp_path, said):
    """`print("result", 5)` ended the step with a TypeError in its parent."""
    name = module(f"from flows.supervise import mark\nprint({said!r})\nmark('result', {{'n_rows': 3}})")
    assert run(name, tmp_path) == ({"n_rows": 3}, [said])
    with pytest.raises(StepFailed, match="exited with code 1") as error:
        run(module(f"import sys\nprint({said!r})\nsys.exit(1)"), tmp_path)
    assert said in str(error.value)


def test_an_error_of_ours_keeps_its_name_and_message(module, tmp_path):
    name = module(
        """
        from cai.errors import EngineDied
        raise EngineDied("no answer from the engine")
        """
    )
    with pytest.raises(StepFailed, match="no answer from") as error:
        run(name, tmp_path)
    assert error.value.kind == "EngineDied"
    assert error.value.is_transient


def test_a_crash_shows_its_last_lines(module, tmp_path):
    name = module("raise RuntimeError('boom')")
    with pytest.raises(StepFailed, match="boom") as error:
        run(name, tmp_path)
    assert not error.value.is_transient


def test_death_by_signal_is_named(module, tmp_path):
    name = module("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StepFailed, match="SIGKILL") as error:
        run(name, tmp_path)
    assert error.value.kind == "killed"


def test_a_step_that_takes_too_long_is_ended_with_its_children(module, tmp_path):
    name = module(with_a_child(tmp_path / "pid"))
    with pytest.raises(StepFailed, match="did not end within"):
        run(name, tmp_path, timeout_s=2.0)
    assert gone_within(int((tmp_path / "pid").read_text()), 5)


@pytest.mark.parametrize(("last", "kind"), [("os.kill(os.getpid(), signal.SIGKILL)", "killed"), ("pass", "")])
def test_what_a_step_leaves_behind_is_ended_and_waited_for_by_nobody(module, tmp_path, last, kind):
    """An engine's process outlived the step that was killed, held its output open, and the flow listened for ever."""
    name = module(
        f"""
        import os, signal, subprocess, sys
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
        {last}
        """
    )
    lines: list[str] = []
    began = time.monotonic()
    try:
        run_step([name], log=lines.append, logfile=tmp_path / "log.txt")
        died = ""
    except StepFailed as error:
        died = error.kind
    assert died == kind
    assert time.monotonic() - began < 30
    assert gone_within(int(lines[0]), 5)


def test_killing_the_parent_kills_the_whole_group(module, tmp_path):
    """A bare engine inside a task outlives its killed flow and keeps the memory; a supervised one does not."""
    name = module(with_a_child(tmp_path / "pid"))
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from flows.supervise import run_step\n"
            f"run_step([{name!r}], log=print, logfile=pathlib.Path({str(tmp_path / 'log')!r}))",
        ]
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    grandchild = int((tmp_path / "pid").read_text())
    assert alive(grandchild)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone_within(grandchild, 5)


def test_a_child_that_serves_requests_answers_in_order(module, tmp_path):
    name = module(
        """
        import json, sys
        from flows.supervise import mark
        for line in sys.stdin:
            mark("result", {"twice": 2 * json.loads(line)["n"]})
        """
    )
    answers: list[int] = []
    with Child([name], logfile=tmp_path / "log") as child:
        for n in (1, 2, 3):
            child.send({"n": n})
        for _, fields in child.listen(print):
            answers.append(fields["twice"])
            if len(answers) == 3:
                break
    assert answers == [2, 4, 6]
    assert not child.is_alive()


def test_text_that_begins_like_a_mark_is_a_line(module, tmp_path):
    name = module("print('result is good'); print('progress {')")
    result, lines = run(name, tmp_path)
    assert result == {}
    assert lines == ["result is good", "progress {"]
