"""Any row, and where rows are looked for before they are asked for again."""

from typing import Protocol, TypeVar

from cai.records.evaluation import Evaluation, EvaluationItem, Rollout, Score
from cai.records.generation import Response, Revision
from cai.records.labels import Annotation, Comparison, PreferencePair, Rating, Recalibration
from cai.records.models import GateVerdict, Model, Override, Promotion
from cai.records.prompts import Attempt, Contamination, Prompt
from cai.records.runs import Approval, Reject, Run

Record = (
    Prompt
    | Contamination
    | Response
    | Revision
    | Comparison
    | Rating
    | Attempt
    | Annotation
    | Recalibration
    | PreferencePair
    | Reject
    | EvaluationItem
    | Evaluation
    | Score
    | Rollout
    | Model
    | GateVerdict
    | Override
    | Promotion
    | Approval
    | Run
)


R = TypeVar("R", bound=Record)


class Ledger(Protocol):
    """Where finished rows go and where earlier ones are found. The method is given one and never learns what it is."""

    def find(self, kind: type[R], row_id: str) -> R | None:
        """The stored row of that id, or None. A hit means: do not ask the model again."""
        ...

    def add(self, row: Record) -> None:
        """Hand over a finished row. It is durable within seconds; adding an id twice keeps one row."""
        ...

    def flush(self) -> None:
        """Return when every row added so far is durable: what is added after it never outlives what was before it."""
        ...
