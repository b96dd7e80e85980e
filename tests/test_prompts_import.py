"""Prompts into a home: from every source, once, with licence and origin; killed anywhere, as if nobody had."""

import gc
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cai.cli import door
from cai.config import EvaluationSource, PrivacyConfig, PromptSource
from cai.errors import ConfigError, DataError
from cai.held_out import HeldOutGuard
from cai.privacy import Guard
from cai.records import Message, Prompt, Reject, digest
from cai.splits import split_error, split_of
from flows.importing import Import, import_folder, run_import
from storage.evaluation_sets import read_sets
from storage.hub import _advice
from storage.import_report import MAX_TAGS, OTHER_TAGS, ImportReport
from storage.imports import read_sources
from storage.seen import SeenIds
from storage.store import Store

ROOT = Path(__file__).parents[1]


def command(home: Path, *arguments: object) -> dict:
    """What `cai prompts import … --format json` says."""
    words = ["prompts", "import", *map(str, arguments), "--home", str(home), "--format", "json"]
    done = CliRunner().invoke(door, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asking(text: str) -> Prompt:
    return Prompt.make([Message("user", text)], "test")


def rejected(home: Path) -> Counter:
    return Counter(row.reason for row in Store(home).read(Reject))


NAMES = {"user": "Human", "assistant": "Assistant"}


def as_stored(dialogue: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """A dialogue without the personal items in it."""
    roles = {name: role for role, name in NAMES.items()}
    prompt = Prompt.make([Message(roles[who], text) for who, text in dialogue], "")
    return tuple((NAMES[m.role], m.content) for m in Guard().prompt(prompt).prompt.messages)


# The real transcripts; every count is worked out here, by other means


def test_every_turn_of_every_dialogue_is_kept_and_the_report_says_so(tmp_path, shared_data):
    path = shared_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    kept: dict[tuple, int] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line)["chosen"] for line in file]
    for text in rows:
        turns = re.findall(r"\n\n(Human|Assistant):(.*?)(?=\n\n(?:Human|Assistant):|\Z)", text, re.S)
        while turns[-1][0] == "Assistant":
            turns.pop()
        merged: list[tuple[str, str]] = []
        for who, said in turns:
            if merged and merged[-1][0] == who:
                before = merged.pop()[1]
                merged.append((who, "\n\n".join(filter(None, [before, said.strip()]))))
            else:
                merged.append((who, said.strip()))
        dialogue = as_stored(merged)
        kept[dialogue] = kept.get(dialogue, 0) + 1
    said = command(tmp_path, path, "--licence", "MIT", "--origin", "anthropics/hh-rlhf", "--kind", "harmful")
    stored = Store(tmp_path).read(Prompt)
    assert {tuple((NAMES[m.role], m.content) for m in prompt.messages) for prompt in stored} == set(kept)
    assert any("[PHONE_1]" in text for dialogue in kept for _, text in dialogue) and said["personal"]["phone"]
    assert (said["n_rows"], said["n_prompts"], said["n_stored"]) == (2312, len(kept), len(kept))
    assert said["rejects"] == {"duplicate_prompt": 2312 - len(kept)} == dict(rejected(tmp_path))
    turns = Counter(sum(who == "Human" for who, _ in dialogue) for dialogue in kept)
    assert said["turns"] == {str(n): count for n, count in turns.items()}
    assert {(p.licence, p.origin, p.kind) for p in stored} == {("MIT", "anthropics/hh-rlhf", "harmful")}
    again = command(tmp_path, path)
    assert (again["n_stored_before"], again["n_stored"]) == (len(kept), len(kept)), "done twice, it changes nothing"
    assert Store(tmp_path).read(Prompt) == stored


# Killed

KILLED = """
import sys
sys.path.insert(0, sys.argv[4])
import test_prompts_import as tests
tests.imported_batches(sys.argv[1], tests.Path(sys.argv[2]), sys.argv[3])
"""


class Dying(Store):
    """Kills its own process, for good and at once, in the second batch."""

    moment, n = "never", 0

    def append(self, rows, *, index=True):
        self.n += 1
        if self.n == 3 and self.moment == "between tables":
            super().append([row for row in rows if isinstance(row, Prompt)], index=index)
        if self.n == 3 and self.moment in ("before", "between tables"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().append(rows, index=index)


def imported_batches(files: str, home: Path, moment: str = "never") -> tuple[dict, int]:
    """The report of an import, and the batches that this process committed."""
    store, batches = Dying(home), []
    store.moment = moment

    def take(batch):
        batches.append(batch)
        if len(batches) == 2 and moment == "before it is noted":
            os.kill(os.getpid(), signal.SIGKILL)

    sources = [PromptSource(path=path, tags=("t",)) for path in files.split(",")]
    guard = HeldOutGuard([asking("what is held out, number 7?")])
    folder = import_folder(home, sources, "train", 0)
    report = run_import(store, Import(sources, guard, folder=folder, batch_rows=40), take)
    return report.to_json(), len(batches)


def killed(files: str, home: Path, moment: str) -> int:
    """The exit status of a process that imports and dies at that moment."""
    command = [sys.executable, "-c", KILLED, files, str(home), moment, str(Path(__file__).parent)]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True).returncode


