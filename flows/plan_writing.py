"""A plan of a prompt campaign: what the home knows of earlier ones, and what `cai.plan.campaign` makes of it.

It starts no engine and writes nothing. `cai plan PROFILE --generate` calls it.
"""

import re
from pathlib import Path

from cai.config import EngineConfig, Profile
from cai.constitution import load_constitution
from cai.plan.campaign import (
    CHECKING,
    READING,
    TRYING,
    WRITING,
    Counted,
    Past,
    campaign_assumptions,
    campaign_plan,
    plan_campaign,
)
from cai.plan.lines import Plan
from cai.plan.tokens import open_counting
from cai.records import Prompt
from flows.planning import Wish, block_of, counters_of, earlier_run, learn_from
from flows.runs import plan_run
from flows.writing import campaign_of
from storage.store import Store

GRAMMAR_SPEED = 1e6
"""Tokens a second of the small world's writer, which has no weights."""


async def plan_writing(profile: Profile, home: Path, *, edition: str = "", wish: Wish) -> Plan:
    """What `cai prompts generate` will ask, by kind of request, from the start of the campaign.

    Raises:
        ConfigError: nothing is to be written.
    """
    constitution = load_constitution(profile.constitution)
    store = Store(home) if home.is_dir() else None
    known = [] if store is None else store.read(Prompt, "split = 'train'")
    past = Past({}, None, 0) if store is None else past_of(store, profile.name, edition)
    speeds, speeds_from = await _speeds(profile, home, store, wish)
    writes = profile.generate.engine or profile.engine
    writer, policy, judge = map(_counted, (writes, profile.engine, profile.judge))
    lines = await plan_campaign(profile, constitution, known, past, speeds, writer, policy, judge)
    notes = [each.counting.note for each in (writer, policy, judge)]
    said = campaign_assumptions(profile, past, speeds_from, known, notes)
    return campaign_plan(campaign_of(profile, constitution, edition), lines, said)


def past_of(store: Store, profile: str, edition: str = "") -> Past:
    """Of the profile's campaigns: without an edition, of a week, or of this edition. Of another one the name does not
    tell: `rent-big-…` may be the edition `big` of `rent`, or the profile `rent-big`.

    Empty replies are not among them: a reject of one names its request, and no row says whose request that was.
    """
    named = rf"{re.escape(profile)}-((\d{{4}}-w\d\d|{re.escape(edition)})-)?[0-9a-f]{{10}}"
    mine = "from attempts where regexp_full_match(campaign, ?)"  # a draft has a row for each policy it was tried on
    replies = "select count(*) n, avg(n_tokens) tokens from responses where response_id in"
    (kept,) = store.query(f"{replies} (select draft_id {mine})", [named])
    (tried,) = store.query(f"{replies} (select unnest(response_ids) {mine})", [named])
    select = "select count(*) n from rejects where stage = 'writing' and regexp_full_match(parent_ids[2], ?)"
    (lost,) = store.query(select, [named])
    n_tokens = {stage: row["tokens"] for stage, row in ((WRITING, kept), (TRYING, tried)) if row["n"]}
    n_drafts = kept["n"] + lost["n"]
    return Past(n_tokens, kept["n"] / n_drafts if n_drafts else None, n_drafts)


async def _speeds(profile: Profile, home: Path, store: Store | None, wish: Wish) -> tuple[dict[str, float], str]:
    """Tokens a second of each kind of request: as given, else as in an earlier run of the same engine."""
    writer = {WRITING: GRAMMAR_SPEED} if (profile.generate.engine or profile.engine).kind == "writer" else {}
    if (given := wish.tokens_per_second) is not None:
        return dict.fromkeys(
            (WRITING, CHECKING, TRYING, READING), given
        ) | writer, f"{given:g} tokens a second, as given"
    earlier = None if store is None else earlier_run(plan_run(profile, home))
    if earlier is None or store is None:
        return writer, f"unknown: no run of this engine in {home} yet; give --tokens-per-second"
    learnt = await learn_from(earlier, store, counters_of(profile))
    same = {WRITING: "responses"} if profile.generate.engine in (None, profile.engine) else {}
    names = {**same, TRYING: "responses", READING: "labels", CHECKING: "labels"}
    found = {stage: learnt.speeds[name] for stage, name in names.items() if name in learnt.speeds}
    return found | writer, f"as fast as run {earlier.run_id} answered and labelled"


def _counted(engine: EngineConfig) -> Counted:
    return Counted(open_counting(engine), None if engine.kind == "writer" else block_of(engine))
