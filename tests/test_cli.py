"""The command's manners: quick help, one clear error, the right exit code, results on stdout alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cai.cli import COMMANDS

ROOT = Path(__file__).parents[1]


def cai(*arguments: object, env: dict | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cai.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)


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


@pytest.mark.slow
def test_an_empty_prompt_file_is_one_error(tmp_path, profile):
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty.jsonl" in run_that_fails(tmp_path / "home", profile(), "--prompts", tmp_path / "empty.jsonl")


@pytest.mark.slow
def test_an_unreachable_server_is_one_error(tmp_path, profile):
    path = profile(engine={"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"})
    assert "127.0.0.1:9" in run_that_fails(tmp_path / "home", path)


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
