"""Personal items at the doors: imports, runs and what they leave behind, and `cai prompts scan`."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from scripted_run import run_steps

from cai.card import model_card
from cai.cli.prompts_scan import command as scan
from cai.config import PrivacyConfig, PromptSource, load_profile
from cai.errors import ConfigError, DataError
from cai.privacy import Guard
from cai.records import Model, Prompt, Reject, Response
from cai.registry import PERSONAL, SOURCES, Registry
from flows.report_datasheet import personal_of
from flows.runs import create_run
from storage.imports import read_answered, read_prompts
from storage.monitoring import read_exchanges
from storage.store import Store

ITEMS = {
    "email": "jo.smith@acme.org",
    "phone": "+44 20 7946 0958",
    "card": "4111 1111 1111 1111",
    "key": "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",
}


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_prompts_that_differ_in_an_item_alone_are_one_prompt(tmp_path):
    path = written(tmp_path / "a.jsonl", *({"prompt": f"mail {name}@acme.org"} for name in ("jo", "al")))
    prompt, reject = read_prompts(PromptSource(path=str(path)), 0)
    assert (prompt.messages[0].content, reject.reason) == ("mail [EMAIL_1]", "duplicate_prompt")
    assert "jo@" not in f"{prompt}{reject}" and "al@" not in f"{prompt}{reject}"


def test_a_rejected_prompt_is_a_row_without_the_item(tmp_path):
    path = written(tmp_path / "a.jsonl", {"prompt": f"use {ITEMS['card']}", "note": f"of {ITEMS['email']}"})
    (reject,) = read_prompts(PromptSource(path=str(path)), 0, None, Guard(PrivacyConfig(card="reject")))
    assert (reject.reason, reject.text) == ("personal_data", '{"prompt": "use [CARD_1]", "note": "of [EMAIL_1]"}')
    assert reject.detail.startswith(f"{path}, row 1: it holds payment cards, which the profile rejects")


@pytest.mark.parametrize(
    "row",
    [
        '{"prompt": "a\\u0062c@acme.org", ',  # escaped, and no JSON
        '{"prompt": 3, "to": "call\\n4155550123 or abc@acme.org"}',  # the n of an escape before a number
        '["abc@acme.org"]',
        '{"prompt": ["call 4155550123, abc@acme.org"]}',
        '{"messages": [{"role": "abc@acme.org", "content": "call 4155550123"}]}',
        '{"prompt": "", "phone": 4155550123, "mail": "abc@acme.org"}',
    ],
)
def test_a_row_that_cannot_be_read_is_kept_without_its_items(tmp_path, row):
    (reject,) = read_prompts(PromptSource(path=str(written(tmp_path / "a.jsonl", row))), 0)
    assert isinstance(reject, Reject) and reject.reason != "personal_data"
    text = str(reject)
    assert "abc@" not in text and "0062c" not in text and "4155550123" not in text and "[EMAIL_1]" in text


def test_an_error_does_not_quote_the_first_row_of_a_file_without_a_header(tmp_path):
    path = written(tmp_path / "a.csv", "Jo,jo.smith@acme.org", "Al,al@acme.org")
    with pytest.raises(DataError, match=r"only \['Jo', '\[EMAIL_1\]'\]"):
        next(iter(read_prompts(PromptSource(path=str(path)), 0)))


def test_an_answer_that_came_with_its_prompt_is_read_with_it(tmp_path):
    rows = {"prompt": "mail a@b.org", "completion": "sent to a@b.org, copied to c@d.org"}
    source = PromptSource(path=str(written(tmp_path / "a.jsonl", rows)), answer_column="completion")
    (row,) = read_answered(source, 0)
    assert row.answer == "sent to [EMAIL_1], copied to [EMAIL_2]"


def test_monitoring_says_why_a_row_cannot_be_read_without_what_it_says(tmp_path):
    path = written(tmp_path / "a.jsonl", {"prompt": [f"my mail is {ITEMS['email']}"], "response": "ok"})
    (reject,) = read_exchanges(str(path))
    assert "a message is {role, content} with text in it" in reject.detail and ITEMS["email"] not in str(reject)


def test_nothing_that_a_run_leaves_behind_has_an_item_in_it(tmp_path, capfd):
    """Tables, ids, reports and logs, read as text; the files that were imported are not the run's."""
    sources, home = tmp_path / "sources", tmp_path / "home"
    sources.mkdir()
    mine = {kind: f"please keep {item} for me" for kind, item in ITEMS.items()}
    train = written(
        sources / "train.jsonl", *({"prompt": text} for text in mine.values()), {"prompt": 1, "x": mine["email"]}
    )
    given = written(
        sources / "given.jsonl", {"prompt": f"is {ITEMS['phone']} yours?", "completion": f"no, {ITEMS['email']} is"}
    )
    held_out = written(sources / "eval.jsonl", {"prompt": f"who has the key {ITEMS['key']}?"}, {"prompt": "why?"})
    script = sources / "script.yaml"
    script.write_text(yaml.safe_dump({"rules": []}))
    profile = {
        "name": "private",
        "constitution": "constitution/harmlessness.yaml",
        "engine": {"kind": "scripted", "model": "scripted", "script": str(script)},
        "prompts": [{"path": str(train)}],
        "privacy": {"card": "reject"},
        "helpful": {"prompts": [{"path": str(given), "answer_column": "completion"}], "share": 0.5},
        "evaluation": {"prompts": [{"path": str(held_out)}], "win_rate_prompts": 0},
    }
    (sources / "profile.yaml").write_text(yaml.safe_dump(profile))
    run = run_steps(create_run(load_profile(sources / "profile.yaml"), home), "prompts", "helpful", "chains", "report")
    said = capfd.readouterr()
    left = {"stdout": said.out, "stderr": said.err}
    for path in filter(Path.is_file, home.rglob("*")):
        is_table = path.suffix == ".parquet"
        left[str(path)] = (
            str(pq.ParquetFile(path).read().to_pylist()) if is_table else path.read_bytes().decode("utf-8", "replace")
        )
    assert any("[EMAIL_1]" in text for text in left.values()), "it reads what is there"
    for name, text in left.items():
        for item in (*ITEMS.values(), ITEMS["card"].replace(" ", ""), "jo.smith", "7946"):
            assert item not in text, name
    store = Store(home)
    assert {reject.reason for reject in store.read(Reject)} == {"personal_data", "wrong_type"}
    assert [r.text for r in store.read(Response, "stage = 'given'")] == ["no, [EMAIL_1] is"]
    assert run.result("prompts")["personal"] == {
        "card": {"reject": 1}, "email": {"redact": 1}, "key": {"redact": 1}, "phone": {"redact": 1},
        "rows": {"redact": 3, "reject": 1},
    }  # fmt: skip
    assert personal_of(run)["phone"] == {"redact": 2}
    page = (run.path / "report.html").read_text()
    assert "phone numbers</th><td>2</td><td>0</td><td>0</td>" in page


