"""What every step of the generation child works with: one run, its tables, its engine, and a way to say how far it is.
The steps are in `steps.py`, `import_step.py`, `helpful.py`, `labelling.py` and `registering.py`.
"""

import time
from collections.abc import Sequence
from typing import Literal

from cai.asks import Progress
from cai.engines.slot import EngineSlot
from cai.feedback import ResponsePair, make_pairs
from cai.records import Comparison, Prompt, Record, Reject, Response
from flows.rounds import at_round
from flows.runs import RunFolder, run_row
from flows.supervise import mark
from storage.ledger import TableLedger
from storage.store import Store

SHARD = 5_000  # prompts: memory is bounded by it, and a retry repeats at most its unfinished rows
COMMIT_EVERY_S = 2.0  # what a kill loses at most
COMMITS_PER_S = 4  # to one table, by all workers of a run; in object storage each is several round trips
MANY_FILES = 32  # commits slow down with the number of files; measured in benchmarks/storage_commit.py


class Session:
    """One run, its store, and the engine that is up."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.store = Store(run.home)
        self.engines = EngineSlot()

    @property
    def seed_model(self) -> str:
        return self.run.profile.engine.model

    def ledger(self, prompt_ids: Sequence[str], kinds: Sequence[type[Record]]) -> TableLedger:
        """Rows of these prompts."""
        return TableLedger(self.store, prompt_ids, kinds, self._commit_every_s)

    def labels_ledger(self, pairs: Sequence[ResponsePair]) -> TableLedger:
        """What judges have said of these pairs."""
        ids = {response.response_id for pair in pairs for response in (pair.a, pair.b)}
        return TableLedger(self.store, (), (Comparison, Reject), self._commit_every_s, ids)

    @property
    def _commit_every_s(self) -> float:
        """The more workers commit, the rarer each: a table takes so many commits a second."""
        ray = self.run.profile.ray
        return COMMIT_EVERY_S if ray is None else max(COMMIT_EVERY_S, ray.workers / COMMITS_PER_S)

    def record(self, status: Literal["running", "completed"]) -> None:
        """Write the run's own row, whatever it said before."""
        self.store.upsert([run_row(self.run, status)])

    def prompts(self, shard: int) -> list[Prompt]:
        """The prompts of one shard, in the order of their import."""
        size = shard_size(self.run)
        ids = self.run.ids("prompts")[shard * size : (shard + 1) * size]
        found = self.store.find_all(Prompt, ids)
        return [found[prompt_id] for prompt_id in ids]

    def n_shards(self) -> int:
        return -(-self.run.n_ids("prompts") // shard_size(self.run))

    def pairs(self, shard: int, round: int) -> tuple[list[ResponsePair], list[Reject]]:
        ids = self.run.ids(f"{at_round('candidates', round)}-{shard}")
        found = self.store.find_all(Response, ids)
        made = make_pairs(self.prompts(shard), [found[i] for i in ids], self.run.profile.candidates.pairing)
        return made.pairs, made.rejects


def shard_size(run: RunFolder) -> int:
    return SHARD if run.profile.ray is None else run.profile.ray.shard


def report_progress(progress: Progress) -> None:
    """Pass on at most one line a second; the flow shows fewer still."""
    global _latest_s
    if time.monotonic() - _latest_s >= 1.0:
        _latest_s = time.monotonic()
        mark("progress", progress._asdict())


_latest_s = 0.0
