"""Which tokens say which option: pure text rules, shared by every engine that can see a next token's probability."""

import math
from collections.abc import Callable, Iterable, Sequence

from cai.engines.base import Choice
from cai.errors import EngineError, NoSuchOption

# Stands for the logarithm of a probability of 0 or unknown: it is finite, so that a row can be averaged and written.
NEVER = -100.0

_LEADS = ("", " ", "\n", "(", " (", '"', "'", "*", "**")
_TAILS = ("", ".", ")", ":", ",")
_MARKS = " \t\r\n([{\"'*_`.:,;)]}"


def said_option(text: str, options: Sequence[str]) -> int | None:
    """The option that `text` says, bar case, white space and marks such as "(A)"; None where it says none, or two."""
    bare = text.strip(_MARKS)
    for fold in (str, str.casefold):
        said = [i for i, option in enumerate(options) if fold(option.strip(_MARKS)) == fold(bare)]
        if len(said) == 1:
            return said[0]
    return None


def begun_option(text: str, options: Sequence[str]) -> int | None:
    """The one option that `text` says the beginning of; None where it begins none, or more than one."""
    bare = text.strip(_MARKS).casefold()
    begun = [i for i, option in enumerate(options) if bare and option.strip(_MARKS).casefold().startswith(bare)]
    return begun[0] if len(begun) == 1 else None


def spellings(
    encode: Callable[[str], Sequence[int]], decode: Callable[[int], str], options: Sequence[str]
) -> list[tuple[int, ...]]:
    """The token ids that say each option as the first token of a reply, every spelling of it, no token twice.

    An option of several tokens is known by its first one.

    Raises:
        EngineError: there are fewer than two options.
        NoSuchOption: one has no first token of its own.
    """
    if len(options) < 2:
        raise EngineError(f"a choice needs two options or more, it was given {list(options)}")
    whole: list[dict[int, None]] = [{} for _ in options]
    begun: list[dict[int, None]] = [{} for _ in options]
    for token in dict.fromkeys(_candidates(encode, options)):
        text = decode(token)
        if (index := said_option(text, options)) is not None:
            whole[index][token] = None
        elif (index := begun_option(text, options)) is not None:
            begun[index][token] = None
    groups = [tuple(a) or tuple(b) for a, b in zip(whole, begun, strict=True)]
    for option, group in zip(options, groups, strict=True):
        if not group:
            raise NoSuchOption(
                f"option {option!r} has no first token of its own among {list(options)}: "
                f"choose options that differ in their first token, such as A and B"
            )
    return groups


def _candidates(encode: Callable[[str], Sequence[int]], options: Sequence[str]) -> Iterable[int]:
    for option in options:
        for form in dict.fromkeys((option, option.lower(), option.upper(), option.capitalize())):
            for lead in _LEADS:
                for tail in _TAILS:
                    yield from encode(lead + form + tail)


def choice_from(logps: Sequence[Iterable[float]], exact: bool, n_prompt_tokens: int) -> Choice:
    """A `Choice` from the log-probabilities (nats) of each option's spellings, added up per option; none is `NEVER`."""
    summed = tuple(max(NEVER, _logsumexp(list(values))) for values in logps)
    outside = 1.0 - math.fsum(math.exp(value) for value in summed)
    return Choice(summed, max(0.0, outside), exact, n_prompt_tokens)


def _logsumexp(values: Sequence[float]) -> float:
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
