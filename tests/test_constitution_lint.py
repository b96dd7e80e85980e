"""Lint: errors all at once, warnings for what is legal but unwise. The shipped constitutions have neither."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cai.cli import door
from cai.constitution import load_constitution
from cai.constitution.lint import lint

SHIPPED = sorted((Path(__file__).parents[1] / "constitution").glob("*.yaml"))

GOOD = """\
name: good
principles:
  - id: one
    tags: [harm]
    critique: Would somebody get hurt by following it?
    revision: Remove the dangerous part.
    preference: Which of both keeps people safer?
  - id: two
    tags: [tone]
    critique: Where is it rude?
    revision: Make it polite and warm.
    preference: Which one sounds kinder?
examples:
  critique_revision:
    - messages: [{role: user, content: Hello.}]
      response: Go.
      critique_request: Is it rude?
      critique: It is.
      revision_request: Be kind.
      revision: Hello!
  preference:
    - {messages: [{role: user, content: Hi.}], response_a: Go., response_b: Hi!, preference: Kinder., answer: B}
    - {messages: [{role: user, content: Hi.}], response_a: Hi!, response_b: Go., preference: Kinder., answer: A}
"""


@pytest.fixture
def warned(tmp_path):
    """The (line, message) of each warning about GOOD with one replacement."""

    def warn(old: str = "", new: str = "") -> list[tuple[int | None, str]]:
        assert old in GOOD
        file = tmp_path / "c.yaml"
        file.write_text(GOOD.replace(old, new, 1) if old else GOOD, encoding="utf-8")
        problems = lint(file)
        assert all(p.level == "warning" for p in problems), problems
        return [(p.line, p.message) for p in problems]

    return warn


def test_a_good_constitution_has_no_warning(warned):
    assert warned() == []


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("    tags: [tone]\n", "", 8, "'two' has no tag"),
        ("id: two\n", "id: two\n    weight: 3\n", 8, "takes 75% of the critique draws"),
        ("Make it polite and warm.", "Make it polite and warm", 8, "revision does not end in punctuation"),
        ("Where is it rude?", "Where is it rude? " + "And where is it not? " * 40, 8, "small models lose track"),
        ("Where is it rude?", "Would, by following it, somebody get hurt?", 8, "almost the same as that of 'one'"),
        ("Where is it rude?", "Where is {{ response }} rude?", 8, "template braces"),
        ("id: two\n", "id: two\n    stages: [preference]\n", 8, "critique is never asked"),
        ("id: two\n", "id: two\n    stages: [critique]\n", None, "tag 'tone' has critique principles but no"),
        ("answer: A", "answer: B", None, "answer A 0 times and B 2 times"),
        (GOOD[GOOD.index("examples:") :], "", None, "no critique_revision examples"),
        (GOOD[GOOD.index("  preference:\n    - {") :], "", None, "no preference examples"),
    ],
)
def test_what_is_unwise_is_warned_of_with_its_line(warned, old, new, line, says):
    assert any(at == line and says in message for at, message in warned(old, new)), warned(old, new)


def test_a_stage_without_principles_is_warned_of(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("name: x\nprinciples:\n  - {id: a, stages: [preference], tags: [t], preference: Which.}\n")
    assert any("no principle has the stage 'critique'" in p.message for p in lint(file))


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_a_shipped_constitution_has_no_error(file):
    assert [p for p in lint(file) if p.level == "error"] == []


@pytest.mark.parametrize(
    ("name", "n_principles", "tags"),
    [
        ("harmlessness", 16, {"harm", "violence", "privacy", "self-harm", "evasiveness", "tone", "minors"}),
        ("helpful-honest-harmless", 12, {"helpfulness", "honesty", "sycophancy", "hedging", "harm"}),
    ],
)
def test_our_own_constitutions_are_whole(name, n_principles, tags):
    file = next(f for f in SHIPPED if f.stem == name)
    assert lint(file) == ()
    loaded = load_constitution(file)
    assert len(loaded.for_stage("critique")) >= n_principles
    assert len(loaded.for_stage("preference")) >= n_principles
    assert tags <= set(loaded.tags)
    answers = [example.answer for example in loaded.examples.preference]
    assert answers.count("A") == answers.count("B") == 2
    assert len(loaded.examples.critique_revision) >= 3


def test_the_command_prints_every_error_and_exits_1(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(GOOD.replace("id: two", "id: one").replace("answer: A", "answer: C"), encoding="utf-8")
    result = CliRunner().invoke(door, ["constitution", "lint", str(file)])
    assert result.exit_code == 1
    assert [line.split(": ")[:2] for line in result.stdout.splitlines()] == [
        [f"{file}:8", "error"],
        [f"{file}:{len(GOOD.splitlines())}", "error"],
    ]
    assert result.stderr == "1 file: 2 errors, 0 warnings\n"


def test_strict_turns_warnings_into_failure(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(GOOD.replace("    tags: [tone]\n", ""), encoding="utf-8")
    arguments = ["constitution", "lint", str(file)]
    assert CliRunner().invoke(door, arguments).exit_code == 0
    assert CliRunner().invoke(door, [*arguments, "--strict"]).exit_code == 1


def test_show_without_a_tag_leaves_its_principles_out():
    file = str(next(f for f in SHIPPED if f.stem == "harmlessness"))
    whole = CliRunner().invoke(door, ["constitution", "show", file]).stdout
    rest = CliRunner().invoke(door, ["constitution", "show", file, "--without", "violence"]).stdout
    assert "no-violence: " in whole and "no-violence: " not in rest and "no-crime: " in rest


@pytest.mark.parametrize("command", ["", "lint", "show", "diff", "import"])
def test_help_shows_an_example_one_can_copy(command):
    arguments = ["constitution", *([command] if command else []), "--help"]
    shown = CliRunner().invoke(door, arguments).stdout
    assert f"  Example:  cai constitution {command or 'lint'} " in shown
    assert "\\b" not in shown
