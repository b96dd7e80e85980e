"""A person's yes or no before a run goes on: asked in the Prefect UI, answered there or with `cai approve`.

A deployed run is suspended meanwhile: its process ends, its places in queue and limits are free, and the answer starts
it again, to find its finished steps and the answer. One that `cai run` started has no worker to start it again: it
waits in its own process, without its engine.
"""

import datetime
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar
from uuid import UUID

from prefect import State, pause_flow_run, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.exceptions import FlowPauseTimeout, NotPausedError
from prefect.flow_runs import resume_flow_run
from prefect.input import RunInput
from prefect.input.actions import read_flow_run_input
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Failed, Running
from pydantic import Field

from cai.errors import DataError, NotApproved
from cai.records import Approval
from flows import artifacts
from flows.generation import stop_engine
from flows.markdown import escaped, table
from flows.rounds import at_round, round_of
from flows.runs import RunFolder, now, run_row

if TYPE_CHECKING:
    from storage.store import Store

Approve = Literal["never", "training", "promotion", "both"]
P = ParamSpec("P")
T = TypeVar("T")
POLL_S = 2
OVERRIDE = "override"
"""What is asked about begins so where a yes overrides a gate; see `Approval`."""
NAME = "NotApproved"
"""Of the state that a run ends in: of type Failed, so that CI sees it and a retry asks again."""


class Answer(RunInput):
    """The form in the UI."""

    approve: Literal["yes", "no"]
    name: Annotated[str, Field(pattern=r"\S", max_length=100, description="Who you are; kept with the answer.")]
    reason: Annotated[str, Field(max_length=2_000, description="Kept with the answer.")] = ""


class Override(Answer):
    """The form where a yes puts to use what no gate has passed: whoever answers says why."""

    reason: Annotated[str, Field(pattern=r"\S", max_length=2_000, description="Why; kept with the promotion.")]


def form_of(about: str) -> type[Answer]:
    return Override if about.startswith(OVERRIDE) else Answer


def ends_unapproved(method: Callable[P, T]) -> Callable[P, T | State[Any]]:
    """Make a no the end of a flow: a state that says who and why, and no stack trace."""

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> T | State[Any]:
        try:
            return method(*args, **kwargs)
        except NotApproved as error:
            return Failed(name=NAME, message=str(error), data=error)

    return run


def ask(run: RunFolder, about: str, question: str, facts: str, within_h: float) -> Approval:
    """Let a person say whether `about` may begin, unless one has said yes already. Holds no engine while it waits.

    Args:
        run: the run that asks.
        about: see `Approval`.
        question: in one sentence.
        facts: what to decide by, as Markdown.
        within_h: hours; no answer is a no.

    Raises:
        NotApproved: somebody said no, or nobody said anything.
        Pause: (a `BaseException`) the run is suspended; this process is to end.
    """
    from storage.store import Store

    store = Store(run.home)
    asked = [row for row in store.read(Approval) if (row.run_id, row.about) == (run.run_id, about)]
    if given := next((row for row in asked if row.decision == "approved"), None):
        return given
    mine = [row for row in asked if row.decision == "waiting" and row.flow_run_id == str(flow_run.id)]
    row, answer = None, None
    if mine:
        row = max(mine, key=lambda each: each.number)
        answer = _answered(row)
    if row is None or answer is None:
        row = _new(run, about, 1 + max((each.number for each in asked), default=0), within_h)
        store.append([row])
        store.upsert([run_row(run, "waiting")])
        stop_engine()
        answer = _wait(run, row, question, facts, within_h)
    return _decided(store, run, row, answer, question, within_h)


def may_train(run: RunFolder, about: str, within_h: float) -> None:
    """Ask before a set is trained on, unless the last model it is for is there.

    Raises:
        NotApproved, Pause: see `ask`.
    """
    from flows.accounts import funnel, titled

    if run.result("sft" if about == "sft" else at_round("rl", round_of(about))) is not None:
        return
    made = run.result("sft_set" if about == "sft" else about) or {}
    warnings = "\n".join(f"- {escaped(warning)}" for warning in made.get("warnings", ()))
    seen = " and ".join(f"[{key}](/artifacts/key/{key})" for key in ("chains", "labels")[: 1 if about == "sft" else 2])
    facts = f"{table(('step', 'in', 'out', 'rejected'), funnel(run))}\n\n{warnings}\n\nMore in the artifacts {seen}."
    what = "revisions" if about == "sft" else titled("preference pairs", round_of(about))
    ask(run, about, f"Train on the {what} of {run.run_id}?", facts, within_h)


