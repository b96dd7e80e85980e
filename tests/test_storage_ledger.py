"""The ledger: `add` never waits, what is flushed survives, and nothing is doubled, torn or swallowed."""

import asyncio
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import storage_rows as rows

from cai.errors import StorageError
from cai.records import Comparison, Evaluation, Ledger, Prompt, Reject, Response, Revision
from storage.ledger import TableLedger
from storage.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def wait_until(true, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_rows_are_found_at_once_and_stored_at_the_end(store):
    ledger: Ledger
    with TableLedger(store, []) as ledger:
        ledger.add(rows.response(1))
        assert ledger.find(Response, rows.response(1).response_id) is not None
        assert ledger.find(Response, rows.response(2).response_id) is None
        assert ledger.find(Revision, rows.response(1).response_id) is None
    assert store.read(Response) == [rows.response(1)]
    assert ledger.n_added == {"responses": 1} and ledger.n_found == {}


def test_only_rows_of_the_named_prompts_are_found(store):
    store.append([rows.response(n) for n in range(3)])
    with TableLedger(store, [rows.prompt(1).prompt_id]) as ledger:
        found = [n for n in range(3) if ledger.find(Response, rows.response(n).response_id)]
        assert found == [1]
        assert ledger.find(Response, rows.response(1).response_id) == rows.response(1)
    assert ledger.n_found == {"responses": 1}, "found twice, counted once"
    with TableLedger(store, None) as ledger:
        assert all(ledger.find(Response, rows.response(n).response_id) for n in range(3))


def test_of_labels_only_those_of_the_named_responses_are_read(store):
    """All that was ever said of a prompt was held in memory, more with every run of the home."""
    mine, other = rows.comparison(1), replace(rows.comparison(2), prompt_id=rows.prompt(1).prompt_id)
    refused = [
        Reject.make(
            "comparison", "prompt_too_long", prompt_id=row.prompt_id, parents=(row.comparison_id, *pair, "here")
        )
        for row in (mine, other)
        for pair in [(row.response_a, row.response_b)]
    ]
    store.append([mine, other, *refused, rows.reject(1)])
    with TableLedger(store, (), (Comparison, Reject), response_ids=[mine.response_a, mine.response_b]) as ledger:
        assert ledger.find(Comparison, mine.comparison_id) == mine
        assert ledger.find(Reject, refused[0].reject_id) == refused[0]
        assert ledger.find(Comparison, other.comparison_id) is None
        assert ledger.find(Reject, refused[1].reject_id) is ledger.find(Reject, rows.reject(1).reject_id) is None
    with TableLedger(store, (), (Comparison,), response_ids=[]) as ledger:
        assert ledger.find(Comparison, mine.comparison_id) is None


def test_a_row_added_twice_or_stored_before_is_one_row(store):
    store.append([rows.response(0)])
    with TableLedger(store, []) as ledger:
        for n in (0, 1, 1):
            ledger.add(rows.response(n))
        ledger.flush()
        ledger.add(rows.response(1))
    assert store.counts()["responses"] == 2 and store.verify() == []


def test_rows_are_durable_within_the_interval_without_asking(store):
    with TableLedger(store, [], commit_every_s=0.05) as ledger:
        ledger.add(rows.prompt(1))
        wait_until(lambda: Store(store.home).counts()["prompts"] == 1)
        assert Store(store.home).read(Prompt) == [rows.prompt(1)], "while the ledger is still open"


def test_flush_returns_when_every_row_is_stored(store):
    with TableLedger(store, [], commit_every_s=3600) as ledger:
        for n in range(50):
            ledger.add(rows.prompt(n))
        ledger.flush()
        assert Store(store.home).counts()["prompts"] == 50
        ledger.flush()


def test_add_never_waits_for_the_disk(store):
    """While another process holds the table's lock, the event loop goes on and no add takes long."""
    store.append([rows.response(0)])
    hold = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    lock = store.root / ".locks" / "responses.lock"
    holder = subprocess.Popen([sys.executable, "-c", hold, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"

    async def work(ledger: TableLedger) -> float:
        longest = 0.0
        for n in range(1, 60):
            started = time.perf_counter()
            ledger.add(rows.response(n))
            longest = max(longest, time.perf_counter() - started)
            await asyncio.sleep(0.005)
        return longest

    with TableLedger(store, [], commit_every_s=0.01) as ledger:
        assert asyncio.run(work(ledger)) < 0.1
        assert Store(store.home).counts()["responses"] == 1, "the holder still has the lock"
        holder.communicate()
    assert store.counts()["responses"] == 60


def test_a_closed_ledger_and_an_unknown_kind_are_refused(store):
    with TableLedger(store, [], kinds=[Response]) as ledger:
        with pytest.raises(KeyError):
            ledger.find(Evaluation, "e1")
        ledger.add(rows.prompt(1))
    with pytest.raises(RuntimeError, match="with TableLedger"):
        ledger.add(rows.prompt(2))
    ledger.close()
    assert store.counts()["prompts"] == 1, "a kind that is not looked up is stored all the same"


def test_rows_added_before_a_failure_are_stored(store):
    with pytest.raises(ZeroDivisionError), TableLedger(store, [], commit_every_s=3600) as ledger:
        ledger.add(rows.prompt(1))
        raise ZeroDivisionError
    assert store.counts()["prompts"] == 1


def test_an_error_of_the_thread_is_raised_by_the_next_add_flush_and_close(store):
    ledger = TableLedger(store, [], commit_every_s=0.01)
    with pytest.raises(StorageError), ledger:
        (store.root / "prompts").parent.mkdir(parents=True)
        (store.root / "prompts").write_text("in the way")
        ledger.add(rows.prompt(1))
        with pytest.raises(StorageError, match="prompts"):
            ledger.flush()
        with pytest.raises(StorageError, match="prompts"):
            ledger.add(rows.prompt(2))
    with pytest.raises(StorageError, match="prompts"):
        ledger.close()


def kill_at(home: Path, n_chains: int, n_lines: int, after_s: float) -> int:
    """Run the writer, kill it `after_s` after its line `n_lines`; returns how many chains it had called durable."""
    command = [sys.executable, str(Path(rows.__file__)), str(home), str(n_chains)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    said = [child.stdout.readline() for _ in range(n_lines)]
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    said += child.stdout.read().splitlines()
    assert child.wait() == -signal.SIGKILL, "it was done before the kill"
    return int(said[-1].split()[1]) if said else 0


def check_stored(store: Store, n_durable: int) -> None:
    assert store.verify() == []
    responses, revisions = store.find_all(Response), store.find_all(Revision)
    prompts, rejects = store.find_all(Prompt), store.find_all(Reject)
    for n in range(n_durable):
        wanted = rows.chain(n)
        assert wanted[0].prompt_id in prompts and wanted[4].reject_id in rejects
        assert responses[wanted[1].response_id] == wanted[1]
        assert revisions[wanted[3].revision_id] == wanted[3]
    assert all(r.parent_id in responses or r.parent_id in revisions for r in revisions.values()), "a child came first"


def test_a_kill_at_any_moment_loses_nothing_durable_doubles_nothing_and_tears_nothing(tmp_path):
    """10 kills at random moments of appends and compactions over one growing home; then the rest: the same set."""
    home, draw, n_chains = tmp_path / "home", random.Random(20), 200
    for k in range(10):  # each starts on what the one before left, and dies among some 15 chains that are new to it
        n_durable = kill_at(home, n_chains, 3 * k + draw.randrange(3), draw.uniform(0.0, 0.04))
        check_stored(Store(home), n_durable)
    subprocess.run(
        [sys.executable, str(Path(rows.__file__)), str(home), str(n_chains)], check=True, capture_output=True
    )
    whole = Store(tmp_path / "whole")
    with TableLedger(whole, []) as ledger:
        for n in range(n_chains):
            for row in rows.chain(n):
                ledger.add(row)
    for kind in (Prompt, Response, Revision, Reject):
        assert Store(home).read(kind) == whole.read(kind)
    check_stored(Store(home), n_chains)


FULL_DISK = """
import sys
from pathlib import Path
import storage_rows as rows
from cai.errors import StorageError
from dataclasses import replace
from storage.ledger import TableLedger
from storage.store import Store
import random

store, noise = Store(Path(sys.argv[1])), random.Random(0)
try:
    with TableLedger(store, [], commit_every_s=0.01) as ledger:
        for n in range(200):
            ledger.add(replace(rows.response(n), text=noise.randbytes(20_000).hex()))
            if n % 10 == 9:
                ledger.flush()
                print("durable", n + 1, flush=True)
except StorageError as error:
    print("StorageError", error)
    print("problems", store.verify(), Store(store.home).counts()["responses"])
"""


def assert_a_clear_error_and_durable_rows(out: str, home: Path) -> None:
    durable = [int(line.split()[1]) for line in out.splitlines() if line.startswith("durable")]
    assert durable and durable[-1] < 200, out
    assert f"StorageError no space to write {home}" in out and "MiB free" in out and "--home on a larger disk" in out
    assert f"problems [] {durable[-1]}" in out, "what was durable is there and whole"


def test_a_file_that_may_not_grow_is_a_storage_error(tmp_path):
    """A limit on file size stands in for the full disk where no file system may be mounted."""
    home = tmp_path / "home"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))

    script = FULL_DISK.replace("noise.randbytes(20_000)", "noise.randbytes(20_000 if n >= 30 else 100)")
    done = subprocess.run(
        [sys.executable, "-c", script, home], preexec_fn=limit, capture_output=True, text=True, env=_environment()
    )
    assert_a_clear_error_and_durable_rows(done.stdout + done.stderr, home)


def test_a_full_disk_is_a_storage_error_and_what_was_durable_stays(tmp_path):
    """A real full file system: 2 MiB in memory, in a mount namespace of the child's own."""
    unshare, home = shutil.which("unshare"), tmp_path / "home"
    home.mkdir()
    mount = [str(unshare), "--mount", "--map-root-user", "sh", "-c", 'mount -t tmpfs -o size=2m none "$0" && exec "$@"']
    if unshare is None or subprocess.run([*mount, home, "true"], capture_output=True).returncode:
        pytest.skip("needs `unshare` and the right to mount a tmpfs")
    command = [*mount, home, sys.executable, "-c", FULL_DISK, home]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment())
    assert_a_clear_error_and_durable_rows(done.stdout + done.stderr, home)


def _environment() -> dict[str, str]:
    here = Path(rows.__file__).parent
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])}
