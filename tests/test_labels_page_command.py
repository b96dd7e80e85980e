"""`cai labels page`: which pairs it finds, Ctrl-C and the same command again, and the summary."""

import fcntl
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import page_home as home
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cai.cli.labels.page import page as command
from cai.cli.labels.page import pairs_to_label
from cai.config import Profile
from cai.errors import DataError
from cai.intervals import wilson
from cai.labels.page.queue import choice_of, shown_first
from cai.labels.pseudonym import load_salt, pseudonym
from cai.records import Annotation, PreferencePair
from flows.runs import create_run
from storage import labelling
from storage.store import Store

ROOT = Path(__file__).parents[1]


# Which pairs


def test_pairs_come_from_every_table_that_knows_some_and_those_without_text_are_counted(store):
    prompt, a, b, _ = home.rows_of(20)
    liked = PreferencePair(
        "pair20", prompt.prompt_id, (), b.response_id, a.response_id, "", "", 0.9, False, 2, 1.0, 0.0
    )
    said = replace(home.rows_of(21, 0.0)[-1], is_gold=False, annotation_id="said")
    lost = home.rows_of(22)[-1]
    store.append([prompt, a, b, liked, *home.rows_of(21)[:3], said, lost])
    found = labelling.stored_pairs(store)
    assert set(found.pairs) == {home.pair_of(n) for n in (*range(5), 20, 21)}
    assert found.n_without_text == 1
    assert labelling.stored_pairs(store, [a.response_id, b.response_id]).pairs == [home.pair_of(20)]


def test_an_export_names_pairs_and_one_that_is_not_stored_is_an_error(store, tmp_path):
    prompt, a, b, _ = home.rows_of(3)
    liked = PreferencePair("pair3", prompt.prompt_id, (), b.response_id, a.response_id, "", "", 0.9, False, 2, 1.0, 0.0)
    store.append([liked])
    pq.write_table(pa.table({"pair_id": ["pair3"]}), tmp_path / "some.parquet")
    assert labelling.pairs_in_file(store, tmp_path / "some.parquet").pairs == [home.pair_of(3)]
    pq.write_table(pa.table({"pair_id": ["pair3", "other"]}), tmp_path / "some.parquet")
    with pytest.raises(DataError, match="1 of 2 pairs .* such as 'other'"):
        labelling.pairs_in_file(store, tmp_path / "some.parquet")
    pq.write_table(pa.table({"id": ["pair3"]}), tmp_path / "some.parquet")
    with pytest.raises(DataError, match="with a column pair_id"):
        labelling.pairs_in_file(store, tmp_path / "some.parquet")


def test_gold_of_another_objective_is_left_out(store):
    other = replace(home.rows_of(8, 0.0)[-1], annotation_id="other", objective="helpfulness")
    store.append([other])
    assert labelling.gold(store, "harmlessness") == {home.pair_of(8): 1.0, home.pair_of(9): 1.0}
    assert labelling.gold(store, "helpfulness")[home.pair_of(8)] == 0.5


def test_the_pairs_of_a_run_are_those_of_its_candidates_that_were_compared(store, tmp_path):
    (tmp_path / "prompts.txt").write_text("how do i bake bread?\n")
    engine, constitution = {"kind": "scripted"}, ROOT / "constitution" / "harmlessness.yaml"
    profile = Profile(
        name="tried", constitution=constitution, engine=engine, prompts=[{"path": str(tmp_path / "prompts.txt")}]
    )
    run = create_run(profile, store.home)
    for shard, n in (("candidates-0", 1), ("candidates-r1-0", 3)):
        run.save_ids(shard, home.pair_of(n)[1:])
    assert pairs_to_label(store, run.run_id, None).pairs == sorted([home.pair_of(1), home.pair_of(3)])


# The command


@pytest.fixture
def start(store):
    """The command in a process of its own, with its address; stopped by Ctrl-C."""
    started = []

    def run(*arguments):
        words = ["labels", "page", "--home", store.home, "--annotator", "Ada L.", "--no-browser", *arguments]
        code = [sys.executable, "-c", "from cai.cli import main; main()", *map(str, words)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            code,
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell without job control starts what runs in the background with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process, process.stdout.readline(), process.stdout.readline().strip()

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_beside_a_run_ctrl_c_and_the_same_command_goes_on_and_the_name_is_stored_nowhere(start, store):
    run_at_work = (store.home / ".lock").open("w")
    fcntl.flock(run_at_work, fcntl.LOCK_EX)
    process, line, url = start("--gold-share", "0")
    assert line == "0 of 5 pairs are done; Ctrl-C stops\n"
    origin = {"origin": url.rsplit("/", 2)[0]}
    assert httpx.post(f"{url}pair/1", data={"choice": "tie"}, headers=origin).status_code == 303
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    run_at_work.close()
    assert process.returncode == 130 and "Traceback" not in stderr and url.split("/")[3] not in stderr
    process, line, _ = start("--gold-share", "0", "--port", url.split(":")[2].split("/")[0])
    assert line == "1 of 5 pairs are done; Ctrl-C stops\n"
    (row,) = [row for row in store.read(Annotation) if not row.is_gold]
    assert row.annotator == pseudonym("Ada L.", load_salt(store.home))
    files = [path for path in store.home.rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if b"Ada L." in path.read_bytes()]


def test_the_summary_shows_how_each_annotator_agrees_with_gold(store, page):
    assert "nobody has labelled" in CliRunner().invoke(command, ["--home", str(store.home), "--summary"]).output
    for number, pair in enumerate(page.sitting.queue, 1):
        home.post(page, number, choice=choice_of(1.0, shown_first(pair, home.WHO)))
    lines = CliRunner().invoke(command, ["--home", str(store.home), "--summary"]).output.splitlines()
    low, high = wilson(1.0, 2)
    assert lines[-1].split() == ["55555555", "–", "7", "0", "2", "100", "%", f"{100 * low:.0f}", "%", "100", "%", "0"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--annotator", " "], "--annotator is empty"),
        (["--run", "r", "--pairs", "f"], "give one of them"),
        (["--run", "nothing"], "no run 'nothing'"),
        (["--gold-share", "1.5"], "gold-share"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(store, arguments, problem):
    done = CliRunner().invoke(command, ["--home", str(store.home), *arguments])
    assert done.exit_code and problem in f"{done.output}{done.exception}"


def test_a_home_without_pairs_says_how_to_make_some(tmp_path):
    Store(tmp_path).append(home.rows_of(1)[:1])
    done = CliRunner().invoke(command, ["--home", str(tmp_path), "--no-browser"])
    assert isinstance(done.exception, DataError) and "no pairs to label" in str(done.exception)
