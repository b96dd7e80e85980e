"""Loading: strict, and every error names the line and the fix. Digests: what decides a row, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from cai.constitution import load_constitution
from cai.constitution.load import parse_text
from cai.constitution.nodes import MAX_ALIASES, MAX_BYTES
from cai.errors import ConstitutionError
from cai.records import Message
from cai.templates import DEFAULTS

TINY = """\
name: tiny
description: two principles
principles:
  - id: no-violence
    title: Do not hurt anyone
    weight: 2
    tags: [harm, violence]
    critique: Does the response help to hurt someone?
    revision: Rewrite it so that it does not.
    preference: Which response is safer?
  - id: be-kind
    stages: [preference]
    tags: [tone]
    preference: Which response is kinder?
examples:
  critique_revision:
    - messages:
        - {role: user, content: Hello.}
      response: Go away.
      critique_request: Is it kind?
      critique: It is not.
      revision_request: Make it kind.
      revision: Hello!
  preference:
    - messages: [{role: system, content: Be brief.}, {role: user, content: Hello.}]
      response_a: Go away.
      response_b: Hello!
      preference: Which response is kinder?
      answer: B
"""
PINNED = "6d2d43d451967f09b2c005b96007083c"


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "tiny.yaml"


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def edited(old: str, new: str) -> str:
    assert TINY.count(old) >= 1
    return TINY.replace(old, new, 1)


def test_what_is_written_is_what_is_loaded(file):
    loaded = load_constitution(write(file, TINY))
    first, second = loaded.principles
    assert (loaded.name, first.id, first.title, first.weight) == ("tiny", "no-violence", "Do not hurt anyone", 2.0)
    assert first.stages == ("critique", "preference")
    assert (second.title, second.weight, second.critique, second.revision) == ("be-kind", 1.0, "", "")
    assert loaded.for_stage("critique") == (first,)
    assert loaded.for_stage("preference") == (first, second)
    assert loaded.examples.preference[0].messages == (Message("system", "Be brief."), Message("user", "Hello."))
    assert loaded.template("revision") == DEFAULTS["revision"]


# (what is wrong, the text, the line of the error, words of the message)
WRONG = [
    ("unknown key", edited("description:", "descriptoin:"), 2, "did you mean 'description'"),
    ("unknown key of a principle", edited("weight:", "wieght:"), 6, "did you mean 'weight'"),
    ("duplicate id", edited("id: be-kind", "id: no-violence"), 11, "already used on line 4"),
    ("duplicate key", edited("    tags: [tone]", "    tags: [tone]\n    tags: [mood]"), 14, "given twice"),
    ("missing request", edited("    revision: Rewrite it so that it does not.\n", ""), 4, "needs a 'revision'"),
    ("missing question", edited("    preference: Which response is kinder?\nexam", "exam"), 11, "needs a 'preference'"),
    ("unknown stage", edited("[preference]", "[preferences]"), 12, "did you mean 'preference'"),
    ("no stage", edited("[preference]", "[]"), 12, "names none"),
    ("zero weight", edited("weight: 2", "weight: 0"), 6, "got 0"),
    ("negative weight", edited("weight: 2", "weight: -1.5"), 6, "got -1.5"),
    ("infinite weight", edited("weight: 2", "weight: .inf"), 6, "expected a number"),
    ("overflowing weight", edited("weight: 2", "weight: 1e999"), 6, "got inf"),
    ("weight in words", edited("weight: 2", "weight: heavy"), 6, "expected a number"),
    ("quoted weight", edited("weight: 2", "weight: '2'"), 6, "expected a number"),
    ("bad id", edited("id: be-kind", "id: Be Kind"), 11, "lower-case letters"),
    ("hyphen first", edited("id: be-kind", "id: -kind"), 11, "lower-case letters"),
    ("long id", edited("id: be-kind", f"id: {'k' * 65}"), 11, "1 to 64"),
    ("missing id", edited("  - id: be-kind\n    stages", "  - stages"), 11, "'id' is missing"),
    ("bad tag", edited("[tone]", "[tone, Two Words]"), 13, "Two Words"),
    ("tag read as false", edited("[tone]", "[no]"), 13, "put it in quotes"),
    ("number for text", edited("kinder?", "kinder?\n    title: 5"), 15, "put it in quotes"),
    ("list for text", edited("title: Do not hurt anyone", "title: [a, b]"), 5, "expected text, got a list"),
    ("empty text", edited("critique: Does the response help to hurt someone?", "critique: ' '"), 8, "empty"),
    ("nothing for text", edited("name: tiny", "name:"), 1, "expected text, got nothing"),
    ("principle as text", edited("  - id: be-kind\n", "  - be kind\n  - id: be-kind\n"), 11, "`key: value` lines"),
    ("control character", edited("name: tiny", 'name: "ti\\eny"'), 1, "control character"),
    ("half a surrogate", edited("name: tiny", 'name: "ti\\ud800ny"'), 1, "control character"),
    ("no principles", "name: tiny\nprinciples: []\n", 2, "at least one"),
    ("principles missing", "\n\nname: tiny\n", 3, "'principles' is missing"),
    ("a list", "- name: tiny\n", 1, "got a list"),
    ("empty", "", None, "empty"),
    ("only a comment", "# to be written\n", None, "empty"),
    ("torn YAML", edited("tags: [tone]", "tags: [tone"), 14, "not YAML"),
    ("tab", edited("    stages", "\tstages"), 12, "not YAML"),
    ("two documents", TINY + "---\nname: other\n", 30, "single document"),
    ("python object", edited("name: tiny", "name: !!python/object/apply:os.getcwd []"), 1, "not allowed"),
    ("custom tag", edited("title: Do", "title: !secret Do"), 5, "not allowed"),
    ("unknown alias", edited("[tone]", "[*tone]"), 13, "undefined alias"),
    ("merge key", edited("    stages", "    <<: {title: x}\n    stages"), 12, "unknown key '<<'"),
    ("escape of no character", edited("name: tiny", 'name: "\\UFFFFFFFF"'), 1, "check the escapes"),
    ("bell in the file", edited("name: tiny", "name: ti\x07ny"), 1, "not allowed in YAML"),
    ("deep nesting", "name: tiny\nprinciples: " + "[" * 5000, 2, "levels deep"),
    ("template field unknown", TINY + "templates:\n  critique: '{{ critque }}'\n", 31, "did you mean 'critique'"),
    ("template field unused", TINY + "templates:\n  revision: Rewrite it.\n", 31, "does not show its field 'revision'"),
    ("template hides its field", TINY + "templates:\n  revision: '{% if revision %}x{% endif %}'\n", 31, "show"),
    ("template torn", TINY + "templates:\n  critique: '{{ critique'\n", 31, "does not parse"),
    ("template breaks out", TINY + "templates:\n  critique: '{{ critique.__class__ }}'\n", 31, "unsafe"),
    ("template divides by zero", TINY + "templates:\n  critique: '{{ critique }}{{ 1 / 0 }}'\n", 31, "ZeroDivision"),
    ("template unknown", TINY + "templates:\n  comparision: x\n", 31, "did you mean 'comparison'"),
    ("feedback unknown", TINY + "feedback: {principals: 2}\n", 30, "did you mean 'principles'"),
    ("feedback none", TINY + "feedback: {principles: 0}\n", 30, "whole number from 1"),
    ("feedback half", TINY + "feedback: {principles: 1.5}\n", 30, "whole number from 1"),
    ("clamp backwards", TINY + "feedback: {clamp: [0.6, 0.4]}\n", 30, "low < high"),
    ("clamp of one", TINY + "feedback: {clamp: [0.4]}\n", 30, "low < high"),
    ("answer neither letter", edited("answer: B", "answer: C"), 29, "known: A, B"),
    ("unknown role", edited("role: system", "role: sistem"), 25, "did you mean 'system'"),
    ("assistant last", edited("role: user", "role: assistant"), 18, "must end with the user"),
    ("example torn", edited("      revision: Hello!\n", ""), 17, "'revision' is missing"),
]


@pytest.mark.parametrize(("text", "line", "says"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_each_error_names_file_line_and_fix(file, text, line, says):
    with pytest.raises(ConstitutionError) as raised:
        load_constitution(write(file, text))
    assert (raised.value.file, raised.value.line) == (str(file), line), raised.value
    assert says in str(raised.value)
    assert f"({file}:{line})" in str(raised.value) or line is None


def test_a_missing_file_says_where_others_are(file):
    with pytest.raises(ConstitutionError, match="no such file"):
        load_constitution(file)


def test_a_file_that_is_not_utf8_names_the_line_of_the_byte(file):
    file.write_bytes(TINY.replace("kinder", "kindér").encode("latin-1"))
    with pytest.raises(ConstitutionError, match="not UTF-8") as raised:
        load_constitution(file)
    assert raised.value.line == 14


def test_an_oversized_file_is_refused_before_it_is_parsed(file):
    write(file, TINY + "# " + "x" * MAX_BYTES)
    with pytest.raises(ConstitutionError, match="larger than"):
        load_constitution(file)


def test_a_few_aliases_are_fine_and_a_bomb_is_not(file):
    loaded = load_constitution(write(file, edited("[harm, violence]", "&t [harm]").replace("[tone]", "*t")))
    assert [p.tags for p in loaded.principles] == [("harm",), ("harm",)]
    levels = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(ConstitutionError, match=f"more than {MAX_ALIASES} aliases") as raised:
        load_constitution(write(file, "\n".join(levels)))
    assert raised.value.line == 4


def test_an_alias_of_itself_ends():
    assert parse_text("principles: &p\n  - *p\n  - id: &i [*i]\nname: loop\n").constitution is None


def test_all_errors_of_a_file_are_found_by_line():
    text = edited("weight: 2", "weight: 0").replace("id: be-kind", "id: no-violence").replace("answer: B", "answer: C")
    found = parse_text(text)
    assert found.constitution is None
    assert [(p.line, p.level) for p in found.problems] == [(6, "error"), (11, "error"), (29, "error")]


def test_the_error_of_loading_says_how_many_more_there_are(file):
    text = edited("weight: 2", "weight: 0").replace("id: be-kind", "id: no-violence")
    with pytest.raises(ConstitutionError, match=r"and 1 more: cai constitution lint"):
        load_constitution(write(file, text))


def test_the_digest_of_a_constitution_stays_what_it_is():
    assert parse_text(TINY).constitution.digest() == PINNED


def test_writing_the_same_otherwise_gives_the_same_digests():
    """Key order, the order of principles, block styles, titles, tags, name and description decide no row."""
    other = """\
