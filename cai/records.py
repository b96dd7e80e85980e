"""The rows of the method, frozen. An id is the digest of everything that decides the row, so the same work has
the same id in every run. `storage/schemas.py` says how each is laid out in Parquet; nothing here knows where rows live.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from json.encoder import encode_basestring
from typing import Any, Literal, Protocol, TypeVar

Role = Literal["system", "user", "assistant"]
Order = Literal["ab", "ba"]
LabelSource = Literal["ai", "human", "verifier"]
ItemKind = Literal["harmful", "borderline", "benign", "sycophancy", "capability", "pair"]
PromptKind = Literal["harmful", "borderline", "helpful", ""]
Likeness = Literal["same", "inside", "near"]
Dataset = Literal["", "sft", "preferences", "rl_prompts"]
RunStatus = Literal["running", "waiting", "refused", "completed", "failed"]


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(*parts: Any) -> str:
    """32 hex digits of SHA-256 over the canonical JSON of `parts`: equal parts, equal digest, on any machine."""
    return hashlib.sha256(_CANONICAL.encode(parts).encode()).hexdigest()[:32]


def seed_from(row_id: str, run_seed: int = 0) -> int:
    """A 31-bit sampling seed that depends on the row alone, so the order of arrival cannot matter."""
    return int(digest("seed", row_id, run_seed)[:8], 16) >> 1


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text is drawn. `temperature` 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation up to the assistant's turn; the id is its digest, and nothing else decides it.

    `source` is the file's name, `origin` the dataset or the maker behind it, "" where unstated; `kind` is what the
    prompt is meant to draw out, "" where unstated. `expected` is the answer that verifiers check against, where one is
    known: a home knows one answer to a prompt.
    """

    prompt_id: str
    messages: tuple[Message, ...]
    source: str
    licence: str = ""
    tags: tuple[str, ...] = ()
    split: Literal["train", "eval"] = "train"
    expected: str | None = None
    origin: str = ""
    kind: PromptKind = ""

    @staticmethod
    def make(
        messages: Sequence[Message],
        source: str,
        licence: str = "",
        tags: Sequence[str] = (),
        split: Literal["train", "eval"] = "train",
        expected: str | None = None,
        origin: str = "",
        kind: PromptKind = "",
    ) -> "Prompt":
        # digest("prompt", [[m.role, m.content] for m in messages]), spelled out: imports make millions of them.
        turns = ",".join([f'["{m.role}",{encode_basestring(m.content)}]' for m in messages])
        prompt_id = hashlib.sha256(f'["prompt",[{turns}]]'.encode()).hexdigest()[:32]
        return Prompt(prompt_id, tuple(messages), source, licence, tuple(tags), split, expected, origin, kind)


@dataclass(frozen=True, slots=True)
class Contamination:
    """A prompt that repeated a held-out one, and so was kept from training; see `cai/held_out.py`.

    `how`: it is that prompt ("same"), the held-out words stand in it one by one ("inside"), or all but a few ("near").
    `found` says when: at its import, or when `dataset` was derived. `source` is the prompt's.
    """

    contamination_id: str
    prompt_id: str
    held_out_id: str
    how: Likeness
    found: Literal["import", "derive"]
    dataset: Dataset
    reason: str
    source: str

    @staticmethod
    def make_id(prompt_id: str, held_out_id: str, found: str, dataset: str) -> str:
        return digest("contamination", prompt_id, held_out_id, found, dataset)


@dataclass(frozen=True, slots=True)
class Response:
    """One reply. `stage` names who asked for it: `initial` (SL-CAI data), `candidate` (labelling), `eval`, `attempt` (a
    prompt that a model wrote is tried); or it says that nobody did: a `given` reply came with its prompt, its
    `model_digest` is the file's name, and the numbers of its sampling are 0. A `draft` replies to the request to write
    a prompt; that request is its `prompt_id`, and no row of `prompts`.
    """

    response_id: str
    prompt_id: str
    model_digest: str
    stage: Literal["initial", "candidate", "eval", "given", "draft", "attempt"]
    index: int
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    text: str
    finish_reason: str
    n_prompt_tokens: int
    n_tokens: int

    @staticmethod
    def make_id(prompt_id: str, model_digest: str, sampling: Sampling, run_seed: int, index: int) -> str:
        """The stage is not in it: the same sample asked for by two stages is one row."""
        return digest("response", prompt_id, model_digest, asdict(sampling), run_seed, index)

    @staticmethod
    def given(prompt_id: str, text: str, source: str) -> "Response":
        """The reply that the row of a file has."""
        row_id = digest("given", prompt_id, text)
        return Response(row_id, prompt_id, source, "given", 0, 0, 0.0, 0.0, 0, text, "given", 0, 0)


