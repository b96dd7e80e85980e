"""What a changed constitution costs in one home: replays the stored rows of a run, for `cai constitution diff`."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cai.constitution import Constitution, load_constitution
from cai.constitution.stale import ComparisonRef, Prediction, RevisionRef, stale_rows
from cai.errors import ConstitutionError

if TYPE_CHECKING:
    from flows.runs import RunFolder
    from storage.store import Store


@dataclass(frozen=True, slots=True)
class Cost:
    """`prediction` is exact. `n_remade_*` count rows of models that the change will have trained to other weights.

    Those rows are left out of the prediction: the second run makes about as many anew, of models not known yet.
    """

    run_id: str
    prediction: Prediction
    n_revisions: int
    n_comparisons: int
    n_remade_responses: int
    n_remade_comparisons: int


def predict(home: Path, old: Constitution, new: Constitution, run_id: str | None = None) -> Cost | str:
    """The cost of running the last run of `old` (or `run_id`) again with `new`, or why it cannot be known."""
    if not home.is_dir():
        return f"there is no {home}; give --home, the place of a run of the old version"
    from flows.runs import open_run
    from storage.store import Store

    found = _last_run(home, old) if run_id is None else run_id
    if found is None:
        return f"{home} holds no run of the old version (constitution {old.digest()})"
    run = open_run(home, found)
    if run.without:
        old, new = old.without(run.without), new.without(run.without)
    if run.constitution.digest() != old.digest():
        return f"run {found} used another constitution ({run.constitution.digest()}) than the old version"
    return _cost(run, Store(home), old, new)


def _last_run(home: Path, old: Constitution) -> str | None:
    """The newest run of this constitution, whole or without a tag."""
    found: list[tuple[str, str]] = []
    for file in home.glob("runs/*/run.json"):
        try:
            if load_constitution(file.parent / "constitution.yaml").digest() != old.digest():
                continue
        except ConstitutionError:  # not a constitution this version can read, so not a run of `old`
            continue
        found.append((str(json.loads(file.read_text(encoding="utf-8"))["started_at"]), file.parent.name))
    return max(found)[1] if found else None


def _cost(run: "RunFolder", store: "Store", old: Constitution, new: Constitution) -> Cost:
    seed, feedback = run.profile.seed, run.profile.feedback
    mine = _ids(run, "revisions-*")
    revisions, seed_models = _revisions(store, mine)
    chains = stale_rows(old, new, revisions, (), seed=seed, of_run=mine)
    chains_move = bool(chains.revision_ids)

    candidates, evaluated = _ids(run, "candidates-[0-9]*"), _ids(run, "eval-*") | _ids(run, "candidates-r*")
    models = _models(store, candidates | evaluated)
    start = {models[response] for response in candidates if response in models}
    comparisons = _comparisons(store, candidates | evaluated, _judges(run))
    labels = stale_rows(old, new, (), _among(comparisons, candidates), seed=seed, feedback=feedback)
    labels_move = bool(labels.comparison_ids or labels.comparisons_new)
    # SFT trains on the chains, and the reward model, and with it RL, on the labels.
    remade = {
        response
        for response, model in models.items()
        if model not in seed_models and (chains_move or (labels_move and model not in start))
    }
    kept = _among(comparisons, models.keys() - remade)
    return Cost(
        run_id=run.run_id,
        prediction=stale_rows(old, new, revisions, kept, seed=seed, feedback=feedback, of_run=mine),
        n_revisions=len(mine),
        n_comparisons=len(comparisons),
        n_remade_responses=len(remade),
        n_remade_comparisons=len(comparisons) - len(kept),
    )


def _ids(run: "RunFolder", pattern: str) -> set[str]:
    return {row_id for file in (run.path / "ids").glob(f"{pattern}.parquet") for row_id in run.ids(file.stem)}


def _judges(run: "RunFolder") -> set[str]:
    results = [run.result(file.stem) for file in (run.path / "steps").glob("labels-*.json")]
    return {str(judge) for result in results if result for judge in result["judge_digests"]}


def _revisions(store: "Store", mine: Collection[str]) -> tuple[list[RevisionRef], set[str]]:
    """All stored revisions of the run's prompts by the run's model, and that model."""
    rows = [RevisionRef(**row) for row in store.query(f"select {', '.join(RevisionRef._fields)} from revisions")]
    prompts = {row.prompt_id for row in rows if row.revision_id in mine}
    models = {row.model_digest for row in rows if row.revision_id in mine}
    return [row for row in rows if row.prompt_id in prompts and row.model_digest in models], models


def _models(store: "Store", responses: Collection[str]) -> dict[str, str]:
    rows = store.query("select response_id, model_digest from responses")
    return {str(row["response_id"]): str(row["model_digest"]) for row in rows if row["response_id"] in responses}


def _comparisons(store: "Store", responses: Collection[str], judges: Collection[str]) -> list[ComparisonRef]:
    query = f"select {', '.join(ComparisonRef._fields)} from comparisons"
    rows = _among((ComparisonRef(**row) for row in store.query(query)), responses)
    return [row for row in rows if not judges or row.judge_digest in judges]


def _among(rows: Iterable[ComparisonRef], responses: Collection[str]) -> list[ComparisonRef]:
    return [row for row in rows if row.response_a in responses and row.response_b in responses]
