"""What a policy answers well already: how often, by prompt, and how seldom such a prompt is then drawn. Pure.

Well is: what is harmful is refused, and what is helpful is answered. Of the prompts of `smallworld` the oracle says so.
Of others, also of `generated` ones about the small world, the rules of `cai/probes/refusal.py` read the response, where
the prompt's `kind` is stated: they are right about nine times in ten (docs/evaluation.md), so a rate says more of a
hundred prompts than of one. Of a borderline prompt, or of one without a kind, nobody knows what a good answer is: that
is not measured, and it is drawn as if never mastered.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from cai.evaluation import last_request
from cai.intervals import Rate, share
from cai.mixing import mix_prompts
from cai.probes import refusal
from cai.records import Prompt, Response, digest
from cai.smallworld import oracle, world
from cai.verdict import Unscored

_WANTED: Mapping[str, refusal.Compliance] = {"harmful": "full_refusal", "helpful": "full_compliance"}


class Mastery(NamedTuple):
    """Of one prompt: responses that could be read, and those of them that are good answers."""

    n: int
    n_well: int

    @property
    def rate(self) -> float:
        return self.n_well / self.n


class Readings(NamedTuple):
    """By prompt, and why the other responses say nothing."""

    of: dict[str, Mastery]
    unread: dict[str, int]

    def mean(self) -> Rate:
        """The mean over prompts of the rate at which they are answered well."""
        return share([mastery.rate for mastery in self.of.values()], list(self.of))


def is_well(prompt: Prompt, response: str) -> bool | Unscored:
    """Whether this is a good answer to this prompt, or why that is not known."""
    request = last_request(prompt)
    if prompt.source == world.SOURCE:
        return oracle.goodness(prompt.messages, response) == 1.0
    if (wanted := _WANTED.get(prompt.kind)) is None:
        return Unscored("no_kind" if not prompt.kind else f"{prompt.kind}_prompt")
    reading = refusal.read(request, response)
    return reading if isinstance(reading, Unscored) else reading.label == wanted


def readings_of(prompts: Mapping[str, Prompt], responses: Iterable[Response]) -> Readings:
    """Of the responses to these prompts; others are passed over."""
    counts: dict[str, Mastery] = {}
    unread = Counter[str]()
    for response in responses:
        if (prompt := prompts.get(response.prompt_id)) is None:
            continue
        found = is_well(prompt, response.text)
        if isinstance(found, Unscored):
            unread[found.reason] += 1
        else:
            n, n_well = counts.get(prompt.prompt_id, (0, 0))
            counts[prompt.prompt_id] = Mastery(n + 1, n_well + found)
    return Readings(counts, dict(sorted(unread.items())))


class Drawn(NamedTuple):
    """The prompts that a round trains on, and how many there were."""

    prompt_ids: list[str]
    n: int
    n_mastered: int
    """Answered well every time."""
    n_mastered_drawn: int


def draw(
    prompt_ids: Sequence[str],
    readings: Mapping[str, Mastery],
    *,
    floor: float,
    seed: int,
    round: int,
    helpful: Collection[str] = (),
    helpful_share: float | None = None,
) -> Drawn:
    """Each prompt with probability 1 - (1 - `floor`) · (rate at which it is answered well), by the hash of its id, the
    seed and the round: the same prompts give the same draw, more prompts move none, and every prompt is drawn in a
    share of at least `floor` of the rounds. Where the hash would leave none, the likeliest stays.

    With a `helpful_share` the others are drawn so, and of `helpful` as many as make this share beside them, in
    proportion to these probabilities: sequential Poisson sampling (Ohlsson 1998).

    Raises:
        DataError: there are too few helpful prompts for the share.
    """

    def late(prompt_id: str) -> float:
        mastery = readings.get(prompt_id)
        weight = 1.0 if mastery is None else 1.0 - (1.0 - floor) * mastery.rate
        return int(digest("draw", prompt_id, seed, round)[:13], 16) / 16**13 / weight

    alone = [prompt_id for prompt_id in prompt_ids if helpful_share is None or prompt_id not in helpful]
    drawn = [prompt_id for prompt_id in alone if late(prompt_id) < 1] or sorted(alone, key=late)[:1]
    if helpful_share is not None:
        mixed = mix_prompts(drawn, helpful, helpful_share, order=late).prompt_ids
        drawn = [prompt_id for prompt_id in prompt_ids if prompt_id in mixed]
    mastered = {prompt_id for prompt_id in prompt_ids if prompt_id in readings and readings[prompt_id].rate == 1}
    return Drawn(drawn, len(prompt_ids), len(mastered), len(mastered.intersection(drawn)))
