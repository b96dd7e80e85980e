"""A run's first step: killed anywhere, it goes on, and ends with the ids, counts and rows of one that was not."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from scripted_run import changed, serve, write_profile

from cai.config import load_profile
from cai.errors import DataError
from cai.records import Message, Prompt, Reject
from flows.import_step import import_prompts
from flows.runs import RunFolder, create_run, open_run
from flows.session import Session
from storage.seen import IdsOnDisk
from storage.store import Store

ROOT = Path(__file__).parents[1]
BATCH = {"step": "prompts", "batch_rows": 40}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(Store):
    """Kills its own process, for good and at once."""

    moment, n_batches = "", 0

    def append(self, rows, *, index=True):
        self.n_batches += any(isinstance(row, Prompt) for row in rows)
        if self.moment == "before the second batch" and self.n_batches == 2:
            die()
        if self.moment == "between the tables of the first":
            super().append([row for row in rows if isinstance(row, Prompt)], index=index)
            die()
        if self.moment == "at near duplicates" and any(
            isinstance(row, Reject) and row.reason == "near_duplicate" for row in rows
        ):
            die()
        return super().append(rows, index=index)


class DyingRun(RunFolder):
    moment = ""

    def save_ids(self, name, ids):
        super().save_ids(name, ids)
        if self.moment == "when ids are saved":
            die()


class DyingPipe:
    """Where the step says how far it is: after a batch was committed, and before it is noted."""

    n = 0

    def write(self, line: str) -> None:
        os.write(1, line.encode())
        self.n += line.startswith("progress")
        if self.n == 2:
            die()

    def flush(self) -> None: ...


MOMENTS = (
    "before the second batch",
    "between the tables of the first",
    "before the second is noted",
    "at near duplicates",
    "when ids are saved",
)
KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_run_import as tests
tests.killed(tests.Path(sys.argv[2]), sys.argv[3])
"""


def killed(home: Path, run_id: str) -> None:
    """A process for each moment, one after the other; each goes on where the one before was killed. They are forked
    from this one, which has done nothing yet, because the libraries take longer to import than the prompts.
    """
    for moment in MOMENTS:
        if (child := os.fork()) == 0:
            run = open_run(home, run_id)
            dying = DyingRun(**{field.name: getattr(run, field.name) for field in fields(run)})
            session = Session(dying)
            session.store = DyingStore(home)
            object.__setattr__(dying, "moment", moment)
            session.store.moment = moment
            if moment == "before the second is noted":
                sys.stdout = DyingPipe()
            import_prompts(session, batch_rows=40)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"ended {status}\n".encode())


def said(output: str) -> list[list[int]]:
    """For each process what it said it had done, batch by batch."""
    parts: list[list[int]] = [[]]
    for line in output.splitlines():
        if line.startswith("progress"):
            parts[-1].append(json.loads(line.removeprefix("progress "))["n_done"])
        else:
            assert line == f"ended {-signal.SIGKILL}"
            parts.append([])
    return parts


def everything(home: Path) -> list[list[dict]]:
    tables = {"prompts": "prompt_id", "rejects": "reject_id", "contaminations": "contamination_id"}
    return [Store(home).query(f"SELECT * FROM {name} ORDER BY {key}") for name, key in tables.items()]


