"""Runs, what they asked people, and what they could not use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cai.records.base import digest

RunStatus = Literal["running", "waiting", "refused", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Run:
    """What ran, on what. `config` is the resolved profile as JSON.

    `base_digest` is the model that its reward model and its policy start from, "" until there is one; `ended_at` is
    when the run last completed, failed or was refused. A run that is `waiting` has asked a person; see `Approval`.
    """

    run_id: str
    profile: str
    started_at: str
    constitution_digest: str
    config: str
    status: RunStatus = "running"
    base_digest: str = ""
    ended_at: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """A person was asked whether a run may go on, and what came of it.

    A question that is still `waiting` after `until` is not approved: nobody answered, and nobody is left to say so.
    """

    approval_id: str
    run_id: str
    about: str
    """What may begin: training on `sft` or `preferences` (of a later round `preferences-r1`), or `promotion`; or
    promotion in spite of the gate's verdict of that number (`override-1`, `override-0` where it gave none).
    """
    number: int
    """How often this was asked of this run; the last counts."""
    flow_run_id: str
    asked_at: str
    until: str
    decision: Literal["waiting", "approved", "refused", "expired"] = "waiting"
    person: str = ""
    reason: str = ""
    decided_at: str = ""

    @staticmethod
    def make_id(run_id: str, about: str, number: int) -> str:
        return digest("approval", run_id, about, number)


@dataclass(frozen=True, slots=True)
class Reject:
    """Something dropped, with its reason: counted, written, never lost."""

    reject_id: str
    stage: str
    reason: str
    prompt_id: str
    parent_ids: tuple[str, ...]
    detail: str
    text: str

    @staticmethod
    def make(
        stage: str, reason: str, *, prompt_id: str = "", parents: Sequence[str] = (), detail: str = "", text: str = ""
    ) -> "Reject":
        """`reason` is a short snake_case name people group by; `detail` is for reading."""
        return Reject(digest("reject", stage, list(parents)), stage, reason, prompt_id, tuple(parents), detail, text)
