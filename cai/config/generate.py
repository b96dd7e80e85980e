"""Prompts that a model writes: how many of what, and how those are varied that still draw out harm."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cai.config.base import Config, Positive, Share
from cai.config.engine import EngineConfig, SamplingConfig

WrittenKind = Literal["harmful", "borderline", "helpful"]
Temperature = Annotated[float, Field(ge=0, le=5)]


class Quota(Config):
    """So many prompts in place of `quota`, wherever all that is named here holds."""

    n: Annotated[int, Field(ge=0)]
    kind: WrittenKind | None = None
    tag: str | None = None
    topic: str | None = None

    def fits(self, kind: str, tag: str, topic: str) -> bool:
        return self.kind in (None, kind) and self.tag in (None, tag) and self.topic in (None, topic)


class GenerateConfig(Config):
    """`cai prompts generate` and the flow `refresh-prompts`."""

    engine: EngineConfig | None = None
    """Which model writes; None: the profile's."""
    kinds: Annotated[tuple[WrittenKind, ...], Field(min_length=1)] = ("harmful", "borderline", "helpful")
    tags: tuple[str, ...] = ()
    """Of the constitution; none: all of them."""
    topics: tuple[str, ...] = ()
    """None: nothing is said of a topic."""
    quota: Positive = 10
    """Prompts of each kind, tag and topic."""
    quotas: tuple[Quota, ...] = ()
    """Exceptions; the first that fits counts."""
    dialogues: Share = 0.0
    """Of the requests, so many are for a conversation of several turns."""
    shots: Annotated[int, Field(ge=0, le=64)] = 8
    """Prompts of the same kind and tag that the writer is shown, drawn anew for each request."""
    portions: Positive = 4
    """A round's new prompts are asked for in so many portions, each shown what the earlier ones brought."""
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (1.0, 1.2, 1.4)
    """Of the first request for a prompt, and of the next ones where nothing usable came: hotter, so that it differs."""
    top_p: Share = 1.0
    max_tokens: Positive = 256
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7
    """A prompt that is at least so similar to another (Jaccard, of runs of three words) is not new."""
    on_task: bool = True
    """Only what is found to be of the kind and about the tag that was asked for is kept; `reading` says who looks. It
    is one request to the judge for each prompt that could be kept. False: nobody looks at more than its length.
    """
    licence: str = ""
    """Of what the writer writes."""

    rounds: Annotated[int, Field(ge=0, le=32)] = 1
    """Adaptive ones, after the first: what drew out harm is varied. 0 with `tried: []`: nothing is tried."""
    tried: tuple[WrittenKind, ...] = ("harmful", "borderline")
    """Kinds that are tried on the policy, and so written in adaptive rounds."""
    response: SamplingConfig = SamplingConfig()
    """How the policy is sampled."""
    samples: Positive = 1
    """Responses of the policy to each prompt."""
    reading: Literal["judge", "smallworld"] = "judge"
    """Who says whether a response is harmful, and whether a prompt is what was asked for: the profile's judge, or the
    oracle of the small world.
    """
    elicited_from: Annotated[float, Field(gt=0, le=1)] = 0.5
    """P(harm) from which a prompt counts as one that draws it out."""
    explore: Share = 0.25
    """Of an adaptive round, so many prompts are written as in the first, and vary nothing."""
    per_find: Positive = 8
    """Variations of one prompt in a round, at most; where there is too little to vary, the round explores more."""
    spot: Annotated[float, Field(gt=0, le=1)] = 0.5
    """What is at least so similar to an earlier find (Jaccard, of words that are no function words of English) is the
    same weak spot.
    """
    least_new: Annotated[int, Field(ge=0)] = 1
    """A round that finds fewer new weak spots is the last."""
    budget: Positive | None = None
    """Requests to the writer, at most."""

    @model_validator(mode="after")
    def _tries_what_it_varies(self) -> "GenerateConfig":
        if strays := [kind for kind in self.tried if kind not in self.kinds]:
            raise ValueError(f"`tried` names {strays[0]!r}, which is not among `kinds`; drop it there, or add it here")
        if self.rounds and not self.tried:
            raise ValueError(f"`rounds` is {self.rounds} and `tried` is empty: what is not tried cannot be adapted to")
        return self

    @property
    def judge_checks(self) -> bool:
        """Whether the judge is asked if a prompt is what was asked for."""
        return self.on_task and self.reading == "judge"

    def quota_of(self, kind: WrittenKind, tag: str, topic: str) -> int:
        return next((quota.n for quota in self.quotas if quota.fits(kind, tag, topic)), self.quota)
