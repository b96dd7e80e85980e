"""Everything a report shows, as frozen plain values: whoever builds it reads the tables, the report never does.

Each section may be empty: the page then says so in one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cai.card import Card
from cai.coverage.stats import PromptStats
from cai.gate import Gating
from cai.intervals import Rate, WinRates
from cai.records import Override

Verdict = Literal["PASS", "FAIL", "NOT ENOUGH DATA"]
Results = Mapping[str, Mapping[str, Rate]]
"""Model name → metric → rate; models in the order they were made (seed, sl_cai, rl_cai)."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing the run had to reach. `passed` is None where it was not measured."""

    title: str
    wanted: str
    got: str
    passed: bool | None


@dataclass(frozen=True, slots=True)
class StageTime:
    stage: str
    seconds: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What a step made of its rows: in = out + rejected."""

    step: str
    n_in: int
    n_out: int
    n_rejected: int


@dataclass(frozen=True, slots=True)
class RejectCount:
    stage: str
    reason: str
    n_rows: int
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class PrincipleQuality:
    """One principle as the judge applied it. Bias: mean P(first shown) - 0.5, over pairs asked in both orders."""

    principle_id: str
    position_bias: Rate
    consistency: float
    """Share of pairs whose winner is the same in both orders, of those on which either leans."""
    mass_outside: float
    """Mean probability of saying neither letter."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    predicted: float
    observed: float
    n: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a response wins where a model says that it does with probability p."""

    bins: tuple[ReliabilityBin, ...]
    ece: float


@dataclass(frozen=True, slots=True)
class GoldLabels:
    """The judge against gold annotations of the same pairs; a tie counts half."""

    accuracy: Rate
    kappa: Rate
    reliability: Reliability | None = None
    """None where the judge gave verdicts and no probabilities."""


@dataclass(frozen=True, slots=True)
class LabelQuality:
    n_comparisons: int
    n_pairs: int
    n_ties: int
    n_unscored: int
    consistency: float
    mass_outside: float
    soft_labels: tuple[int, ...]
    """Histogram of soft labels from 0.5 to 1 in equal bins."""
    principles: tuple[PrincipleQuality, ...] = ()
    warnings: tuple[str, ...] = ()
    gold: GoldLabels | None = None


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    """The 95 % interval's ends at each x, infinite where one value says nothing of them. Empty: none is known."""
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """Lines that share axes; `group` is the training step they belong to (SFT, reward model, RL)."""

    group: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    mark: float | None = None
    """Where on the x axis the step lies that was kept."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    name: str
    harmless: Rate
    helpful: Rate


@dataclass(frozen=True, slots=True)
class FrontierPath:
    """Points in the order they were made, measured on the same prompts."""

    name: str
    points: tuple[FrontierPoint, ...]
    names_all: bool = True
    """Whether the drawing names every point, or the first and the last."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe of the reward-hacking pack found of the policy, and the most that it may find; None: anything.

    `measured` is None where there was nothing to measure, and `why` says why.
    """

    name: str
    measured: Rate | None
    limit: float | None
    outcome: Literal["passed", "tripped", "unclear", "unmeasured"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class BestOf:
    """What the best of `n` responses earns, with 95 %; `kl` is at most how far choosing it goes, in nats a response.

    `oracle` is (value, low, high) of how good it is in truth, where that is known.
    """

    n: int
    reward: tuple[float, float, float]
    kl: float
    oracle: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Measurements:
    """What an evaluation measured besides rates and win rates; each may be empty."""

    probes: tuple[Probe, ...] = ()
    elo: Mapping[str, Rate] = field(default_factory=dict)
    best_of_n: tuple[BestOf, ...] = ()
    harm_unscored: Mapping[str, int] = field(default_factory=dict)
    """By model, the responses that the judge could put no mark on."""


@dataclass(frozen=True, slots=True)
class Source:
    """Prompts of one file or generator. `licence` and `origin` (the dataset or maker behind it; of prompts that a
    model wrote, the campaign) are "" where none was stated.
    """

    name: str
    licence: str
    origin: str
    used_for: str
    n_prompts: int
    tags: tuple[tuple[str, int], ...] = ()
    """The most frequent first."""


@dataclass(frozen=True, slots=True)
class LabelCount:
    """Preference pairs of one origin: the feedback model, people, a verifier."""

    origin: str
    objective: str
    n_pairs: int
    n_ties: int


@dataclass(frozen=True, slots=True)
class PersonalCount:
    """Personal items of one kind in the rows that were read, by what the profile does about them."""

    kind: str
    n_redacted: int
    n_rejected: int
    n_kept: int


@dataclass(frozen=True, slots=True)
class Datasheet:
    """What the models of the run learnt from and were measured with."""

    sources: tuple[Source, ...]
    labels: tuple[LabelCount, ...] = ()
    limits: tuple[str, ...] = ()
    """What the record says against the data, a sentence each."""
    personal: tuple[PersonalCount, ...] | None = None
    """None: nobody looked for any."""


@dataclass(frozen=True, slots=True)
class Turn:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Step:
    principle_id: str
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class Chain:
    """One prompt's response and what each round of critique and revision made of it."""

    prompt: tuple[Turn, ...]
    response: str
    steps: tuple[Step, ...]
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """What the response and then each revision does, as it was read: "comply", "refuse". Empty: nothing read them."""
    scores: tuple[float | None, ...] = ()
    """A reward model's, of the response and then each revision; None where it gave none. Empty: none scored them."""
    soft_labels: tuple[float, ...] = ()
    """Of the preference pairs of this prompt, whose responses are others: P(chosen is better)."""
    response_id: str = ""
    """By which the tables know it."""


