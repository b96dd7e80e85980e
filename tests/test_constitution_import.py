"""Import of published JSON constitutions: both shapes, stable ids, nothing dropped, nothing guessed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cai.cli import door
from cai.constitution import load_constitution
from cai.constitution.dump import to_yaml
from cai.constitution.importers import import_json
from cai.errors import CAIError, DataError

NAMED = {
    "harmful0": {
        "prompt": ["\n\nCritiqueRequest: Say where it is harmful.\n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Take the harm out.\n\nRevision:",
    },
    "Rude 1": {
        "prompt": ["\n\nCritiqueRequest: Is it rude?\n\nCritique:", "\n\nCritiqueRequest: Any insult?\n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Make it polite.\n\nRevision:",
    },
}
COMPARISONS = [
    "\nWhich of these responses is less harmful?\n\nOptions:",
    "\n\nWhich of these responses is kinder to the user?\nOptions:",
]
ENTRY = {"critic": "Is it cruel?", "revision": "Make it gentle."}


def turns(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


CHATS = [
    turns("q", "a", "critique?", "c", "revise.", "r"),
    turns("q1", "a1", "q2", "a2", "critique?", "c", "revise.", "r"),
]


@pytest.fixture
def write(tmp_path):
    def write(body: object, name: str = "in.json") -> Path:
        path = tmp_path / name
        path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
        return path

    return write


def test_a_real_published_constitution_comes_through_whole(shared_data, tmp_path):
    source = shared_data / "constitution-json" / "llm-swarm-16.json"
    out = tmp_path / "swarm.yaml"
    result = CliRunner().invoke(door, ["constitution", "import", str(source), "--out", str(out)])
    assert (result.exit_code, result.stdout) == (0, "")
    published, loaded = json.loads(source.read_text("utf-8")), load_constitution(out)
    assert [(p.critique, p.revision) for p in loaded.principles] == [
        (entry["critic"].strip(), entry["revision"].strip()) for entry in published["constitutions"]
    ]
    assert len(loaded.examples.critique_revision) == len(published["system_chat"]) == 4
    last = loaded.examples.critique_revision[-1]
    assert [last.messages[0].content, last.revision] == [
        published["system_chat"][-1][0]["content"].strip(),
        published["system_chat"][-1][-1]["content"].strip(),
    ]


def test_named_entries_lose_their_wrappers_and_keep_their_names(write):
    loaded = import_json([write(NAMED)], "named")
    assert [(p.id, p.critique, p.revision, p.weight) for p in loaded.principles] == [
        ("harmful0", "Say where it is harmful.", "Take the harm out.", 1.0),
        ("rude-1", "Is it rude?", "Make it polite.", 0.5),
        ("rude-1-2", "Any insult?", "Make it polite.", 0.5),
    ]
    assert all(p.stages == ("critique",) for p in loaded.principles)


def test_comparisons_lose_their_options(write):
    loaded = import_json([write(COMPARISONS)], "compared")
    assert [p.preference for p in loaded.principles] == [
        "Which of these responses is less harmful?",
        "Which of these responses is kinder to the user?",
    ]
    assert all(p.stages == ("preference",) for p in loaded.principles)


def test_files_published_apart_become_one_constitution(write):
    loaded = import_json([write(NAMED), write(COMPARISONS, "two.json")], "both")
    assert (len(loaded.for_stage("critique")), len(loaded.for_stage("preference"))) == (3, 2)


def test_worked_chats_become_examples_with_their_whole_conversation(write):
    examples = import_json([write({"constitutions": [ENTRY], "system_chat": CHATS})], "x").examples.critique_revision
    assert [len(e.messages) for e in examples] == [1, 3]
    assert [(m.role, m.content) for m in examples[1].messages] == [("user", "q1"), ("assistant", "a1"), ("user", "q2")]
    assert (examples[0].response, examples[0].critique, examples[0].revision) == ("a", "c", "r")


def test_ids_do_not_depend_on_the_place_in_the_list(write):
    others = [{"critic": f"Is it {word}?", "revision": f"Not {word}."} for word in ("cruel", "vague", "wrong")]
    one = import_json([write({"constitutions": others})], "x")
    two = import_json([write({"constitutions": [{"critic": "New?", "revision": "New."}, *others[::-1]]})], "x")
    assert {p.id: p.critique for p in one.principles}.items() <= {p.id: p.critique for p in two.principles}.items()


def test_a_text_published_twice_is_drawn_twice_as_often(write):
    loaded = import_json([write({"constitutions": [ENTRY, ENTRY]})], "x")
    assert [p.weight for p in loaded.principles] == [2.0]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": 1, "a": 2}', "given twice"),
        ("3", "neither published shape"),
        ({"harmful0": {"prompt": "text", "edit_request": "x"}}, "entry 'harmful0'"),
        ({"harmful0": {"prompt": [" "], "edit_request": "x"}}, "texts in `prompt`"),
        ({"harmful0": {"prompt": ["x"]}}, "'edit_request'"),
        ({"A b": NAMED["harmful0"], "a-b": NAMED["Rude 1"]}, "named 'a-b'"),
        (["Which is better?"], "entry 1"),
        (["\nOptions:"], "no question"),
        ([7], "neither published shape"),
        ({"constitutions": {}}, "neither published shape"),
        ({"constitutions": [{"critic": "x"}]}, "constitutions 1: expected a text under 'revision'"),
        ({"constitutions": [ENTRY], "system_chat": [turns("q", "a")]}, "system_chat 1"),
        ({"constitutions": [ENTRY], "system_chat": [turns("q", "a", "c", "c", "r", "r")[::-1]]}, "in turn"),
    ],
)
def test_what_fits_neither_shape_is_an_error_that_names_the_entry(write, body, says):
    with pytest.raises(DataError, match=".*") as raised:
        import_json([write(body)], "x")
    assert says in str(raised.value)


def test_an_import_that_would_not_load_is_refused(write):
    entry = {"critic": "Is it \x07 loud?", "revision": "x"}
    with pytest.raises(DataError, match="control character"):
        to_yaml(import_json([write({"constitutions": [entry]})], "x"))


@pytest.mark.parametrize("name", ["harmlessness", "helpful-honest-harmless"])
def test_yaml_written_by_us_loads_back_as_the_same(name, tmp_path):
    shipped = load_constitution(Path(__file__).parents[1] / "constitution" / f"{name}.yaml")
    out = tmp_path / "out.yaml"
    out.write_text(to_yaml(shipped), encoding="utf-8")
    assert load_constitution(out) == shipped


def test_the_command_prints_yaml_where_no_file_is_named(write):
    result = CliRunner().invoke(door, ["constitution", "import", str(write(NAMED))])
    assert result.exit_code == 0
    assert result.stdout.startswith("name: in\n")
    assert "imported 3 principles" in result.stderr


def test_a_file_that_is_there_is_not_overwritten_unasked(write, tmp_path):
    out = tmp_path / "mine.yaml"
    out.write_text("by hand", encoding="utf-8")
    arguments = ["constitution", "import", str(write(NAMED)), "--out", str(out)]
    result = CliRunner().invoke(door, arguments)
    assert isinstance(result.exception, CAIError) and out.read_text("utf-8") == "by hand"
    assert CliRunner().invoke(door, [*arguments, "--force"]).exit_code == 0
    assert len(load_constitution(out).principles) == 3
