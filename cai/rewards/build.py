"""From the terms of a config to the sources that score."""

from collections.abc import Sequence
from pathlib import Path

from cai.config import AnyRewardTerm, RewardModelTerm
from cai.errors import ConfigError
from cai.rewards.base import Rewards, RewardSource, Term


def build_rewards(terms: Sequence[AnyRewardTerm], reward_models: Sequence[Path]) -> Rewards:
    """Open every term's source. `reward_models` are those of a term that names none of its own.

    Raises:
        ConfigError: no term, two of one name, or a reward model term without a model.
        ModelNotFound: a model is missing.
    """
    names = [term.name for term in terms]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"rewards want at least one term, each of its own `name`; got {names}")
    return Rewards([Term(term.name, term.weight, _source(term, reward_models)) for term in terms])


def _source(term: AnyRewardTerm, reward_models: Sequence[Path]) -> RewardSource:
    match term:
        case RewardModelTerm():
            from cai.rewards.models import RewardModels

            paths = term.models or tuple(reward_models)
            if not paths:
                raise ConfigError(f"reward {term.name!r} has no `models`, and the job no `reward_models`; name one")
            return RewardModels.load(paths, term.conservatism)
        case _:
            raise ConfigError(f"rewards of kind {term.kind!r} cannot be computed yet")
