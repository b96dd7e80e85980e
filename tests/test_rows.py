"""Files as rows: CSV and Parquet, and files that are not quite what their name says."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai.config import PromptSource
from cai.errors import DataError
from cai.records import Prompt, Reject
from storage.imports import read_answered, read_prompts
from storage.rows import KEPT_OF_LONG, MAX_ROW_CHARS, Columns, reader
from storage.store import Store

KEY = "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"


def written(tmp_path: Path, name: str, body: str | bytes) -> Path:
    path, body = tmp_path / name, body if isinstance(body, bytes) else body.encode()
    path.write_bytes(gzip.compress(body, mtime=0) if name.lower().endswith(".gz") else body)
    return path


def imported(path: Path, **settings):
    return list(read_prompts(PromptSource(path=str(path), **settings), 0))


def texts(rows):
    """What became of each row: the conversation as (role, text), or the reason."""
    return [r.reason if isinstance(r, Reject) else [(m.role, m.content) for m in r.messages] for r in rows]


@pytest.mark.parametrize("encoding", ["utf-16le", "utf-16be"])
@pytest.mark.parametrize("name", ["u.txt", "u.jsonl", "u.csv", "u.txt.gz", "u.CSV.GZ"])
def test_a_file_in_utf_16_is_an_error_that_says_how_to_convert_it(tmp_path, name, encoding):
    """What PowerShell's `>` writes came in as prompts with a NUL between each two letters, items and all."""
    path = written(tmp_path, name, "\ufeffprompt\nmail jane@acme.com\n".encode(encoding))
    with pytest.raises(DataError, match=rf"{name} is text in UTF-16, expected UTF-8; .*`.*iconv -f utf16 -t utf8") as e:
        imported(path)
    assert ("gunzip -c IN | " in str(e.value)) == name.lower().endswith(".gz")


@pytest.mark.parametrize("encoding", ["utf-16le", "utf-16be"])
def test_utf_16_without_its_mark_gives_rejects_without_their_items(tmp_path, encoding):
    body = "mail jane@acme.com now\nand more\n".encode(encoding)
    rows = imported(written(tmp_path, "u.txt", body))
    assert rows and {row.reason for row in rows if isinstance(row, Reject)} == {"not_unicode"}
    assert all(isinstance(row, Reject) and "jane" not in row.text and "\x00" not in row.text for row in rows)
    assert "[EMAIL_1]" in rows[0].text and "a NUL character at" in rows[0].detail
    rows = imported(written(tmp_path, "u.jsonl", '{"prompt": "mail jane@acme.com"}\n'.encode(encoding)))
    assert {row.reason for row in rows} <= {"bad_json", "not_unicode"} and "jane" not in str(rows).replace("\\x00", "")
    with pytest.raises(DataError, match=rf"UTF-16, .*iconv -f {encoding} -t utf8"):
        imported(written(tmp_path, "u.csv", "prompt,id\njane@acme.com,1\n".encode(encoding)))


def test_a_nul_in_a_cell_is_a_reject_in_every_format(tmp_path):
    spaced = "\x00".join("mail jane@acme.com")
    table = pa.table({"prompt": [spaced, "good"]})
    pq.write_table(table, tmp_path / "n.parquet")
    files = [
        tmp_path / "n.parquet",
        written(tmp_path, "n.jsonl", f'{json.dumps({"prompt": spaced})}\n{{"prompt": "good"}}\n'.encode()),
        written(tmp_path, "n.csv", f"prompt\n{spaced}\ngood\n".encode()),
    ]
    for path in files:
        bad, good = imported(path)
        assert isinstance(good, Prompt) and bad.reason == "not_unicode"
        assert "[EMAIL_1]" in bad.text and "acme" not in bad.text
        Store(tmp_path / path.suffix).append([bad, good])


@pytest.mark.parametrize("name", ["data.CSV", "data.Tsv", "X.JSONL", "x.NdJson", "x.TXT", "x.txt.GZ", "x.JSONL.Gz"])
def test_a_suffix_may_be_in_capitals(tmp_path, name):
    is_json = "json" in name.lower()
    path = written(tmp_path, name, b'{"prompt": "a"}\n' if is_json else b"prompt\na\n")
    assert imported(path)[-1].messages[-1].content == "a"
    pq.write_table(pa.table({"prompt": ["a"]}), tmp_path / "P.PARQUET")
    assert imported(tmp_path / "P.PARQUET")[0].messages[-1].content == "a"


def test_a_column_that_is_there_twice_is_an_error_where_it_is_read(tmp_path):
    """The last of the two was taken and the others were dropped without a word."""
    path = written(tmp_path, "p.csv", b"prompt,id,prompt\nfirst,1,second\n")
    with pytest.raises(DataError, match=r"p\.csv has the column 'prompt' 2 times, .*rename or remove"):
        imported(path)
    path = written(tmp_path, "a.csv", b"id,q,q,note,note\n1,first,second,a,b\n")
    with pytest.raises(DataError, match="column 'q' 2 times"):
        imported(path, column="q")
    path = written(tmp_path, "b.csv", b"prompt,note,note,,\nfirst,a,b,,\n")
    assert imported(path)[0].messages[0].content == "first", "of what is not read there may be any number"
    path = written(tmp_path, "c.csv", b"jane@acme.com,jane@acme.com\na,b\n")
    with pytest.raises(DataError, match=r"column '\[EMAIL_1\]' 2 times"):
        list(reader(path, Columns((), "", everything=True))())


WORDS = "word " * 196  # a key after them lies across the 1,000th character
PEM = f"-----BEGIN PRIVATE KEY-----{'MIIEvQIBADANBgkq' * 240}-----END PRIVATE KEY----- "


