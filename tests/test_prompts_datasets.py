"""Data sets that the `datasets` library reads: saved to a disk, or of the hub and in its cache. Nothing is fetched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prompt_files import command

from cai.errors import DataError
from cai.records import Prompt
from storage.hub import _advice
from storage.store import Store

ROOT = Path(__file__).parents[1]


def test_a_saved_dataset_is_read_by_the_library_and_a_split_must_be_named(tmp_path):
    import datasets

    rows = datasets.Dataset.from_dict({"prompt": ["a", "b", "a", None], "licence": ["MIT"] * 4, "other": [1, 2, 3, 4]})
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "two")
    said = command(tmp_path / "home", tmp_path / "one")
    assert said["n_prompts"] == 2 and said["rejects"] == {"duplicate_prompt": 1, "no_prompt": 1}
    assert {(p.source, p.licence) for p in Store(tmp_path / "home").read(Prompt)} == {("one", "MIT")}
    assert command(tmp_path / "home", tmp_path / "two" / "test", "--limit", 2)["n_rows"] == 2
    with pytest.raises(DataError, match="has the splits train, test; name one of them, such as .*two/train"):
        command(tmp_path / "home", tmp_path / "two")
    with pytest.raises(DataError, match="no column 'question'.*`column`|correct|only"):
        command(tmp_path / "home", tmp_path / "one", "--column", "question")


CACHED = """
import pathlib, shutil, sys
import datasets
from cai.cli import main

home, kept = map(pathlib.Path, sys.argv[1:])
made = pathlib.Path(datasets.load_dataset_builder(str(home / "rows")).cache_dir)
datasets.load_dataset(str(home / "rows"))  # its files are Parquet: converted, and mapped from the cache
place = pathlib.Path(datasets.config.HF_DATASETS_CACHE, "owner___name", "default", "0.0.0", "a" * 40)
place.mkdir(parents=True)
for file in made.iterdir():  # as a dataset of the hub lies there
    shutil.copy(file, place / file.name.replace("rows-", "name-"))
for name in ("hf:owner/name@train", "hf:owner/name", "hf:owner/other@train", "hf:text@train", "hf:owner/name@dev"):
    sys.argv = ["cai", "prompts", "import", name, "--column", "ask", "--format", "json", "--home", str(kept)]
    try:
        main()
    except SystemExit as done:
        print("exit", done.code, file=sys.stderr)
"""


def test_a_dataset_of_the_hub_is_read_from_the_cache_and_one_that_is_not_there_says_what_to_do(tmp_path):
    """Offline, in a process of its own: the library reads its settings when it is imported."""
    for split, n in (("train", 4), ("test", 1)):
        path = tmp_path / "rows" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        rows = {"ask": [f"how do i {i % 3}?" for i in range(n)], "licence": ["MIT"] * n, "other": [0] * n}
        pq.write_table(pa.table(rows), path)
    done = subprocess.run(
        [sys.executable, "-c", CACHED, str(tmp_path), str(tmp_path / "home")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout)
    assert (said["n_rows"], said["n_prompts"], said["rejects"]) == (4, 3, {"duplicate_prompt": 1}), done.stderr
    stored = Store(tmp_path / "home").read(Prompt)
    assert {(p.source, p.licence) for p in stored} == {("hf:owner/name@train", "MIT")}
    assert done.stderr.count("exit 1") == 4 and "Traceback" not in done.stderr
    for expected in (
        "hf:owner/name has the splits train, test; name one of them, such as hf:owner/name@train",
        "HF_HUB_OFFLINE is set and the cache (HF_HOME) does not have it",
        "hf:text@train names no owner; expected hf:OWNER/NAME[:CONFIG][@SPLIT]",
        'Unknown split "dev"',
    ):
        assert expected in done.stderr, done.stderr


def test_a_dataset_that_cannot_be_built_is_an_error_that_says_why(tmp_path, monkeypatch):
    """Its files have different columns: the library says so in an error of its own, which came through as it was."""
    import datasets

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"prompt": "a"}\n')
    (folder / "b.jsonl").write_text('{"question": {"b": 1}}\n')
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match="(?s)hf:owner/name is no dataset that can be read: .*cast.*do not go together"):
        command(tmp_path / "home", "hf:owner/name")


def test_a_gated_dataset_says_how_to_be_let_in():
    from datasets.exceptions import DatasetNotFoundError

    error = DatasetNotFoundError("Dataset 'o/n' is a gated dataset on the Hub. You must be authenticated to access it.")
    assert "hf auth login" in _advice(error) and "hf auth login" not in _advice(FileNotFoundError("no data files"))
