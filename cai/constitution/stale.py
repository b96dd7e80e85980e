"""Which stored rows an edit invalidates, and how often a second run asks the model because of it. Pure: rows come in.

It replays the draws of both constitutions over the stored rows, so what it predicts is what the run does.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from cai.config import FeedbackConfig
from cai.constitution.draw import draw, principles_for_pair
from cai.constitution.model import Constitution

REQUESTS_PER_REVISION = 2  # one critique, one revision
ORDERS = 2  # each comparison is asked in both


class RevisionRef(NamedTuple):
    """What decides a stored revision, less its sampling. `parent_id` is its response or the revision before it."""

    revision_id: str
    prompt_id: str
    parent_id: str
    response_id: str
    round: int
    principle_id: str
    principle_digest: str
    template_digest: str
    model_digest: str = ""


class ComparisonRef(NamedTuple):
    """What decides a stored comparison, less its order: two of them share everything but the id."""

    comparison_id: str
    prompt_id: str
    response_a: str
    response_b: str
    principle_id: str
    principle_digest: str
    template_digest: str
    judge_digest: str = ""


class _Asked(NamedTuple):
    """The part of a row's identity that a constitution decides."""

    principle_id: str
    principle_digest: str
    template_digest: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What changing the constitution does to the rows of a finished run, for the same prompts, models and settings.

    `n_requests` is exact for these rows: 2 for each revision invalidated (critique and revision), 1 for each comparison
    asked again or newly asked, none for a row that the new constitution needs and the tables already hold (an edit
    that was taken back), and none for comparisons of a principle that is no longer asked.

    Not in it: work the first run left unfinished or rejected; chains that end earlier or later because a revised text
    has another length; and everything made by a model that is trained on the changed revisions. Such a model has
    another digest, so its candidates and the comparisons between them are all new; the command reports these apart.
    """

    revisions_direct: int
    """The new constitution asks this step otherwise: another draw, text, template or few-shot example."""
    revisions_descendant: int
    """The step is asked as before, but an earlier one of its chain is not."""
    comparisons_stale: int
    """The principle is still asked about the pair, in other words."""
    comparisons_new: int
    """Asks about stored pairs that no row answers: an added principle, or one newly drawn."""
    comparisons_dropped: int
    """Comparisons of principles no longer asked about the pair; they stay stored and cost nothing."""
    n_requests: int
    revision_ids: tuple[str, ...] = ()
    """The invalidated revisions, direct and descendant."""
    comparison_ids: tuple[str, ...] = ()
    """The invalidated comparisons, stale and dropped."""


def stale_rows(
    old: Constitution,
    new: Constitution,
    revisions: Iterable[RevisionRef],
    comparisons: Iterable[ComparisonRef],
    *,
    seed: int,
    feedback: FeedbackConfig | None = None,
    of_run: Container[str] | None = None,
) -> Prediction:
    """Replay `old` to find the rows a run of it uses, then `new` to see which of them it would not.

    `seed` and `feedback` (None: the default) are the run's; a constitution's own `feedback.principles` goes before the
    latter's. Rows that `old` does not use (of earlier editions, of other seeds) are only looked up for reuse,
    and so are revisions whose id is not in `of_run`, where that is given.
    """
    feedback = feedback or FeedbackConfig()
    n_samples = 1 if feedback.reasoning is None else feedback.reasoning.samples
    chain = _revisions(list(revisions), _step(old, seed), _step(new, seed), of_run)
    picks = _picks(old, seed, feedback), _picks(new, seed, feedback)
    pairs = _comparisons(comparisons, *picks, n_asks=ORDERS * n_samples)
    return Prediction(
        revisions_direct=len(chain.direct),
        revisions_descendant=len(chain.descendant),
        comparisons_stale=len(pairs.stale),
        comparisons_new=pairs.n_new,
        comparisons_dropped=len(pairs.dropped),
        n_requests=REQUESTS_PER_REVISION * chain.n_steps + pairs.n_again + pairs.n_new,
        revision_ids=(*chain.direct, *chain.descendant),
        comparison_ids=(*pairs.stale, *pairs.dropped),
    )


_Step = Callable[[str, int], _Asked | None]
_Picks = Callable[[str, str], dict[str, _Asked]]


def _step(constitution: Constitution, seed: int) -> _Step:
    """What is asked in a round of a prompt's chains; None where no principle has the stage."""
    stage, frame = constitution.for_stage("critique"), constitution.template_digest("critique")
    digests = {p.id: p.digest("critique") for p in stage}

    @cache
    def step(prompt_id: str, round: int) -> _Asked | None:
        if not stage:
            return None
        drawn = draw(stage, seed=seed, prompt_id=prompt_id, round=round)
        return _Asked(drawn.id, digests[drawn.id], frame)

    return step


