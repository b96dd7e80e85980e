"""A profile: one YAML file of all settings, and how it is read."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from cai.config.base import Config, problems
from cai.config.engine import EngineConfig, RayConfig
from cai.config.evaluation import EvaluationConfig, GateConfig
from cai.config.generate import GenerateConfig
from cai.config.generation import CandidatesConfig, ChainsConfig, HelpfulConfig, RLPromptsConfig
from cai.config.labels import FeedbackConfig, PeopleConfig, PreferencesConfig
from cai.config.privacy import PrivacyConfig
from cai.config.prompts import GENERATED, MasteredConfig, PromptSource
from cai.config.rl import GRPOConfig, RLConfig
from cai.config.training import RewardModelConfig, SFTConfig
from cai.errors import ConfigError
from cai.yaml_files import read_document

SHIPPED = Path(__file__).parents[2]


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        near = re.sub(r"[^a-z0-9._-]+", "-", name.casefold()).strip("-._")[:64] or "mine"
        raise ValueError(f"64 lower-case letters, digits, dots, hyphens and underscores at most, such as `{near}`")
    return name


def _sources(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"a list of sources is expected, such as `prompts: [{{path: {value}}}]`")
    return value


class Profile(Config):
    """One way to run the whole method; see `deployments/profiles/`."""

    name: Annotated[str, AfterValidator(_name)]
    seed: int = 0
    constitution: Path
    engine: EngineConfig = EngineConfig()
    prompts: Annotated[tuple[PromptSource, ...], BeforeValidator(_sources)]
    privacy: PrivacyConfig = PrivacyConfig()
    generate: GenerateConfig = GenerateConfig()
    """How prompts are written by `cai prompts generate`; a run only reads those, where `prompts` names `generated`."""
    near_duplicates: Literal["reject", "keep"] = "reject"
    """What becomes of a prompt that repeats an earlier one of `prompts` in other case, punctuation or order, or but for
    a sentence of many: two wordings are revised, labelled and trained on twice, and weigh twice. What is in no danger:
    short prompts of other words, and one of a template's many fillings; so none of the small world's is rejected.
    """
    chains: ChainsConfig = ChainsConfig()
    helpful: HelpfulConfig | None = None
    sft: SFTConfig | None = SFTConfig()
    """None: no SL-CAI model is trained, and the candidates come from the seed model."""
    candidates: CandidatesConfig = CandidatesConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    preferences: PreferencesConfig = PreferencesConfig()
    people: PeopleConfig | None = None
    """None: every label is the feedback model's."""
    reward_model: RewardModelConfig = RewardModelConfig()
    ensemble: Annotated[int, Field(ge=1, le=16)] = 1
    """Reward models that are trained, over the seeds `seed`, `seed` + 1, …; RL combines them by `conservatism`."""
    rl: RLConfig = GRPOConfig()
    rl_prompts: RLPromptsConfig | None = None
    """None: RL samples the prompts of the run, whatever their kind."""
    rounds: Annotated[int, Field(ge=1, le=16)] = 1
    """How often pairs are made, labelled and trained on: each later round samples the policy of the one before, and
    trains it further with that policy as the reference.
    """
    mastered: MasteredConfig | None = None
    """None: RL draws every prompt alike. Off unless asked for: who has mastered what is read off a few candidates a
    prompt, outside the small world by rules; and where only helpful prompts are mastered, harmful ones are left, which
    teach to refuse. Look at `cai prompts stats` first.
    """
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig | None = None
    """None: nothing says whether the policy may be promoted."""
    ray: RayConfig | None = None
    """None: shards are done one after the other, by one engine."""
    accelerate: Path | None = None
    """A file for `accelerate launch`, under which training then runs; see `deployments/accelerate/`. One that splits
    the model (FSDP, DeepSpeed) is for SFT, and GRPO without a guard; the rest then runs in one process. None: all does.
    """

    @model_validator(mode="after")
    def _uses_what_it_names(self) -> "Profile":
        if self.helpful is not None and self.sft is None:
            raise ValueError("`helpful` is data for SFT, and `sft` is null; drop one of them")
        if self.ensemble > 1 and self.rl.algorithm == "dpo":
            raise ValueError(f"`ensemble` is {self.ensemble} and dpo trains no reward model; drop it")
        if self.mastered is not None and self.rl.algorithm == "dpo":
            raise ValueError("`mastered` is about the prompts of RL, and dpo learns from pairs; drop it")
        if strays := [s.path for s in (*self.prompts, *self.evaluation.prompts) if s.answer_column is not None]:
            raise ValueError(f"{strays[0]} has an `answer_column`: the model under training answers these; drop it")
        others = (*self.evaluation.prompts, *(() if self.helpful is None else self.helpful.prompts))
        own = [source for source in self.prompts if source.path == GENERATED]
        if len(own) > 1 or any(source.path == GENERATED for source in others):
            raise ValueError(f"the source `{GENERATED}` may be named once, under `prompts` alone: it is for training")
        if own and (strays := own[0].without_effect()):
            raise ValueError(
                f"the source `{GENERATED}` has `{strays[0]}`, which changes nothing there; drop it: all that it takes "
                "is `limit` and `kind`"
            )
        return self

    @property
    def judge(self) -> EngineConfig:
        """The feedback model; of a committee, the first."""
        return self.judges[0]

    @property
    def judges(self) -> tuple[EngineConfig, ...]:
        return self.feedback.judges or (self.feedback.judge or self.engine,)


def load_profile(path: Path) -> Profile:
    """Read a profile. Relative paths in it are relative to the working directory; a profile or a constitution that is
    not there is looked for among those that are shipped.

    Raises:
        ConfigError: the file is missing, is no YAML, or has a key twice, one that is unknown, or a wrong value; says
            which and where.
    """
    path = found(path)
    if not path.is_file():
        raise ConfigError(f"no profile at {path}; `ls deployments/profiles` shows the ones that are shipped")
    document = read_document(path)
    if not isinstance(document.body, dict):
        came = "nothing" if document.body is None else f"a {type(document.body).__name__}"
        raise ConfigError(
            f"profile {path}: `key: value` lines are expected, such as `name: mine`, and it holds {came}; start from "
            "one of deployments/profiles"
        )
    try:
        profile = Profile.model_validate(document.body)
    except ValidationError as error:
        raise ConfigError(f"profile {path} cannot be used: {problems(error, Profile, document)}") from error
    return profile.model_copy(update={"constitution": found(profile.constitution)})


def found(path: Path) -> Path:
    """The file itself, or the shipped one of that name where it is not there."""
    shipped = SHIPPED / path
    return shipped if not path.exists() and shipped.is_file() else path
