"""What a plan consists of: a line a stage, in the order of a run, and their total."""

from collections.abc import Sequence
from dataclasses import dataclass

from cai.plan.meter import Usage

# Live bytes a row, measured on a finished run over the small world (short texts; long ones take more).
DEFAULT_BYTES = {
    "prompts": 33.0,
    "responses": 68.0,
    "revisions": 70.0,
    "comparisons": 51.0,
    "ratings": 100.0,
    "preferences": 139.0,
    "rollouts": 54.0,
}
# What a stage's rows are kept in.
TABLES = {
    "import prompts": "prompts",
    "responses": "responses",
    "revisions": "revisions",
    "helpful": "responses",
    "candidates": "responses",
    "labels": "comparisons",
    "preferences": "preferences",
    "RL": "rollouts",
    "evaluation": "responses",
    "win rates": "comparisons",
    "harm scale": "ratings",
    "writing": "responses",
    "trying": "responses",
    "reading": "ratings",
    "checking": "ratings",
}
ORDER = (
    "import prompts",
    "responses",
    "critiques",
    "revisions",
    "helpful",
    "SFT",
    "candidates",
    "self-test",
    "labels",
    "preferences",
    "reward model",
    "RL",
    "RL guard",
    "evaluation",
    "win rates",
    "harm scale",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One stage. `n_rows` are the rows it stores, or the rows it trains on; `seconds` None: not known."""

    stage: str
    n_asks: float = 0
    n_prompt_tokens: float = 0
    n_computed_tokens: float = 0
    n_tokens: float = 0
    n_trained_tokens: float = 0
    n_steps: int = 0
    n_rows: float = 0
    n_bytes: float = 0
    seconds: float | None = None

    @property
    def n_worked_tokens(self) -> float:
        """What takes the time: tokens computed, generated and trained on."""
        return self.n_computed_tokens + self.n_tokens + self.n_trained_tokens

    @staticmethod
    def of(stage: str, usage: Usage, n_rows: float) -> "Line":
        return Line(stage, usage.n_asks, usage.n_prompt_tokens, usage.n_computed_tokens, usage.n_tokens, n_rows=n_rows)


@dataclass(frozen=True, slots=True)
class Plan:
    run_id: str
    lines: tuple[Line, ...]
    assumptions: tuple[str, ...]

    def total(self) -> Line:
        return total(self.lines)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """In the order that a run takes; a stage of which there is nothing is left out."""
    return sorted((line for line in lines if line.n_asks or line.n_rows), key=lambda line: ORDER.index(line.stage))


def total(lines: Sequence[Line]) -> Line:
    """Rows count where they are stored: those that are trained on are there already."""
    unknown = any(line.seconds is None for line in lines)
    return Line(
        "total",
        sum(line.n_asks for line in lines),
        sum(line.n_prompt_tokens for line in lines),
        sum(line.n_computed_tokens for line in lines),
        sum(line.n_tokens for line in lines),
        sum(line.n_trained_tokens for line in lines),
        sum(line.n_steps for line in lines),
        sum(line.n_rows for line in lines if line.stage in TABLES),
        sum(line.n_bytes for line in lines),
        None if unknown else sum(line.seconds or 0.0 for line in lines),
    )
