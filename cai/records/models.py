"""Trained models: what each was made from, what its gate said, and who put it to use."""

from dataclasses import dataclass, field
from typing import Literal

from cai.records.base import digest


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model and everything it came from. `run_id` is the run that trained it; later ones may have found it.

    `inputs` are digests by name, table versions as `tables/NAME`, and `prompts` and `personal` in words; `meta` is the
    directory's `meta.json` as it was written (config, seed, code, versions, counts), so that the record outlives it.
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
    """A person had a model promoted that its gate had not passed, or not beside what is in use. `gating_id` and
    `verdict` are what they overrode, "" where no gate had judged it. It goes with the promotion of that id if that is
    of this model: two may try at once.
    """

    override_id: str
    promotion_id: str
    model_digest: str
    gating_id: str
    verdict: Literal["FAIL", "NOT ENOUGH DATA", "PASS beside another baseline", ""]
    person: str
    reason: str
    overridden_at: str

    @staticmethod
    def make_id(promotion_id: str, model_digest: str) -> str:
        return digest("override", promotion_id, model_digest)
