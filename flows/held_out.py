"""What a run must not train on: prompts with gold labels, what its profile measures with, and what was stored for that.

Asked at import, and again when a set to train on is derived: more may be held out by then. `cai/held_out.py` decides.
"""

from collections.abc import Iterable, Sequence

from cai.config import Profile
from cai.held_out import HeldOutGuard, Refusal
from cai.privacy import Guard
from cai.records import Prompt, Reject, Revision
from storage.annotations import gold_prompts
from storage.imports import read_sources
from storage.store import Store

GROUP = 10_000
Refused = dict[str, Refusal]
"""By prompt."""


def guard_of(store: Store | None, profile: Profile) -> HeldOutGuard:
    """Everything that is held out, as it stands now; without a store, what the profile names."""
    named = read_sources(profile.evaluation.prompts, "eval", profile.seed, Guard(profile.privacy))
    measured = [row for row in named if isinstance(row, Prompt)]
    if store is None:
        return HeldOutGuard(measured)
    gold = gold_prompts(store)
    measured += store.read(Prompt, "split = 'eval'")
    return HeldOutGuard(measured, gold, store.find_all(Prompt, gold).values())


def without_held_out(rows: Sequence[Prompt | Reject], guard: HeldOutGuard) -> list[Prompt | Reject]:
    """The rows of an import, those that must not be trained on as rejects."""
    return [_checked(row, guard) if isinstance(row, Prompt) else row for row in rows]


def _checked(prompt: Prompt, guard: HeldOutGuard) -> Prompt | Reject:
    refused = guard.refusal(prompt)
    if refused is None:
        return prompt
    parents, text = (prompt.source, prompt.prompt_id), prompt.messages[-1].content
    return Reject.make(
        "import", refused.reason, prompt_id=prompt.prompt_id, parents=parents, detail=refused.detail, text=text
    )


def refused_prompts(store: Store, guard: HeldOutGuard, prompt_ids: Iterable[str]) -> Refused:
    """Those of these prompts that must not be trained on."""
    refused: Refused = {}
    ids = list(dict.fromkeys(prompt_ids))
    for start in range(0, len(ids), GROUP):
        for prompt_id, prompt in store.find_all(Prompt, ids[start : start + GROUP]).items():
            if (why := guard.refusal(prompt)) is not None:
                refused[prompt_id] = why
    return refused


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
