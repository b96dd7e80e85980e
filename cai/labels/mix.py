"""Preference pairs of people beside those of the feedback model, in a stated ratio and with no source above a cap.

Pure: annotations and ids in, choices and rejects out. Which rows are left out follows from their ids alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from cai.config import PeopleConfig, config_digest
from cai.errors import DataError
from cai.held_out import Refusal
from cai.labels.aggregate import Aggregate, PairKey, aggregate
from cai.labels.chosen import choose
from cai.mixing import Parts, n_beside, n_of_share
from cai.records import Annotation, PreferencePair, Prompt, Reject, Response, digest

STAGE = "mix"
ROUNDING = 1e-12  # max_share times rows may be a whole number, which the product of floats misses by less
_PEOPLE = Parts("pairs of people", "of the feedback model", "import more", "people.share")


class HumanPair(NamedTuple):
    """What people say of a pair under one objective. `sources` are the files and the annotators it rests on."""

    pair_id: str
    prompt_id: str
    responses: PairKey
    objective: str
    said: Aggregate
    sources: tuple[str, ...]
    labelling_digest: str


class AIPair(NamedTuple):
    pair_id: str
    prompt_id: str
    judge_digest: str
    is_tie: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return (f"judge {self.judge_digest}",)


Pair = TypeVar("Pair", AIPair, HumanPair)


class Mixed(NamedTuple):
    """`n_spare` pairs of people were not needed for the share; everything else that is not kept is a reject."""

    ai: list[AIPair]
    people: list[HumanPair]
    rejects: list[Reject]
    n_spare: int


def human_pairs(annotations: Sequence[Annotation], config: PeopleConfig, tie_band: float) -> list[HumanPair]:
    """One pair for each two responses and objective, aggregated by the rule; ordered by id."""
    made = []
    for objective in sorted({row.objective for row in annotations}):
        asked = [row for row in annotations if row.objective == objective]
        of_pair: dict[PairKey, list[Annotation]] = {}
        for row in sorted(asked, key=lambda row: row.annotation_id):
            of_pair.setdefault((row.response_a, row.response_b), []).append(row)
        said = aggregate(asked, config.rule, config.group_weights)
        # Under Dawid-Skene what one annotator says anywhere weighs on every pair.
        everything = _evidence(asked) if config.rule == "dawid_skene" else ""
        for key, rows in of_pair.items():
            settings = [config.rule, config.group_weights, objective, tie_band]
            labelling = digest("people", settings, everything or _evidence(rows))
            pair_id = digest("preference", *key, labelling)
            made.append(HumanPair(pair_id, rows[0].prompt_id, key, objective, said[key], _sources(rows), labelling))
    return sorted(made)


def _evidence(rows: Iterable[Annotation]) -> str:
    return digest(sorted([row.annotation_id, row.p_a, row.group] for row in rows))


def _sources(rows: Iterable[Annotation]) -> tuple[str, ...]:
    names = {f"file {row.source}" for row in rows} | {f"annotator {row.annotator}" for row in rows if row.annotator}
    return tuple(sorted(names))


def to_preference(pair: HumanPair, prompt: Prompt, a: Response, b: Response, *, tie_band: float) -> PreferencePair:
    """The row that training reads. `n_asks` counts annotators, and `consistency` is their agreement with the label."""
    won = choose(a, b, pair.said.p_a, tie_band)
    return PreferencePair(
        pair_id=pair.pair_id,
        prompt_id=pair.prompt_id,
        messages=prompt.messages,
        chosen_id=won.chosen.response_id,
        rejected_id=won.rejected.response_id,
        chosen=won.chosen.text,
        rejected=won.rejected.text,
        soft_label=won.soft_label,
        is_tie=won.is_tie,
        n_asks=pair.said.n_annotators,
        consistency=pair.said.agreement,
        position_bias=0.0,
        source="human",
        labelling_digest=pair.labelling_digest,
        disagreement=pair.said.disagreement,
        objective=pair.objective,
    )


# The ratio and the cap


def mix(ai: Sequence[AIPair], people: Sequence[HumanPair], config: PeopleConfig) -> Mixed:
    """The feedback model's pairs, and people's in the stated share of the whole, to the nearest row.

    Both are taken in the order of a hash of their ids. With `max_share`, no judge, file or annotator stands behind
    more than that share of what is kept; what is left out for it is a reject with the reason `over_source_cap`.

    Raises:
        DataError: too few pairs of people for the share, or no mix that keeps the cap.
    """
    n_of_share(config.share, len(ai), len(people), _PEOPLE)  # or it raises: too few
    ai, people = _shuffled(ai), _shuffled(people)
    n_ai, limit = (len(ai), len(ai) + len(people)) if config.max_share is None else _fit(ai, people, config)
    kept_ai, over_ai = _thin(ai, limit, n_ai)
    kept, over = _thin(people, limit, n_beside(config.share, n_ai))
    unused = ai[len(kept_ai) + len(over_ai) :]
    rejects = [_over_cap(pair, limit, config) for pair in [*over_ai, *unused]]
    rejects += [_over_cap(pair, limit, config) for pair in over]
    return Mixed(kept_ai, kept, rejects, len(people) - len(kept) - len(over))


def _shuffled(pairs: Iterable[Pair]) -> list[Pair]:
    """The same order for the same pairs, and no order of theirs: `pair_id` itself sorts the file."""
    return sorted(pairs, key=lambda pair: digest("mix", pair.pair_id))


def _thin(pairs: Sequence[Pair], limit: int, n: int) -> tuple[list[Pair], list[Pair]]:
    """The first `n` pairs whose sources stay within `limit`, and those that were passed over on the way."""
    counts: Counter[str] = Counter()
    kept: list[Pair] = []
    over: list[Pair] = []
    for pair in pairs:
        if len(kept) == n:
            break
        if any(counts[source] >= limit for source in pair.sources):
            over.append(pair)
        else:
            counts.update(pair.sources)
            kept.append(pair)
    return kept, over


def _fit(ai: Sequence[AIPair], people: Sequence[HumanPair], config: PeopleConfig) -> tuple[int, int]:
    """The most pairs of the feedback model for which the cap can be kept, and how many one source may then have.

    Fewer rows in all allow fewer of each source, so it goes down until nothing changes.
    """
    assert config.max_share is not None, "no cap, nothing to fit"
    n_ai = len(ai)
    while n_ai:
        n_all = n_ai + n_beside(config.share, n_ai)
        limit = int(config.max_share * n_all + ROUNDING)
        n_left = _n_within(limit, n_ai, ai, people, config.share)
        if n_left == n_ai:
            return n_ai, limit
        n_ai = n_left
    raise _no_mix(ai, people, config)


def _n_within(limit: int, n_ai: int, ai: Sequence[AIPair], people: Sequence[HumanPair], share: float) -> int:
    """Of `n_ai` pairs of the feedback model, how many are within `limit` and have enough of people's within it beside
    them.
    """
    n_people = len(_thin(people, limit, n_beside(share, n_ai))[0])
    n_left = len(_thin(ai, limit, n_ai)[0])
    while n_beside(share, n_left) > n_people:
        n_left -= 1
    return n_left


def _no_mix(ai: Sequence[AIPair], people: Sequence[HumanPair], config: PeopleConfig) -> DataError:
    counts = Counter(source for pair in ai for source in pair.sources)
    counts.update(source for pair in people for source in pair.sources)
    most = ", ".join(f"{source}: {n}" for source, n in counts.most_common(3))
    return DataError(
        f"no mix keeps every source within max_share {config.max_share} with a share of {config.share} of people; the "
        f"largest sources are {most}. Raise `people.max_share`, or add sources"
    )


def _over_cap(pair: AIPair | HumanPair, limit: int, config: PeopleConfig) -> Reject:
    detail = f"{', '.join(pair.sources)}: one source labels at most {limit} pairs, max_share {config.max_share}"
    return left_out(pair.pair_id, pair.prompt_id, "over_source_cap", detail, config_digest(config))


def left_out(pair_id: str, prompt_id: str, reason: str, detail: str, settings: str = "") -> Reject:
    return Reject.make(STAGE, reason, prompt_id=prompt_id, parents=(pair_id, settings), detail=detail)


def by_prompt(pairs: Iterable[Pair], refused: Mapping[str, Refusal]) -> tuple[list[Pair], list[Reject]]:
    """Those whose prompt may be trained on, and the others as rejects; `refused` says why, by prompt."""
    kept, rejects = [], []
    for pair in pairs:
        if why := refused.get(pair.prompt_id):
            rejects.append(left_out(pair.pair_id, pair.prompt_id, why.reason, why.detail))
        else:
            kept.append(pair)
    return kept, rejects
