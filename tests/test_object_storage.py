"""Tables at an s3:// address, over HTTP: what holds on a disk holds there, with writers on machines of their own."""

import asyncio
import importlib.util
import subprocess
import sys
import traceback
from pathlib import Path

import httpx
import object_store
import pytest
import storage_rows as rows
import yaml
from click.testing import CliRunner
from deltalake import DeltaTable
from pyarrow.fs import S3FileSystem

from cai.cli.tables import tables
from cai.config import load_profile
from cai.errors import ConfigError, StorageError
from cai.records import Prompt, Response, Revision, Run
from flows.runs import create_run
from flows.session import Session
from flows.steps import dispatch
from storage.place import move_to
from storage.store import Store

ROOT = Path(__file__).parents[1]
SECRET = "not-for-anybody"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("moto") is None, reason="no S3 server to test against; pip install 'cai-flows[dev]'"
)


@pytest.fixture(scope="module")
def endpoint():
    command = [sys.executable, str(ROOT / "tests" / "object_store.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        assert httpx.put(f"{url}/{object_store.BUCKET}").is_success
        yield url
        server.kill()


@pytest.fixture
def machine(endpoint, tmp_path, monkeypatch):
    """A home whose tables lie at one address with those of every other home of the test."""
    known = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    for name, value in (known | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": SECRET}).items():
        monkeypatch.setenv(name, value)

    def of(name: str) -> Path:
        move_to(tmp_path / name, f"s3://{object_store.BUCKET}/{tmp_path.name}")
        return tmp_path / name

    return of


def test_what_one_machine_commits_another_reads_queries_compacts_and_verifies(machine):
    here, there = Store(machine("here")), Store(machine("there"))
    for n in range(3):
        assert here.append([rows.prompt(n), rows.response(n)]) == {"prompts": 1, "responses": 1}
    assert there.append([rows.response(1), rows.response(7)]) == {"responses": 1}, "an id is kept once"
    assert there.query("SELECT count(*) AS n FROM prompts JOIN responses USING (prompt_id)") == [{"n": 3}]
    assert repr(there.find_all(Prompt)[rows.prompt(2).prompt_id]) == repr(rows.prompt(2))
    assert there.compact() == {"prompts": (3, 1), "responses": (4, 1)}
    assert here.append([rows.response(8)]) == {"responses": 1} and here.counts()["responses"] == 5
    assert here.vacuum() == 0 and here.verify() == there.verify() == []
    assert not (here.home / "tables").exists()


def test_a_changing_row_is_replaced_and_a_withdrawn_one_gone_for_every_machine(machine):
    here, there = Store(machine("here")), Store(machine("there"))
    for store, status in ((here, "running"), (there, "failed"), (here, "completed")):
        store.upsert([Run("r", "p", "now", "digest", "{}", status, "", "")])
    assert [run.status for run in there.read(Run)] == ["completed"]
    there.append([rows.response(1), rows.response(2)])
    here.remove(Response, [rows.response(1).response_id])
    assert list(there.find_all(Response)) == [rows.response(2).response_id]


def test_machines_that_write_the_same_rows_at_once_store_each_once(machine):
    """Nothing but the store's own "put where none is" keeps them apart: each home has locks of its own."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import storage_rows as rows\n"
        "from pathlib import Path; from storage.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "print(sum(store.append([rows.response(n)])['responses'] for n in range(5)))\n"
    )
    homes = [machine(name) for name in ("a", "b", "c")]
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for home in homes
    ]
    new = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    assert sum(new) == 5 and min(new) < 5
    store = Store(homes[0])
    assert store.verify() == [] and store.counts()["responses"] == 5 == store.version(Response)


def test_a_run_of_chains_leaves_its_rows_there_and_no_key_anywhere(machine, tmp_path):
    home = machine("home")
    principle = {"id": "kind", "title": "k", "stages": ["critique"], "critique": "Is it?", "revision": "Mend it."}
    (tmp_path / "constitution.yaml").write_text(yaml.safe_dump({"name": "small", "principles": [principle]}))
    (tmp_path / "prompts.txt").write_text("one?\ntwo?\nthree?\n")
    body = {
        "name": "small",
        "constitution": str(tmp_path / "constitution.yaml"),
        "engine": {"kind": "scripted", "model": "scripted"},
        "prompts": [{"path": str(tmp_path / "prompts.txt")}],
        "chains": {"rounds": 1},
        "sft": None,
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    run = create_run(load_profile(tmp_path / "profile.yaml"), home)

    async def steps() -> None:
        session = Session(run)
        run.finish("prompts", await dispatch(session, {"step": "prompts"}))
        await dispatch(session, {"step": "chains", "shard": 0})
        await dispatch(session, {"step": "sft_set"})

    asyncio.run(steps())
    store = Store(machine("other"))
    assert (store.counts()["revisions"], len(store.read(Revision))) == (3, 3) and (run.path / "sft.parquet").is_file()
    shown = CliRunner().invoke(tables, ["--home", str(home), "verify"])
    assert (shown.exit_code, shown.output) == (0, f"all well: {sum(store.counts().values())} rows\n")
    stored = repr([store.read(kind) for kind in (Run, Prompt, Response, Revision)]).encode()
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in text for text in (stored, *files))


def test_a_missing_file_and_a_torn_log_are_found(machine, endpoint):
    store = Store(machine("home"))
    store.append([rows.prompt(1)])
    store.append([rows.prompt(2)])
    (file, _) = DeltaTable(f"{store.root}/prompts").file_uris()
    bucket = S3FileSystem(endpoint_override=endpoint)
    bucket.delete_file(file.removeprefix("s3://"))
    assert store.verify() == [f"prompts: {file} is missing; the log says it has 1 rows"]
    with bucket.open_output_stream(f"{store.root}/prompts/_delta_log/{1:020d}.json".removeprefix("s3://")) as log:
        log.write(b"{torn")
    (problem,) = store.verify()
    assert problem.startswith("prompts: the log cannot be read"), problem


def test_an_address_is_checked_before_it_is_kept(machine, tmp_path):
    for wrong in ("s3://key:secret@bucket/x", "bucket/x", "s3://bucket/x?secret=1", "https://bucket/x"):
        with pytest.raises(ConfigError, match="expected an address") as error:
            move_to(tmp_path / "new", wrong)
        assert "secret" not in str(error.value)
    with pytest.raises(ConfigError, match="take another --home"):
        move_to(machine("home"), "s3://other/place")
    Store(tmp_path / "local").append([rows.prompt(1)])
    with pytest.raises(ConfigError, match="copy them to"):
        move_to(tmp_path / "local", "s3://other/place")


def test_a_store_that_does_not_answer_is_told_without_a_key(machine, tmp_path, monkeypatch):
    """The store's client quotes the request as it was sent, and so a password in the address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:s3cret@127.0.0.1:9")
    with pytest.raises(StorageError, match="(?s)127.0.0.1:9.*check the address, the network") as error:
        Store(machine("home")).append([rows.prompt(1)])
    said = "".join(traceback.format_exception(error.value))
    assert SECRET not in said and "s3cret" not in said
