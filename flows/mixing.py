"""Which prompts RL samples: those of the run and, where its profile has `rl_prompts`, helpful ones in that share."""

from cai.held_out import HeldOutGuard
from cai.mixing import PromptMix, mix_prompts
from cai.records import Prompt
from flows.held_out import refused_prompts
from flows.session import Session


def rl_prompts(session: Session, guard: HeldOutGuard) -> PromptMix:
    """What may be trained on, mixed as the profile says.

    Raises:
        DataError: too few helpful prompts for the share.
    """
    run = session.run
    config = run.profile.rl_prompts
    own = run.ids("prompts")
    added = run.ids("helpful-prompts") if config is not None and run.profile.helpful is not None else []
    refused = refused_prompts(session.store, guard, [*own, *added], "rl_prompts")
    kinds = {key: prompt.kind for key, prompt in session.store.find_all(Prompt, own).items() if key not in refused}
    helpful = {key for key, kind in kinds.items() if kind == "helpful"}
    share = None if config is None else config.helpful_share
    return mix_prompts(kinds.keys() - helpful, helpful | (set(added) - refused.keys()), share)