def everything(home: Path) -> list[list[dict]]:
    """The rows of the tables that an import writes."""
    tables = {"prompts": "prompt_id", "rejects": "reject_id", "contaminations": "contamination_id"}
    return [Store(home).query(f"SELECT * FROM {name} ORDER BY {key}") for name, key in tables.items()]


def test_killed_anywhere_the_same_import_ends_with_the_tables_and_report_of_one_that_was_not(tmp_path):
    """Doubles within a batch, across batches and across files; bad rows; prompts that are held out."""

    def question(n: int) -> str:
        return f"question number {n}?{f' Mail q{n}@acme.org!' if n % 10 == 0 else ''}"

    texts = [question(n % 130) for n in range(150)] + ["", "What is held out: number 7?"]
    one = jsonl(tmp_path / "one.jsonl", *({"prompt": text, "expected": "x"} for text in texts))
    two = jsonl(tmp_path / "two.jsonl", *({"prompt": question(n)} for n in range(100, 200)))
    files = f"{one},{two}"
    report, n_batches = imported_batches(files, tmp_path / "whole")
    expected = everything(tmp_path / "whole")
    assert n_batches == 7
    assert report["personal"] == {"email": {"redact": 25}, "rows": {"redact": 25}} and "@" not in str(expected)
    assert [len(rows) for rows in expected] == [200, 20 + 1 + 1 + 30, 1]
    for moment in ("before", "between tables", "before it is noted"):
        home = tmp_path / moment
        assert killed(files, home, moment) == -signal.SIGKILL
        assert len(everything(home)[0]) == (40 if moment == "before" else 80), "it was killed in its second batch"
        assert imported_batches(files, home) == (report, 6), "it went on after the first, and counted all"
        assert everything(home) == expected, moment
        assert not list((home / "imports").glob("*/")), "nothing is left of how far it was"


