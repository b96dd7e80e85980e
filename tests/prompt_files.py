"""Prompts in files and in a home, and what the import says of them: shared by the tests of imports."""

import json
from collections import Counter
from pathlib import Path

from click.testing import CliRunner

from cai.cli import door
from cai.records import Message, Prompt, Reject
from storage.store import Store


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


def everything(home: Path) -> list[list[dict]]:
    """The rows of the tables that an import writes."""
    tables = {"prompts": "prompt_id", "rejects": "reject_id", "contaminations": "contamination_id"}
    return [Store(home).query(f"SELECT * FROM {name} ORDER BY {key}") for name, key in tables.items()]
