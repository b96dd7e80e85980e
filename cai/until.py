"""How far a run goes: its stages, in the order of `flows/pipeline.py`, which runs them."""

from typing import Literal, get_args

Until = Literal["prompts", "revisions", "sl_cai", "preferences", "reward_model", "rl_cai", "report"]
ORDER: tuple[Until, ...] = get_args(Until)


def reaches(until: Until, stage: Until) -> bool:
    """Whether a run until there comes to this stage."""
    return ORDER.index(until) >= ORDER.index(stage)
