"""Preferences of people from files into the tables: prompts, given responses, annotations, and rejects with reasons.

Read as a stream and committed in batches; ids follow from content, so a file that was stopped half-way, or comes
twice, adds what is missing and nothing else. What a row says is in `storage/statements.py`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import DataError
from cai.files import file_digest
from cai.held_out import NEAR, HeldOutGuard, contaminations
from cai.labels.pseudonym import pseudonym
from cai.privacy import REASON, Guard, refusal
from cai.records import Annotation, Contamination, Prompt, Record, Reject, Response
from storage.dialogues import BadRow
from storage.rows import Columns, Row, reader
from storage.statements import ANNOTATOR_COLUMNS, CONTENT_COLUMNS, Compared, Shape, Statement, check_pair, statement_of
from storage.store import Store

BATCH = 5_000
"""Rows that are committed at a time."""
STAGE = "annotations"
_HINT = "`cai labels import --help` shows the four shapes that are read"
_ANY_OF = ("prompt", "input", "messages", "chosen")
_SAFE_TO_QUOTE = frozenset({"bad_json", "bad_csv", "too_long", "empty_prompt"})
"""What is said of a row that could not be read at all and quotes nothing of it: an annotator's id may be anywhere."""


@dataclass(frozen=True)
class Import:
    """What is known of a file besides its rows. `salt` hashes annotators."""

    source: str
    salt: bytes = field(repr=False)
    objective: str = ""
    shape: Shape | None = None
    is_gold: bool = False
    licence: str = ""


class Imported(NamedTuple):
    """`n_rows` are what was read, `n_pairs` what they compare: new + known + rejects of pairs."""

    n_rows: int
    n_pairs: int
    n_new: int
    n_known: int
    rejects: Counter[str]

    def plus(self, other: "Imported") -> "Imported":
        return Imported(
            self.n_rows + other.n_rows,
            self.n_pairs + other.n_pairs,
            self.n_new + other.n_new,
            self.n_known + other.n_known,
            self.rejects + other.rejects,
        )


class Said(NamedTuple):
    """One row: a pair or, of a ranking, several."""

    prompt: Prompt
    responses: tuple[Response, ...]
    annotations: tuple[Annotation, ...]
    where: "_Where"


class _Where(NamedTuple):
    """A row's place: the same whatever the file is called and wherever it lies."""

    path: Path
    file_digest: str
    number: int

    def reject(
        self, source: str, reason: str, detail: str, text: str = "", prompt_id: str = "", pair: str = ""
    ) -> Reject:
        parents = [source, self.file_digest, str(self.number), *filter(None, [pair])]
        said = f"{self.path.name}, row {self.number}: {detail}".encode("utf-8", "replace").decode("utf-8")
        kept = text.encode("utf-8", "replace").decode("utf-8")
        return Reject.make(STAGE, reason, prompt_id=prompt_id, parents=parents, detail=said, text=kept)


def import_annotations(
    store: Store,
    path: Path,
    asked: Import,
    *,
    guard: Guard | None = None,
    held_out: HeldOutGuard | None = None,
    dry_run: bool = False,
    progress: Callable[[Imported], None] | None = None,
) -> Imported:
    """One file into the tables.

    Args:
        store: where rows go.
        path: JSONL, CSV or Parquet, text also as .gz.
        asked: what is known of it.
        guard: does about personal items what its policy says, and counts them; None has the defaults.
        held_out: what is measured with. A row whose prompt repeats some of it is a reject, and in `contaminations`;
            one about the very prompt is kept, to compare with its gold labels, and trained on by nobody. None for
            gold labels, which are there to measure with.
        dry_run: count and write nothing.
        progress: told after every batch how far it is.

    Raises:
        DataError: no such file, an empty one, one in another format, or one that breaks off in the middle.
        StorageError: the tables could not be read or written; what was committed before stays.
    """
    rows = read_annotations(path, asked, guard)
    done = Imported(0, 0, 0, 0, Counter())
    seen: dict[bytes, float] = {}
    while read := list(islice(rows, BATCH)):
        batch, repeats = _without_repeats(read, asked, held_out)
        checked = _check(store, batch, seen, asked)
        if not dry_run:
            store.append([*checked.records, *repeats])
        n_pairs = sum(len(row.annotations) for row in batch if isinstance(row, Said))
        rejects = Counter(row.reason for row in checked.records if isinstance(row, Reject))
        done = done.plus(Imported(len(batch), n_pairs, checked.n_new, checked.n_known, rejects))
        if progress is not None:
            progress(done)
    if not done.n_rows:
        raise DataError(f"{path} has no rows; expected at least one preference in it")
    return done


