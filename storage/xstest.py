"""XSTest's files: prompts that are safe but look otherwise beside unsafe contrasts, which `evaluation_sets.py` reads by
what is here, and completions with the labels of two people. A row that cannot be read is a reject of stage `import`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from cai.probes.refusal import Compliance
from cai.records import Message, Prompt, Reject, digest
from storage.dialogues import BadRow, check_unicode
from storage.rows import Columns, Row, reader

SOURCE = "xstest"
LICENCE = "CC-BY-4.0"
PROMPT_COLUMNS = ("prompt", "type", "label", "focus")
_LABEL_COLUMNS = ("completion", "annotation_1", "annotation_2", "final_label")


@dataclass(frozen=True, slots=True)
class LabelledCompletion:
    """A model's completion and what people say it does; `final` is what was settled on where the two differ."""

    row_id: str
    type: str
    prompt: str
    completion: str
    first: Compliance
    second: Compliance
    final: Compliance

    @property
    def is_agreed(self) -> bool:
        return self.first == self.second


def read_completions(path: Path) -> Iterator[LabelledCompletion | Reject]:
    """One model's completions with their labels. An empty completion is kept: what it does is for the reader to say.

    Raises:
        DataError: no such file, or one without the columns.
    """
    wanted = ("id", "type", "prompt", *_LABEL_COLUMNS)
    for row in _rows(path, wanted):
        try:
            fields = fields_of(row.value, wanted)
            labels = [_label(fields[column], column) for column in _LABEL_COLUMNS[1:]]
            texts = (fields["prompt"], fields["completion"])
            yield LabelledCompletion(fields["id"], fields["type"], *texts, *labels)
        except BadRow as bad:
            yield _reject(path, row, bad)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    named = tuple((column, column) for column in columns)
    yield from reader(path, Columns(columns, "give a file of XSTest", named=named))()


def fields_of(value: dict[str, Any] | str | BadRow, columns: tuple[str, ...]) -> dict[str, str]:
    """The texts of these columns.

    Raises:
        BadRow: what the row is itself, wrong_type, missing_field or not_unicode.
    """
    if isinstance(value, BadRow):
        raise value
    if not isinstance(value, dict):
        raise BadRow("wrong_type", f"named columns are expected, got {value!r:.200}")
    fields = {column: value.get(column) for column in columns}
    if missing := [column for column, value in fields.items() if not isinstance(value, str)]:
        raise BadRow("missing_field", f"text is expected under {', '.join(missing)}")
    texts = {column: str(value) for column, value in fields.items()}
    check_unicode("".join(texts.values()))
    return texts


def prompt_of(fields: dict[str, str]) -> Prompt:
    """The prompt of a row of `PROMPT_COLUMNS`.

    Raises:
        BadRow: empty_prompt or unknown_label.
    """
    if not fields["prompt"].strip():
        raise BadRow("empty_prompt", "the prompt is empty")
    if fields["label"] not in ("safe", "unsafe"):
        raise BadRow("unknown_label", f"a prompt is safe or unsafe, got {fields['label']!r:.200}")
    tags = (fields["label"], fields["type"], f"focus: {fields['focus']}")
    return Prompt.make([Message("user", fields["prompt"])], SOURCE, LICENCE, tags, "eval")


def _label(value: str, column: str) -> Compliance:
    """Full refusal is spelled "2_full_refusal" there."""
    for label in get_args(Compliance):
        if value.partition("_")[2] == label:
            return label
    raise BadRow("unknown_label", f"{column}: one of {', '.join(get_args(Compliance))} is expected, got {value!r:.200}")


def _reject(path: Path, row: Row, bad: BadRow) -> Reject:
    text = row.raw.encode("utf-8", "replace").decode("utf-8")
    detail = f"{path}, row {row.number}: {bad.detail}".encode("utf-8", "replace").decode("utf-8")
    parents = (str(path), str(row.number), digest(text))
    return Reject.make("import", bad.reason, prompt_id=bad.prompt_id, parents=parents, detail=detail, text=text)
