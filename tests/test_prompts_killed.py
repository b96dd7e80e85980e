"""A campaign that is killed between the commits of two tables, and started again, ends as one that nobody killed."""

import random

import pytest

from cai.ledger import MemoryLedger
from cai.records import Attempt, Prompt, Rating, Reject, Response
from storage.ledger import TableLedger
from storage.schemas import TABLES
from storage.store import Store
from tests.test_prompts_generate import Campaign, one

KINDS = tuple(table.kind for table in TABLES.values() if table.kind in (Prompt, Response, Rating, Attempt, Reject))
"""In the order in which one batch is committed."""
FEW = [f"word{i}" for i in range(5)]
SETTINGS = {
    "quota": 4, "rounds": 2, "dialogues": 0.0, "shots": 2, "temperatures": (1.0, 1.3), "novelty": 0.2, "least_new": 0,
    "per_find": 3, "portions": 2, "is_checked": True,
}  # fmt: skip


def some_few(messages, sampling, seed) -> str:
    """A reply that is often like another one, and now and then none."""
    rng = random.Random(seed)
    return rng.choice(["", *[" ".join(rng.choices(FEW, k=rng.randrange(4, 7)))] * 9])


def judged(messages, options):
    """By the text asked about: half of the prompts are off task, and half of the responses are harmful."""
    n = random.Random(messages[-1].content).randrange(6)
    if len(options) == 3:
        return (0.9, 0.05, 0.05) if n < 3 else (0.1, 0.1, 0.8)
    return (0.0, 0.0, 0.1, 0.1, 0.8) if n < 3 else (0.9, 0.05, 0.05, 0.0, 0.0)


def campaign(ledger, stored=()) -> None:
    known = [one("what about word1 and the word2 of it", tags=("theft",), kind="harmful"), *stored]
    Campaign(some_few, choices=judged, ledger=ledger, known=known, **SETTINGS).run()


class Ordered(MemoryLedger):
    """Knows in which order rows came, and after how many of them it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.order, self.flushed = [], []

    def add(self, row) -> None:
        n = len(self.rows(type(row)))
        super().add(row)
        self.order += [row] * (len(self.rows(type(row))) - n)

    def flush(self) -> None:
        self.flushed.append(len(self.order))


def test_a_kill_between_two_tables_of_any_batch_changes_nothing():
    """Once a prompt could be stored whose campaign had dropped another draft before it, and not that it had: that
    draft was then compared with the prompt, was `not_novel`, and no longer held, so that other requests were asked.
    """
    whole = Ordered()
    campaign(whole)
    expected = {kind: set(whole.rows(kind)) for kind in KINDS}
    assert {"off_task", "not_novel", "empty_response"} <= {row.reason for row in whole.rows(Reject)}
    rng = random.Random(0)
    for _ in range(60):
        begin = rng.randrange(len(whole.order))
        end = min([begin + rng.randrange(1, 60), *(n for n in whole.flushed if n > begin)])
        committed = KINDS[: rng.randrange(1, len(KINDS))]
        rows = whole.order[:begin] + [row for row in whole.order[begin:end] if type(row) in committed]
        ledger = MemoryLedger()
        for row in rows:
            ledger.add(row)
        campaign(ledger, ledger.rows(Prompt))
        assert {kind: set(ledger.rows(kind)) for kind in KINDS} == expected, (begin, end, committed)


class Dies(Store):
    """Is killed before it commits to a table, as soon as there is something for it."""

    def __init__(self, home, before: str) -> None:
        super().__init__(home)
        self._before = before

    def _append(self, table, *rest):
        if table.name == self._before:
            raise KeyboardInterrupt(self._before)
        return super()._append(table, *rest)


def start(store) -> None:
    stored = store.read(Prompt)
    with TableLedger(store, None, (Response, Rating, Reject), commit_every_s=3600) as ledger:
        campaign(ledger, stored)


def tables(home):
    store = Store(home)
    return {kind: set(store.read(kind)) for kind in KINDS}


def test_a_kill_before_any_table_in_turn_changes_nothing_that_is_stored(tmp_path):
    start(Store(tmp_path / "whole"))
    expected = tables(tmp_path / "whole")
    for name in (table.name for table in TABLES.values() if table.kind in KINDS):
        with pytest.raises(KeyboardInterrupt, match=name):
            start(Dies(tmp_path / name, name))
        assert tables(tmp_path / name) != expected
        start(Store(tmp_path / name))
        assert tables(tmp_path / name) == expected, f"killed before {name}"
