"""The whole method, in order. Open this file first.

    cai demo                                        # on the built-in small world
    cai run my.yaml                                 # on your own model and prompts: a copy of profiles/gpu.yaml
    prefect deployment run constitutional-ai/demo   # from CI

Each stage is a flow in `flows/stages.py`, and can be run alone; each skips what it finds finished.
"""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from cai.errors import NotApproved
from cai.until import Until, reaches
from flows import stages
from flows.approvals import Approve, ends_unapproved, may_train
from flows.events import announce
from flows.generation import generation
from flows.preflight import check
from flows.promotion import is_promoted
from flows.promotion import promote as promote_policy
from flows.recording import failure_recorded
from flows.rounds import at_round
from flows.runs import create_run, profile_with
from flows.shards import ray_cluster


def _name() -> str:
    """What the run is called in the UI: its profile, what is other than that says, how far it goes, and where."""
    asked: dict[str, Any] = flow_run.parameters
    by = f" by {Path(asked['constitution']).stem}" if asked.get("constitution") else ""
    without = f" without {asked['without']}" if asked.get("without") else ""
    return f"{Path(asked['profile']).stem}{by}{without}, until {asked['until']}, in {Path(asked['home']).name}"


@flow(name="constitutional-ai", flow_run_name=_name)
@ends_unapproved
def constitutional_ai(
    profile: str = "deployments/profiles/demo.yaml",
    home: str = "cai-home",
    without: str = "",
    prompts: list[str] | None = None,
    limit: int | None = None,
    until: Until = "report",
    constitution: str = "",
    approve: Approve = "never",
    approve_within_h: Annotated[float, Field(gt=0, le=24 * 90)] = 24.0,
    promote: bool = False,
) -> str:
    """Align a model to a constitution: prompts, revisions, SL-CAI, rounds of labels, reward model and RL-CAI, report.

    Run again with the same parameters, it goes on where it was stopped, and does nothing where it was finished.

    Args:
        profile: YAML file that says how to run; see deployments/profiles
        home: folder of the tables, models and runs
        without: leave out every principle that bears this tag
        prompts: files of prompts, in place of the profile's
        limit: take so many prompts of each source, drawn by the profile's seed
        until: the last stage to run; one before `rl_cai` ends in the first round
        constitution: YAML file, in place of the profile's
        approve: ask a person before a set is trained on, before the policy is promoted, or both; the run is suspended
            meanwhile, and answered in the UI or with `cai approve`
        approve_within_h: hours to answer in; no answer is a no
        promote: put the policy to use where its gate says PASS or, if it is asked (`approve`), a person overrides it

    Returns:
        The run's id.
    """
    plan = profile_with(
        Path(profile), prompts=prompts or (), limit=limit, constitution=Path(constitution) if constitution else None
    )
    run = create_run(plan, Path(home), without=without)
    check(run, until)
    does_rl = reaches(until, "rl_cai")
    asks_to_train = approve in ("training", "both")
    with failure_recorded(run), ray_cluster(run), generation(run) as engine:
        asks_a_model = reaches(until, "revisions") and not stages.is_finished(run, until)
        if asks_a_model and run.profile.ray is None and not asks_to_train:
            engine.warm_up()  # it starts while the first flow does
        stages.import_prompts(home, run.run_id)
        if reaches(until, "revisions"):
            stages.revisions(home, run.run_id)
        if reaches(until, "sl_cai") and run.profile.sft is not None:
            if asks_to_train:
                may_train(run, "sft", approve_within_h)
            stages.train_sft(home, run.run_id)
        for number in range(run.profile.rounds if does_rl else 1):  # a later round needs the policy of the last
            if reaches(until, "preferences"):
                stages.label(home, run.run_id, number)
            if reaches(until, "reward_model") and asks_to_train:
                may_train(run, at_round("preferences", number), approve_within_h)
            if reaches(until, "reward_model") and run.profile.rl.algorithm != "dpo":
                stages.train_reward_model(home, run.run_id, number)
            if does_rl:
                stages.train_rl(home, run.run_id, number)
        if reaches(until, "report"):
            stages.evaluate(home, run.run_id)
        stages.report(home, run.run_id)
        if reaches(until, "report") and promote and not is_promoted(run):
            try:  # a person is asked with the report at hand; then it says what came of it
                promote_policy(run, asks=approve in ("promotion", "both"), within_h=approve_within_h)
            except NotApproved:
                stages.report(home, run.run_id)
                raise
            stages.report(home, run.run_id)
        announce(run, until)
    return run.run_id
