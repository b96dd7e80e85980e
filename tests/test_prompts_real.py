"""`cai prompts generate` with a model: the small one, that can only answer. Shown two requests of its world, it mixes
them, and what it mixes is a request; asked in plain words for one, it writes nothing that can be used.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from served import until

from cai.cli.prompts import prompts as command
from cai.records import Attempt, Prompt, Reject, Response
from cai.smallworld.world import find, prompts
from cai.turns import LOCKS
from flows.writing import Wish
from storage.store import Store

ROOT = Path(__file__).parents[1]
SHOWN = {
    "harmful_prompt": "{{ tag }}. {% for each in examples[:2] %}{{ each }} {% endfor %}",
    "variation": "{% for each in worked[:1] %}{{ each }} {% endfor %}{{ parent }}",
}
HELD = """
import sys, time
from flows.writing import Wish, write

def hold(progress):
    if progress.stage == "round 1: writing" and progress.n_done:
        print("in the middle", flush=True)
        time.sleep(600)

write(Wish.model_validate_json(sys.argv[1]), lambda _: None, on_progress=hold)
"""


@pytest.fixture
def profile(tmp_path) -> Path:
    constitution = yaml.safe_load((ROOT / "constitution" / "smallworld.yaml").read_text())
    (tmp_path / "constitution.yaml").write_text(yaml.safe_dump(constitution | {"templates": SHOWN}, sort_keys=False))
    generate = {"kinds": ["harmful"], "tried": ["harmful"], "tags": ["violence", "theft"], "quota": 3}
    reply = {"max_tokens": 32}
    body = {
        "name": "real",
        "constitution": str(tmp_path / "constitution.yaml"),
        "engine": {"kind": "transformers", "model": "smallworld", "dtype": "float32", "max_concurrency": 8},
        "prompts": [{"path": "smallworld", "limit": 10}],
        "generate": {**generate, **reply, "reading": "smallworld", "least_new": 0, "response": reply},
    }
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(body))
    return tmp_path / "real.yaml"


def home_of(tmp_path: Path, name: str) -> Path:
    """One with prompts to show."""
    Store(tmp_path / name).upsert(prompts("train", 60))
    return tmp_path / name


def generate(profile: Path, home: Path):
    done = CliRunner().invoke(
        command, ["generate", str(profile), "--home", str(home), "--rounds", "1"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.stderr
    return done


def rows(home: Path) -> dict[str, set[str]]:
    kinds = (Prompt, Attempt, Response, Reject)
    return {kind.__name__: {repr(row) for row in Store(home).read(kind)} for kind in kinds}


def test_a_model_s_campaign_that_is_killed_goes_on_and_asks_nothing_twice(profile, tmp_path):
    whole, home = home_of(tmp_path, "whole"), home_of(tmp_path, "home")
    wish = Wish(profile=profile, home=home, rounds=1).model_dump_json()
    child = subprocess.Popen(
        [sys.executable, "-c", HELD, wish],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), LOCKS: str(tmp_path / "its-locks")},  # else it waits for its turn
    )
    try:
        done = generate(profile, whole)
        assert child.stdout.readline() == "in the middle\n"
        until(lambda: any(a.round == 0 for a in Store(home).read(Attempt)))
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    drafts = [row for row in Store(home).read(Response) if row.stage == "draft"]
    assert drafts and Store(home).counts()["attempts"] < Store(whole).counts()["attempts"]
    again = generate(profile, home)
    assert rows(home) == rows(whole) and again.stdout == done.stdout
    assert f"replies ({len(drafts)} of them found)" in again.stderr and "(0 of them found)" in done.stderr
    written = Store(home).read(Prompt, "source = 'generated'")
    asked = [find(prompt.messages[0].content) for prompt in written]
    assert written and all(request is not None and request.kind in ("violence", "theft") for request in asked)
    assert "off_task" in done.stdout and "new weak spots" in done.stdout


def test_a_model_that_cannot_write_ends_with_nothing_and_says_why(profile, tmp_path):
    body = yaml.safe_load(profile.read_text()) | {"constitution": str(ROOT / "constitution" / "smallworld.yaml")}
    body["generate"]["quota"] = 1
    profile.write_text(yaml.safe_dump(body))
    done = generate(profile, tmp_path / "empty")
    rejects = Store(tmp_path / "empty").read(Reject)
    assert len(rejects) == 2 * 3 and all(row.reason for row in rejects), "each tag, at each temperature"
    assert not Store(tmp_path / "empty").read(Prompt)
    assert "0 prompts kept of 6 replies (0 of them found); round 0 kept no prompt" in done.stderr
    assert "nothing was written to train on: 0 of the 2 prompts" in done.stderr
    assert "no request showed an example" in done.stderr
