"""What is wrong with a request is said at once: before an engine, a GPU or a child is taken."""

import pytest
import yaml

from cai.errors import CAIError
from flows.pipeline import constitutional_ai

MISTAKES = {
    "an unknown key": ({"promts": []}, r"unknown key 'promts' \(line \d+\); did you mean 'prompts'\?"),
    "a constitution that breaks a rule": ({"constitution": "broken.yaml"}, "principles"),
    "a constitution that is not there": ({"constitution": "gone.yaml"}, "gone.yaml"),
    "prompts that are not there": ({"prompts": [{"path": "gone.txt"}]}, "no prompts at 'gone.txt'"),
    "a model that is not there": ({"engine": {"kind": "vllm", "model": "gone/model"}}, "gone/model"),
    "nothing to train": ({"sft": {}}, "scripted"),
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