def read_annotations(path: Path, asked: Import, guard: Guard | None = None) -> Iterator[Said | Reject]:
    """What each row of a file says, in its order, with annotators hashed; a row that says nothing is a reject. Neither
    has what `guard` hides (None: what it hides by default), and ids are of what is left.

    Raises:
        DataError: see `import_annotations`.
    """
    columns = Columns(_ANY_OF, _HINT, others=(*CONTENT_COLUMNS, *ANNOTATOR_COLUMNS, "ContextString"))
    rows = reader(path, columns)
    source_digest = file_digest(path)[:32]
    guard = guard or Guard()
    return (_read(row, _Where(path, source_digest, row.number), asked, guard) for row in rows())


def _read(row: Row, where: _Where, asked: Import, guard: Guard) -> Said | Reject:
    if isinstance(row.value, BadRow):
        bad = row.value
        detail = bad.detail if bad.reason in _SAFE_TO_QUOTE else "an object with named values is expected"
        return where.reject(asked.source, bad.reason, detail)
    try:
        return _said(statement_of(row.value, asked.shape, asked.objective), where, asked, guard)
    except BadRow as bad:
        text = _without_annotator(row.value)
        detail = guard.detail(bad.detail, text)
        return where.reject(asked.source, bad.reason, detail, guard.raw(text), bad.prompt_id)


def _said(statement: Statement, where: _Where, asked: Import, guard: Guard) -> Said:
    prompt = Prompt.make(statement.messages, asked.source, asked.licence, split="eval" if asked.is_gold else "train")
    prompt, statement = _guarded(prompt, statement, guard)
    annotator = pseudonym(statement.annotator, asked.salt)
    responses: dict[str, Response] = {}
    annotations = []
    for compared in statement.compared:
        pair = [Response.given(prompt.prompt_id, text, asked.source) for text in (compared.first, compared.second)]
        responses.update((response.response_id, response) for response in pair)
        annotations.append(_annotation(compared, pair, statement, annotator, asked))
    return Said(prompt, tuple(responses.values()), tuple(annotations), where)


def _guarded(prompt: Prompt, statement: Statement, guard: Guard) -> tuple[Prompt, Statement]:
    """The prompt, the responses and the group as they may be stored.

    Raises:
        BadRow: the policy rejects what is in one of them, or nothing is left that sets two responses apart.
    """
    compared = statement.compared
    given = list(dict.fromkeys(text for pair in compared for text in (pair.first, pair.second)))
    prompt, texts, refused = guard.conversation(prompt, (*given, statement.group))
    if refused:
        raise BadRow(REASON, refusal(refused), prompt.prompt_id)
    *left, group = texts
    if left == given:
        return prompt, statement._replace(group=group)
    text_of = dict(zip(given, left, strict=True))
    pairs = tuple(Compared(text_of[pair.first], text_of[pair.second], pair.p_first) for pair in compared)
    for pair in pairs:
        check_pair(pair)
    return prompt, statement._replace(compared=pairs, group=group)


