"""The judges of a run: the gold pairs that weigh them, and the committee that their comparisons make."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cai.errors import DataError
from cai.feedback import Labelling, ResponsePair
from cai.labels.committee import Committee, GoldCount, count_right, gold_sides, gold_weight
from cai.preferences import derive_sides
from cai.records import Annotation, Comparison, PreferencePair, Prompt, Response
from flows.runs import RunFolder
from storage.store import Store


class Gold(NamedTuple):
    """Pairs whose better response is known: P(a better) of each, by the ids of its responses; and who says so."""

    sides: dict[tuple[str, str], float]
    pairs: list[ResponsePair]
    sources: list[str]


def read_gold(store: Store, objective: str | None = None) -> Gold:
    """Every gold pair of the home that takes a side; of one objective, where it is given.

    Raises:
        DataError: there is none, or one's texts are not stored.
    """
    rows = [row for row in store.read(Annotation, "is_gold") if objective in (None, row.objective)]
    sides = gold_sides(rows)
    prompt_of = {(row.response_a, row.response_b): row.prompt_id for row in rows}
    if not sides:
        of = "" if objective is None else f" of the objective {objective!r}"
        raise DataError(
            f"{store.home} has no gold annotations{of} that take a side; import some with `cai gold import` (or, for "
            "`feedback.weights: gold`, state the weights)"
        )
    prompts = store.find_all(Prompt, [prompt_of[pair] for pair in sides])
    responses = store.find_all(Response, [response for pair in sides for response in pair])
    try:
        pairs = [ResponsePair.of(prompts[prompt_of[a, b]], responses[a], responses[b]) for a, b in sides]
    except KeyError as error:
        raise DataError(f"a gold annotation is about {error}, which is not stored; import the gold set again") from None
    return Gold(sides, pairs, sorted({row.source for row in rows}))


class Judges(NamedTuple):
    committee: Committee
    counts: tuple[GoldCount, ...]
    """On gold, one a judge; none where the weights are stated."""

    def to_json(self) -> list[dict[str, Any]]:
        weighed = zip(self.committee.labellings, self.committee.weights, strict=True)
        rows: list[dict[str, Any]] = [{"judge_digest": each.judge_digest, "weight": w} for each, w in weighed]
        for row, count in zip(rows, self.counts, strict=False):
            row["gold"] = count._asdict()
        return rows


def labellings_of(run: RunFolder, judge_digests: Iterable[str]) -> list[Labelling]:
    """How the run asks each of its judges."""
    constitution, feedback, seed = run.constitution, run.profile.feedback, run.profile.seed
    return [Labelling(constitution, feedback, seed=seed, judge_digest=judge) for judge in judge_digests]


def judges_of(run: RunFolder, store: Store, judge_digests: Sequence[str]) -> Judges:
    """The run's committee, its weights as the profile has them: stated, equal, or from the gold pairs as they are now.

    Raises:
        DataError: weights from gold are wanted, and there is no gold, or a judge is no better than a coin on it.
    """
    feedback = run.profile.feedback
    labellings = labellings_of(run, judge_digests)
    if isinstance(feedback.weights, tuple):
        return Judges(Committee(labellings, feedback.weights), ())
    if feedback.weights == "equal":
        return Judges(Committee(labellings, [1.0] * len(labellings)), ())
    gold = read_gold(store)
    asks = [ask.comparison_id for labelling in labellings for pair in gold.pairs for ask in labelling.asks(pair)]
    asked = store.find_all(Comparison, asks).values()
    counts = []
    for labelling in labellings:
        rows = derive_sides(gold.pairs, asked, labelling=labelling, config=run.profile.preferences)
        counts.append(count_right((row for row in rows if isinstance(row, PreferencePair)), gold.sides))
    weights = [gold_weight(count, digest) for count, digest in zip(counts, judge_digests, strict=True)]
    return Judges(Committee(labellings, weights), tuple(counts))
