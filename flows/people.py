"""What people bring to a run: pairs beside the feedback model's."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cai.config import PeopleConfig, Profile
from cai.held_out import HeldOutGuard
from cai.labels.mix import AIPair, HumanPair, Mixed, by_prompt, human_pairs, mix, to_preference
from cai.records import Annotation, PreferencePair, Prompt, Response, digest
from flows.held_out import refused_prompts
from storage.people import chosen_annotations, read_annotations, write_annotations
from storage.store import Store

ANNOTATIONS = "annotations.parquet"
"""In a run's folder: what people had said when it began."""


def people_digest(profile: Profile, home: Path) -> str:
    """What people said, for the id of a run: other labels, another run."""
    return "" if profile.people is None else _digest(chosen_annotations(Store(home), profile.people))


def _digest(rows: Sequence[Annotation]) -> str:
    return digest("annotations", [[row.annotation_id, row.p_a, row.group] for row in rows])


def keep_annotations(path: Path, config: PeopleConfig, home: Path) -> None:
    """Write what people said into a file of a run."""
    write_annotations(path, chosen_annotations(Store(home), config))


class MixedIn(NamedTuple):
    """`pair_ids` are of both kinds. Pairs given + pairs of people = pairs kept + rejects + spare pairs of people."""

    pair_ids: list[str]
    n_ties: int
    n_found: int
    n_people: int
    n_spare: int
    prompt_ids: list[str]
    n_rejected: int


def mixed_in(store: Store, ai: Sequence[AIPair], profile: Profile, folder: Path, guard: HeldOutGuard) -> MixedIn:
    """The pairs that training reads: the feedback model's that may be trained on and, where the profile has `people`,
    theirs in the stated share. Theirs are stored, and whatever is left out too.

    Raises:
        DataError: too few pairs of people, or no mix that keeps the cap.
    """
    config, tie_band = profile.people, profile.preferences.tie_band
    found = [] if config is None else human_pairs(read_annotations(folder / ANNOTATIONS), config, tie_band)
    asked = [*(pair.prompt_id for pair in ai), *(pair.prompt_id for pair in found)]
    refused = refused_prompts(store, guard, asked, "preferences")
    ai, rejects = by_prompt(ai, refused)
    mixed = Mixed(ai, [], [], 0)
    if config is not None:
        people, left_out = by_prompt(found, refused)
        mixed = mix(ai, people, config)
        rejects += left_out
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


def _preferences(store: Store, pairs: Sequence[HumanPair], tie_band: float) -> list[PreferencePair]:
    prompts = store.find_all(Prompt, {pair.prompt_id for pair in pairs})
    texts = store.find_all(Response, {key for pair in pairs for key in pair.responses})
    return [
        to_preference(pair, prompts[pair.prompt_id], *(texts[key] for key in pair.responses), tie_band=tie_band)
        for pair in pairs
    ]
