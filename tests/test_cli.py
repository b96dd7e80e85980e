"""The command's manners: quick help, one clear error, the right exit code, results on stdout alone."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cai.cli import COMMANDS
from cai.records import Run
from storage.store import Store

ROOT = Path(__file__).parents[1]


def cai(*arguments: object, env: dict | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cai.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)


@pytest.fixture
def profile(tmp_path):
    """A valid profile over the scripted engine, changed by what is given."""

    def write(**changes: object) -> Path:
        (tmp_path / "prompts.txt").write_text("how do i bake bread?\n")
        body = {
            "name": "tried",
            "constitution": "constitution/harmlessness.yaml",
            "engine": {"kind": "scripted"},
            "prompts": [{"path": str(tmp_path / "prompts.txt")}],
            "sft": None,
            "feedback": {"self_test": False},  # the scripted judge reads nothing
        }
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body | changes))
        return tmp_path / "profile.yaml"

    return write


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name):
    done = cai(name, "--help")
    assert done.returncode == 0
    assert f"cai {name}" in done.stdout, "no example"
    assert done.stderr == ""


def test_help_loads_nothing_heavy():
    code = "import sys, cai.cli; sys.argv = ['cai', '--help']\ntry: cai.cli.main()\nexcept SystemExit: pass\n"
    code += "print({m.split('.')[0] for m in sys.modules} & {'torch', 'vllm', 'prefect', 'duckdb', 'pyarrow'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n")


def run_that_fails(home: Path, *arguments: object) -> str:
    """The one line that a failing command says, and nothing on stdout."""
    done = cai("run", *arguments, "--home", home)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_a_missing_profile_says_where_profiles_are(tmp_path):
    assert "deployments/profiles" in run_that_fails(tmp_path, "nothing.yaml")


def test_an_unknown_key_in_a_profile_is_named(tmp_path, profile):
    assert "chain" in run_that_fails(tmp_path, profile(chain={"rounds": 2}))


def test_a_wrong_constitution_names_file_and_line(tmp_path, profile):
    (tmp_path / "bad.yaml").write_text("name: bad\nprinciples:\n  - id: a\n    titel: A\n")
    assert "bad.yaml:" in run_that_fails(tmp_path, profile(constitution=str(tmp_path / "bad.yaml")))


def test_a_missing_model_is_found_before_anything_is_started(tmp_path, profile):
    path = profile(engine={"kind": "vllm", "model": str(tmp_path / "nowhere")})
    assert "nowhere" in run_that_fails(tmp_path / "home", path)
    assert not (tmp_path / "home" / "prefect").exists()


def test_an_unknown_tag_names_those_there_are(tmp_path, profile):
    assert "violence" in run_that_fails(tmp_path, profile(), "--without", "nonsense")


def test_missing_prompts_are_one_error(tmp_path, profile):
    assert "none.jsonl" in run_that_fails(tmp_path, profile(), "--prompts", tmp_path / "none.jsonl")


def test_an_empty_prompt_file_is_one_error(tmp_path, profile):
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty.jsonl" in run_that_fails(tmp_path / "home", profile(), "--prompts", tmp_path / "empty.jsonl")


@pytest.mark.slow
def test_an_unreachable_server_is_one_error(tmp_path, profile):
    path = profile(engine={"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "tries": 2})
    assert "127.0.0.1:9" in run_that_fails(tmp_path / "home", path, "--until", "preferences")
    (run,) = Store(tmp_path / "home").read(Run)
    assert run.status == "failed" and run.ended_at >= run.started_at


@pytest.mark.slow
def test_a_prompt_longer_than_the_context_is_a_reject_row(tmp_path, profile):
    (tmp_path / "long.txt").write_text("how do i bake bread?\n" + "very " * 3000 + "long\n")
    path = profile(engine={"kind": "scripted", "context_length": 2500})
    done = cai("run", path, "--home", tmp_path / "home", "--prompts", tmp_path / "long.txt", "--until", "preferences")
    assert done.returncode == 0, done.stderr
    rejects = cai(
        "sql", "select reason, count(*) as n from rejects group by all", "--format", "json", "--home", tmp_path / "home"
    )
    assert "prompt_too_long" in {row["reason"] for row in json.loads(rejects.stdout)}


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path, profile):
    done = cai("run", profile(), "--home", tmp_path / "home", "--dry-run", "--until", "preferences")
    assert done.returncode == 0, done.stderr
    assert "preferences" in done.stdout
    assert not (tmp_path / "home").exists()


def test_a_password_in_the_servers_address_is_never_shown(tmp_path, profile, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://user:secret@127.0.0.1:9/api")
    said = run_that_fails(tmp_path, profile())
    assert "127.0.0.1:9" in said
    assert "secret" not in said


def test_a_place_that_cannot_be_written_is_one_error(tmp_path, profile):
    (tmp_path / "file").write_text("")
    assert "file" in run_that_fails(tmp_path / "file" / "home", profile())


def test_the_demo_can_be_planned_from_anywhere(tmp_path):
    profile = ROOT / "deployments" / "profiles" / "demo.yaml"
    done = cai("run", profile, "--home", tmp_path / "home", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    return found + [grandchild for child in found for grandchild in descendants(child)]


@pytest.mark.slow
def test_ctrl_c_ends_everything_and_the_same_command_goes_on(tmp_path, profile):
    (tmp_path / "script.yaml").write_text(yaml.safe_dump({"latency_s": 0.1}))
    path = profile(engine={"kind": "scripted", "script": str(tmp_path / "script.yaml"), "max_concurrency": 1})
    (tmp_path / "prompts.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(15)))
    command = [sys.executable, "-c", "from cai.cli import main; main()", "run", path, "--until", "revisions", "--home"]
    home = tmp_path / "home"
    running = subprocess.Popen(
        [*command, home],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell without job control starts what it puts into the background deaf to Ctrl-C, tests and all.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list(home.glob("tables/revisions/*.parquet")):
        assert running.poll() is None
        time.sleep(0.2)
    started = descendants(running.pid)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "same command" in said
    assert len(started) >= 2
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    done = cai("run", path, "--until", "revisions", "--home", home)
    assert done.returncode == 0, done.stderr
    assert re.search(r"critique and revise +15 +15 +0", done.stdout)


def test_rates_are_not_promised_where_nothing_will_be_measured(tmp_path, profile):
    done = cai(
        "run", profile(), "--home", tmp_path / "home", "--until", "preferences", "--json", tmp_path / "rates.json"
    )
    assert done.returncode == 2
    assert "--until preferences" in done.stderr
