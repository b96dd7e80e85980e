"""From the terms of a config to the sources that score."""

from collections.abc import Sequence
from pathlib import Path

from cai.config import (
    AnyRewardTerm,
    JudgeTerm,
    LengthTerm,
    ProcessTerm,
    RepetitionTerm,
    RewardModelTerm,
    VerifierTerm,
)
from cai.errors import ConfigError
from cai.rewards.base import Rewards, RewardSource, Term
from cai.rewards.judge import Judge
from cai.rewards.penalties import Length, Repetition
from cai.rewards.process import Process
from cai.rewards.verify import Verifier


def build_rewards(terms: Sequence[AnyRewardTerm], reward_models: Sequence[Path]) -> Rewards:
    """Open every term's source. `reward_models` are those of a term that names none of its own.

    Raises:
        ConfigError: no term, two of one name, a reward model term without a model, or a check that cannot be used.
        ModelNotFound: a model is missing.
        EngineError: a judge's engine does not start.
    """
    names = [term.name for term in terms]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"rewards want at least one term, each of its own `name`; got {names}")
    opened: list[Term] = []
    try:
        for term in terms:
            opened.append(Term(term.name, term.weight, _source(term, reward_models)))
    except BaseException:
        for done in opened:
            done.source.close()
        raise
    return Rewards(opened)


def _source(term: AnyRewardTerm, reward_models: Sequence[Path]) -> RewardSource:
    match term:
        case RewardModelTerm():
            from cai.rewards.models import RewardModels

            paths = term.models or tuple(reward_models)
            if not paths:
                raise ConfigError(f"reward {term.name!r} has no `models`, and the job no `reward_models`; name one")
            return RewardModels.load(paths, term.conservatism)
        case VerifierTerm():
            return Verifier(term)
        case ProcessTerm():
            return Process(term)
        case JudgeTerm():
            return Judge(term)
        case LengthTerm():
            return Length(term)
        case RepetitionTerm():
            return Repetition(term)
