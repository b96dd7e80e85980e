"""The rows of the method, frozen. An id is the digest of everything that decides the row, so the same work has
the same id in every run. `storage/schemas.py` says how each is laid out in Parquet; nothing here knows where rows live.
"""

from cai.records.base import digest, seed_from
from cai.records.evaluation import Evaluation, EvaluationItem, ItemKind, Rollout, Score
from cai.records.generation import Response, Revision, Sampling
from cai.records.labels import Annotation, Comparison, LabelSource, Order, PreferencePair, Rating, Recalibration
from cai.records.ledger import Ledger, R, Record
from cai.records.models import GateVerdict, Model, Override, Promotion
from cai.records.prompts import Attempt, Contamination, Dataset, Likeness, Message, Prompt, PromptKind, Role
from cai.records.runs import Approval, Reject, Run, RunStatus

__all__ = [
    "Annotation",
    "Approval",
    "Attempt",
    "Comparison",
    "Contamination",
    "Dataset",
    "Evaluation",
    "EvaluationItem",
    "GateVerdict",
    "ItemKind",
    "LabelSource",
    "Ledger",
    "Likeness",
    "Message",
    "Model",
    "Order",
    "Override",
    "PreferencePair",
    "Promotion",
    "Prompt",
    "PromptKind",
    "R",
    "Rating",
    "Recalibration",
    "Record",
    "Reject",
    "Response",
    "Revision",
    "Role",
    "Rollout",
    "Run",
    "RunStatus",
    "Sampling",
    "Score",
    "digest",
    "seed_from",
]
