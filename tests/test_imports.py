"""Prompts from files: every row becomes a prompt or a reject, in order, whatever is in the file."""

import csv
import gzip
import json
import os
import re
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from cai.config import PrivacyConfig, PromptSource
from cai.errors import DataError
from cai.privacy import KINDS, Guard
from cai.records import Message, Prompt, Reject
from storage.imports import Answered, read_answered, read_prompts
from storage.rows import MAX_ROW_CHARS
from storage.store import Store

DATA = Path(os.environ.get("CAI_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
AS_THEY_STAND = Guard(PrivacyConfig(**dict.fromkeys(KINDS, "keep")))


def shared(name: str) -> Path:
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not there; CAI_SHARED_DATA names the folder of test data")
    return DATA / name


def imported(path: Path, seed: int = 0, **settings):
    return list(read_prompts(PromptSource(path=str(path), **settings), seed, None, AS_THEY_STAND))


def written(tmp_path: Path, name: str, body: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return path


def texts(rows):
    """What became of each row: the conversation as (role, text), or the reason."""
    return [r.reason if isinstance(r, Reject) else [(m.role, m.content) for m in r.messages] for r in rows]


# The real files; every count is worked out here, by other means


def test_every_dialogue_of_hh_rlhf_is_imported_whole():
    path = shared("hh-rlhf/harmless-base-test.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        chosen = [json.loads(line)["chosen"] for line in file]
    rows = imported(path)
    assert len(chosen) == len(rows) == 2312
    prompts = [row for row in rows if isinstance(row, Prompt)]
    # The text before the last run of assistant turns, each turn without the spaces at its ends.
    asked = []
    for text in chosen:
        turns = re.findall(r"\n\n(Human|Assistant):(.*?)(?=\n\n(?:Human|Assistant):|\Z)", text, re.S)
        while turns[-1][0] == "Assistant":
            turns.pop()
        asked.append(" ".join(" ".join(f"{who} {said}" for who, said in turns).split()))
    assert len(prompts) == len(set(asked)), "duplicates are told from the whole dialogue, not from the first turn"
    assert Counter(r.reason for r in rows if isinstance(r, Reject)) == {"duplicate_prompt": 2312 - len(set(asked))}
    names = {"user": "Human", "assistant": "Assistant"}
    for row, text, want in zip(rows, chosen, asked, strict=True):
        if isinstance(row, Prompt):
            words = " ".join(m.content for m in row.messages).split()
            assert words == re.sub(r"\n\n(Human|Assistant):", " ", text).split()[: len(words)], "no word is lost"
            assert row.messages[0].role == row.messages[-1].role == "user"
            assert all(a.role != b.role for a, b in zip(row.messages, row.messages[1:], strict=False))
            assert want.startswith(names[row.messages[0].role]) and want.endswith(
                " ".join(row.messages[-1].content.split())
            )
    multi = sum(len(p.messages) > 1 for p in prompts)
    assert 0.70 < multi / len(prompts) < 0.72, "71 % have several human turns"


def test_every_harmbench_behaviour_is_imported_with_its_context():
    path = shared("harmbench/harmbench_behaviors_text_all.csv")
    with path.open(encoding="utf-8", newline="") as file:
        wanted = list(csv.DictReader(file))
    rows = imported(path, licence="MIT", tags=("red_team",))
    assert len(rows) == len(wanted) == 400 and all(isinstance(row, Prompt) for row in rows)
    for row, want in zip(rows, wanted, strict=True):
        (message,) = row.messages
        assert message.content.endswith(want["Behavior"]) and message.content.startswith(want["ContextString"])
        assert len(message.content) == len(want["Behavior"]) + (len(want["ContextString"]) + 2) * bool(
            want["ContextString"]
        )
        assert row.tags == ("red_team", want["SemanticCategory"]) and row.licence == "MIT"
    assert sum(bool(want["ContextString"]) for want in wanted) == 100


def test_every_xstest_prompt_is_imported_with_its_type_and_label():
    path = shared("xstest/xstest_prompts.csv")
    with path.open(encoding="utf-8", newline="") as file:
        wanted = list(csv.DictReader(file))
    rows = imported(path)
    assert texts(rows) == [[("user", want["prompt"])] for want in wanted] and len(rows) == 450
    assert [row.tags for row in rows] == [(want["type"], want["label"]) for want in wanted]


def test_jsonl_prompts_keep_their_text_to_the_byte():
    path = shared("sycophancy/political-bio-liberal-500.jsonl")
    wanted = [json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").splitlines()]
    rows = imported(path)
    assert len(rows) == 500
    assert [row.messages[0].content for row in rows if isinstance(row, Prompt)] == list(dict.fromkeys(wanted))


def test_rows_and_rejects_of_a_real_file_all_reach_the_tables(tmp_path):
    store = Store(tmp_path)
    store.append(imported(shared("hh-rlhf/harmless-base-test.jsonl.gz")))
    counts = store.counts()
    assert counts["prompts"] + counts["rejects"] == 2312 and counts["rejects"] > 0


# What a row may say


def lines(*values) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_every_shape_of_a_json_row_is_read(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    answered = [*turns, {"role": "assistant", "content": "Hello"}]
    path = written(tmp_path, "p.jsonl", lines(
        {"prompt": "  as it is \n"},
        {"prompt": turns},
        {"messages": [*answered, {"role": "user", "content": "More"}]},
        {"messages": [*answered[1:], {"role": "assistant", "content": "and bye"}]},
        {"chosen": "\n\nHuman: One\n\nAssistant: Two\n\nHuman: Three\n\nAssistant: four", "rejected": "x"},
        {"chosen": "\n\nHuman: A\n\nAssistant: B\n\nAssistant: C", "rejected": "x"},
        {"chosen": "\n\nHuman: Empty answer\n\nAssistant:", "rejected": "x"},
        {"chosen": [{"role": "user", "content": "As a list"}, {"role": "assistant", "content": "x"}]},
        {"prompt": "\n\nHuman: In a prompt\n\nAssistant:"},
        {"prompt": "Say 'Human: hello' to me"},
    ))  # fmt: skip
    system = ("system", "Be brief.")
    assert texts(imported(path)) == [
        [("user", "  as it is \n")],
        [system, ("user", "Hi")],
        [system, ("user", "Hi"), ("assistant", "Hello"), ("user", "More")],
        [("user", "Hi")],
        [("user", "One"), ("assistant", "Two"), ("user", "Three")],
        [("user", "A")],
        [("user", "Empty answer")],
        [("user", "As a list")],
        [("user", "In a prompt")],
        [("user", "Say 'Human: hello' to me")],
    ]


BAD = [
    ("", "empty_prompt"),
    ("{torn", "bad_json"),
    ("[" * 100_000, "bad_json"),
    ('["a list"]', "wrong_type"),
    ('"text"', "wrong_type"),
    ("null", "wrong_type"),
    ("{}", "no_prompt"),
    ('{"question": "x"}', "no_prompt"),
    ('{"prompt": null}', "no_prompt"),
    ('{"prompt": 3}', "wrong_type"),
    ('{"prompt": {"a": 1}}', "wrong_type"),
    ('{"prompt": ""}', "empty_prompt"),
    ('{"prompt": " \\n\\t "}', "empty_prompt"),
    ('{"prompt": []}', "no_user_turn"),
    ('{"prompt": ["x"]}', "wrong_type"),
    ('{"prompt": [{"role": "user"}]}', "wrong_type"),
    ('{"prompt": [{"role": "user", "content": [{"type": "text"}]}]}', "wrong_type"),
    ('{"prompt": [{"role": "tool", "content": "x"}]}', "not_a_dialogue"),
    ('{"prompt": [{"role": "system", "content": "x"}]}', "no_user_turn"),
    ('{"messages": [{"role": "assistant", "content": "x"}]}', "no_user_turn"),
    ('{"messages": [{"role": "user", "content": " "}]}', "empty_prompt"),
    ('{"chosen": "no turns at all"}', "not_a_dialogue"),
    ('{"chosen": "\\n\\nAssistant: I begin\\n\\nHuman: x"}', "not_a_dialogue"),
    ('{"chosen": "\\n\\nHuman: \\n\\nAssistant: x"}', "empty_prompt"),
    ('{"prompt": "half a character \\ud800"}', "not_unicode"),
    ('{"prompt": "x", "tags": ["\\udfff"]}', "not_unicode"),
    (b'{"prompt": "latin \xe9"}', "not_unicode"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=lambda v: str(v)[:30])
def test_a_bad_row_is_a_reject_with_its_reason_and_its_text(tmp_path, line, reason):
    body = line if isinstance(line, bytes) else line.encode()
    path = written(tmp_path, "p.jsonl", b'{"prompt": "good"}\n' + body + b'\n{"prompt": "good too"}\n')
    first, bad, last = imported(path)
    assert isinstance(first, Prompt) and isinstance(last, Prompt)
    assert (bad.stage, bad.reason) == ("import", reason) and f"{path}, row 2: " in bad.detail
    assert bad.parent_ids[:2] == (str(path), "2") and bad.text.encode("utf-8") is not None
    assert isinstance(line, bytes) or bad.text == line, "the raw text is kept"
    store = Store(tmp_path / "home")
    store.append([first, bad, last])
    assert store.read(Reject) == [bad], "it can be stored, whatever was in it"


def test_duplicates_are_rows_too_and_count_across_sources(tmp_path):
    path = written(tmp_path, "p.txt", "one\ntwo\none\none\n")
    rows = imported(path)
    assert texts(rows) == [[("user", "one")], [("user", "two")], "duplicate_prompt", "duplicate_prompt"]
    assert len({row.reject_id for row in rows[2:]}) == 2 and {row.prompt_id for row in rows[2:]} == {rows[0].prompt_id}
    seen: dict[str, str | None] = {}
    source = PromptSource(path=str(path))
    assert [len(list(read_prompts(source, 0, seen))) for _ in range(2)] == [4, 4] and len(seen) == 2
    assert all(isinstance(row, Reject) for row in read_prompts(source, 0, seen))


def test_a_known_answer_comes_with_its_prompt(tmp_path):
    body = [
        {"prompt": "one", "answer": "42"},
        {"prompt": "two", "answer": {"b": 1, "a": [2]}},
        {"prompt": "three", "answer": None},
        {"prompt": "four"},
        {"prompt": "one", "answer": "42"},
        {"prompt": "one", "answer": "43"},
    ]
    path = written(tmp_path, "p.jsonl", "".join(json.dumps(row) + "\n" for row in body))
    rows = imported(path, expected_column="answer")
    assert [row.expected for row in rows[:3]] == ["42", '{"a": [2], "b": 1}', None]
    assert [row.reason for row in rows[3:]] == ["no_expected", "duplicate_prompt", "conflicting_expected"]
    assert rows[0].prompt_id == imported(path)[0].prompt_id, "the answer is not in the id"
    assert "'43' is expected here, and '42'" in rows[5].detail
    later = written(
        tmp_path, "l.jsonl", lines(*({"prompt": "x", "answer": answer} for answer in (None, "1", "1", "2")))
    )
    assert texts(imported(later, expected_column="answer"))[1:] == [
        "duplicate_prompt", "duplicate_prompt", "conflicting_expected",
    ], "that none was known is no conflict"  # fmt: skip
    columns = written(tmp_path, "p.csv", "prompt,answer\none,1\ntwo,\n")
    assert [row.expected for row in imported(columns, expected_column="answer")] == ["1", None]
    with pytest.raises(DataError, match="no column 'reply'.*correct `expected_column`"):
        imported(columns, expected_column="reply")


@pytest.mark.parametrize(
    ("row", "column", "answer"),
    [
        ({"prompt": "hi", "completion": "hello"}, "completion", "hello"),
        ({"prompt": "hi", "completion": [{"role": "assistant", "content": "hello"}]}, "completion", "hello"),
        ({"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "x"}, "chosen", "hello"),
        ({"chosen": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?"}, "chosen", "no_answer"),
        ({"prompt": "hi", "completion": " "}, "completion", "no_answer"),
        ({"prompt": "hi"}, "completion", "no_answer"),
        ({"prompt": "hi", "completion": 3}, "completion", "wrong_type"),
    ],
)
def test_a_helpful_row_may_have_its_answer(tmp_path, row, column, answer):
    path = written(tmp_path, "p.jsonl", json.dumps(row) + "\n")
    (found,) = read_answered(PromptSource(path=str(path), answer_column=column), 0)
    assert (found.reason if isinstance(found, Reject) else found.answer) == answer
    if isinstance(found, Answered):
        assert found.prompt.messages == (Message("user", "hi"),)


def test_plain_text_is_one_prompt_a_line(tmp_path):
    path = written(tmp_path, "p.txt", "\ufeffone\r\n\r\n  two  \nlast without a break")
    assert texts(imported(path)) == [
        [("user", "one")],
        "empty_prompt",
        [("user", "  two  ")],
        [("user", "last without a break")],
    ]


def test_order_is_kept_and_a_second_reading_gives_the_same_rows(tmp_path):
    path = written(tmp_path, "p.txt", "\n".join(f"prompt {n % 90}" for n in range(100)))
    rows = imported(path)
    assert rows == imported(path) and len(rows) == 100
    assert [r.messages[0].content for r in rows if isinstance(r, Prompt)] == [f"prompt {n}" for n in range(90)]


def test_a_limit_draws_rows_by_seed_and_a_larger_one_draws_the_same_and_more(tmp_path):
    path = written(tmp_path, "p.txt", "\n".join(f"prompt {n}" for n in range(200)))
    few, many, other = (imported(path, seed, limit=n) for seed, n in ((1, 20), (1, 60), (2, 20)))
    assert (len(few), len(many), len(other)) == (20, 60, 20)
    assert {p.prompt_id for p in few} < {p.prompt_id for p in many} and few != other
    numbers = [int(p.messages[0].content.split()[1]) for p in many]
    assert numbers == sorted(numbers) and max(numbers) > 100, "in file order, from all over the file"
    assert len(imported(path, limit=1000)) == 200


@pytest.mark.parametrize(("name", "body", "says"), [
    ("p.jsonl", b"", "has no rows"),
    ("p.txt.gz", gzip.compress(b"", mtime=0), "has no rows"),
    ("p.csv", b"prompt,id\n", "has no rows"),
    ("p.xlsx", b"PK", r"unknown suffix '\.xlsx'; expected one of \.jsonl"),
    ("prompts", b"a\n", "unknown suffix ''"),
    ("p.parquet", b"PAR1 and no more", "no whole Parquet file"),
    ("p.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n' * 5000, mtime=0)[:-20], "breaks off after row"),
    ("p.txt.gz", b"not gzip at all", "breaks off after row 0"),
])  # fmt: skip
def test_an_unusable_file_is_an_error_that_says_what_was_expected(tmp_path, name, body, says):
    with pytest.raises(DataError, match=says):
        imported(written(tmp_path, name, body))


def test_a_missing_file_and_a_directory_are_errors_before_the_first_row(tmp_path):
    with pytest.raises(DataError, match=r"is not there; give a file of \.jsonl"):
        read_prompts(PromptSource(path=str(tmp_path / "absent.jsonl")), 0)
    with pytest.raises(DataError, match="a directory"):
        read_prompts(PromptSource(path=str(tmp_path)), 0)


def test_a_line_without_end_is_rejected_without_being_kept(tmp_path):
    path = tmp_path / "p.jsonl"
    with path.open("w") as file:
        file.write('{"prompt": "' + "x" * (MAX_ROW_CHARS + 100) + '"}\n{"prompt": "next"}\n')
    rows = imported(path)
    assert texts(rows) == ["too_long", [("user", "next")]] and len(rows[0].text) == 1000 and rows[1].messages


def test_of_a_conversation_that_is_too_long_the_head_is_kept(tmp_path):
    (row,) = imported(written(tmp_path, "p.jsonl", lines({"prompt": "x" * 5_000})), max_chars=4_000)
    assert row.reason == "too_long" and len(row.text) == 1_000 and "5,000 characters, and 4,000" in row.detail


def test_memory_does_not_grow_with_the_file(tmp_path):
    """60 MB of prompts pass through a few MB: the ids that were seen, and one row."""
    path = tmp_path / "p.jsonl"
    with path.open("w") as file:
        for n in range(2_000):
            file.write(json.dumps({"prompt": f"{n} " + "long " * 6_000}) + "\n")
    tracemalloc.start()
    try:
        n_prompts = sum(isinstance(row, Prompt) for row in read_prompts(PromptSource(path=str(path)), 0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_prompts == 2_000 and path.stat().st_size > 55e6
    assert peak < 8e6


def test_rows_come_before_the_file_is_read_to_its_end(tmp_path):
    path = written(tmp_path, "p.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n{"prompt": "b"}\n' * 50_000)[:-50])
    first = list(islice(read_prompts(PromptSource(path=str(path)), 0), 2))
    assert [p.messages for p in first] == [(Message("user", "a"),), (Message("user", "b"),)]
