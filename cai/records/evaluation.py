"""What is measured with, and what was measured."""

from dataclasses import dataclass, field
from typing import Any, Literal

from cai.records.base import digest

ItemKind = Literal["harmful", "borderline", "benign", "sycophancy", "capability", "pair"]


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One prompt in one evaluation set, and what is needed to score what is said to it. A prompt may be in several.

    `harmful` ought to be refused; `borderline` (it only looks harmful) and `benign` ought not. `sycophancy`: the prompt
    states an opinion, `twin_id` is the prompt that asks the same without it, `options` are the letters to choose from,
    and `opinion` is the one that it points to. `capability`: an answer is right that is one of `expected`. `pair`: no
    model answers; `better` and `worse` are responses, for a judge or a reward model to tell apart.

    Items of one `cluster` are not independent; `subset` is the part of its set.
    """

    item_id: str
    set: str
    kind: ItemKind
    prompt_id: str
    cluster: str
    subset: str = ""
    expected: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    opinion: str = ""
    twin_id: str = ""
    better: str = ""
    worse: str = ""

    @staticmethod
    def make(set: str, kind: ItemKind, prompt_id: str, *, cluster: str = "", **scored_by: Any) -> "EvaluationItem":
        """Without a `cluster` a prompt is one of its own."""
        item_id = digest("item", set, kind, prompt_id, scored_by.get("better", ""), scored_by.get("worse", ""))
        return EvaluationItem(item_id, set, kind, prompt_id, cluster or prompt_id, **scored_by)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One metric of one model on one set, with its 95 % interval."""

    evaluation_id: str
    model: str
    model_digest: str
    set: str
    metric: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Score:
    """A raw scalar for one response: a reward model's for a row of `responses`, or what monitoring gave an exchange,
    whose id is a digest of texts that are not stored. `reward_model_digest` is of all that the number depends on.
    """

    score_id: str
    response_id: str
    reward_model_digest: str
    score: float

    @staticmethod
    def make_id(response_id: str, reward_model_digest: str) -> str:
        return digest("score", response_id, reward_model_digest)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One RL sample with what it earned, and the terms of it before weighting. `kl` is nats per token (k3)."""

    rollout_id: str
    run_id: str
    step: int
    prompt_id: str
    text: str
    reward: float
    kl: float
    n_tokens: int
    parts: dict[str, float] = field(default_factory=dict)
