"""How far a policy's responses have gone from its reference's to the same prompts: longer, more repetitive. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from cai.errors import DataError
from cai.intervals import Rate, bootstrap_mean, paired_difference, share
from cai.rewards.penalties import repeated_share


class Reply(NamedTuple):
    """One prompt, answered by the policy and by the reference; `n_tokens` of each."""

    prompt_id: str
    text: str
    n_tokens: int
    ref_text: str
    ref_n_tokens: int


def length_drift(replies: Sequence[Reply], *, seed: int) -> Rate:
    """Growth of responses: the geometric mean of (tokens of the policy / of the reference) - 1, so that one endless
    response does not decide; 0 is as long, 1 twice as long, -0.5 half. An empty response counts as one token.

    Raises:
        DataError: a negative number of tokens.
    """
    if bad := [reply for reply in replies if min(reply.n_tokens, reply.ref_n_tokens) < 0]:
        raise DataError(
            f"{len(bad)} replies have a negative number of tokens, the first to prompt {bad[0].prompt_id!r}"
        )
    logs = [math.log(max(reply.n_tokens, 1) / max(reply.ref_n_tokens, 1)) for reply in replies]
    found = bootstrap_mean(logs, [reply.prompt_id for reply in replies], seed=seed)
    return Rate(math.expm1(found.value), math.expm1(found.low), math.expm1(found.high), found.n)


def repetition_drift(replies: Sequence[Reply], n: int = 3, *, seed: int) -> Rate:
    """Share of n-grams of words that a response has said already, the policy's less the reference's.

    Where every difference is the same a bootstrap sees no noise, and would take three prompts for certainty: the
    interval is then that of two shares (Zou and Donner 2008, equation 8, uncorrelated).
    """
    own = [repeated_share(reply.text, n) for reply in replies]
    other = [repeated_share(reply.ref_text, n) for reply in replies]
    prompt_ids = [reply.prompt_id for reply in replies]
    found = paired_difference(own, other, prompt_ids, seed=seed)
    if found.low < found.high or not found.n:
        return found
    a, b = share(own, prompt_ids), share(other, prompt_ids)
    low = math.hypot(a.value - a.low, b.high - b.value)
    high = math.hypot(a.high - a.value, b.value - b.low)
    return Rate(found.value, found.value - low, found.value + high, found.n)
