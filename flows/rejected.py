"""Which rows of a home are one run's own: runs over the same home share prompts, pairs and comparisons."""

from collections import Counter
from typing import NamedTuple

from cai.feedback import make_pairs
from cai.records import PreferencePair, Prompt, Reject, Response, Revision
from flows.accounts import ids_of, step_results, trained_revisions
from flows.judges import labellings_of
from flows.rounds import at_round
from flows.runs import RunFolder
from storage.store import Store

_OF_CHAINS = ("response", "critique", "revision")
_OF_ASKS = ("comparison", "reasoning", "verdict")


class Made(NamedTuple):
    """The ids of what a run has made so far. `asks` are those of comparisons it planned, `judges` their digests."""

    judges: list[str]
    pairs: set[tuple[str, str]]
    asks: set[str]
    preferences: list[str]
    whole_chains: set[str]
    """Prompts whose chain came to its end."""
    responses: set[str]
    """The candidates."""
    short: set[str]
    """Prompts that have fewer candidates than they should."""
    revisions: set[str]
    """Those that it derives its SFT set from."""


def made_by(run: RunFolder, store: Store) -> Made:
    judges = _judges(run)
    labellings = labellings_of(run, judges)
    made = Made(judges, set(), set(), [], _whole_chains(run, store), set(), set(), set())
    made.revisions.update(ids_of(run, trained_revisions(run)))
    prompts = list(store.find_all(Prompt, run.ids("prompts")).values()) if run.result("prompts") else []
    for number in range(run.profile.rounds):
        responses = store.find_all(Response, ids_of(run, at_round("candidates", number)))
        of_prompt = Counter(row.prompt_id for row in responses.values())
        if responses:
            made.short.update(p.prompt_id for p in prompts if of_prompt[p.prompt_id] < run.profile.candidates.k)
        made.responses.update(responses)
        for pair in make_pairs(prompts, list(responses.values()), run.profile.candidates.pairing).pairs:
            made.pairs.add((pair.a.response_id, pair.b.response_id))
            made.asks.update(ask.comparison_id for labelling in labellings for ask in labelling.asks(pair))
        made.preferences.extend(ids_of(run, at_round("preferences", number)))
    return made


def _judges(run: RunFolder) -> list[str]:
    """In the order of the profile."""
    results = [r for n in range(run.profile.rounds) for r in step_results(run, at_round("labels", n))]
    return list(dict.fromkeys(judge for result in results for judge in result["judge_digests"]))


def _whole_chains(run: RunFolder, store: Store) -> set[str]:
    last = store.find_all(Revision, ids_of(run, "last-revisions"))
    return {row.prompt_id for row in last.values()}


def _of_prompts(run: RunFolder, store: Store) -> list[Reject]:
    """What was dropped of the run's prompts, by it or by another run of the home."""
    imported = {*ids_of(run, "rejected-prompts"), *ids_of(run, "rejected-helpful")}
    asked = {*ids_of(run, "prompts"), *run.trained_on()}
    return [r for r in store.read(Reject) if r.reject_id in imported or r.prompt_id in asked]


def reject_counts(run: RunFolder, store: Store, made: Made) -> Counter[tuple[str, str]]:
    """The run's own rejects, by stage and reason."""
    return Counter((row.stage, row.reason) for row in own_rejects(run, store, made))


def own_rejects(run: RunFolder, store: Store, made: Made) -> list[Reject]:
    """Those that this run has, and no other run of the home alone."""
    decided = {
        tuple(sorted((row.chosen_id, row.rejected_id)))
        for row in store.find_all(PreferencePair, made.preferences).values()
    }
    return [row for row in _of_prompts(run, store) if _is_own(row, made, decided)]


def _is_own(row: Reject, made: Made, decided: set[tuple[str, ...]]) -> bool:
    """A reject names what it was to become; where another run of the home made one, this run may have the row."""
    if row.stage in _OF_ASKS:
        return row.parent_ids[0] in made.asks
    if row.stage == "preference":
        return row.parent_ids[:2] in made.pairs and row.parent_ids[:2] not in decided
    if row.stage == "sft_set":
        return made.revisions.issuperset(row.parent_ids)
    if row.reason in ("identical_responses", "too_few_responses"):
        return row.prompt_id in made.short or made.responses.issuperset(row.parent_ids)
    if row.stage in _OF_CHAINS:
        return row.prompt_id not in made.whole_chains or (row.stage == "response" and row.prompt_id in made.short)
    return True
