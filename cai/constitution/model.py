"""What a loaded constitution is: frozen records, and the digests that decide which rows an edit invalidates."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

from cai.errors import ConstitutionError
from cai.records import Message, digest
from cai.templates import DEFAULTS, TemplateName

Stage = Literal["critique", "preference"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Principle:
    """One rule with its requests. A text is "" where `stages` does not need it."""

    id: str
    title: str
    weight: float
    tags: tuple[str, ...]
    stages: tuple[Stage, ...]
    critique: str
    revision: str
    preference: str

    def digest(self, stage: Stage) -> str:
        """Identity of what the model is asked at `stage`; stored with every row.

        The title is for people and the tags for choosing principles: no prompt contains them. The weight decides which
        principle is drawn, and the row already names that one. So editing any of the three leaves stored rows valid.
        """
        if stage == "critique":
            return digest("principle", stage, self.id, self.critique, self.revision)
        return digest("principle", stage, self.id, self.preference)


@dataclass(frozen=True, slots=True)
class CritiqueRevisionExample:
    """A worked critique and revision, shown to the model before its own."""

    messages: tuple[Message, ...]
    response: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """A worked comparison; `answer` is the letter of the better response."""

    messages: tuple[Message, ...]
    response_a: str
    response_b: str
    preference: str
    answer: Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class KnownPair:
    """Two responses to a prompt of which one is beyond doubt better under the principle of that id."""

    principle: str
    prompt: str
    better: str
    worse: str


@dataclass(frozen=True, slots=True)
class Examples:
    critique_revision: tuple[CritiqueRevisionExample, ...] = ()
    preference: tuple[PreferenceExample, ...] = ()


@dataclass(frozen=True, slots=True)
class Feedback:
    """Labelling settings that belong to these principles; None leaves the profile's own."""

    principles: int | Literal["all"] | None = None
    clamp: tuple[float, float] | None = None


@dataclass(frozen=True)
class Constitution:
    name: str
    description: str
    principles: tuple[Principle, ...]
    examples: Examples = Examples()
    templates: Mapping[TemplateName, str] = field(default_factory=dict)
    """Overrides only; `template` falls back to the defaults."""
    feedback: Feedback = Feedback()
    self_test: tuple[KnownPair, ...] = ()
    """What a judge is tried with before it labels; see `cai.labels.self_test`. Decides no row."""

    def digest(self) -> str:
        """Identity of everything that can change a row; the order of principles, titles and tags cannot.

        The frames of chain of thought are in it where they are overridden; every row has its own frame's digest.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        principles = sorted(
            [p.id, float(p.weight), sorted(p.stages), p.critique, p.revision, p.preference] for p in self.principles
        )
        templates = {
            name: self.template(name)
            for name in DEFAULTS
            if name in ("critique", "revision", "comparison") or name in self.templates
        }
        return digest("constitution", principles, templates, asdict(self.examples), asdict(self.feedback))

    def template(self, name: TemplateName) -> str:
        """The text of a template: this constitution's override, or the default."""
        return self.templates.get(name, DEFAULTS[name])

    def template_digest(self, name: Literal["critique", "comparison", "reasoning"]) -> str:
        """Identity of a stage's frame: its templates and its few-shot examples, which both decide the row.

        "critique" covers the critique and the revision template: one step asks both, and is one row. "reasoning" is
        the frame of a comparison that the judge reasons about first, "comparison" of one that it answers at once.
        """
        return self._template_digests[name]

    @cached_property
    def _template_digests(self) -> dict[str, str]:
        shown = asdict(self.examples)
        return {
            "critique": digest(
                "frame", self.template("critique"), self.template("revision"), shown["critique_revision"]
            ),
            "comparison": digest("frame", self.template("comparison"), shown["preference"]),
            "reasoning": digest(
                "frame",
                *(self.template(name) for name in ("comparison", "reasoning", "conclusion")),
                shown["preference"],
            ),
        }

    def for_stage(self, stage: Stage) -> tuple[Principle, ...]:
        """The principles used at `stage`, in the file's order; empty where none names it."""
        return tuple(p for p in self.principles if stage in p.stages)

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(sorted({tag for p in self.principles for tag in p.tags}))

    def without(self, tag: str) -> "Constitution":
        """A copy less every principle that bears `tag`.

        Raises:
            ConstitutionError: no principle bears the tag, or a stage would be left with no principle.
        """
        if tag not in self.tags:
            raise ConstitutionError(
                f"no principle of {self.name!r} bears the tag {tag!r}; its tags are {', '.join(self.tags) or 'none'}"
            )
        principles = tuple(p for p in self.principles if tag not in p.tags)
        ids = {p.id for p in principles}
        rest = replace(self, principles=principles, self_test=tuple(k for k in self.self_test if k.principle in ids))
        for stage in STAGES:
            if self.for_stage(stage) and not rest.for_stage(stage):
                raise ConstitutionError(
                    f"without the tag {tag!r} constitution {self.name!r} has no principle left for the stage "
                    f"{stage!r}; keep one that does not bear the tag"
                )
        return rest
