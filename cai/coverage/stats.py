"""What a set of prompts covers, how diverse it is, and what a policy has mastered of it. Pure; read by `cai prompts
stats` and the report of a run.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import NamedTuple

from cai.coverage.mastery import Readings
from cai.coverage.near import Kind, near_duplicates
from cai.coverage.topics import N_TOPICS, topics_of
from cai.intervals import Rate
from cai.metrics.diversity import Text, distinct
from cai.records import Prompt
from cai.words import words_in

SET = 100
"""Prompts in a set whose distinct n-grams are counted: a share of all grows smaller with the number of prompts, and
could not be compared."""
UNSTATED = "not stated"
LONG = "5 or more"
BINS = (8, 16, 32, 64, 128, 256, 512)
"""Words: where one bar of the lengths ends and the next begins."""


class Count(NamedTuple):
    name: str
    n: int
    share: float
    """Of all prompts; of tags the shares may add up to more."""
    well: Rate | None
    """How often the policy answers these well; None where no answer to them was read."""


class TopicCount(NamedTuple):
    counted: Count
    by_tag: tuple[int, ...]
    """Prompts of the topic that bear each of the tags of the stats, in their order."""


class Fired(NamedTuple):
    """One principle: the prompts whose response it was asked to revise, and the share that it changed; the comparisons
    it judged, and the share in which it leaned to a side.
    """

    principle_id: str
    changed: Rate
    leaned: Rate


@dataclass(frozen=True, slots=True)
class PromptStats:
    n: int
    facets: Mapping[str, tuple[Count, ...]]
    """source, licence, tag, kind, split, turns (of the user) → what there is of each, the most frequent first."""
    words: tuple[float, ...]
    """Of what users say: least, quartiles, ninth decile, most. Empty where there are no prompts."""
    lengths: tuple[Count, ...]
    repeats: Mapping[Kind, int]
    n_exact: int | None
    """Rows that were the same conversation once more; None where they were merged before."""
    distinct: Mapping[int, Rate]
    """n → distinct-n of sets of `SET` prompts."""
    topics: tuple[TopicCount, ...]
    principles: tuple[Fired, ...] = ()
    readings: Readings | None = None
    """Of the policy's responses; None where nobody answered these prompts yet."""
    policy: str = ""
    unread: Mapping[str, int] = field(default_factory=dict)
    """Rows of files that are no prompts, by reason."""

    @property
    def mastered(self) -> tuple[int, int, int]:
        """Prompts answered well never, sometimes and always."""
        rates = [mastery.rate for mastery in self.readings.of.values()] if self.readings else []
        return rates.count(0.0), sum(0 < rate < 1 for rate in rates), rates.count(1.0)


def stats_of(
    prompts: Sequence[Prompt],
    *,
    n_exact: int | None = None,
    principles: Sequence[Fired] = (),
    readings: Readings | None = None,
    policy: str = "",
    n_topics: int = N_TOPICS,
) -> PromptStats:
    """Everything that can be counted; `readings` are of these prompts."""
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    rows = list(by_id.values())
    lengths = [sum(len(words_in(m.content)) for m in prompt.messages if m.role == "user") for prompt in rows]
    counted = _Counting(len(rows), readings)
    facets = {name: counted.by(rows, of) for name, of in _FACETS.items()}
    bins = {prompt.prompt_id: _bin(length) for prompt, length in zip(rows, lengths, strict=True)}
    order = [*map(_bin, (bound - 1 for bound in BINS)), _bin(BINS[-1])]
    found = counted.by(rows, lambda prompt: [bins[prompt.prompt_id]])
    return PromptStats(
        n=len(rows),
        facets=facets,
        words=_spread(lengths),
        lengths=tuple(sorted(found, key=lambda count: order.index(count.name))),
        repeats=Counter(repeat.kind for repeat in near_duplicates(rows)),
        n_exact=n_exact,
        distinct={n: distinct(_sets(rows), n) for n in (1, 2, 3)},
        topics=tuple(_topics(rows, by_id, [c.name for c in facets["tag"]], counted, n_topics)),
        principles=tuple(principles),
        readings=readings,
        policy=policy,
    )


_FACETS: Mapping[str, Callable[[Prompt], Sequence[str]]] = {
    "source": lambda prompt: [prompt.source],
    "licence": lambda prompt: [prompt.licence or UNSTATED],
    "tag": lambda prompt: list(dict.fromkeys(prompt.tags)) or [UNSTATED],
    "kind": lambda prompt: [prompt.kind or UNSTATED],
    "split": lambda prompt: [prompt.split],
    "turns": lambda prompt: [_turns(prompt)],
}


def _turns(prompt: Prompt) -> str:
    n = sum(message.role == "user" for message in prompt.messages)
    return str(n) if n < 5 else LONG


def _bin(length: int) -> str:
    low = 0
    for bound in BINS:
        if length < bound:
            return f"{low} to {bound - 1}"
        low = bound
    return f"{low} or more"


def _spread(lengths: Sequence[int]) -> tuple[float, ...]:
    if not lengths:
        return ()
    cuts = quantiles(lengths, n=20, method="inclusive") if len(lengths) > 1 else [float(lengths[0])] * 19
    return (float(min(lengths)), cuts[4], cuts[9], cuts[14], cuts[17], float(max(lengths)))


def _sets(prompts: Sequence[Prompt]) -> list[Text]:
    """What users say, in whole sets of `SET` prompts as their ids, which are hashes, have them; fewer are one set."""
    ordered = sorted(prompts, key=lambda prompt: prompt.prompt_id)
    whole = ordered[: len(ordered) // SET * SET] or ordered
    return [
        Text(str(i // SET), " ".join(m.content for m in prompt.messages if m.role == "user"))
        for i, prompt in enumerate(whole)
    ]


class _Counting:
    def __init__(self, n: int, readings: Readings | None) -> None:
        self._n = n
        self._readings = readings

    def by(self, prompts: Sequence[Prompt], of: Callable[[Prompt], Sequence[str]]) -> tuple[Count, ...]:
        groups: dict[str, list[str]] = {}
        for prompt in prompts:
            for name in of(prompt):
                groups.setdefault(name, []).append(prompt.prompt_id)
        ordered = sorted(groups.items(), key=lambda group: (group[0] == UNSTATED, -len(group[1]), group[0]))
        return tuple(self.one(name, ids) for name, ids in ordered)

    def one(self, name: str, ids: Sequence[str]) -> Count:
        known = {i: self._readings.of[i] for i in ids if i in self._readings.of} if self._readings else {}
        return Count(name, len(ids), len(ids) / self._n, Readings(known, {}).mean() if known else None)


def _topics(
    prompts: Sequence[Prompt], by_id: Mapping[str, Prompt], tags: Sequence[str], counted: _Counting, n_topics: int
) -> list[TopicCount]:
    found = []
    for topic in topics_of(prompts, n_topics):
        borne = Counter(tag for i in topic.prompt_ids for tag in set(by_id[i].tags) or {UNSTATED})
        found.append(TopicCount(counted.one(topic.name, topic.prompt_ids), tuple(borne[tag] for tag in tags)))
    return found