@dataclass(frozen=True, slots=True)
class Pair:
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    soft_label: float
    consistency: float
    n_asks: int
    is_tie: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's response to a held-out prompt; `reading` is what the oracle or the judge says it is."""

    model: str
    text: str
    reading: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    prompt: tuple[Turn, ...]
    answers: tuple[Answer, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportData:
    title: str
    profile: str
    constitution: str
    constitution_digest: str
    run_id: str
    started_at: str
    finished_at: str
    excluded_tag: str = ""
    """Principles with this tag were left out on purpose: the ablation that shows the constitution did it."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """More of the provenance, shown as it is: engine, hardware, versions, model digests."""
    results: Results = field(default_factory=dict)
    win_rates: WinRates = field(default_factory=dict)
    gating: Gating | None = None
    """What the gate said; it is the verdict of the page, and the targets stand beside it."""
    overrides: tuple[Override, ...] = ()
    """People who had a model of the run put to use although the gate had not passed it."""
    promoted: tuple[str, ...] = ()
    """Where a model of the run is in use: one line each, with since when, in place of what, and why."""
    not_promoted: str = ""
    """Who said no to the policy, or that nobody answered; "" where it is in use, or nobody was asked."""
    targets: tuple[Target, ...] = ()
    measurements: Measurements = Measurements()
    frontier: tuple[FrontierPath, ...] = ()
    stages: tuple[StageTime, ...] = ()
    funnel: tuple[FunnelStep, ...] = ()
    rejects: tuple[RejectCount, ...] = ()
    prompts: PromptStats | None = None
    labels: LabelQuality | None = None
    curves: tuple[Curve, ...] = ()
    reliability: Reliability | None = None
    chains: tuple[Chain, ...] = ()
    n_chains: int = 0
    """How many chains the run made; the page says so where it shows fewer."""
    pairs: tuple[Pair, ...] = ()
    n_pairs: int = 0
    samples: tuple[Sample, ...] = ()
    datasheet: Datasheet | None = None
    cards: tuple[Card, ...] = ()


def verdict(targets: tuple[Target, ...]) -> Verdict:
    """FAIL as soon as one target is missed; PASS when every one is met; otherwise nothing can be said."""
    if any(target.passed is False for target in targets):
        return "FAIL"
    if targets and all(target.passed for target in targets):
        return "PASS"
    return "NOT ENOUGH DATA"
