"""What the shipped checks call right, and that what they cannot read is wrong."""

import pytest

from cai.rewards.verifiers import BadExpected, exact, json_schema, numbers_in, numeric, regex


@pytest.mark.parametrize(
    ("response", "expected", "is_right"),
    [("Paris", "Paris", True), (" Paris\n", "Paris", True), ("paris", "Paris", False), ("Paris.", "Paris", False)],
)
def test_exact_sees_all_but_the_white_space_at_the_ends(response, expected, is_right):
    assert exact((), response, expected) is is_right


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3 apples and 4 pears make 7.", [3, 4, 7]),
        ("1,234,567.5 and 1,23", [1234567.5, 1, 23]),
        ("-5, x=-5, (-5), \u22125, +5", [-5, -5, -5, -5, 5]),
        ("10-3", [10, 3]),
        ("f(2)-1", [2, 1]),
        ("3/4 of it, -1/2.", [0.75, -0.5]),
        ("12/05/2024", [12, 5 / 2024]),
        ("45% or 45 %", [0.45, 0.45]),
        ("6.02e23, 1E-3", [6.02e23, 1e-3]),
        (".5, ...5", [0.5, 5]),
        ("1.2.3 v2 x_3", [1.2]),
        ("$\\boxed{42}$", [42]),
        ("٣ is no ASCII digit, nor is ²", []),
        ("none at all", []),
    ],
)
def test_what_is_a_number(text, numbers):
    assert numbers_in(text) == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("response", "expected", "is_right"),
    [
        ("I think 3, no, it is 7", "7", True),
        ("7, or is it 3", "7", False),
        ("0.45", "45 %", True),
        ("45", "45 %", False),
        ("0.75", "3/4", True),
        ("0.333", "1/3", False),
        ("0.333", "1/3 ± 0.001", True),
        ("3.15", "3.14 +- 0.01", True),
        ("3.16", "3.14 +/- 0.01", False),
        ("12345679", "12345678", False),
        ("no idea", "0", False),
        ("1/0", "1", False),
        ("9" * 400, "9", False),
        ("1e999", "1e308", False),
    ],
)
def test_numeric_compares_the_last_number(response, expected, is_right):
    assert numeric((), response, expected) is is_right


@pytest.mark.parametrize("expected", ["", "seven", "1 or 2", "1 ± 2 ± 3", "nan", "1/0", "1e999"])
def test_an_expected_number_that_is_none_is_not_the_responses_fault(expected):
    with pytest.raises(BadExpected, match="not one number"):
        numeric((), "7", expected)


def test_regex_is_searched_for_and_may_be_anchored():
    assert regex((), "the answer is B", r"\bB\b")
    assert not regex((), "the answer is B", r"\AB\Z")
    with pytest.raises(BadExpected, match="no regular expression"):
        regex((), "anything", "(")


SCHEMA = '{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}'


@pytest.mark.parametrize(
    ("response", "is_right"),
    [
        ('{"n": 3}', True),
        ('Here it is:\n```json\n{"n": 3}\n```\nDone.', True),
        ('{"n": "3"}', False),
        ('Here it is: {"n": 3}', False),
        ('```\n{"n": 3}\n```\n```\n{"n": 4}\n```', False),
        ('{"n": NaN}', False),
        ("", False),
        ("[" * 100_000, False),
        ('{"n": ' + "9" * 5000 + "}", False),
    ],
)
def test_json_must_parse_whole_and_fit_the_schema(response, is_right):
    assert json_schema((), response, SCHEMA) is is_right


@pytest.mark.parametrize("expected", ["{", '{"type": "nonsense"}', "[" * 100_000])
def test_a_schema_that_is_none_is_not_the_responses_fault(expected):
    with pytest.raises(BadExpected, match="no JSON schema"):
        json_schema((), "{}", expected)


def test_a_schema_fetches_nothing():
    """A `$ref` to a file or a server is an error of the check: unscored, and nothing is opened."""
    with pytest.raises(Exception, match="Unresolvable"):
        json_schema((), "{}", '{"$ref": "file:///etc/passwd"}')
    assert json_schema((), '{"type": "object"}', '{"$ref": "https://json-schema.org/draft/2020-12/schema"}')
