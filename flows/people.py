"""What people bring to a run: pairs beside the feedback model's, and gold labels, which are never trained on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cai.config import PeopleConfig, Profile
from cai.labels.mix import AIPair, HumanPair, Mixed, by_prompt, human_pairs, mix, to_preference
from cai.records import Annotation, PreferencePair, Prompt, Reject, Response, Revision, digest
from storage.annotations import gold_prompts
from storage.people import chosen_annotations, read_annotations, write_annotations
from storage.store import Store

ANNOTATIONS = "annotations.parquet"
"""In a run's folder: what people had said when it began."""
GOLD_PROMPT = "gold_prompt"
_HELD_OUT = "held_out_prompt"
_DETAIL: Mapping[str, str] = {
    GOLD_PROMPT: "the prompt has gold labels, which are for measuring alone; `cai gold list`",
    _HELD_OUT: "the prompt was stored to measure with (split eval)",
}


def people_digest(profile: Profile, home: Path) -> str:
    """What people said, for the id of a run: other labels, another run."""
    return "" if profile.people is None else _digest(chosen_annotations(Store(home), profile.people))


def _digest(rows: Sequence[Annotation]) -> str:
    return digest("annotations", [[row.annotation_id, row.p_a, row.group] for row in rows])


def keep_annotations(path: Path, config: PeopleConfig, home: Path) -> None:
    """Write what people said into a file of a run."""
    write_annotations(path, chosen_annotations(Store(home), config))


def without_gold(rows: Sequence[Prompt | Reject], gold: Collection[str]) -> list[Prompt | Reject]:
    """The rows of an import, those of prompts with gold labels as rejects."""
    return [_gold_reject(row) if isinstance(row, Prompt) and row.prompt_id in gold else row for row in rows]


def _gold_reject(prompt: Prompt) -> Reject:
    parents = (prompt.source, prompt.prompt_id)
    return Reject.make("import", GOLD_PROMPT, prompt_id=prompt.prompt_id, parents=parents, detail=_DETAIL[GOLD_PROMPT])


def gold_revisions(rows: Iterable[Revision], gold: Collection[str]) -> list[Reject]:
    """A reject for each revision that must not be trained on: its prompt has got a gold label since it was imported."""
    return [
        Reject.make(
            "sft_set",
            GOLD_PROMPT,
            prompt_id=row.prompt_id,
            parents=(row.revision_id,),
            detail=_DETAIL[GOLD_PROMPT],
        )
        for row in rows
        if row.prompt_id in gold
    ]


class MixedIn(NamedTuple):
    """`pair_ids` are of both kinds. Pairs given + pairs of people = pairs kept + rejects + spare pairs of people."""

    pair_ids: list[str]
    n_ties: int
    n_found: int
    n_people: int
    n_spare: int
    prompt_ids: list[str]
    n_rejected: int


def mixed_in(
    store: Store, ai: Sequence[AIPair], config: PeopleConfig | None, folder: Path, *, tie_band: float
) -> MixedIn:
    """The pairs that training reads: the feedback model's that may be trained on and, where the profile has `people`,
    theirs in the stated share. Theirs are stored, and whatever is left out too.

    Raises:
        DataError: too few pairs of people, or no mix that keeps the cap.
    """
    gold = gold_prompts(store)
    ai, rejects = by_prompt(ai, lambda prompt_id: GOLD_PROMPT if prompt_id in gold else "", _DETAIL)
    found: list[HumanPair] = []
    mixed = Mixed(ai, [], [], 0)
    if config is not None:
        found = human_pairs(read_annotations(folder / ANNOTATIONS), config, tie_band)
        held_out = _held_out(store, [pair.prompt_id for pair in found])
        people, refused = by_prompt(found, lambda key: _why_not(key, gold, held_out), _DETAIL)
        mixed = mix(ai, people, config)
        rejects += refused
    rejects += mixed.rejects
    rows = _preferences(store, mixed.people, tie_band)
    store.append([*rows, *rejects])
    return MixedIn(
        pair_ids=[*(pair.pair_id for pair in mixed.ai), *(pair.pair_id for pair in mixed.people)],
        n_ties=sum(pair.is_tie for pair in mixed.ai) + sum(row.is_tie for row in rows),
        n_found=len(found),
        n_people=len(mixed.people),
        n_spare=mixed.n_spare,
        prompt_ids=sorted({pair.prompt_id for pair in mixed.people}),
        n_rejected=len(rejects),
    )


def _why_not(prompt_id: str, gold: Collection[str], held_out: Collection[str]) -> str:
    return GOLD_PROMPT if prompt_id in gold else _HELD_OUT if prompt_id in held_out else ""


def _held_out(store: Store, prompt_ids: Sequence[str]) -> set[str]:
    sql = "SELECT prompt_id FROM prompts WHERE split = 'eval' AND prompt_id IN (SELECT unnest(?::VARCHAR[]))"
    return {row["prompt_id"] for row in store.query(sql, [list(prompt_ids)])}


def _preferences(store: Store, pairs: Sequence[HumanPair], tie_band: float) -> list[PreferencePair]:
    prompts = store.find_all(Prompt, {pair.prompt_id for pair in pairs})
    texts = store.find_all(Response, {key for pair in pairs for key in pair.responses})
    return [
        to_preference(pair, prompts[pair.prompt_id], *(texts[key] for key in pair.responses), tie_band=tie_band)
        for pair in pairs
    ]
