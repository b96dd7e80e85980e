"""The fence: what a judge is shown of text that others wrote cannot steer it, and nothing is said by saying nothing."""

import itertools

import pytest
from transformers import AutoTokenizer

from cai.constitution import Constitution
from cai.errors import ConstitutionError
from cai.feedback import comparison_message
from cai.labels.fence import delimiter, neutralise, says_nothing
from cai.models import SMALLWORLD
from cai.records import Message
from cai.smallworld.tokenizer import SPECIAL, vocabulary
from cai.templates import DEFAULTS, check

ASKED = [Message("user", "how do i bake bread?")]
CONTROL = """<|im_end|> <|im_start|> <|assistant|> <|end|> <|endoftext|> <|eot_id|> <|start_header_id|> <|eom_id|>
    <|START_OF_TURN_TOKEN|> <｜User｜> <｜end▁of▁sentence｜> ＜|end|＞ <start_of_turn> <end_of_turn> <bos> <eos> <s>
    </s> <pad> <unk> [INST] [/INST] <<SYS>> <</SYS>> [AVAILABLE_TOOLS] [/TOOL_RESULTS] [SYSTEM_PROMPT] [gMASK] <sop>
    <think> </think> <tool_call> <unused7> <extra_id_0> <reserved_special_token_3>""".split()
HARMLESS = (
    "2 < 3 and 5 > 4", "a<b>c", "std::vector<int> x; List<String>", "[link](there) [1] [instance] [A]", "x | y || z",
    "<html><body><p>text</p></body></html>", "if a <| b |> c", "[x for x in y]", "f(<arg>)", "<!-- note -->", "👍 <3",
)  # fmt: skip


def question(first: str, second: str, *, template: str = DEFAULTS["comparison"]) -> str:
    return comparison_message(template, ASKED, first, second, "Which is nicer?").content


@pytest.mark.parametrize("token", CONTROL)
def test_a_control_token_is_broken_and_stays_readable(token: str) -> None:
    made = neutralise(f"fine.{token}B")
    assert token not in made and made == f"fine.{token[0]} {token[1:]}B"
    assert neutralise(made) == made


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_is_shown_as_it_is(text: str) -> None:
    assert neutralise(text) == text


def test_no_token_is_left_however_they_are_put_together() -> None:
    for parts in itertools.product(("<", "<|", "|", "</", "end", "s", "|>", ">", "[", "/INST]"), repeat=4):
        text = neutralise("".join(parts))
        assert neutralise(text) == text
        assert not any(token in text for token in ("<|end|>", "<s>", "</s>", "[/INST]", "<|s|>"))


def test_an_answer_cannot_close_its_turn_in_the_small_worlds_own_tokenizer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(SMALLWORLD)
    special = set(tokenizer.convert_tokens_to_ids(list(SPECIAL))) - {tokenizer.unk_token_id}
    shown = question(f"{''.join(SPECIAL)}A<|end|>", "plain")
    assert not special & set(tokenizer.encode(shown, add_special_tokens=False))
    assert special & set(tokenizer.encode("A<|end|>", add_special_tokens=False))


def test_every_text_stands_between_two_lines_of_the_delimiter() -> None:
    fence = delimiter(["good", "bad", ASKED[0].content])
    lines = question("good", "bad").splitlines()
    assert [i for i, line in enumerate(lines) if line == fence] == [2, 4, 7, 9, 12, 14]
    assert (lines[3], lines[8], lines[13]) == ("user: how do i bake bread?", "good", "bad")
    assert f"lines of {fence} is quoted" in lines[0]


def test_the_delimiter_is_the_same_again_and_another_for_other_texts() -> None:
    assert delimiter(["x", "y"]) == delimiter(["y", "x"])  # both orders begin alike: the engine has it cached
    assert len({delimiter(["x", f"text {i}"]) for i in range(1000)}) == 1000


def test_a_word_that_stands_in_a_text_is_no_delimiter() -> None:
    """Nobody can write a text that holds its own digest; with one digit to a word it is easily come by."""
    assert delimiter(["0123456789", "ABCDE"], length=1) == "f"
    assert delimiter(["０１２３４５６７８９", "abcdf"], length=1) == "e"  # what a tokenizer may fold into the same


def test_the_fence_may_be_left_out_and_nothing_else() -> None:
    plain = "{% for m in messages %}{{ m.content }}{% endfor %} {{ response_a }} {{ response_b }} {{ preference }}"
    check("comparison", plain)
    check("comparison", DEFAULTS["comparison"])
    assert "x< |end|>" in question("x<|end|>", "y", template=plain)  # tokens are broken without a fence, too
    with pytest.raises(ConstitutionError, match="did you mean 'fence'"):
        check("comparison", plain + "{{ fense }}")
    with pytest.raises(ConstitutionError, match="response_b"):
        check("comparison", plain.replace("{{ response_b }}", "{{ fence }}"))


@pytest.mark.parametrize(
    "text",
    ["", " \n", "A", "b", "(A)", "**B**", "Answer: A", "The answer is B.", ":", "...", "Thought process:", "Solution",
     "Let's solve this problem step by step.", "解", "I choose response A", "the best option is B", "Final answer: A"],
)  # fmt: skip
def test_a_key_says_nothing(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize(
    "text", ["42", "No.", "Answer: 42", "A cat.", "Take option A because it rains.", "C", "Oui", "A " * 11, "H2O"]
)
def test_a_short_answer_says_something(text: str) -> None:
    assert not says_nothing(text)


def test_the_shipped_model_keeps_its_vocabulary_whatever_becomes_of_the_templates() -> None:
    known = AutoTokenizer.from_pretrained(SMALLWORLD).get_vocab()
    assert [word for word, _ in sorted(known.items(), key=lambda item: item[1])] == vocabulary()


def test_an_edit_of_the_default_changes_the_rows() -> None:
    other = Constitution("c", "", (), templates={"comparison": DEFAULTS["comparison"] + " "})
    assert other.template_digest("comparison") != Constitution("c", "", ()).template_digest("comparison")
