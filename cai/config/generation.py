"""What the seed model is made to write: chains, helpful replies, candidates."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cai.config.base import Config, Positive
from cai.config.engine import SamplingConfig
from cai.config.prompts import PromptSource


class ChainsConfig(Config):
    """SL-CAI data: one response, then `rounds` times critique and revision (the paper: 4)."""

    rounds: Positive = 4
    response: SamplingConfig = SamplingConfig()
    critique: SamplingConfig = SamplingConfig()
    revision: SamplingConfig = SamplingConfig()


class HelpfulConfig(Config):
    """Replies of the seed model to helpful prompts, trained on as they are beside the revisions, so that SL-CAI stays
    helpful (Bai et al. 2022, §3.2).
    """

    prompts: tuple[PromptSource, ...]
    share: Annotated[float, Field(gt=0, lt=1)]
    """Of the rows that SFT reads, so many are helpful; too few of them is an error."""
    response: SamplingConfig = SamplingConfig()

    @model_validator(mode="after")
    def _is_from_files(self) -> "HelpfulConfig":
        if any(source.path == "smallworld" for source in self.prompts):
            raise ValueError("half of what `smallworld` asks is harmful; give files of helpful prompts")
        return self


class RLPromptsConfig(Config):
    """What RL samples beside the prompts that are meant to draw out harm."""

    helpful_share: Annotated[float, Field(ge=0, lt=1)]
    """Of the prompts, so many are helpful: those of `prompts` whose `kind` is helpful, and `helpful.prompts`. Too few
    of them is an error; of too many those with the lowest ids are taken.
    """


class CandidatesConfig(Config):
    """Responses to be compared: `k` samples a prompt."""

    k: Annotated[int, Field(ge=2, le=16)] = 2
    pairing: Literal["all", "circle"] = "all"
    """Which pairs of them: all k (k - 1) / 2, or each with its neighbour in a circle drawn by hash (k pairs)."""
    response: SamplingConfig = SamplingConfig()