@dataclass(frozen=True, slots=True)
class Revision:
    """One critique-and-revise step. `parent_id` is the response of round 0 or the revision of the round before."""

    revision_id: str
    prompt_id: str
    response_id: str
    parent_id: str
    round: int
    principle_id: str
    principle_digest: str
    constitution_digest: str
    template_digest: str
    model_digest: str
    seed: int
    critique: str
    critique_finish_reason: str
    text: str
    finish_reason: str
    n_prompt_tokens: int
    n_tokens: int

    @staticmethod
    def make_id(
        parent_id: str,
        round: int,
        principle_id: str,
        principle_digest: str,
        template_digest: str,
        model_digest: str,
        critique: Sampling,
        revision: Sampling,
        run_seed: int,
    ) -> str:
        """`constitution_digest` is not in it: editing one principle leaves the rows of the others alone."""
        return digest(
            "revision",
            parent_id,
            round,
            principle_id,
            principle_digest,
            template_digest,
            model_digest,
            asdict(critique),
            asdict(revision),
            run_seed,
        )


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

    `logps` are the log-probabilities (nats) of the marks of the scale, from its lowest; `mass_outside` is the
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
class Attempt:
    """A prompt that a model wrote, how it came about, and what it drew out of a policy.

    `campaign` is what it was written for, `draft_id` the reply that it was read from, `parent_ids` the prompts that its
    writer was shown; of a variation, the one that it varies. `elicited` is P(harm) of the policy's responses, the mean
    over `response_ids`; None where it was not tried or could not be read, and `unscored` says why.
    """

    attempt_id: str
    prompt_id: str
    campaign: str
    round: int
    kind: PromptKind
    tag: str
    topic: str
    is_variation: bool
    parent_ids: tuple[str, ...]
    draft_id: str
    template_digest: str
    writer_digest: str
    policy_digest: str
    reading: str
    response_ids: tuple[str, ...]
    elicited: float | None
    unscored: str = ""

    @staticmethod
    def make_id(campaign: str, draft_id: str, policy_digest: str, response_ids: Sequence[str], reading: str) -> str:
        """One row a prompt, policy, sample of it and way of reading it; `reading` is the digest of that way."""
        return digest("attempt", campaign, draft_id, policy_digest, list(response_ids), reading)


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
    """A reward model's raw scalar for one response."""

    score_id: str
    response_id: str
    reward_model_digest: str
    score: float


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


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model and everything it came from. `run_id` is the run that trained it; later ones may have found it.

    `inputs` are digests by name, table versions as `tables/NAME`, and `personal` in words; `meta` is the directory's
    `meta.json` as it was written (config, seed, code, versions, counts), so that the record outlives the directory.
    """

    model_digest: str
    name: str
    stage: str
    path: str
    parent_digest: str
    inputs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    run_id: str = ""
    created_at: str = ""
    meta: str = "{}"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A model was put to use under the name of a channel. Nothing changes it; the highest `number` of a channel counts.

    `stale` says why the model was stale at that time, "" where it was not.
    """

    promotion_id: str
    channel: str
    number: int
    model_digest: str
    previous_digest: str
    promoted_at: str
    note: str = ""
    stale: str = ""

    @staticmethod
    def make_id(channel: str, number: int) -> str:
        """One row a channel and number: of two promotions at once, one is stored and the other counts on."""
        return digest("promotion", channel, number)


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gate of a channel said of a model, beside another; of one model and channel the highest `number` counts.

    `findings` is JSON (`cai.gate.to_json`): each condition, and what was measured of it. `n_needed` prompts would
    decide what is open, None where nothing is or no number is known. Changes are from `baseline_digest`.
    """

    gating_id: str
    model_digest: str
    channel: str
    number: int
    verdict: Literal["PASS", "FAIL", "NOT ENOUGH DATA"]
    findings: str
    n_needed: int | None
    run_id: str
    baseline_digest: str
    judged_at: str

    @staticmethod
    def make_id(model_digest: str, channel: str, number: int) -> str:
        return digest("gating", model_digest, channel, number)


@dataclass(frozen=True, slots=True)
class Override:
    """A person had a model promoted that its gate had not passed. `gating_id` and `verdict` are what they overrode, ""
    where no gate had judged it. It goes with the promotion of that id if that is of this model: two may try at once.
    """

    override_id: str
    promotion_id: str
    model_digest: str
    gating_id: str
    verdict: Literal["FAIL", "NOT ENOUGH DATA", ""]
    person: str
    reason: str
    overridden_at: str

    @staticmethod
    def make_id(promotion_id: str, model_digest: str) -> str:
        return digest("override", promotion_id, model_digest)


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
