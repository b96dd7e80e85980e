"""The prompts that RL trains on in a round, and how many of those that the policy has mastered are left for another."""

from collections.abc import Collection
from typing import Any

from cai.coverage.mastery import draw
from cai.records import Prompt
from flows.prompt_stats import read_policy
from flows.rounds import at_round
from flows.runs import RunFolder
from flows.session import Session
from storage.exports import export_prompts


def rl_prompts_name(run: RunFolder, round: int) -> str:
    """The file that RL reads, without its suffix: every round has the same, unless what is mastered is drawn less."""
    return "rl_prompts" if run.profile.mastered is None else at_round("rl_prompts", round)


def write_rl_prompts(session: Session, round: int, prompt_ids: Collection[str]) -> dict[str, Any]:
    """Write the file of the round, where it has one of its own; returns what was drawn, {} where all are."""
    run, config = session.run, session.run.profile.mastered
    drawn = None
    if config is not None:
        prompts = list(session.store.find_all(Prompt, prompt_ids).values())
        readings, _ = read_policy(run, session.store, prompts, rounds=(round,))
        known = {} if readings is None else readings.of
        drawn = draw(sorted(prompt_ids), known, floor=config.floor, seed=run.profile.seed, round=round)
    elif round > 0:
        return {}
    path = run.path / f"{rl_prompts_name(run, round)}.parquet"
    export_prompts(session.store, path, prompt_ids=prompt_ids if drawn is None else drawn.prompt_ids)
    if drawn is None:
        return {}
    counts = {name: value for name, value in drawn._asdict().items() if name != "prompt_ids"}
    return counts | {"n_drawn": len(drawn.prompt_ids), "n_read": len(known)}


def drawn_said(drawn: dict[str, Any]) -> str:
    """For people: what was drawn, and the share of what is mastered that was."""
    n, n_mastered = drawn["n"], drawn["n_mastered"]
    share = f" ({drawn['n_mastered_drawn'] / n_mastered:.1%})" if n_mastered else ""
    return (
        f"{drawn['n_drawn']:,} of {n:,}; {drawn['n_mastered_drawn']:,} of {n_mastered:,} that are answered well every "
        f"time{share}; difficulty known of {drawn['n_read']:,}"
    )
