"""The registry of trained models over the tables: read it, and add a gate's verdict or a promotion to it."""

import json
from dataclasses import replace
from typing import NamedTuple

from cai.errors import DataError, NotApproved
from cai.gate import Gating, to_json
from cai.promotion import Overriding, check_channel, check_whole, objection
from cai.records import Evaluation, GateVerdict, Model, Override, Promotion, Run
from cai.registry import SHORT, Registry
from storage.store import Store

HINT = "`cai models promote MODEL --override NAME --reason TEXT` puts it to use all the same"


class Promoted(NamedTuple):
    promotion: Promotion
    is_new: bool
    """False where the channel had the model already, and nothing was written."""


def load(store: Store) -> Registry:
    """What is stored now."""
    # Runs first: a run is marked completed after its models are stored, never before.
    runs = tuple(store.read(Run))
    return Registry(
        store.find_all(Model),
        runs,
        tuple(store.read(Promotion)),
        tuple(store.read(Evaluation)),
        tuple(store.read(GateVerdict)),
        tuple(store.read(Override)),
    )


def keep_verdict(
    store: Store, gating: Gating, *, model_digest: str, channel: str, baseline_digest: str, run_id: str, at: str
) -> GateVerdict:
    """Store what a gate said of a model, after what was said of it before; the same facts again are no new row."""
    while True:
        said = store.read(GateVerdict)
        own = [row for row in said if (row.model_digest, row.channel) == (model_digest, channel)]
        last = max(own, key=lambda row: row.number, default=None)
        number = 1 if last is None else last.number + 1
        row = GateVerdict(
            gating_id=GateVerdict.make_id(model_digest, channel, number),
            model_digest=model_digest,
            channel=channel,
            number=number,
            verdict=gating.verdict,
            findings=json.dumps(to_json(gating)),
            n_needed=gating.n_needed,
            run_id=run_id,
            baseline_digest=baseline_digest,
            judged_at=at,
        )
        if last is not None and last == replace(
            row, gating_id=last.gating_id, number=last.number, judged_at=last.judged_at
        ):
            return last
        if store.append([row])["gatings"]:  # 0: somebody else's verdict took this number in the meantime
            return row


def promote(
    store: Store,
    model: Model,
    *,
    channel: str,
    at: str,
    note: str = "",
    force: bool = False,
    override: Overriding | None = None,
) -> Promoted:
    """Put `model` to use in `channel`. Any number of processes may promote at once: each promotion counts on from the
    one before it, and names it.

    Args:
        store: where promotions are.
        model: what to promote.
        channel: under what name.
        at: the time now, ISO 8601.
        note: why.
        force: also where the model is stale; `note` must then say why.
        override: who wants it promoted, and why, although the channel's gate last said something other than PASS, or
            nothing; kept with the promotion where that is so. A model that was promoted there before needs none.

    Raises:
        ConfigError: `channel` is no name.
        DataError: the model is stale, or its directory is not what its record says.
        NotApproved: its gate has not passed it, and nobody overrides that.
    """
    check_channel(channel)
    check_whole(model)
    while True:
        registry = load(store)
        stale = "; ".join(registry.why_stale(model))
        if stale and not (force and note.strip()):
            hint = "give the reason with --note" if force else "--force --note REASON promotes it all the same"
            raise DataError(f"model {model.model_digest[:SHORT]} ({model.name}) is stale: {stale}; {hint}")
        against = objection(registry, model, channel)
        if against and override is None:
            raise NotApproved(f"{against}; {HINT}")
        last = registry.promoted(channel)
        if last is not None and last.model_digest == model.model_digest:
            return Promoted(last, is_new=False)
        number = 1 if last is None else last.number + 1
        row = Promotion(
            promotion_id=Promotion.make_id(channel, number),
            channel=channel,
            number=number,
            model_digest=model.model_digest,
            previous_digest="" if last is None else last.model_digest,
            promoted_at=at,
            note=note,
            stale=stale,
        )
        if against and override is not None:  # first, so that no promotion is ever seen without it
            store.upsert([_override(registry, model, row, override)])
        if store.append([row])["promotions"]:  # 0: somebody else's promotion took this number in the meantime
            return Promoted(row, is_new=True)


def _override(registry: Registry, model: Model, row: Promotion, by: Overriding) -> Override:
    said = registry.verdict(model, row.channel)
    return Override(
        override_id=Override.make_id(row.promotion_id, model.model_digest),
        promotion_id=row.promotion_id,
        model_digest=model.model_digest,
        gating_id="" if said is None else said.gating_id,
        verdict="" if said is None else "PASS beside another baseline" if said.verdict == "PASS" else said.verdict,
        person=by.person,
        reason=by.reason,
        overridden_at=row.promoted_at,
    )