def _new(run: RunFolder, about: str, number: int, within_h: float) -> Approval:
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=within_h)
    return Approval(
        approval_id=Approval.make_id(run.run_id, about, number),
        run_id=run.run_id,
        about=about,
        number=number,
        flow_run_id=str(flow_run.id),
        asked_at=now(),
        until=until.isoformat(timespec="seconds"),
    )


def _wait(run: RunFolder, row: Approval, question: str, facts: str, within_h: float) -> Answer | None:
    """The answer, or None where nobody gave one in time; a deployed run does not come back from here."""
    text = f"## {escaped(question)}\n\n{facts}\n\nNo answer until {row.until} is a no."
    form, timeout_s = form_of(row.about).with_initial_data(description=text), max(1, round(within_h * 3600))
    if deployment.id is not None and flow_run.parent_flow_run_id is None:
        suspend_flow_run(wait_for_input=form, timeout=timeout_s, key=row.approval_id)
    get_run_logger().warning(
        "%s Waiting until %s; answer at %s, or with: cai approve %s --home %s --by NAME --reason WHY (or --no)",
        question,
        row.until,
        flow_run.ui_url,
        run.run_id,
        run.home,
    )
    try:
        return pause_flow_run(wait_for_input=form, timeout=timeout_s, poll_interval=POLL_S, key=row.approval_id)
    except FlowPauseTimeout:
        with get_client(sync_client=True) as client:  # from Paused the server would let it end in its own words alone
            client.set_flow_run_state(UUID(row.flow_run_id), Running(), force=True)
        return None


def _answered(row: Approval) -> Answer | None:
    """What was answered while this run was suspended; None where nothing was."""
    body: Any = read_flow_run_input(f"suspended-{row.approval_id}-response", flow_run_id=UUID(row.flow_run_id))
    return None if body is None else form_of(row.about)(**body)


def _decided(
    store: "Store", run: RunFolder, row: Approval, answer: Answer | None, question: str, within_h: float
) -> Approval:
    if answer is None:
        row = replace(row, decision="expired", decided_at=now())
        said = f"nobody answered within {within_h:g} h"
    else:
        decision: Literal["approved", "refused"] = "approved" if answer.approve == "yes" else "refused"
        row = replace(row, decision=decision, person=answer.name, reason=answer.reason, decided_at=now())
        said = f"{decision} by {row.person}: {row.reason or 'no reason given'}"
    store.upsert([row, run_row(run, "running" if row.decision == "approved" else "refused")])
    artifacts.markdown("approval", f"{escaped(question)}\n\n**{escaped(said)}**", f"{row.about} of {run.run_id}")
    get_run_logger().info("%s %s", question, said)
    if row.decision != "approved":
        raise NotApproved(f"{question} {said}; run it again, or retry it, to ask again")
    return row


def answer(home: Path, run_id: str, *, yes: bool, person: str, reason: str) -> Approval:
    """Answer what a run asks now, as the form in the UI does. Prefect's API must be configured.

    Raises:
        DataError: the run asks nothing, or no longer, or wants a reason.
    """
    from storage.store import Store

    waiting = [row for row in Store(home).read(Approval) if row.decision == "waiting" and row.until >= now()]
    asked = [row for row in waiting if row.run_id == run_id]
    if not asked:
        others = ", ".join(sorted({row.run_id for row in waiting})) or "none"
        raise DataError(f"run {run_id!r} asks nothing under {home}; runs that do: {others}; see `cai sql approvals`")
    row = max(asked, key=lambda each: each.asked_at)
    if form_of(row.about) is Override and not reason.strip():
        raise DataError(f"run {run_id} asks whether to promote what no gate has passed: give the reason with --reason")
    body = {"approve": "yes" if yes else "no", "name": person, "reason": reason}
    try:
        resume_flow_run(UUID(row.flow_run_id), run_input=body)
    except (NotPausedError, FlowPauseTimeout, RuntimeError) as error:
        raise DataError(f"run {run_id} cannot be answered: {error} Start it again to be asked again") from error
    return row
