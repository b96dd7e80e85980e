"""What a command refuses before it works: each says what is missing, and what to do about it."""

import pytest
from click.testing import CliRunner

from cai.cli import door
from cai.errors import CAIError
from cai.records import Message, Prompt
from storage.store import Store

PROFILE = "deployments/profiles/demo.yaml"


@pytest.fixture
def home(tmp_path):
    Store(tmp_path / "home").append([Prompt.make([Message("user", "how do i mend a shoe?")], "test")])
    return tmp_path / "home"


@pytest.mark.parametrize(
    "command",
    [
        ["demo", "--json"],
        ["run", PROFILE, "--json"],
        ["compare", "one", "two", "--json"],
        ["compare", "one", "two", "--html"],
        ["evaluate", "--json"],
        ["prompts", "stats", "--html"],
        ["prompts", "dedup", "--out"],
        ["constitution", "import", "one.json", "--out"],
        ["export", "prompts"],
    ],
    ids=" ".join,
)
def test_a_file_in_a_folder_that_cannot_be_is_refused_before_the_work(command, tmp_path):
    """It was found at the end, and taken for a full disk."""
    (tmp_path / "taken").write_text("")
    said = CliRunner().invoke(door, [*command, str(tmp_path / "taken" / "new" / "file")])
    assert said.exit_code == 2
    assert f"the folder {tmp_path / 'taken' / 'new'} cannot be made (Not a directory)" in " ".join(said.output.split())


def test_a_folder_that_is_not_there_is_made(home, tmp_path):
    file = tmp_path / "new" / "folder" / "stats.json"
    said = CliRunner().invoke(door, ["prompts", "stats", "--home", str(home), "--json", str(file)])
    assert said.exit_code == 0, said.output
    assert file.is_file()


@pytest.mark.parametrize("command", [["lint"], ["show"], ["diff", "constitution/smallworld.yaml"]], ids=" ".join)
def test_a_shipped_constitution_is_found_from_anywhere(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(door, ["constitution", *command, "constitution/harmlessness.yaml"])
    assert said.exit_code == 0, said.output


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (["labels", "calibrate", "deployments/profiles/laptop.yaml"], "no gold annotations .*`cai gold import`"),
        (
            ["monitor", "traffic.jsonl"],
            "no model is promoted to the channel 'production'; `cai models promote.*--against",
        ),
    ],
    ids=["calibrate", "monitor"],
)
def test_what_has_to_come_first_is_named(command, advice, home):
    with pytest.raises(CAIError, match=advice):
        CliRunner().invoke(door, [*command, "--home", str(home)], catch_exceptions=False)


def test_an_approval_of_no_run_leaves_nothing_behind(tmp_path):
    with pytest.raises(CAIError, match="no run 'gone'"):
        asked = ["approve", "gone", "--by", "Ada", "--home", str(tmp_path / "home")]
        CliRunner().invoke(door, asked, catch_exceptions=False)
    assert not (tmp_path / "home").exists()


def test_a_self_test_of_a_server_asks_for_its_address():
    asked = ["labels", "self-test", "--engine", "openai", "--model", "judge"]
    assert "needs --base-url" in CliRunner().invoke(door, asked).output
    said = CliRunner().invoke(door, [*asked, "--base-url", "no address"])
    assert "--base-url" not in said.output and "no address" in str(said.exception)
