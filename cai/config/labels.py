"""How pairs are labelled, by the feedback model and by people, and become preference pairs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cai.config.base import Config, Positive, Share
from cai.config.engine import EngineConfig, SamplingConfig

Objective = Literal["harmlessness", "helpfulness"]
"""What people were asked about a pair."""


class ReasoningConfig(Config):
    """The judge writes before it chooses (Bai et al. 2022, §4.1): one greedy text, or `samples` texts, averaged."""

    sampling: SamplingConfig = SamplingConfig(temperature=0.0)
    samples: Positive = 1
    """Texts of one ask; each is a row, and more of them later ask only for the new ones."""

    @model_validator(mode="after")
    def _samples_differ(self) -> "ReasoningConfig":
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(f"{self.samples} greedy samples are one text; raise `sampling.temperature`, or take one")
        return self


class FeedbackConfig(Config):
    """How pairs are put to the feedback model; both orders, always."""

    principles: Positive | Literal["all"] = "all"
    """Principles asked about each pair, drawn by weight without replacement."""
    reasoning: ReasoningConfig | None = None
    """None: the judge chooses at once."""
    shots: Annotated[int, Field(ge=0)] | Literal["all"] = "all"
    """The constitution's worked comparisons shown before each ask: all, or so many, drawn for each ask by itself."""
    verdict: Literal["options", "text"] = "options"
    """text: read what the judge says, for an engine that shows no probabilities. Labels are then 0 or 1."""
    verdict_max_tokens: Positive = 256
    """text only: a reply that is longer is a reject."""
    judge: EngineConfig | None = None
    """None: the seed model judges, in the engine that is already running."""
    judges: tuple[EngineConfig, ...] = ()
    """A committee: each labels every pair. The first alone gives win rates."""
    weights: Literal["equal", "gold"] | tuple[Annotated[float, Field(gt=0)], ...] = "equal"
    """What each judge's probability counts for; gold: the log-odds of its accuracy on the gold annotations."""
    self_test: bool = True
    """Try the judge with known winners and attacks before it labels; see `cai labels self-test`."""

    @model_validator(mode="after")
    def _judges_and_weights(self) -> "FeedbackConfig":
        if self.judge is not None and self.judges:
            raise ValueError("`judge` and `judges` are both given; write one of them")
        if len(self.judges) == 1:
            raise ValueError("a committee of one; write `judge`")
        if len({(judge.model, judge.base_url) for judge in self.judges}) < len(self.judges):
            raise ValueError("two of the `judges` are one model, whose vote would count twice; name another")
        if isinstance(self.weights, tuple) and len(self.weights) != len(self.judges):
            raise ValueError(f"{len(self.weights)} weights for {len(self.judges)} judges; give one each")
        if self.weights == "gold" and not self.judges:
            raise ValueError("`weights: gold` weighs `judges` against each other, and there are none")
        return self


class RankingConfig(Config):
    """Bradley–Terry over all asks of one prompt; see `cai/labels/ranking.py`."""

    prior: Annotated[float, Field(gt=0)] = 0.02
    """Games added to each compared pair, half won by each side: 0.02 makes 99 % of a single certain win."""


class PreferencesConfig(Config):
    """How stored comparisons become pairs. Applied at read time: changing it asks the model nothing."""

    ranking: RankingConfig | None = None
    """The label of a pair is what the ranking of its prompt's responses says; None: what its own asks say."""

    tie_band: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """A pair whose soft label is within this of 0.5 is a tie."""
    clamp: tuple[Share, Share] | None = None
    """Bounds on each ask's probability; the paper uses (0.4, 0.6) after chain of thought."""
    max_mass_outside: Share = 0.5
    """An ask that puts more probability than this outside the options is unscored."""
    recalibration: str | None = None
    """The id of a record made by `cai labels calibrate`: what maps a pair's P(a better) to what gold says it means. The
    clamp then bounds the mapped probability of the pair, and no longer each ask. Of labels alone, as `ranking`: win
    rates and the self-test are what the judge itself says of each pair.
    """


class PeopleConfig(Config):
    """Pairs that people labelled, in the file that preference models are trained on beside the feedback model's: people
    say what is helpful, and the feedback model what is harmless (Bai et al. 2022, §4).

    They come from `cai labels import`. Gold labels are never among them.
    """

    sources: tuple[str, ...] = ()
    """As `cai sql people` names them; none: all."""
    objectives: tuple[Objective, ...] = ("helpfulness",)
    rule: Literal["majority", "dawid_skene", "groups"] = "majority"
    """How several annotators of a pair become one label; see `cai/labels/aggregate.py`."""
    group_weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """`groups` only: the weight of every group that annotators belong to."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """Of the pairs that training reads, so many are people's; too few of them is an error."""
    max_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The most that one judge, file or annotator may label of these pairs; what is above it is thinned by hash."""

    @model_validator(mode="after")
    def _weights_are_for_groups(self) -> "PeopleConfig":
        if bool(self.group_weights) != (self.rule == "groups"):
            raise ValueError("`group_weights` go with the rule `groups`, and it with them; give both or neither")
        return self
