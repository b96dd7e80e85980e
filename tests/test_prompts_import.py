"""Prompts into a home: from every source, once, with licence and origin; killed anywhere, as if nobody had."""

import gc
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from prompt_files import asking, command, everything, jsonl, rejected

from cai.cli import door
from cai.cli.prompts_import import _progress
from cai.config import GenerateConfig, PrivacyConfig, PromptSource, load_profile
from cai.constitution import load_constitution
from cai.errors import ConfigError, DataError
from cai.held_out import HeldOutGuard
from cai.privacy import Guard
from cai.records import Message, Prompt, digest
from flows.importing import Import, import_folder, run_import
from flows.writing import campaign_of
from storage.import_report import MAX_TAGS, OTHER_TAGS, ImportReport
from storage.seen import SeenIds
from storage.store import Store

ROOT = Path(__file__).parents[1]


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


def test_an_import_and_a_campaign_go_on_with_a_later_version_that_has_more_settings(tmp_path):
    """One more setting with a default renamed both, and what was half done began anew."""

    class Source(PromptSource):
        setting_of_the_next_version: int = 5

    class Policy(PrivacyConfig):
        passport: str = "redact"

    class Generate(GenerateConfig):
        setting_of_the_next_version: float = 0.5

    path = str(jsonl(tmp_path / "p.jsonl", {"prompt": "a"}))
    first = import_folder(tmp_path, [PromptSource(path=path, licence="MIT")], "train", 0)
    assert import_folder(tmp_path, [Source(path=path, licence="MIT")], "train", 0, Policy()) == first
    changed = Source(path=path, licence="MIT", setting_of_the_next_version=6)
    assert import_folder(tmp_path, [changed], "train", 0) != first

    profile = load_profile(Path("deployments/profiles/laptop.yaml"))
    constitution = load_constitution(profile.constitution)

    def campaign(**settings: object) -> str:
        body = profile.generate.model_dump() | settings
        made = (Generate if "setting_of_the_next_version" in settings else GenerateConfig).model_validate(body)
        return campaign_of(profile.model_copy(update={"generate": made}), constitution, "2026-w47")

    assert campaign(setting_of_the_next_version=0.5) == campaign(rounds=3) == campaign()
    assert len({campaign(), campaign(setting_of_the_next_version=0.6), campaign(shots=1)}) == 3


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


def test_rows_that_are_rejected_count_as_text_in_memory(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": " " * (12 * 2**20)} for _ in range(4)))
    batches: list[int] = []
    wish = Import([PromptSource(path=str(path))], HeldOutGuard([]))
    run_import(Store(tmp_path / "home"), wish, lambda batch: batches.append(len(batch.rejects)))
    assert batches == [3, 1], "32 MiB are in memory at a time"


def test_progress_counts_from_before_the_first_batch(tmp_path, capsys):
    """It began after it, so a first batch of more than a second was at 0 rows/s."""
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": f"q{n}"} for n in range(5_000)))
    wish = Import([PromptSource(path=str(path))], HeldOutGuard([]))
    run_import(Store(tmp_path / "home"), wish, lambda _: time.sleep(1.0), _progress())
    said = re.fullmatch(r"5,000 rows, ([0-9,]+) rows/s\n", capsys.readouterr().err)
    assert 500 < int(said[1].replace(",", "")) < 5_000


def test_a_file_without_the_column_is_no_success(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"question": "a"}, {"question": "b"})
    with pytest.raises(DataError, match="none of the 2 rows has a value under 'prompt' or .*--column"):
        command(tmp_path / "home", path)
    with pytest.raises(DataError, match="under 'ask'; name"):
        command(tmp_path / "home", path, "--column", "ask", "--dry-run")
    assert command(tmp_path / "home", path, "--column", "question")["n_prompts"] == 2


def test_of_many_tags_the_first_are_counted_by_name():
    report = ImportReport()
    prompts = [Prompt.make([Message("user", str(n))], "s", tags=(f"tag {n}",)) for n in range(MAX_TAGS + 50)]
    report.count(len(prompts), prompts, [], [])
    assert len(report.tags) == MAX_TAGS + 1 and report.tags[OTHER_TAGS] == 50
    assert ImportReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_the_small_world_needs_a_limit(tmp_path):
    with pytest.raises(ConfigError, match="`limit`"):
        command(tmp_path, "smallworld")
    assert command(tmp_path, "smallworld", "--limit", 20)["n_prompts"] == 20


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


def test_a_split_and_a_share_to_hold_out_are_not_both_taken(tmp_path):
    """Meant to measure with, all but a hundredth went in to be trained on, and nothing said so."""
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "How do I mend a shoe?"})
    asked = ["prompts", "import", str(path), "--split", "eval", "--eval-share", "0.01", "--home", str(tmp_path / "h")]
    said = CliRunner().invoke(door, asked)
    assert said.exit_code == 2
    assert "--split and --eval-share both" in said.output
