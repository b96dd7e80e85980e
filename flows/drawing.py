"""The prompts that RL trains on in a round: those of the run and, where its profile has `rl_prompts`, helpful ones in
that share; of what the policy has mastered, some are left for another round.
"""

from typing import Any, NamedTuple

from cai.coverage.mastery import draw
from cai.held_out import HeldOutGuard
from cai.mixing import mix_prompts
from cai.records import Prompt
from flows.held_out import refused_prompts
from flows.prompt_stats import read_policy
from flows.rounds import at_round
from flows.runs import RunFolder
from flows.session import Session
from storage.exports import export_prompts


class Pool(NamedTuple):
    """What RL may train on, in the share that the profile wants; None: all of it."""

    others: set[str]
    helpful: set[str]
    helpful_share: float | None


class RLPrompts(NamedTuple):
    """What RL trains on in a round. `drawn` counts what is mastered and what of it was drawn; {}: all are alike."""

    n: int
    n_helpful: int
    drawn: dict[str, Any]


def rl_prompts_name(run: RunFolder, round: int) -> str:
    """The file that RL reads, without its suffix: every round has the same, unless what is mastered is drawn less."""
    return "rl_prompts" if run.profile.mastered is None else at_round("rl_prompts", round)


def write_rl_prompts(session: Session, round: int, guard: HeldOutGuard) -> RLPrompts:
    """Write the file of the round, where it has one of its own.

    Raises:
        DataError: too few helpful prompts for the share.
    """
    run, config = session.run, session.run.profile.mastered
    if config is None and round > 0:
        return RLPrompts(0, 0, {})
    pool = _pool(session, guard)
    said: dict[str, Any] = {}
    if config is None:
        prompt_ids = mix_prompts(*pool).prompt_ids
    else:
        prompts = session.store.find_all(Prompt, pool.others | pool.helpful)
        readings, _ = read_policy(run, session.store, list(prompts.values()), rounds=(round,))
        known = {} if readings is None else readings.of
        drawn = draw(
            sorted(prompts),
            known,
            floor=config.floor,
            seed=run.profile.seed,
            round=round,
            helpful=pool.helpful,
            helpful_share=pool.helpful_share,
        )
        prompt_ids = set(drawn.prompt_ids)
        said = {name: value for name, value in drawn._asdict().items() if name != "prompt_ids"}
        said |= {"n_drawn": len(prompt_ids), "n_read": len(known)}
    export_prompts(session.store, run.path / f"{rl_prompts_name(run, round)}.parquet", prompt_ids=prompt_ids)
    return RLPrompts(len(prompt_ids), len(prompt_ids & pool.helpful), said)


def _pool(session: Session, guard: HeldOutGuard) -> Pool:
    run = session.run
    config = run.profile.rl_prompts
    own = run.ids("prompts")
    added = run.ids("helpful-prompts") if config is not None and run.profile.helpful is not None else []
    refused = refused_prompts(session.store, guard, [*own, *added], "rl_prompts")
    kinds = {key: prompt.kind for key, prompt in session.store.find_all(Prompt, own).items() if key not in refused}
    helpful = {key for key, kind in kinds.items() if kind == "helpful"}
    share = None if config is None else config.helpful_share
    return Pool(kinds.keys() - helpful, helpful | (set(added) - refused.keys()), share)


def drawn_said(drawn: dict[str, Any]) -> str:
    """For people: what was drawn, and the share of what is mastered that was."""
    n, n_mastered = drawn["n"], drawn["n_mastered"]
    share = f" ({drawn['n_mastered_drawn'] / n_mastered:.1%})" if n_mastered else ""
    return (
        f"{drawn['n_drawn']:,} of {n:,}; {drawn['n_mastered_drawn']:,} of {n_mastered:,} that are answered well every "
        f"time{share}; difficulty known of {drawn['n_read']:,}"
    )
