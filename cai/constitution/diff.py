"""What changed between two constitutions, by principle, and how many draws move. What it costs is in `stale.py`."""

from collections.abc import Mapping
from dataclasses import dataclass

from cai.constitution.draw import moved_share
from cai.constitution.model import STAGES, Constitution, Principle, Stage
from cai.templates import DEFAULTS

_TEXTS: dict[str, Stage] = {"critique": "critique", "revision": "critique", "preference": "preference"}
_OTHER = ("title", "weight", "tags", "stages")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, before and after, as a person reads it."""

    field: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class PrincipleChange:
    """A principle both have. `stages` are those whose digest changed: the rows there are asked again."""

    id: str
    stages: tuple[Stage, ...]
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class ConstitutionDiff:
    """`moved` is the expected share of draws, by stage, that give another principle because ids or weights changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[PrincipleChange, ...]
    moved: Mapping[Stage, float]
    templates: tuple[FieldChange, ...]
    examples: tuple[str, ...]
    feedback: tuple[FieldChange, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.changed or self.templates or self.examples or self.feedback)


def diff(old: Constitution, new: Constitution) -> ConstitutionDiff:
    """By principle id, in the order of the file that has it. Name and description decide nothing and are left out."""
    before, after = {p.id: p for p in old.principles}, {p.id: p for p in new.principles}
    changes = [_change(principle, after[id]) for id, principle in before.items() if id in after]
    return ConstitutionDiff(
        added=tuple(id for id in after if id not in before),
        removed=tuple(id for id in before if id not in after),
        changed=tuple(change for change in changes if change.fields),
        moved={stage: moved_share(_weights(old, stage), _weights(new, stage)) for stage in STAGES},
        templates=_fields([(name, old.template(name), new.template(name)) for name in DEFAULTS]),
        examples=tuple(
            name
            for name, was, now in [
                ("critique_revision", old.examples.critique_revision, new.examples.critique_revision),
                ("preference", old.examples.preference, new.examples.preference),
            ]
            if was != now
        ),
        feedback=_fields(
            [
                ("principles", str(old.feedback.principles), str(new.feedback.principles)),
                ("clamp", str(old.feedback.clamp), str(new.feedback.clamp)),
            ]
        ),
    )


def _weights(constitution: Constitution, stage: Stage) -> dict[str, float]:
    return {p.id: p.weight for p in constitution.for_stage(stage)}


def _change(old: Principle, new: Principle) -> PrincipleChange:
    fields = _fields([(name, _shown(old, name), _shown(new, name)) for name in (*_OTHER, *_TEXTS)])
    stages = tuple(
        stage
        for stage in STAGES
        if stage in old.stages and stage in new.stages and old.digest(stage) != new.digest(stage)
    )
    return PrincipleChange(old.id, stages, fields)


def _shown(principle: Principle, name: str) -> str:
    value = {
        "title": principle.title,
        "weight": f"{principle.weight:g}",
        "tags": ", ".join(sorted(principle.tags)),
        "stages": ", ".join(sorted(principle.stages)),
        "critique": principle.critique,
        "revision": principle.revision,
        "preference": principle.preference,
    }
    return value[name]


def _fields(triples: list[tuple[str, str, str]]) -> tuple[FieldChange, ...]:
    return tuple(FieldChange(name, was, now) for name, was, now in triples if was != now)
