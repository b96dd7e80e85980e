"""What was said of responses, by models and by people, and the preference pairs that came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cai.records.base import digest
from cai.records.prompts import Message

Order = Literal["ab", "ba"]
LabelSource = Literal["ai", "human", "verifier"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ask of the feedback model: two responses, one principle, one order. Raw values; judged when read.

    `response_a`, `response_b` are canonical (sorted by id); `order` says which was shown first. `logp_a`, `logp_b` are
    the log-probabilities (nats) of choosing that response, whatever letter it was shown under. `mass_outside` is the
    probability of saying neither letter. `reasoning` is what the judge wrote before it chose, None where it was not
    asked to; `sample` counts such texts of one ask. `method` says how the choice was read: from the probabilities of
    the options, or from text where an engine shows none. The tokens are what this row cost, over all its requests:
    those read, and those written, the letter included.
    """

    comparison_id: str
    prompt_id: str
    response_a: str
    response_b: str
    order: Order
    principle_id: str
    principle_digest: str
    constitution_digest: str
    template_digest: str
    judge_digest: str
    logp_a: float
    logp_b: float
    mass_outside: float
    exact: bool
    reasoning: str | None = None
    sample: int = 0
    method: Literal["options", "text"] = "options"
    n_prompt_tokens: int = 0
    n_tokens: int = 0

    @staticmethod
    def make_id(
        response_a: str,
        response_b: str,
        order: Order,
        principle_id: str,
        principle_digest: str,
        template_digest: str,
        judge_digest: str,
        mode: str = "",
        sample: int = 0,
    ) -> str:
        """`mode` is the digest of how the judge is asked, "" where it chooses at once after all few-shots."""
        return digest(
            "comparison",
            response_a,
            response_b,
            order,
            principle_id,
            principle_digest,
            template_digest,
            judge_digest,
            *((mode, sample) if mode else ()),
        )


@dataclass(frozen=True, slots=True)
class Rating:
    """One response put on a written scale by a judge. Raw values; read by `cai.verdict.expected_value`.

    `logps` are the log-probabilities (nats) of the marks of the scale, from its lowest, or of the options of a closed
    question, in their order; `mass_outside` is the
    probability of saying none of them.
    """

    rating_id: str
    prompt_id: str
    response_id: str
    scale: str
    template_digest: str
    judge_digest: str
    logps: tuple[float, ...]
    mass_outside: float
    exact: bool
    n_prompt_tokens: int

    @staticmethod
    def make_id(response_id: str, scale: str, template_digest: str, judge_digest: str) -> str:
        return digest("rating", response_id, scale, template_digest, judge_digest)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one person, or one source of gold labels, says of a pair. Several of one pair stay apart.

    `response_a`, `response_b` are canonical (sorted by id); `p_a` is 1 where a is better, 0 where b is, 0.5 for a tie.
    `annotator` is a salted hash, "" where the source names none; `group` is what the annotator belongs to, where that
    is kept. `objective` is what was asked: "harmlessness", "helpfulness", "" where unstated. `shown_first` is "" where
    unknown.
    """

    annotation_id: str
    prompt_id: str
    response_a: str
    response_b: str
    p_a: float
    source: str
    annotator: str = ""
    group: str = ""
    objective: str = ""
    is_gold: bool = False
    shown_first: Literal["a", "b", ""] = ""
    annotated_at: str = ""

    @staticmethod
    def make_id(response_a: str, response_b: str, source: str, annotator: str, objective: str, is_gold: bool) -> str:
        """One row a pair, source, annotator and objective: whoever says something else has changed their mind."""
        return digest("annotation", response_a, response_b, source, annotator, objective, is_gold)


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What maps a judge's P(a better) of a pair to the share of gold that agrees, fitted on `n` gold pairs.

    `method` "temperature": P → σ(logit(P) / xs[0]). "isotonic": through the points (xs, ys), linear between them.
    `gold_version` is the version of the table `annotations`; `ece_after`, `brier_after` are by cross-validation over
    prompts, so on pairs that the map had not seen.
    """

    recalibration_id: str
    judge_digest: str
    method: Literal["temperature", "isotonic"]
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    n: int
    gold_sources: tuple[str, ...]
    gold_version: int
    ece_before: float
    ece_after: float
    brier_before: float
    brier_after: float

    @staticmethod
    def make_id(judge_digest: str, method: str, xs: Sequence[float], ys: Sequence[float], gold_version: int) -> str:
        return digest("recalibration", judge_digest, method, list(xs), list(ys), gold_version)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A pair with its soft label: P(chosen is better), between 0.5 and 1. A tie stays a tie (`is_tie`), near 0.5.

    `disagreement` is the weighted standard deviation of the judges' probabilities: 0 for one judge, at most 0.5.
    Of a pair that people labelled, `n_asks` counts them, `consistency` is their agreement with the label,
    `disagreement` is between their groups, and `objective` is what they were asked.
    """

    pair_id: str
    prompt_id: str
    messages: tuple[Message, ...]
    chosen_id: str
    rejected_id: str
    chosen: str
    rejected: str
    soft_label: float
    is_tie: bool
    n_asks: int
    consistency: float
    position_bias: float
    source: LabelSource = "ai"
    judge_digest: str = ""
    labelling_digest: str = ""
    disagreement: float = 0.0
    objective: str = ""
