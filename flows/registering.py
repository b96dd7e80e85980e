"""The steps that make entries of models: what a training command left, into the tables; a policy, into use."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cai.models import read_meta
from cai.privacy import in_words
from cai.promotion import Overriding
from cai.records import Model, Prompt, Reject, Rollout, digest
from cai.registry import PERSONAL, SOURCES
from flows import shown
from flows.accounts import ids_of
from flows.report_curves import curves_of
from flows.report_datasheet import personal_of, sources_in_words
from flows.rounds import at_round, round_of
from flows.runs import now
from flows.session import Session
from storage import registry


def register(session: Session, name: str, path: str, made_by: str) -> dict[str, Any]:
    """A trained model into the `models` table, with all it came from, the table versions included."""
    meta = read_meta(Path(path))
    assert meta is not None, "only finished models are registered"
    trained_on = session.run.result("sft_set" if name == "sl_cai" else at_round("preferences", round_of(name)))
    assert trained_on is not None, "the set is derived before it is trained on"
    pinned = {f"tables/{table}": str(version) for table, version in trained_on["versions"].items()}
    found = personal_of(session.run, ("prompts", "helpful"))
    prompts = session.store.find_all(Prompt, [*ids_of(session.run, "prompts"), *ids_of(session.run, "helpful-prompts")])
    pinned[SOURCES] = sources_in_words(list(prompts.values())) or "none"
    personal = {} if found is None else {PERSONAL: in_words(found) or "none found"}
    model = Model(
        model_digest=meta["model_digest"],
        name=name,
        stage=meta["stage"],
        path=path,
        parent_digest=meta["parent_digest"],
        inputs=meta["inputs"] | pinned | personal,
        metrics=meta["metrics"],
        run_id=session.run.run_id,
        created_at=now(),
        meta=json.dumps(meta, sort_keys=True),
    )
    session.store.append([model, *left_by_training(Path(path), session.run.run_id)])
    curves = shown.curves(list(curves_of(made_by, [Path(path)])))
    return {
        "model_digest": model.model_digest,
        "shown": [shown.Shown(f"curves-{made_by}", f"Training of {name}", curves)],
    }


def promote(
    session: Session, model_digest: str, channel: str, note: str, override: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A trained model into use, by the registry's own rules. `override` is the `person` and `reason` of an override."""
    model = registry.load(session.store).models[model_digest]
    by = None if override is None else Overriding(**override)
    row, _ = registry.promote(session.store, model, channel=channel, at=now(), note=note, override=by)
    return {"channel": row.channel, "number": row.number, "model_digest": model_digest, "note": row.note}


def left_by_training(path: Path, run_id: str) -> Iterator[Rollout | Reject]:
    """What a training step dropped, and every sampled reply of RL; one that could not be scored is a reject."""
    rejects = path / "rejects.jsonl"
    for line in rejects.read_text(encoding="utf-8").splitlines() if rejects.is_file() else ():
        body = json.loads(line)
        yield Reject(**body | {"parent_ids": tuple(body["parent_ids"])})
    rollouts = path / "rollouts.parquet"
    rows = pq.read_table(rollouts).to_pylist() if rollouts.is_file() else []
    for place, row in enumerate(rows):
        row_id = digest("rollout", run_id, row["step"], place, row["prompt_id"], row["text"])
        why = row.pop("reason")
        if row["reward"] is None or row["kl"] is None:
            ids = (row_id,)
            yield Reject.make(
                "rollout", "unscored", prompt_id=row["prompt_id"], parents=ids, detail=why, text=row["text"]
            )
        else:
            yield Rollout(row_id, run_id, **row | {"parts": dict(row["parts"])})
