"""A profile with a mistake in it: what is wrong, on which line, and what was meant."""

import pytest

from cai.config import load_profile
from cai.errors import ConfigError

SOUND = "name: mine\nconstitution: constitution/smallworld.yaml\nprompts: [{path: smallworld, limit: 20}]\n"
MISTAKES = {
    "a misspelt key": ("chain: {rounds: 2}", r"unknown key 'chain' \(line 4\); did you mean 'chains'\?"),
    "one of a part": ("chains:\n  rouns: 2", r"unknown key 'chains.rouns' \(line 5\); did you mean 'rounds'\?"),
    "one of a kind of a part": (
        "rl:\n  algorithm: ppo\n  stpes: 3",
        r"unknown key 'rl.ppo.stpes' \(line 6\); did you mean 'steps'\?",
    ),
    "one of a kind in a list": (
        "rl:\n  rewards:\n  - {kind: length, name: l, free_token: 1}",
        r"unknown key .*free_token' \(line 6\); did you mean 'free_tokens'\?",
    ),
    "a key given twice": ("chains: {rounds: 1}\nchains: {rounds: 2}", r"'chains' is given twice, .*line 4.*\(line 5\)"),
    "one given twice in a part": ("sft: {epochs: 1, epochs: 2}", r"'epochs' is given twice"),
    "yes for a number": ("chains: {rounds: yes}", r"chains \(line 4\): `rounds` is a number, and yes"),
    "no list of a list": ("evaluation: {prompts: a.jsonl}", r"evaluation.prompts \(line 4\): a list is expected"),
    "no YAML": ("chains:\n\trounds: 1", r"cannot be read: .*\(line 5\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_was_meant(mistake, tmp_path):
    added, said = MISTAKES[mistake]
    path = tmp_path / "profile.yaml"
    path.write_text(SOUND + added + "\n")
    with pytest.raises(ConfigError, match=said):
        load_profile(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "`key: value` lines are expected, .* holds nothing"),
        (b"- a\n", "`key: value` lines are expected, .* holds a list"),
        (SOUND.encode().replace(b"mine", b"My Model"), r"name \(line 1\): .*such as `my-model`, got 'My Model'"),
        (
            SOUND.encode().replace(b"[{path: smallworld, limit: 20}]", b"p.jsonl"),
            r"such as `prompts: .*path: p.jsonl",
        ),
        (SOUND.encode().replace(b"mine", b"caf\xe9"), r"not UTF-8 \(line 1, byte 0xe9\); save the file as UTF-8"),
    ],
)
def test_a_file_that_is_no_profile_is_told_what_one_is(text, said, tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=said):
        load_profile(path)


def test_true_and_false_stay_what_they_are_where_they_are_asked_for(tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text(SOUND + "engine: {keep: yes}\ngate: {probes: on}\n")
    assert load_profile(path).engine.keep
