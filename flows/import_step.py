"""A run's first step, in the generation child: the prompts of its profile into the tables.

    echo '{"step": "prompts"}' | python -m flows.steps cai-home RUN_ID

How rows become prompts is in `importing.py`. A run keeps their ids beside, and compares them with each other.
"""

from collections import Counter
from typing import Any

from cai.config.prompts import GENERATED
from cai.coverage.near import NearDuplicates
from cai.errors import DataError
from cai.records import Prompt
from flows import near_duplicates
from flows.held_out import guard_of
from flows.importing import BATCH_ROWS, Import, Importing, collector_at_rest, importing
from flows.runs import RunFolder, source_digest
from flows.session import Session
from flows.supervise import mark
from storage.seen import IdsOnDisk
from storage.store import Store


def import_prompts(session: Session, batch_rows: int = BATCH_ROWS) -> dict[str, Any]:
    """Every source of the profile into the `prompts` table; what cannot be used, or repeats another, into `rejects`.

    Killed anywhere, it goes on after the last batch that was noted, in the same files. Ids are on disk meanwhile; to
    compare prompts with each other takes memory by the prompt, see `NearDuplicates`.
    """
    run, store = session.run, session.store
    _check_sources(run)
    session.record("running")
    finder = NearDuplicates() if run.profile.near_duplicates == "reject" else None
    with importing(store, _wish_of(session, batch_rows)) as under_way:
        ids, rejected = under_way.ids("prompts"), under_way.ids("rejected")
        _take_all(store, under_way, ids, rejected, finder)
        repeats = [] if finder is None else finder.repeats()
        kinds = Counter(under_way.report.kinds)
        kinds.subtract(near_duplicates.reject(store, repeats, rejected))
        gone = {repeat.prompt_id for repeat in repeats}
        n_out = sum(key not in gone for key in ids)
        if n_out:
            run.save_ids("prompts", (key for key in ids if key not in gone))
            run.save_ids("rejected-prompts", rejected)
    if not n_out:
        raise DataError(
            f"none of the {rejected.n} rows in {[s.path for s in run.profile.prompts]} is a usable prompt; "
            "`cai sql rejects` says why"
        )
    return {
        "n_in": n_out + rejected.n,
        "n_out": n_out,
        "n_rejected": rejected.n,
        "n_shards": session.n_shards(),
        "n_of_templates": 0 if finder is None else finder.n_of_templates,
        "kinds": dict(kinds),
        "otherwise": dict(under_way.report.otherwise),
        "personal": under_way.report.personal,
    }


def _check_sources(run: RunFolder) -> None:
    """The rows that were imported, and the run's name, are of the files as they were.

    Raises:
        DataError: a file is another one by now, or gone.
    """
    for source, before in zip(run.profile.prompts, run.sources, strict=bool(run.sources)):
        if source.path != GENERATED and source_digest(source, "train", run.profile.seed) != before:
            raise DataError(
                f"{source.path} is not what it was when run {run.run_id} began; put it back as it was, or begin a new "
                "run with it (`cai run PROFILE`)"
            )


def _wish_of(session: Session, batch_rows: int) -> Import:
    run = session.run
    return Import(
        run.profile.prompts,
        guard_of(session.store, run.profile),
        seed=run.profile.seed,
        folder=run.path / "import",
        batch_rows=batch_rows,
        generated=_generated(run, session.store),
        privacy=run.profile.privacy,
    )


def _take_all(
    store: Store, under_way: Importing, ids: IdsOnDisk, rejected: IdsOnDisk, finder: NearDuplicates | None
) -> None:
    """Every batch, and before the first one what an import that was killed had taken."""
    with collector_at_rest():
        if finder is not None:
            near_duplicates.take_stored(finder, store, ids.groups(near_duplicates.GROUP))
        for batch in under_way.batches():
            if finder is not None:
                for prompt in batch.prompts:
                    finder.add(prompt)
            ids.add([prompt.prompt_id for prompt in batch.prompts])
            rejected.add([reject.reject_id for reject in batch.rejects])
            mark("progress", {"stage": "prompts", "n_done": ids.n + rejected.n})
            del batch


def _generated(run: RunFolder, store: Store) -> tuple[Prompt, ...]:
    """The prompts of the source `generated`, as they were when the run began."""
    if all(source.path != GENERATED for source in run.profile.prompts):
        return ()
    found = store.find_all(Prompt, ids := run.ids(GENERATED))
    return tuple(found[prompt_id] for prompt_id in ids)