principles:
  - {preference: 'Which response is kinder?', id: be-kind, stages: [preference]}
  - revision: >
      Rewrite it so
      that it does not.
    preference: |
      Which response is safer?
    critique: "Does the response help to hurt someone?"
    weight: 2.0
    stages: [preference, critique]
    id: no-violence
name: other
""" + TINY[TINY.index("examples:") :]
    assert parse_text(other).constitution.digest() == PINNED


def test_the_digest_covers_everything_that_decides_a_row():
    changes = [
        ("weight: 2", "weight: 3"),
        ("hurt someone?", "harm someone?"),
        ("safer?", "safest?"),
        ("[preference]", "[preference, critique]\n    critique: c.\n    revision: r."),
        ("critique: It is not.", "critique: No."),
        ("answer: B", "answer: A"),
        ("examples:", "feedback: {principles: 1}\nexamples:"),
        ("examples:", "templates: {critique: 'Q: {{ critique }}'}\nexamples:"),
    ]
    digests = {parse_text(edited(old, new)).constitution.digest() for old, new in changes}
    assert len(digests | {PINNED}) == len(changes) + 1


def test_a_principle_digest_follows_only_the_texts_of_its_stage():
    principle = parse_text(TINY).constitution.principles[0]
    critique, preference = principle.digest("critique"), principle.digest("preference")
    assert len(critique) == 32 and critique != preference
    for same in (replace(principle, title="x"), replace(principle, tags=()), replace(principle, weight=9.0)):
        assert (same.digest("critique"), same.digest("preference")) == (critique, preference)
    assert replace(principle, revision="x").digest("critique") != critique
    assert replace(principle, revision="x").digest("preference") == preference
    assert replace(principle, preference="x").digest("critique") == critique
    assert replace(principle, preference="x").digest("preference") != preference
    assert replace(principle, id="x").digest("critique") != critique


def test_a_template_digest_covers_templates_and_examples_of_its_stage():
    base = parse_text(TINY).constitution

    def digests(text: str) -> tuple[bool, bool]:
        other = parse_text(text).constitution
        return tuple(other.template_digest(s) != base.template_digest(s) for s in ("critique", "comparison"))

    assert digests(TINY + "templates: {revision: 'Do: {{ revision }}'}\n") == (True, False)
    assert digests(TINY + "templates: {critique: 'Do: {{ critique }}'}\n") == (True, False)
    assert digests(edited("revision: Hello!", "revision: Good day!")) == (True, False)
    assert digests(edited("answer: B", "answer: A")) == (False, True)
    assert digests(edited("hurt someone?", "harm someone?")) == (False, False)


def test_without_a_tag_drops_its_principles_and_nothing_else():
    constitution = parse_text(TINY).constitution
    rest = constitution.without("tone")
    assert [p.id for p in rest.principles] == ["no-violence"]
    assert rest.examples == constitution.examples
    assert rest.digest() != constitution.digest()


def test_without_an_unknown_tag_names_the_known_ones():
    with pytest.raises(ConstitutionError, match="its tags are harm, tone, violence"):
        parse_text(TINY).constitution.without("crime")


def test_without_a_tag_that_empties_a_stage_is_refused():
    with pytest.raises(ConstitutionError, match="no principle left for the stage 'critique'"):
        parse_text(TINY).constitution.without("harm")