def test_an_import_goes_on_only_with_the_same_files_and_settings(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a"})
    source = PromptSource(path=str(path))
    first = import_folder(tmp_path, [source], "train", 0)
    assert import_folder(tmp_path, [source], "train", 0) == first
    others = [import_folder(tmp_path, [source], "eval", 0)]
    others.append(import_folder(tmp_path, [source.model_copy(update={"licence": "MIT"})], "train", 0))
    others.append(import_folder(tmp_path, [source], "train", 0, PrivacyConfig(email="keep")))
    jsonl(path, {"prompt": "b"})
    others.append(import_folder(tmp_path, [source], "train", 0))
    assert len({first, *others}) == 5


def test_memory_does_not_grow_with_the_rows(tmp_path):
    def peak(n: int) -> int:
        path = jsonl(tmp_path / f"{n}.jsonl", *({"prompt": f"{i} {'word ' * 40}"} for i in range(n)))
        wish = Import([PromptSource(path=str(path))], HeldOutGuard([]), batch_rows=500)
        tracemalloc.start()
        try:
            assert run_import(Store(tmp_path / f"home {n}"), wish).n_prompts == n
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(500)  # imports modules
    assert peak(4_000) < 1.15 * peak(1_000)


def test_ids_on_disk_are_found_like_ids_of_a_set(tmp_path):
    ids = [digest("id", n) for n in range(3_000)]
    seen = SeenIds(tmp_path / "seen")
    assert seen.find(ids) == set()
    seen.add(ids[:1_000])
    seen.add(ids[1_000:2_000])
    assert seen.find(ids[500:2_500]) == set(ids[500:2_000]) and seen.find([]) == set()
    seen.close()
    cut = SeenIds(tmp_path / "seen", n=600)
    assert cut.find(ids) == set(ids[:600]), "what was written after the last note does not count"
    cut.close()


# What a row says, and who may say it


def test_licence_origin_and_kind_are_the_sources_or_the_rows_own(tmp_path):
    own = {"licence": "CC0", "origin": "a survey", "kind": "helpful", "tags": ["x"]}
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", **own}, {"prompt": "b"}, {"prompt": "c", "kind": "odd"})
    command(tmp_path / "own", path, "--tags", "y, z")
    a, b = sorted(Store(tmp_path / "own").read(Prompt), key=lambda p: p.messages[0].content)
    assert (a.licence, a.origin, a.kind, a.tags) == ("CC0", "a survey", "helpful", ("y", "z", "x"))
    assert (b.licence, b.origin, b.kind, b.tags, b.source) == ("", "", "", ("y", "z"), "p.jsonl")
    assert rejected(tmp_path / "own") == {"unknown_kind": 1}
    command(tmp_path / "stated", path, "--licence", "MIT", "--origin", "us", "--kind", "borderline")
    found = {(p.licence, p.origin, p.kind) for p in Store(tmp_path / "stated").read(Prompt)}
    assert found == {("MIT", "us", "borderline")} and not rejected(tmp_path / "stated")


def test_empty_overlong_and_unfinished_dialogues_are_rejects_with_reasons(tmp_path):
    dialogue = [{"role": "user", "content": "x" * 60}, {"role": "assistant", "content": "y" * 60}]
    path = jsonl(
        tmp_path / "p.jsonl",
        {"messages": [*dialogue, {"role": "user", "content": "z"}]},
        {"messages": dialogue[1:]},
        {"messages": [*dialogue, {"role": "system", "content": "stop"}]},
        {"prompt": " "},
        {"prompt": "x" * 100},
    )
    said = command(tmp_path / "home", path, "--max-chars", 100)
    assert said["rejects"] == {"too_long": 1, "no_user_turn": 2, "empty_prompt": 1}
    assert said["n_prompts"] == 1 and said["turns"] == {"1": 1}


def test_production_logs_as_monitoring_reads_them_are_prompts_without_their_responses(tmp_path):
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    path = jsonl(
        tmp_path / "log.jsonl",
        {"prompt": "one?", "response": "1", "tags": ["live"]},
        {"messages": [*turns, {"role": "user", "content": "two?"}], "response": "2"},
    )
    command(tmp_path / "home", path, "--origin", "production")
    found = {len(p.messages): (p.messages[-1].content, p.tags, p.origin) for p in Store(tmp_path / "home").read(Prompt)}
    assert found == {1: ("one?", ("live",), "production"), 3: ("two?", (), "production")}


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


def test_a_gated_dataset_says_how_to_be_let_in():
    from datasets.exceptions import DatasetNotFoundError

    error = DatasetNotFoundError("Dataset 'o/n' is a gated dataset on the Hub. You must be authenticated to access it.")
    assert "hf auth login" in _advice(error) and "hf auth login" not in _advice(FileNotFoundError("no data files"))


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": f"q{n % 7}"} for n in range(10)))
    dry = command(tmp_path / "home", path, "--dry-run")
    assert not (tmp_path / "home").exists()
    wet = command(tmp_path / "home", path)
    differ = {"n_stored", "dry_run"}
    assert {k: v for k, v in dry.items() if k not in differ} == {k: v for k, v in wet.items() if k not in differ}
    assert (dry["n_prompts"], dry["n_stored"], wet["n_stored"]) == (7, 0, 7)


def test_the_text_says_what_came_in_and_what_did_not(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", "tags": ["x"]}, {"prompt": "a"}, {"prompt": ""})
    words = ["prompts", "import", str(path), "--home", str(tmp_path / "home"), "--eval-share", "0.5"]
    text = CliRunner().invoke(door, words, catch_exceptions=False).stdout
    assert "3 rows: 1 prompts in the import, 2 rejects" in text
    assert "duplicate_prompt" in text and "held out (stated)" in text and "(not stated)" in text


def test_a_known_answer_is_told_from_another_across_batches_and_files(tmp_path):
    first = jsonl(
        tmp_path / "1.jsonl", {"prompt": "a", "is": "1"}, {"prompt": "b", "is": None}, {"prompt": "a", "is": "2"}
    )
    again = jsonl(
        tmp_path / "2.jsonl", {"prompt": "a", "is": "1"}, {"prompt": "a", "is": "3"}, {"prompt": "c", "is": "1"}
    )
    sources = [PromptSource(path=str(path), expected_column="is") for path in (first, again)]
    for size in (1, 2, 100):
        store = Store(tmp_path / f"home{size}")
        report = run_import(store, Import(sources, HeldOutGuard([]), batch_rows=size))
        assert report.rejects == {"conflicting_expected": 2, "duplicate_prompt": 1}, size
        assert sorted((p.messages[0].content, p.expected) for p in store.read(Prompt)) == [
            ("a", "1"), ("b", None), ("c", "1"),
        ]  # fmt: skip


def test_of_many_tags_the_first_are_counted_by_name():
    report = ImportReport()
    prompts = [Prompt.make([Message("user", str(n))], "s", tags=(f"tag {n}",)) for n in range(MAX_TAGS + 50)]
    report.count(len(prompts), prompts, [], [])
    assert len(report.tags) == MAX_TAGS + 1 and report.tags[OTHER_TAGS] == 50
    assert ImportReport.from_json(json.loads(json.dumps(report.to_json()))) == report


# Held out by hash


def test_a_split_moves_no_prompt_when_rows_are_added_and_a_larger_share_keeps_the_smaller(tmp_path):
    rows = [{"prompt": f"question {n}?"} for n in range(300)]
    few, many = jsonl(tmp_path / "few.jsonl", *rows[:100]), jsonl(tmp_path / "many.jsonl", *rows[::-1])
    command(tmp_path / "few", few, "--eval-share", 0.2)
    command(tmp_path / "many", many, "--eval-share", 0.2)
    before, after = ({p.prompt_id: p.split for p in Store(tmp_path / n).read(Prompt)} for n in ("few", "many"))
    assert len(before) == 100 and before.items() <= after.items() and set(before.values()) == {"train", "eval"}
    held = [{key for key in after if split_of(key, share) == "eval"} for share in (0.1, 0.2, 0.5)]
    assert held[0] < held[1] < held[2]


def test_each_tag_is_held_out_in_the_stated_share_as_far_as_a_hash_can(tmp_path):
    """Of 30 tags and 95 % bounds one or two may be outside; four times the standard error none."""
    sizes = {f"tag {n}": 40 + 17 * n for n in range(30)}
    outside = 0
    for tag, n in sizes.items():
        ids = [asking(f"{tag}: question {i}").prompt_id for i in range(n)]
        difference = abs(sum(split_of(key, 0.1) == "eval" for key in ids) / n - 0.1)
        assert difference < 2.05 * split_error(0.1, n)
        outside += difference > split_error(0.1, n)
    assert outside <= 5


def test_one_file_gives_what_is_trained_on_and_what_is_measured_with(tmp_path):
    """Prompts are told apart, and put on a side, by what is left of them without personal items."""
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": f"question {n % 180}? q{n}@acme.org"} for n in range(200)))
    source = PromptSource(path=str(path), eval_share=0.2)
    sides = {}
    for split in ("train", "eval"):
        sides[split] = {r.prompt_id for r in read_sources([source], split, 0) if isinstance(r, Prompt)}
        store = Store(tmp_path / split)
        report = run_import(store, Import([source], HeldOutGuard([]), split, batch_rows=30))
        assert {p.prompt_id for p in store.read(Prompt)} == sides[split]
        assert report.n_rows == report.n_prompts + report.n_rejected + report.n_other == 200
    measured = read_sets([EvaluationSource(path=str(path), eval_share=0.2)], 0).prompts
    assert {prompt.prompt_id for prompt in measured} == sides["eval"], "a profile measures with that side"
    assert not sides["train"] & sides["eval"] and len(sides["train"] | sides["eval"]) == 180


def test_what_the_home_has_to_train_on_is_not_measured_with_later_nor_the_other_way_round(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "how do i do this one thing?"})
    command(tmp_path / "home", path)
    assert command(tmp_path / "home", path, "--split", "eval")["rejects"] == {"stored_to_train": 1}
    command(tmp_path / "other", path, "--split", "eval")
    assert command(tmp_path / "other", path)["rejects"] == {"held_out_prompt": 1}


def test_the_small_world_needs_a_limit(tmp_path):
    with pytest.raises(ConfigError, match="`limit`"):
        command(tmp_path, "smallworld")
    assert command(tmp_path, "smallworld", "--limit", 20)["n_prompts"] == 20


def test_an_import_goes_on_in_a_home_where_an_answer_was_learnt(tmp_path):
    """What a merge writes has another Arrow type, in which ids were not found."""
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", "is": "1"}, {"prompt": "b", "is": "1"})
    command(tmp_path / "home", path)
    command(tmp_path / "home", path, "--expected-column", "is")
    assert command(tmp_path / "home", path, "--licence", "MIT")["n_stored"] == 2


def test_an_import_leaves_the_collector_as_it_was(tmp_path):
    """It rests while rows come in; a process that went on without it would grow."""
    source = PromptSource(path=str(jsonl(tmp_path / "a.jsonl", {"prompt": "why?"})))
    was_on: list[bool] = []
    run_import(Store(tmp_path / "home"), Import([source], HeldOutGuard([])), lambda _: was_on.append(gc.isenabled()))
    assert (was_on, gc.isenabled()) == ([False], True)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_import(Store(tmp_path / "home"), Import([source], HeldOutGuard([])), stop)
    assert gc.isenabled()
