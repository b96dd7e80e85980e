"""The settings of every stage. Unknown keys fail.

A default is a setting that has been run. What has no good default has none.
"""

from cai.config.base import Config, Positive, Share, config_digest, problems
from cai.config.engine import EngineConfig, RayConfig, SamplingConfig
from cai.config.evaluation import Condition, EvaluationConfig, GateConfig, ProbesConfig
from cai.config.generate import GenerateConfig, Quota
from cai.config.generation import CandidatesConfig, ChainsConfig, HelpfulConfig, RLPromptsConfig
from cai.config.labels import FeedbackConfig, Objective, PeopleConfig, PreferencesConfig, RankingConfig, ReasoningConfig
from cai.config.privacy import Action, PrivacyConfig
from cai.config.profile import SHIPPED, Profile, found, load_profile
from cai.config.prompts import AnySource, EvaluationSource, PromptSource, replace_sources
from cai.config.rewards import (
    AnyRewardTerm,
    GuardConfig,
    JudgeTerm,
    LengthTerm,
    ProcessTerm,
    RepetitionTerm,
    RewardModelTerm,
    RewardTerm,
    VerifierTerm,
)
from cai.config.rl import DPOConfig, GRPOConfig, PolicyConfig, PPOConfig, RLConfig, RLOOConfig
from cai.config.training import RewardModelConfig, SFTConfig

__all__ = [
    "Action",
    "AnyRewardTerm",
    "AnySource",
    "CandidatesConfig",
    "ChainsConfig",
    "Condition",
    "Config",
    "DPOConfig",
    "EngineConfig",
    "EvaluationConfig",
    "EvaluationSource",
    "FeedbackConfig",
    "GRPOConfig",
    "GateConfig",
    "GenerateConfig",
    "GuardConfig",
    "HelpfulConfig",
    "JudgeTerm",
    "LengthTerm",
    "Objective",
    "PPOConfig",
    "PeopleConfig",
    "PolicyConfig",
    "Positive",
    "PreferencesConfig",
    "PrivacyConfig",
    "ProbesConfig",
    "ProcessTerm",
    "Profile",
    "PromptSource",
    "Quota",
    "RLConfig",
    "RLOOConfig",
    "RLPromptsConfig",
    "RankingConfig",
    "RayConfig",
    "ReasoningConfig",
    "RepetitionTerm",
    "RewardModelConfig",
    "RewardModelTerm",
    "RewardTerm",
    "SFTConfig",
    "SHIPPED",
    "SamplingConfig",
    "Share",
    "VerifierTerm",
    "config_digest",
    "found",
    "load_profile",
    "problems",
    "replace_sources",
]
