"""What the prompts of a run or a home cover, with what its chains, labels and responses say of them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from cai.config import PreferencesConfig
from cai.coverage.mastery import Readings, readings_of
from cai.coverage.stats import Fired, PromptStats, stats_of
from cai.errors import DataError
from cai.intervals import rate
from cai.records import Prompt, Response
from flows.accounts import ids_of
from flows.rejected import made_by
from flows.rounds import at_round
from flows.runs import RunFolder, readable_runs
from storage.store import Store
from storage.verdicts import P_A

LEANS = 0.1
"""How far P(a is better) is from one half where a comparison leans to a side."""
_CHANGED = """
    SELECT revision.principle_id, revision.prompt_id, revision.text <> coalesce(earlier.text, response.text) AS held
    FROM revisions AS revision
    LEFT JOIN revisions AS earlier ON revision.parent_id = earlier.revision_id
    LEFT JOIN responses AS response ON revision.parent_id = response.response_id
    WHERE coalesce(earlier.text, response.text) IS NOT NULL
"""
_LEANED = f"""
    SELECT principle_id, prompt_id, abs(p_a - 0.5) > ? AS held
    FROM (SELECT *, {P_A.format(max_mass_outside="?")} AS p_a FROM comparisons) AS comparison
    WHERE p_a IS NOT NULL
"""
_AMONG = "IN (SELECT unnest(?::VARCHAR[]))"

Which = tuple[Literal["prompt_id", "revision_id", "comparison_id"], list[str]]
"""Rows that have one of these ids."""


def of_run(run: RunFolder, store: Store) -> PromptStats:
    """Of the prompts that the run took, by its own chains and comparisons; the policy is that of its last round so far.

    Other runs of the home share prompts with it, and may have asked other principles about them.
    """
    prompts = list(store.find_all(Prompt, run.ids("prompts")).values())
    readings, policy = read_policy(run, store, prompts)
    principles = fired(
        store,
        ("revision_id", ids_of(run, "revisions")),
        ("comparison_id", list(made_by(run, store).asks)),
        max_mass_outside=run.profile.preferences.max_mass_outside,
    )
    return stats_of(prompts, principles=principles, readings=readings, policy=policy)


def of_home(home: Path, store: Store) -> PromptStats:
    """Of every prompt of a home; the policy is that of the newest run that sampled one."""
    prompts = store.read(Prompt)
    readings, policy = None, ""
    for run in readable_runs(home):
        readings, policy = read_policy(run, store, prompts)
        if readings is not None:
            break
    of_prompts: Which = ("prompt_id", [prompt.prompt_id for prompt in prompts])
    return stats_of(prompts, principles=fired(store, of_prompts, of_prompts), readings=readings, policy=policy)


def read_policy(
    run: RunFolder, store: Store, prompts: Sequence[Prompt], rounds: Sequence[int] = ()
) -> tuple[Readings | None, str]:
    """What the run's candidates of the latest of the rounds say of these prompts, and in words whose they are."""
    for number in reversed(rounds or range(run.profile.rounds)):
        try:
            ids = run.ids_of(at_round("candidates", number))
        except DataError:  # not there yet, or not all of them
            continue
        found = readings_of({p.prompt_id: p for p in prompts}, store.find_all(Response, ids).values())
        return found, f"by the candidates of run {run.run_id}" + (f", round {number}" if number else "")
    return None, ""


def fired(
    store: Store,
    revisions: Which,
    comparisons: Which,
    *,
    max_mass_outside: float = PreferencesConfig().max_mass_outside,
) -> list[Fired]:
    """By principle, those that changed or decided something most often first. A comparison counts where it is a label:
    with more than `max_mass_outside` on no option it is unscored.
    """
    changed = _by_principle(store.query(f"{_CHANGED} AND revision.{revisions[0]} {_AMONG}", (revisions[1],)))
    asked = (LEANS, max_mass_outside, comparisons[1])
    leaned = _by_principle(store.query(f"{_LEANED} AND comparison.{comparisons[0]} {_AMONG}", asked))
    found = [Fired(name, rate(*changed.get(name, _NONE)), rate(*leaned.get(name, _NONE))) for name in changed | leaned]
    return sorted(
        found, key=lambda each: (-max(_known(each.changed.value), _known(each.leaned.value)), each.principle_id)
    )


_Held = tuple[list[bool], list[str]]
_NONE: _Held = ([], [])


def _by_principle(rows: Collection[dict[str, Any]]) -> dict[str, _Held]:
    found: dict[str, _Held] = {}
    for row in rows:
        held, prompts = found.setdefault(row["principle_id"], ([], []))
        held.append(row["held"])
        prompts.append(row["prompt_id"])
    return found


def _known(value: float) -> float:
    return value if value == value else -1.0
