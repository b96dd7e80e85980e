"""The registry of trained models over the tables: read it, and add a promotion to it."""

from typing import NamedTuple

from cai.errors import DataError
from cai.records import Evaluation, Model, Promotion, Run
from cai.registry import SHORT, Registry, check_channel, check_whole
from storage.store import Store


class Promoted(NamedTuple):
    promotion: Promotion
    is_new: bool
    """False where the channel had the model already, and nothing was written."""


def load(store: Store) -> Registry:
    """What is stored now."""
    # Runs first: a run is marked completed after its models are stored, never before.
    runs = tuple(store.read(Run))
    return Registry(store.find_all(Model), runs, tuple(store.read(Promotion)), tuple(store.read(Evaluation)))


def promote(store: Store, model: Model, *, channel: str, at: str, note: str = "", force: bool = False) -> Promoted:
    """Put `model` to use in `channel`. Any number of processes may promote at once: each promotion counts on from the
    one before it, and names it.

    Args:
        store: where promotions are.
        model: what to promote.
        channel: under what name.
        at: the time now, ISO 8601.
        note: why.
        force: also where the model is stale; `note` must then say why.

    Raises:
        ConfigError: `channel` is no name.
        DataError: the model is stale, or its directory is not what its record says.
    """
    check_channel(channel)
    check_whole(model)
    while True:
        registry = load(store)
        stale = "; ".join(registry.why_stale(model))
        if stale and not (force and note.strip()):
            hint = "give the reason with --note" if force else "--force --note REASON promotes it all the same"
            raise DataError(f"model {model.model_digest[:SHORT]} ({model.name}) is stale: {stale}; {hint}")
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
        if store.append([row])["promotions"]:  # 0: somebody else's promotion took this number in the meantime
            return Promoted(row, is_new=True)
