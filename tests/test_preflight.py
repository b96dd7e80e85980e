"""What is wrong with a request is said at once: before an engine, a GPU or a child is taken."""

import http.server
import json
import os
import subprocess
import threading
from contextlib import contextmanager

import pytest
import yaml
from click.testing import CliRunner
from served import CAI

from cai.cli import door
from cai.errors import CAIError, ConfigError
from flows.pipeline import constitutional_ai


def verifier(check):
    return {"kind": "verifier", "name": "v", "check": check, "expected": "1"}


MISTAKES = {
    "an unknown key": ({"promts": []}, r"unknown key 'promts' \(line \d+\); did you mean 'prompts'\?"),
    "a constitution that breaks a rule": ({"constitution": "broken.yaml"}, "principles"),
    "a constitution that is not there": ({"constitution": "gone.yaml"}, "gone.yaml"),
    "prompts that are not there": ({"prompts": [{"path": "gone.txt"}]}, "no prompts at 'gone.txt'"),
    "a model that is not there": ({"engine": {"kind": "vllm", "model": "gone/model"}}, "gone/model"),
    "nothing to train": ({"sft": {}}, r"`sft` trains from weights on this machine, .*\(scripted\).*`sft: null`"),
    "nothing to train in RL": ({}, "the reward model trains from weights .*--until preferences"),
    "the small world without end": ({"prompts": [{"path": "smallworld"}]}, "`smallworld` needs a `limit`"),
    "no prompts": ({"prompts": []}, "`prompts` is empty; name a source"),
    "a table without prompts": ({"prompts": [{"path": "table.csv"}]}, "table.csv has no column 'prompt' or"),
    "a column that is not there": ({"prompts": [{"path": "table.csv", "column": "b"}]}, "no column 'b', only"),
    "a file of another kind": ({"prompts": [{"path": "prompts.xyz"}]}, "unknown suffix '.xyz'"),
    "a set without prompts": ({"evaluation": {"prompts": [{"path": "table.csv"}]}}, "table.csv has no column"),
    "a check of no name": ({"rl": {"rewards": [verifier("numerc")]}}, "numeric"),
    "a check in no package": ({"rl": {"rewards": [verifier("nopkg.checks:f")]}}, "nopkg"),
    "a metric that nothing gives": (
        {"gate": {"conditions": [{"metric": "harmful_rat", "at_most": 0.1}]}},
        "the metric 'harmful_rat', .*did you mean 'harmful_rate'",
    ),
    "a judge without an address": ({"feedback": {"judge": {"kind": "openai", "model": "m"}}}, "needs `base_url`"),
    "a replica without an address": (
        {
            "feedback": {
                "judge": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "replicas": [""]}
            }
        },
        "needs `base_url`.*has ''",
    ),
    "a script that is not there": ({"engine": {"kind": "scripted", "script": "gone.yaml"}}, "no such file"),
    "a launch file that is not there": ({"accelerate": "gone.yaml"}, "no accelerate configuration at gone.yaml"),
    "a record that is not there": ({"preferences": {"recalibration": "gone"}}, "has no such record"),
    "a reward model that is not there": (
        {"rl": {"rewards": [{"kind": "reward_model", "models": ["gone"]}]}},
        "names the model 'gone'",
    ),
}


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "prompts.txt").write_text("how do i mend a shoe?\n")
    (tmp_path / "prompts.xyz").write_text("how do i mend a shoe?\n")
    (tmp_path / "table.csv").write_text("a,n\nhow do i mend a shoe?,1\n")
    (tmp_path / "broken.yaml").write_text("name: broken\n")
    body = {
        "name": "small",
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted"},
        "prompts": [{"path": "prompts.txt"}],
        "sft": None,
    }

    def write(**changes):
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body | changes))
        return str(tmp_path / "profile.yaml")

    return write


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_the_run_before_a_child_is_started(mistake, profile, tmp_path):
    changes, said = MISTAKES[mistake]
    with pytest.raises(CAIError, match=said):
        constitutional_ai.fn(profile=profile(**changes), home=str(tmp_path / "home"))
    assert not list(tmp_path.glob("home/runs/*/logs")), "the log of a child"


def test_a_profile_that_is_not_there_is_named(profile, tmp_path):
    with pytest.raises(CAIError, match="no profile at"):
        constitutional_ai.fn(profile="gone.yaml", home=str(tmp_path / "home"))


def test_a_home_that_cannot_be_written_to_is_named(profile, tmp_path):
    home = tmp_path / "prompts.txt" / "home"
    said = CliRunner().invoke(door, ["run", profile(), "--home", str(home), "--dry-run"])
    assert isinstance(said.exception, ConfigError)
    assert str(said.exception).startswith(f"nothing can be written to --home {home}: Not a directory")


@pytest.mark.parametrize(
    ("changes", "until"),
    [({"sft": {}}, "revisions"), ({}, "preferences"), ({"rl": {"algorithm": "dpo"}}, "reward_model")],
    ids=["sft", "no sft", "dpo"],
)
def test_a_run_that_ends_before_training_needs_no_weights(changes, until, profile, tmp_path):
    asked = ["run", profile(**changes), "--home", str(tmp_path / "home"), "--until", until, "--dry-run"]
    said = CliRunner().invoke(door, asked, catch_exceptions=False)
    assert said.output.startswith("run           small-")
    assert not (tmp_path / "home").exists()


def test_a_limit_of_the_command_line_will_do_for_the_small_world(profile, tmp_path):
    asked = ["run", profile(), "--prompts", "smallworld", "--limit", "3", "--until", "revisions", "--dry-run"]
    said = CliRunner().invoke(door, [*asked, "--home", str(tmp_path / "home")], catch_exceptions=False)
    assert said.exit_code == 0 and "prompts       smallworld\n" in said.output


@contextmanager
def hub(name):
    """A hub that has one model, and gives none of its files away; the paths that it was asked for."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            is_known = self.path.startswith(f"/api/models/{name}")
            self.send_response(200 if is_known else 404)
            self.end_headers()
            if is_known:
                self.wfile.write(json.dumps({"id": name, "sha": "0" * 40, "siblings": []}).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def test_a_dry_run_asks_the_hub_for_a_name_and_for_no_weights(profile, tmp_path):
    """It fetched fifteen gigabytes to say that all was well."""
    written = profile(engine={"kind": "transformers", "model": "owner/large"})
    with hub("owner/large") as (url, asked):
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        command = [*CAI, "run", written, "--home", str(tmp_path / "home"), "--dry-run"]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert said.stdout.startswith("run           named when owner/large has been fetched from the hub"), said.stderr
    assert asked and not [path for path in asked if "/resolve/" in path]
