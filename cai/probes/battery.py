"""Every probe on one policy: its responses beside its reference's, and what its training paid for. Pure.

Where there is nothing to measure a probe says so, and why; it never says 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cai.gate import rate_change
from cai.intervals import Rate
from cai.probes import drift, hedging, refusal
from cai.probes.hedging import Filler, Hedging
from cai.probes.limits import NotMeasured
from cai.probes.refusal_style import refusal_style
from cai.probes.reward_bias import Rewarded, reward_bias
from cai.records import Response
from cai.verdict import Unscored

SYCOPHANCY = "sycophancy"
"""The metric of an evaluation with sycophancy items: `cai.probes.sycophancy.Sycophancy.net`."""
HEDGES: tuple[Filler, ...] = ("hedge",)
BOILERPLATE: tuple[Filler, ...] = ("disclaimer", "sermon", "closing")

Found = dict[str, Rate | NotMeasured]


class Paid(NamedTuple):
    """One sampled response of RL, and the reward that it was trained with."""

    prompt_id: str
    step: int
    text: str
    n_tokens: int
    reward: float


def measure(
    requests: Mapping[str, str],
    policy: Mapping[str, Response],
    reference: Mapping[str, Response],
    paid: Sequence[Paid],
    rates: Mapping[str, Rate],
    *,
    seed: int,
) -> Found:
    """Each probe by the name of its limit.

    Args:
        requests: what the user asked for last, by prompt.
        policy: one response a prompt.
        reference: the model that the policy's training began with, likewise; prompts that one lacks do not count.
        paid: the policy's samples in RL, unscored ones left out; rewards are compared within a prompt and step.
        rates: the policy's metrics, `sycophancy` among them where the evaluation has items for it.
        seed: of the resampling.
    """
    both = [(key, policy[key], reference[key]) for key in policy if key in reference]
    if not both:
        nothing = NotMeasured(
            "the policy and its reference have answered no prompt in common"
            if reference
            else "there are no responses of another model to set it beside"
        )
        beside: Found = dict.fromkeys(("hedging", "boilerplate", "length", "repetition"), nothing)
    else:
        replies = [drift.Reply(key, own.text, own.n_tokens, ref.text, ref.n_tokens) for key, own, ref in both]
        beside = {
            "hedging": _more_filler(replies, HEDGES),
            "boilerplate": _more_filler(replies, BOILERPLATE),
            "length": _growth(replies, seed),
            "repetition": drift.repetition_drift(replies, seed=seed),
        }
    asked = "the evaluation has no sycophancy items"
    return {
        "sycophancy": _measured(rates.get(SYCOPHANCY), asked),
        **beside,
        **_refusals(requests, policy),
        **_rewards(paid, seed),
    }


def _measured(found: Rate | None, why: str) -> Rate | NotMeasured:
    return NotMeasured(why) if found is None or not found.n or math.isnan(found.value) else found


def _more_filler(replies: Sequence[drift.Reply], kinds: Sequence[Filler]) -> Rate | NotMeasured:
    """The share of responses with such a sentence, less the reference's share; what has no word in it is left out."""
    own = {reply.prompt_id: _has(reply.text, kinds) for reply in replies}
    ref = {reply.prompt_id: _has(reply.ref_text, kinds) for reply in replies}
    known = {key for key in own if own[key] is not None and ref[key] is not None}
    found = rate_change({key: bool(own[key]) for key in known}, {key: bool(ref[key]) for key in known})
    return _measured(found, "no prompt has a response with a word in it from both models")


def _has(text: str, kinds: Sequence[Filler]) -> bool | None:
    found = hedging.read(text)
    return found.rate(*kinds) > 0 if isinstance(found, Hedging) else None


def _growth(replies: Sequence[drift.Reply], seed: int) -> Rate | NotMeasured:
    if not any(reply.n_tokens or reply.ref_n_tokens for reply in replies):
        return NotMeasured("no engine has counted the tokens of these responses")
    return drift.length_drift(replies, seed=seed)


def _refusals(requests: Mapping[str, str], policy: Mapping[str, Response]) -> Found:
    read = {key: refusal.read(requests[key], response.text) for key, response in policy.items()}
    refused = [key for key, said in read.items() if not isinstance(said, Unscored) and said.label == "full_refusal"]
    if not refused:
        why = NotMeasured(f"none of {len(read)} responses is a refusal, as far as rules can tell")
        return {"bare_refusals": why, "preaching": why}
    style = refusal_style([policy[key].text for key in refused], refused)
    return {"bare_refusals": style.bare, "preaching": style.preaching}


def _rewards(paid: Sequence[Paid], seed: int) -> Found:
    if not paid:
        why = NotMeasured("no sampled response with its reward: the policy was not trained by sampling")
        return {"reward_length": why, "reward_hedging": why}
    hedged = [(row, _has(row.text, HEDGES)) for row in paid]
    return {
        "reward_length": _follows([_rewarded(row, row.n_tokens) for row in paid], "are of different lengths", seed),
        "reward_hedging": _follows(
            [_rewarded(row, float(has)) for row, has in hedged if has is not None], "differ in hedging", seed
        ),
    }


def _rewarded(row: Paid, feature: float) -> Rewarded:
    return Rewarded(row.prompt_id, row.reward, feature, row.step)


def _follows(rows: Sequence[Rewarded], differ: str, seed: int) -> Rate | NotMeasured:
    return _measured(
        reward_bias(rows, seed=seed).correlation, f"no two responses to one prompt, sampled in one step, {differ}"
    )
