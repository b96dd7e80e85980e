"""The checks that are shipped: pure functions of a prompt, a response and what is expected. 1 is right, 0 is wrong.

The response is data: it is compared, searched or parsed, and run nowhere but in the sandbox of `unit_test`. What makes
a response impossible to read (no number, no JSON, no code) makes it wrong, so that no policy can learn to be unscored.
What is wrong with `expected` is `BadExpected`, and leaves the response unscored.

Your own check is a function of the same arguments, named `package.module:function`: it returns a bool or a number, or
None where it cannot tell.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from cai.records import Message
from cai.rewards.sandbox import passes

Check = Callable[[Sequence[Message], str, str], bool]


class BadExpected(ValueError):
    """`expected` is nothing this check can compare with: the row's or the config's fault, not the response's."""


def exact(prompt: Sequence[Message], response: str, expected: str) -> bool:
    """The same text, but for white space at either end."""
    return response.strip() == expected.strip()


def numeric(prompt: Sequence[Message], response: str, expected: str) -> bool:
    """The last number of the response is the expected one.

    A number is digits with an optional sign (a dash behind a letter, digit or bracket is none: "10-3" ends in 3), with
    thousands separators ("1,234,567"), decimals, an exponent, as a fraction ("3/4"), or as a percentage ("45 %" is
    0.45, so it is not 45). Equal means within 1e-9 of its size; `expected` may allow more: "3.14 ± 0.01" (or "+-").
    """
    target, tolerance = _target(expected)
    numbers = numbers_in(response)
    if not numbers or not math.isfinite(numbers[-1]):
        return False
    return abs(numbers[-1] - target) <= tolerance + 1e-9 * abs(target)


def regex(prompt: Sequence[Message], response: str, expected: str) -> bool:
    r"""The pattern `expected` is found in the response; anchor it with \A and \Z to match the whole of it."""
    try:
        return re.search(expected, response) is not None
    except re.error as error:
        raise BadExpected(f"{expected!r} is no regular expression: {error}") from error


def json_schema(prompt: Sequence[Message], response: str, expected: str) -> bool:
    """The response, or the only fenced block in it, is JSON that fits the schema `expected`. Nothing is fetched: a
    `$ref` leads into the schema itself or to a published draft.
    """
    validator = _validator(expected)
    blocks = _fenced(response)
    try:
        value = json.loads(blocks[0] if len(blocks) == 1 else response, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return bool(validator.is_valid(value))


def unit_test(prompt: Sequence[Message], response: str, expected: str, *, timeout_s: float = 5.0) -> bool:
    """The response's code passes the tests `expected`, both run in the sandbox (see `cai.rewards.sandbox`).

    The code is the last fenced block, or the whole response where there is none. The tests are Python that sees the
    code's names, and raises where the code is wrong; functions in it named `test_…` are called. Standard library only.
    """
    try:
        ast.parse(expected)
    except (SyntaxError, ValueError) as error:
        raise BadExpected(f"the tests are no Python: {error}") from error
    blocks = _fenced(response)
    return passes(blocks[-1] if blocks else response, expected, timeout_s)


SHIPPED: Mapping[str, Check] = {
    "exact": exact,
    "numeric": numeric,
    "regex": regex,
    "json_schema": json_schema,
    "unit_test": unit_test,
}


_NUMBER = re.compile(
    r"""(?<!\w)(?<![0-9]\.)                                     # not inside a word or a number
    (?P<sign>(?<![)\]])[-+\u2212])?
    (?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<!\.)\.[0-9]+)
    (?P<exponent>[eE][-+]?[0-9]+)?
    (?:/(?P<below>[0-9]+)(?![0-9/]|\.[0-9]))?
    (?:\ ?(?P<percent>%))?""",
    re.VERBOSE,
)


def numbers_in(text: str) -> list[float]:
    """Every number of a text, in order; see `numeric` for what is one. A fraction over 0 is NaN."""
    return [_value(match) for match in _NUMBER.finditer(text)]


def _value(match: re.Match[str]) -> float:
    value = float(match["digits"].replace(",", "") + (match["exponent"] or ""))
    if match["below"]:
        below = float(match["below"])
        value = value / below if below else math.nan
    if match["percent"]:
        value /= 100
    return value if match["sign"] in (None, "+") else -value


class _Target(NamedTuple):
    value: float
    tolerance: float


@lru_cache(maxsize=1024)
def _target(expected: str) -> _Target:
    parts = re.split(r"±|\+-|\+/-", expected)
    found = [numbers_in(part) for part in parts]
    if len(parts) > 2 or any(len(numbers) != 1 or not math.isfinite(numbers[0]) for numbers in found):
        raise BadExpected(f"{expected!r} is not one number, or one ± another")
    return _Target(found[0][0], found[1][0] if len(parts) == 2 else 0.0)


@lru_cache(maxsize=1024)
def _validator(expected: str) -> Any:
    import referencing
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    try:
        schema = json.loads(expected)
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except (ValueError, RecursionError, SchemaError) as error:
        raise BadExpected(f"{expected[:200]!r} is no JSON schema: {error}"[:500]) from error
    return kind(schema, registry=referencing.Registry())  # an empty registry retrieves nothing


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(?P<body>.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


def _fenced(response: str) -> list[str]:
    return [match["body"] for match in _FENCE.finditer(response)]