def test_the_card_of_a_model_says_where_its_prompts_are_from_and_what_became_of_personal_items():
    inputs = {SOURCES: "3 of a.jsonl (MIT, origin o/a)", PERSONAL: "phone numbers: 2 redacted"}
    model = Model("d" * 32, "sl_cai", "sft", "", "", inputs=inputs)
    registry = Registry({model.model_digest: model}, (), ())
    assert "| prompts | 3 of a.jsonl (MIT, origin o/a) |" in model_card(registry, model)
    assert "| personal items in the prompts | phone numbers: 2 redacted |" in model_card(registry, model)


# cai prompts scan


def scanned(*args: object):
    return CliRunner().invoke(scan, list(map(str, args)))


def test_a_scan_counts_by_kind_and_shows_no_item(tmp_path):
    rows = [
        {"prompt": f"mail {ITEMS['email']}", "phone": 4155550123},
        {"prompt": f"{ITEMS['email']} again"},
        {"prompt": "hi"},
    ]
    path = written(tmp_path / "a.jsonl", *rows)
    made = scanned(path, "--format", "json", "--fail")
    body = json.loads(made.output)
    assert made.exit_code == 3 and (body["rows"], body["rows_with"]) == (3, 2)
    assert body["kinds"] == {
        "email": {"items": 2, "different": 1, "rows": 2}, "phone": {"items": 1, "different": 1, "rows": 1},
    }  # fmt: skip
    assert body["examples"]["email"][1] == f"{path}, row 2: prompt: [EMAIL_1] again"
    assert ITEMS["email"] not in (text := scanned(path).output) and "2 of 3 rows have something personal" in text
    assert scanned(path, "--fail", "--kind", "card").exit_code == 0


def test_a_scan_of_a_home_reads_its_prompts_and_its_rejects(tmp_path):
    store = Store(tmp_path)
    prompt = next(iter(read_prompts(PromptSource(path=str(written(tmp_path / "a.txt", f"to {ITEMS['phone']}"))), 0,
                                    None, Guard(PrivacyConfig(phone="keep")))))  # fmt: skip
    assert isinstance(prompt, Prompt)
    store.append([prompt, Reject.make("import", "bad_json", text=ITEMS["email"])])
    body = json.loads(scanned("--home", tmp_path, "--format", "json").output)
    assert {kind: n["rows"] for kind, n in body["kinds"].items()} == {"phone": 1, "email": 1}


BESIDE = [
    {"id": 17, "prompt": "(212) 555-2368 keeps calling me"},
    {"messages": json.dumps([{"role": "user", "content": "write to them\n(212) 555-2368"}])},
]


@pytest.mark.parametrize("row", BESIDE)
def test_what_a_prompt_lost_is_not_in_the_reject_of_its_row_and_a_scan_finds_it(tmp_path, row):
    """The name of a field, or the n of an escape, stood before the number: the reject had it, the scan passed it."""
    path = written(tmp_path / "a.jsonl", row, row)
    _, reject = read_prompts(PromptSource(path=str(path)), 0)
    assert reject.reason == "duplicate_prompt" and "[PHONE_1]" in reject.text and "2368" not in reject.text
    assert scanned(path, "--fail").exit_code == 3 and "2368" not in scanned(path).output
    Store(tmp_path / "h").append([Reject.make("import", "x", text=json.dumps(row))])
    assert scanned("--home", tmp_path / "h", "--fail").exit_code == 3


def test_the_cells_of_a_csv_are_read_one_by_one(tmp_path):
    path = written(tmp_path / "a.csv", "kind_of,prompt", *["page,(212) 555-2368 keeps calling me"] * 2)
    _, reject = read_prompts(PromptSource(path=str(path)), 0)
    assert reject.text == "page,[PHONE_1] keeps calling me" and scanned(path, "--fail").exit_code == 3


def test_a_raw_row_hides_what_any_form_of_it_shows():
    raw = Guard().raw(r"mail jo@acme.com, password: ab\nc9!dx")
    assert raw == "mail [EMAIL_1], password: [KEY_1]"
    assert Guard().raw(same := '{"id":  1, "a": "b\\u0063"}') == same


def test_a_scan_says_what_it_lacks(tmp_path):
    assert isinstance(scanned().exception, ConfigError)
    assert isinstance(scanned(written(tmp_path / "a.txt", "x"), "--kind", "shoe").exception, ConfigError)
    assert isinstance(scanned(written(tmp_path / "b.txt")).exception, DataError)
    assert "nothing personal was found" in scanned(tmp_path / "a.txt", "--fail").output
