"""How a run's end that its own steps cannot report gets into the table `runs`: the failure of the run."""

import contextlib
from collections.abc import Iterator

from cai.errors import StorageError
from flows.runs import RunFolder, run_row


@contextlib.contextmanager
def failure_recorded(run: RunFolder) -> Iterator[None]:
    """Mark the run as failed where the block raises, and as running where one that had failed is tried again.

    An interruption is no failure: the run is as it was, and the same command goes on with it.
    """
    from cai.records import Run
    from storage.store import Store

    store = Store(run.home)
    stored = store.find_all(Run, [run.run_id]).get(run.run_id)
    if stored is not None and stored.status == "failed":
        store.upsert([run_row(run, "running")])
    try:
        yield
    except Exception:
        # Where the tables themselves are the trouble, the error that is on its way says so better.
        with contextlib.suppress(StorageError):
            store.upsert([run_row(run, "failed")])
        raise