def _annotation(
    compared: Compared, pair: Sequence[Response], statement: Statement, annotator: str, asked: Import
) -> Annotation:
    a, b = sorted(response.response_id for response in pair)
    return Annotation(
        annotation_id=Annotation.make_id(a, b, asked.source, annotator, statement.objective, asked.is_gold),
        prompt_id=pair[0].prompt_id,
        response_a=a,
        response_b=b,
        p_a=compared.p_first if a == pair[0].response_id else 1.0 - compared.p_first,
        source=asked.source,
        annotator=annotator,
        group=statement.group,
        objective=statement.objective,
        is_gold=asked.is_gold,
    )


def _without_annotator(value: Mapping[str, Any] | str) -> str:
    """What is kept of a row that is rejected: the columns that are read, without who said it."""
    if isinstance(value, str):
        return ""
    kept = {name: value[name] for name in CONTENT_COLUMNS if name in value}
    return json.dumps(kept, ensure_ascii=False, default=str)


class _Apart(NamedTuple):
    rows: list[Said | Reject]
    repeats: list[Contamination]


def _without_repeats(rows: Sequence[Said | Reject], asked: Import, held_out: HeldOutGuard | None) -> _Apart:
    """The rows, those that repeat what is held out as rejects."""
    apart = _Apart([], [])
    for row in rows:
        if isinstance(row, Reject) or held_out is None or (refused := held_out.refusal(row.prompt)) is None:
            apart.rows.append(row)
        elif refused.reason == NEAR:
            text, prompt_id = row.prompt.messages[-1].content, row.prompt.prompt_id
            apart.rows.append(row.where.reject(asked.source, refused.reason, refused.detail, text, prompt_id))
            apart.repeats.extend(contaminations(row.prompt, refused, "import"))
        else:
            apart.rows.append(row._replace(prompt=replace(row.prompt, split="eval")))
    return apart


# Once by pair, source, annotator and objective


class _Checked(NamedTuple):
    records: list[Record]
    n_new: int
    n_known: int


def _check(store: Store, batch: Sequence[Said | Reject], seen: dict[bytes, float], asked: Import) -> _Checked:
    """What is to be written of a batch. `seen` is what the file said before: some 100 bytes a pair."""
    stored = _stored(store, [said.annotation_id for row in batch if isinstance(row, Said) for said in row.annotations])
    records: list[Record] = []
    n_new = n_known = 0
    for row in batch:
        if isinstance(row, Reject):
            records.append(row)
            continue
        records += [row.prompt, *row.responses]
        for said in row.annotations:
            key = bytes.fromhex(said.annotation_id)
            earlier, known = seen.get(key), stored.get(said.annotation_id)
            if earlier is not None or known not in (None, said.p_a):
                records.append(_said_before(said, earlier, known, row.where, asked))
            elif known is None:
                records.append(said)
                n_new += 1
            else:
                n_known += 1
            seen.setdefault(key, said.p_a)
    return _Checked(records, n_new, n_known)


def _stored(store: Store, ids: Sequence[str]) -> dict[str, float]:
    sql = "SELECT annotation_id, p_a FROM annotations WHERE annotation_id IN (SELECT unnest(?::VARCHAR[]))"
    return {row["annotation_id"]: row["p_a"] for row in store.query(sql, [list(ids)])}


def _said_before(said: Annotation, earlier: float | None, known: float | None, where: _Where, asked: Import) -> Reject:
    who = "this annotator" if said.annotator else "a source that names no annotators"
    if earlier == said.p_a:
        reason, detail = "duplicate_annotation", f"{who} has said the same of this pair in an earlier row"
    else:
        first, place = (earlier, "in an earlier row") if earlier is not None else (known, "in an earlier import")
        reason = "conflicting_annotation"
        detail = f"{who} says P(a)={said.p_a} of this pair and said {first} {place}; what came first stays"
    return where.reject(asked.source, reason, detail, prompt_id=said.prompt_id, pair=said.annotation_id)


# Gold


def gold_prompts(store: Store) -> frozenset[str]:
    """The prompts that some gold label is about: measured with, and never trained on."""
    return frozenset(
        row["prompt_id"] for row in store.query("SELECT DISTINCT prompt_id FROM annotations WHERE is_gold")
    )