def _picks(constitution: Constitution, seed: int, feedback: FeedbackConfig) -> _Picks:
    """What is asked about a pair, by principle id."""
    stage = constitution.for_stage("preference")
    frame = constitution.template_digest("comparison" if feedback.reasoning is None else "reasoning")
    everything = {p.id: _Asked(p.id, p.digest("preference"), frame) for p in stage}
    n = constitution.feedback.principles or feedback.principles

    def picks(response_a: str, response_b: str) -> dict[str, _Asked]:
        if n == "all" or not stage:
            return everything
        drawn = principles_for_pair(stage, n, seed=seed, response_a=response_a, response_b=response_b)
        return {p.id: everything[p.id] for p in drawn}

    return picks


class _Chains(NamedTuple):
    direct: list[str]
    descendant: list[str]
    n_steps: int


def _revisions(rows: Sequence[RevisionRef], old: _Step, new: _Step, of_run: Container[str] | None) -> _Chains:
    """Walk each chain from its response. `now` maps a revision of the old walk to its counterpart in the new one."""
    children: dict[tuple[str, str], list[RevisionRef]] = defaultdict(list)
    for row in rows:
        children[row.parent_id, row.model_digest].append(row)
    ids = {row.revision_id for row in rows}
    found = _Chains([], [], 0)
    n_steps = 0
    todo: list[tuple[RevisionRef, str | None]] = [(row, row.parent_id) for row in rows if row.parent_id not in ids]
    while todo:
        row, parent_now = todo.pop()
        if _asked(row) != old(row.prompt_id, row.round) or (of_run is not None and row.revision_id not in of_run):
            continue
        wanted = new(row.prompt_id, row.round)
        now: str | None = row.revision_id
        if _asked(row) != wanted or parent_now != row.parent_id:
            (found.direct if _asked(row) != wanted else found.descendant).append(row.revision_id)
            siblings = [] if parent_now is None else children[parent_now, row.model_digest]
            now = next((s.revision_id for s in siblings if s.round == row.round and _asked(s) == wanted), None)
            n_steps += now is None and wanted is not None
        todo += [(child, now) for child in children.get((row.revision_id, row.model_digest), ())]
    return found._replace(n_steps=n_steps)


class _Pairs(NamedTuple):
    stale: list[str]
    dropped: list[str]
    n_again: int
    n_new: int


def _comparisons(rows: Iterable[ComparisonRef], old: _Picks, new: _Picks, n_asks: int) -> _Pairs:
    """`n_asks` rows stand for a principle: one an order and sample."""
    pairs: dict[tuple[str, str, str], dict[_Asked, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        pairs[row.response_a, row.response_b, row.judge_digest][_asked(row)].append(row.comparison_id)
    stale, dropped, n_again, n_new = list[str](), list[str](), 0, 0
    for (response_a, response_b, _), stored in pairs.items():
        was, now = old(response_a, response_b), new(response_a, response_b)
        if not any(asked in stored for asked in was.values()):
            continue
        for id, asked in was.items():
            if id not in now:
                dropped += stored.get(asked, [])
            elif now[id] != asked:
                again = stored.get(asked, [])
                stale += again
                n_again += max(0, len(again) - len(stored.get(now[id], ())))
        n_new += sum(max(0, n_asks - len(stored.get(asked, ()))) for id, asked in now.items() if id not in was)
    return _Pairs(stale, dropped, n_again, n_new)


def _asked(row: RevisionRef | ComparisonRef) -> _Asked:
    return _Asked(row.principle_id, row.principle_digest, row.template_digest)