@pytest.mark.parametrize("before", [WORDS, PEM + "word " * 12])
def test_a_key_at_the_end_of_what_is_kept_of_a_long_line_is_hidden(tmp_path, before):
    """The line was cut first and read afterwards: of a key across the cut, half was stored."""
    body = f"{before}{KEY} {'word ' * (MAX_ROW_CHARS // 5 + 1)}\nnext\n".encode()
    long, after = imported(written(tmp_path, "p.txt", body))
    assert long.reason == "too_long" and isinstance(after, Prompt) and len(long.text) == KEPT_OF_LONG
    assert "ghp_" not in long.text and "MII" not in long.text and "KEY_1]" in long.text, long.text[-100:]


def test_csv_takes_quotes_line_breaks_and_a_named_column(tmp_path):
    body = 'id,question,type\n1,"says ""hi"", twice\nand more",greeting\n2,,none\n3,x,y,too many\n4,z,\n\n'
    path = written(tmp_path, "p.csv", body)
    rows = imported(path, column="question")
    assert texts(rows) == [
        [("user", 'says "hi", twice\nand more')], "empty_prompt", "bad_csv", [("user", "z")], "empty_prompt",
    ]  # fmt: skip
    assert rows[0].tags == ("greeting",) and rows[3].tags == ()
    with pytest.raises(DataError, match=r"no column 'prompt'.*only \['id', 'question', 'type'\].*`column`"):
        imported(path)


QUOTES = [
    (["1,a", '2,"He said no', "3,c"], 3, 4, "unexpected end of data"),
    (["1,a", '2,"He said no', '3,"c"', "4,d"], 3, 4, "expected after"),
    (['1,"two\nlines"', '2,"""both"" ends"', '3,"one "lone" quote"', "4,d"], 5, 5, "expected after"),
    (['"a\nb","c\nd"x'], 3, 4, "expected after"),
]


@pytest.mark.parametrize(("rows", "began", "read_to", "why"), QUOTES)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_quote_that_is_not_closed_is_an_error_that_says_where_its_cell_begins(
    tmp_path, rows, began, read_to, why, delimiter
):
    """It took all rows up to the next quote into one prompt, or to the end of the file, and said nothing."""
    body = "\n".join(["id,prompt", *rows]) + "\n"
    path = written(tmp_path, "p.csv" if delimiter == "," else "p.tsv", body.replace(",", delimiter))
    with pytest.raises(DataError, match=rf"cell that begins on line {began} .*line {read_to}: .*{why}.*as \.jsonl"):
        imported(path)


def test_a_cell_that_is_too_long_is_an_error_and_nothing_within_it_is_read_as_rows(tmp_path):
    cell = "x" * MAX_ROW_CHARS + "\n5,not a row\n"
    path = written(tmp_path, "p.csv", f'id,prompt\n1,a\n2,"{cell}"\n')
    with pytest.raises(DataError, match="begins on line 3 .*limit"):
        imported(path)


def test_lists_that_are_written_as_text_are_lists(tmp_path):
    turns = [{"role": "user", "content": "how are you"}, {"role": "assistant", "content": "fine"}]
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "tags"], [json.dumps(turns), "red, blue,"], ["[why] not?", ""]])
    first, second = imported(tmp_path / "p.csv")
    assert texts([first, second]) == [[("user", "how are you")], "wrong_type"] and first.tags == ("red", "blue")
    assert "a list of messages as JSON is expected under 'messages'" in second.detail
    (found,) = read_answered(
        PromptSource(path=str(written(tmp_path, "a.jsonl", json.dumps({"messages": json.dumps(turns)}))),
                     answer_column="messages"), 0
    )  # fmt: skip
    assert found.answer == "fine"


def test_parquet_takes_text_and_message_lists(tmp_path):
    turns = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], None, []]
    pq.write_table(pa.table({"messages": turns, "label": ["safe", "x", "y"]}), tmp_path / "m.parquet")
    rows = imported(tmp_path / "m.parquet")
    assert texts(rows) == [[("user", "a")], "no_prompt", "no_user_turn"] and rows[0].tags == ("safe",)
    pq.write_table(pa.table({"q": ["a", "b"]}), tmp_path / "t.parquet")
    assert texts(imported(tmp_path / "t.parquet", column="q")) == [[("user", "a")], [("user", "b")]]
    with pytest.raises(DataError, match="no column"):
        imported(tmp_path / "t.parquet")


def test_a_parquet_cell_that_python_cannot_have_is_a_reject_of_its_row(tmp_path):
    """Text that is not UTF-8, a date and a time behind the year 9999: each ended the import."""
    binary = pa.array([b"good", b"caf\xe9", b"good too"], pa.binary())
    pq.write_table(pa.table({"prompt": binary.view(pa.string())}), tmp_path / "text.parquet")
    rows = imported(tmp_path / "text.parquet")
    assert texts(rows) == [[("user", "good")], "not_unicode", [("user", "good too")]]
    assert "row 2: 'prompt' is not valid UTF-8" in rows[1].detail
    times = {
        "date": pa.array([0, 10**8], pa.int32()).view(pa.date32()),
        "time": pa.array([0, 2**62], pa.int64()).view(pa.timestamp("ms")),
    }
    for name, values in times.items():
        pq.write_table(pa.table({"prompt": ["a", "b"], "label": values}), tmp_path / f"{name}.parquet")
        rows = imported(tmp_path / f"{name}.parquet")
        assert texts(rows) == [[("user", "a")], "wrong_type"], name
        assert "row 2: 'label' cannot be read" in rows[1].detail
