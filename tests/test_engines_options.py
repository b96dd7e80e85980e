"""Which tokens say which option."""

import math

import pytest

from cai.engines.options import NEVER, begun_option, choice_from, said_option, spellings
from cai.errors import EngineError


@pytest.mark.parametrize("text", ["A", " A", "(A)", "A.", "**A**", "a", "\nA:"])
def test_marks_case_and_space_do_not_change_what_is_said(text):
    assert said_option(text, ["A", "B"]) == 0


@pytest.mark.parametrize("text", ["", "C", "A or B", "AB", "Answer", "( )"])
def test_what_says_no_option_or_two_says_none(text):
    assert said_option(text, ["A", "B"]) is None


def test_options_that_differ_in_case_alone_are_told_apart():
    assert [said_option(t, ["a", "A"]) for t in ("a", " A", "(A)")] == [0, 1, 1]


def test_a_beginning_counts_for_one_option_or_none():
    assert begun_option("Y", ["Yes", "No"]) == 0
    assert begun_option("", ["Yes", "No"]) is None
    assert begun_option("N", ["No", "Never"]) is None


def tokenizer(words):
    """Longest match from the left, as a byte-pair tokenizer would mostly do."""
    ids = {word: i for i, word in enumerate(words)}

    def encode(text):
        found = []
        while text:
            word = max((w for w in words if text.startswith(w)), key=len, default=None)
            if word is not None:
                found.append(ids[word])
            text = text[len(word or "x") :]
        return found

    return encode, words.__getitem__


def test_every_spelling_of_a_letter_counts_and_what_begins_both_counts_for_neither():
    words = ["A", " A", "(A", "B", " B", "(", " (", "a", " a", ".", "An"]
    groups = spellings(*tokenizer(words), ["A", "B"])
    assert [{words[i] for i in group} for group in groups] == [{"A", " A", "(A", "a", " a"}, {"B", " B"}]


def test_an_option_of_several_tokens_is_known_by_its_first():
    words = ["Y", "es", "N", "o", " Y"]
    groups = spellings(*tokenizer(words), ["Yes", "No"])
    assert [{words[i] for i in group} for group in groups] == [{"Y", " Y"}, {"N"}]


@pytest.mark.parametrize("options", [["No", "Never"], ["A"], ["A", "?"]])
def test_options_without_a_first_token_of_their_own_are_refused(options):
    with pytest.raises(EngineError, match="first token|two options"):
        spellings(*tokenizer(["N", "o", "ever", "A"]), options)


def test_spellings_add_up_and_the_rest_is_outside():
    choice = choice_from([[math.log(0.3), math.log(0.2)], [math.log(0.1)], []], True, 7)
    assert [math.exp(p) for p in choice.logps] == pytest.approx([0.5, 0.1, 0.0])
    assert choice.mass_outside == pytest.approx(0.4)
    assert choice.logps[2] == NEVER
