"""What a run must not train on: prompts with gold labels, what its profile measures with, and what was stored for that.

Asked at import, and again when a set to train on is derived: more may be held out by then. `cai/held_out.py` decides.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cai.config import Profile
from cai.evaluation import Sets
from cai.held_out import HeldOutGuard, Refusal, contaminations, held_out
from cai.privacy import Guard
from cai.records import Contamination, Dataset, EvaluationItem, Prompt, Reject, Revision
from storage.annotations import gold_prompts
from storage.evaluation_sets import read_sets
from storage.store import Store

GROUP = 10_000
Refused = dict[str, Refusal]
"""By prompt."""


def guard_of(store: Store | None, profile: Profile | None) -> HeldOutGuard:
    """Everything that is held out, as it stands now: in the store, and what the profile measures with."""
    measured = [] if profile is None else _measured(profile)
    if store is None:
        return HeldOutGuard(measured)
    gold = gold_prompts(store)
    measured += store.read(Prompt, "split = 'eval'")
    return HeldOutGuard(measured, gold, store.find_all(Prompt, gold).values())


def _measured(profile: Profile) -> list[Prompt]:
    return read_sets(profile.evaluation.prompts, profile.seed, Guard(profile.privacy)).prompts


class Checked(NamedTuple):
    rows: list[Prompt | Reject]
    contaminations: list[Contamination]


def without_held_out(rows: Sequence[Prompt | Reject], guard: HeldOutGuard) -> Checked:
    """The rows of an import, those that must not be trained on as rejects, and what these repeat. Writes nothing."""
    checked = Checked([], [])
    for row in rows:
        refused = guard.refusal(row) if isinstance(row, Prompt) and row.split == "train" else None
        if refused is None:
            checked.rows.append(row)
        else:
            assert isinstance(row, Prompt)
            checked.rows.append(_reject(row, refused))
            checked.contaminations.extend(contaminations(row, refused, "import"))
    return checked


def _reject(prompt: Prompt, refused: Refusal) -> Reject:
    parents, text = (prompt.source, prompt.prompt_id), prompt.messages[-1].content
    return Reject.make(
        "import", refused.reason, prompt_id=prompt.prompt_id, parents=parents, detail=refused.detail, text=text
    )


def untrained(sets: Sets, trained_on: Mapping[str, str], store: Store) -> Sets:
    """What to measure with. Rejects are the prompts that a run trained on (prompt id → run id), or nearly did, and
    those whose twin it was.
    """
    rejects = held_out(sets.prompts, trained_on, _read(store, trained_on)).rejects
    gone = {reject.prompt_id for reject in rejects}
    lost = [item for item in sets.items if item.twin_id in gone and item.prompt_id not in gone]
    rejects += [_without_twin(item) for item in lost]
    return sets.without(gone)._replace(rejects=[*sets.rejects, *rejects])


def _without_twin(item: EvaluationItem) -> Reject:
    detail = f"prompt {item.twin_id}, which asks the same without the opinion, was trained on"
    parents = (item.item_id, item.twin_id)
    return Reject.make("evaluate", "twin_trained_on", prompt_id=item.prompt_id, parents=parents, detail=detail)


def _read(store: Store, prompt_ids: Iterable[str]) -> Iterator[Prompt]:
    """These prompts, a group at a time."""
    ids = list(dict.fromkeys(prompt_ids))
    for start in range(0, len(ids), GROUP):
        yield from store.find_all(Prompt, ids[start : start + GROUP]).values()


def refused_prompts(store: Store, guard: HeldOutGuard, prompt_ids: Iterable[str], dataset: Dataset) -> Refused:
    """Those of these prompts that must not be trained on. What each repeats is stored in `contaminations`."""
    refused: Refused = {}
    rows: list[Contamination] = []
    for prompt in _read(store, prompt_ids):
        if (why := guard.refusal(prompt)) is not None:
            refused[prompt.prompt_id] = why
            rows += contaminations(prompt, why, "derive", dataset)
    store.append(rows)
    return refused


def held_out_now(store: Store, profile: Profile | None, prompt_ids: Iterable[str]) -> Refused:
    """Those of these prompts that must not be trained on, as it stands now. Writes nothing."""
    guard = guard_of(store, profile)
    asked = ((prompt.prompt_id, guard.refusal(prompt)) for prompt in _read(store, prompt_ids))
    return {prompt_id: why for prompt_id, why in asked if why is not None}


def refused_revisions(rows: Iterable[Revision], refused: Refused) -> list[Reject]:
    """A reject for each revision that must not be trained on: its prompt is held out since it was imported."""
    return [
        Reject.make(
            "sft_set",
            refused[row.prompt_id].reason,
            prompt_id=row.prompt_id,
            parents=(row.revision_id,),
            detail=refused[row.prompt_id].detail,
        )
        for row in rows
        if row.prompt_id in refused
    ]