@pytest.fixture
def profile(tmp_path) -> Path:
    """Two files, seven batches: doubles within a batch, across batches and files, in other case too; rows that are bad,
    personal or held out.
    """

    def row(n: int) -> dict:
        text = f"question number {n % 130}?{' Mail me@acme.org!' if n % 10 == 0 else ''}"
        return {"prompt": text.upper() if n % 9 == 4 else text, "kind": "harmful" if n % 2 else "helpful"}

    held = {"prompt": "HOW do I do thing number 41?"}
    for name, rows in (("a", [*map(row, range(150)), {"prompt": ""}, held]), ("b", [*map(row, range(100, 200))])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return changed(write_profile(tmp_path), prompts=[{"path": str(tmp_path / f"{name}.jsonl")} for name in "ab"])


def test_killed_anywhere_a_runs_import_goes_on_and_ends_as_if_nobody_had(tmp_path, profile, capsys):
    whole = serve(create_run(load_profile(profile), tmp_path / "whole"), BATCH)
    (batches,) = said(capsys.readouterr().out)
    result = whole.result("prompts")
    assert len(batches) == 7 and result["personal"]["rows"] == {"redact": 25}
    reasons = {row["reason"] for row in everything(tmp_path / "whole")[1]}
    assert reasons == {"duplicate_prompt", "near_duplicate", "empty_prompt", "near_evaluation"}
    run = create_run(load_profile(profile), tmp_path / "killed")
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(run.home), run.run_id]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert said(done.stdout) == [batches[:1], [], batches[1:3], batches[2:], [], []], done.stderr
    serve(run, BATCH)
    assert said(capsys.readouterr().out) == [[]], "what was left to do needed no batch"
    assert run.result("prompts") == result
    for name in ("prompts", "rejected-prompts"):
        assert run.ids(name) == whole.ids(name)
    assert everything(run.home) == everything(whole.home)
    assert not (run.path / "import").exists(), "nothing is left of how far it was"


def test_an_import_of_nothing_usable_begins_anew(tmp_path, profile):
    """What was held out may be free by then."""
    (tmp_path / "a.jsonl").write_text('{"prompt": ""}\n')
    run = create_run(load_profile(changed(profile, prompts=[{"path": str(tmp_path / "a.jsonl")}])), tmp_path / "home")
    with pytest.raises(DataError, match="none of the 1 rows"):
        import_prompts(Session(run))
    assert not (run.path / "import").exists() and not (run.path / "ids").exists()


def test_an_import_does_not_go_on_in_a_file_that_changed(tmp_path, profile):
    """It went on at the row where it was, in the other file, and left out all before."""
    run = create_run(load_profile(profile), tmp_path / "home")
    session, before = Session(run), (tmp_path / "b.jsonl").read_text()

    class Stopped(Store):
        def append(self, rows, *, index=True):
            if self.counts()["prompts"] >= 80:
                raise KeyboardInterrupt
            return super().append(rows, index=index)

    session.store = Stopped(run.home)
    with pytest.raises(KeyboardInterrupt):
        import_prompts(session, batch_rows=40)
    (tmp_path / "b.jsonl").write_text('{"prompt": "another?"}\n')
    with pytest.raises(DataError, match=rf"b\.jsonl is not what it was when run {run.run_id} began; put it back"):
        import_prompts(Session(open_run(run.home, run.run_id)), batch_rows=40)
    (tmp_path / "b.jsonl").write_text(before)
    assert import_prompts(Session(open_run(run.home, run.run_id)), batch_rows=40)["n_in"] == 252


def test_prompts_that_the_home_has_count_as_what_the_home_has_them_for(tmp_path, profile):
    """Also those that go as near duplicates."""
    whole = serve(create_run(load_profile(profile), tmp_path / "whole"), BATCH).result("prompts")["kinds"]
    home = Store(tmp_path / "known")
    rows = [json.loads(line)["prompt"] for line in (tmp_path / "a.jsonl").read_text().splitlines()[:150]]
    home.append([Prompt.make([Message("user", text)], "before", kind="borderline") for text in dict.fromkeys(rows)])
    kinds = serve(create_run(load_profile(profile), tmp_path / "known"), BATCH).result("prompts")["kinds"]
    assert min(kinds.values()) >= 0 and kinds["borderline"] > kinds["harmful"]
    assert sum(kinds.values()) == sum(whole.values()) and set(whole) == {"harmful", "helpful"}


def test_ids_on_disk_come_back_in_their_order(tmp_path):
    ids = [f"{n:032x}" for n in (5, 3, 9, 3)]
    kept = IdsOnDisk(tmp_path / "ids")
    kept.add(ids[:3])
    kept.add(ids[3:])
    assert list(kept) == ids and list(kept.groups(3)) == [ids[:3], ids[3:]]
    kept.close()
    cut = IdsOnDisk(tmp_path / "ids", n=2)
    cut.add(ids[3:])
    assert list(cut) == [*ids[:2], ids[3]]
    cut.close()
