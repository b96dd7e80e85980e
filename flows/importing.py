"""Prompts into the tables, in batches: read, met before or not, held out or not, committed. Memory does not grow with
the input, and an import that was killed goes on where it was. `cai prompts import` and a run's first step call it.
"""

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cai.config import PrivacyConfig, PromptSource
from cai.config.prompts import GENERATED
from cai.held_out import HeldOutGuard
from cai.privacy import Guard
from cai.prompts.drafts import text_of
from cai.records import Contamination, Prompt, Reject, digest
from cai.smallworld import world
from cai.splits import Split
from flows.held_out import without_held_out
from flows.runs import source_digest, write_atomically
from storage.delta import locked
from storage.import_report import ImportReport
from storage.imports import Parsed, duplicate, parse, small_world
from storage.seen import SeenIds
from storage.store import Store

BATCH_ROWS, BATCH_CHARS = 20_000, 32 * 2**20
"""What is in memory at a time: so many rows, or so much text."""


_STATE, _SEEN = "state.json", "seen.bin"


class Batch(NamedTuple):
    """What one commit took."""

    prompts: list[Prompt]
    rejects: list[Reject]
    contaminations: list[Contamination]


class Import(NamedTuple):
    """What is to be imported. `split` None takes both sides of an `eval_share`, and without one trains on all.

    `folder` keeps the state for the next process; None starts from the first row.
    """

    sources: Sequence[PromptSource]
    guard: HeldOutGuard
    split: Split | None = "train"
    seed: int = 0
    folder: Path | None = None
    dry_run: bool = False
    batch_rows: int = BATCH_ROWS
    generated: Sequence[Prompt] = ()
    """Rows of the source `generated`."""
    privacy: PrivacyConfig = PrivacyConfig()


def run_import(
    store: Store,
    wish: Import,
    take: Callable[[Batch], object] = lambda _: None,
    progress: Callable[[ImportReport], object] = lambda _: None,
) -> ImportReport:
    """Every row becomes a prompt or a reject with its reason; prompts that are stored already stay as they are.

    Each batch is committed before it is noted as done, and ids are digests of what rows say: a batch that a kill cut
    short is done again and changes nothing, so the tables are those of an import that nobody stopped.

    Args:
        store: the tables; a dry run only reads them.
        wish: what is imported.
        take: gets each batch once it is committed; after a kill, from the batch on that was not noted.
        progress: gets the counts after each batch.

    Raises:
        DataError: see `storage.imports.parse`.
        StorageError: a table could not be written; what was committed stays, and the same import goes on from there.
            Or another process has been at the same import for five minutes.
    """
    lock = nullcontext() if wish.folder is None else locked(wish.folder.with_name(f"{wish.folder.name}.lock"))
    with lock, _collector_at_rest():
        return _import(store, wish, take, progress)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Rows refer to each other in no circle, and the collector's looking for one takes a fifth of an import. What
    libraries leave is collected after each batch.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _import(
    store: Store, wish: Import, take: Callable[[Batch], object], progress: Callable[[ImportReport], object]
) -> ImportReport:
    state = _State.open(wish.folder)
    privacy = Guard(wish.privacy, state.report.personal)
    with closing(state.seen):
        for number, source in enumerate(wish.sources):
            if number < state.source:
                continue
            rows = _rows(source, wish, state.row, privacy)
            for group in _groups(rows, wish.batch_rows):
                batch = _checked(store, source, wish, group, state.seen, privacy)
                if not wish.dry_run:
                    batch = _committed(store, batch)
                take(batch)
                state.report.count(len(group), *batch)
                state.report.personal = privacy.tally()
                state.note(number, state.row + len(group), group)
                progress(state.report)
                gc.collect(1)
            state.note(number + 1, 0, [])
    state.forget()
    return state.report


_Row = Parsed | Prompt | Reject


def _rows(source: PromptSource, wish: Import, skip: int, privacy: Guard) -> Iterator[_Row]:
    if source.path == world.SOURCE:
        made = list(small_world(source, wish.split or "train", wish.seed))
        return iter(made[skip:])
    if source.path == GENERATED:
        return (Parsed(prompt, None, n, text_of(prompt.messages)) for n, prompt in enumerate(wish.generated[skip:], 1))
    return parse(source, wish.seed, privacy, skip)


def _groups(rows: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    group: list[_Row] = []
    n_chars = 0
    for row in rows:
        group.append(row)
        n_chars += len(row.raw) if isinstance(row, Parsed) else 0
        if len(group) >= size or n_chars >= BATCH_CHARS:
            yield group
            group, n_chars = [], 0
    if group:
        yield group


def _checked(
    store: Store, source: PromptSource, wish: Import, group: Sequence[_Row], seen: SeenIds, privacy: Guard
) -> Batch:
    """What may be used of a batch, and why the rest may not. Writes nothing."""
    parsed = [row for row in group if isinstance(row, Parsed)]
    first: dict[str, str | None] = dict.fromkeys(seen.find([row.prompt.prompt_id for row in parsed]))
    if any(row.prompt.expected is not None and row.prompt.prompt_id in first for row in parsed):
        first |= {key: row.expected for key, row in store.find_all(Prompt, list(first)).items()}
    rows: list[Prompt | Reject] = []
    for row in group:
        if not isinstance(row, Parsed):
            rows.append(row)
        elif (prompt := _placed(row.prompt, source, wish.split)) is None:
            continue
        elif (repeated := duplicate(source, row, first, privacy)) is not None:
            rows.append(repeated)
        else:
            first[prompt.prompt_id] = prompt.expected
            rows.append(prompt)
    checked, repeats = without_held_out(rows, wish.guard)
    prompts = [row for row in checked if isinstance(row, Prompt)]
    return Batch(prompts, [row for row in checked if isinstance(row, Reject)], repeats)


def _placed(prompt: Prompt, source: PromptSource, split: Split | None) -> Prompt | None:
    """The prompt on its side of the split, None where that is not asked for."""
    if source.eval_share is None:
        return prompt if prompt.split == (split or "train") else replace(prompt, split=split or "train")
    return prompt if split in (None, prompt.split) else None


def _committed(store: Store, batch: Batch) -> Batch:
    store.append([*batch.prompts, *batch.rejects, *batch.contaminations], index=False)
    refused = {row.prompt_id: row for row in _refused_by_home(store, batch.prompts)}
    store.append(list(refused.values()), index=False)
    return Batch(
        [prompt for prompt in batch.prompts if prompt.prompt_id not in refused],
        [*batch.rejects, *refused.values()],
        batch.contaminations,
    )


def _refused_by_home(store: Store, prompts: Sequence[Prompt]) -> Iterator[Reject]:
    """Stored prompts that the home knows otherwise. It knows one answer to a prompt, which may be learnt later, and
    never measures with a prompt that it has to train on.
    """
    asked = [prompt for prompt in prompts if prompt.expected is not None or prompt.split == "eval"]
    if not asked:
        return
    known = store.find_all(Prompt, [prompt.prompt_id for prompt in asked])
    learnt = []
    for prompt in asked:
        first = known[prompt.prompt_id]
        if prompt.split == "eval" and first.split == "train":
            yield _reject(
                prompt, "stored_to_train", "the home has this prompt to train on; use another one, or another --home"
            )
        elif prompt.expected is not None and first.expected is None:
            learnt.append(replace(first, expected=prompt.expected))
        elif prompt.expected is not None and first.expected != prompt.expected:
            yield _reject(
                prompt,
                "conflicting_expected",
                f"{prompt.source} expects {prompt.expected!r}, and an earlier import {first.expected!r}: correct one "
                "of them, or use another --home",
            )
    store.upsert(learnt)


def _reject(prompt: Prompt, reason: str, detail: str) -> Reject:
    parents = (prompt.prompt_id, str(prompt.expected))
    return Reject.make("import", reason, prompt_id=prompt.prompt_id, parents=parents, detail=detail)


class _State:
    """How far an import is: the source, its rows that are done, and the counts; and the ids of all prompts so far."""

    def __init__(self, folder: Path | None, source: int, row: int, report: ImportReport, seen: SeenIds) -> None:
        self.source, self.row, self.report, self.seen = source, row, report, seen
        self._folder = folder

    @staticmethod
    def open(folder: Path | None) -> "_State":
        if folder is None:
            return _State(None, 0, 0, ImportReport(), SeenIds(None))
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / _STATE
        body = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        report = ImportReport.from_json(body.get("report", {}))
        seen = SeenIds(folder / _SEEN, body.get("n_seen", 0))
        return _State(folder, body.get("source", 0), body.get("row", 0), report, seen)

    def note(self, source: int, row: int, group: Sequence[_Row]) -> None:
        """A batch is committed: the ids first, then what makes them count."""
        self.seen.add(list(dict.fromkeys(each.prompt.prompt_id for each in group if isinstance(each, Parsed))))
        self.source, self.row = source, row
        if self._folder is not None:
            body = {"source": source, "row": row, "n_seen": self.seen.n, "report": self.report.to_json()}
            write_atomically(self._folder / _STATE, json.dumps(body))

    def forget(self) -> None:
        if self._folder is not None:
            (self._folder / _STATE).unlink()
            shutil.rmtree(self._folder)


def import_folder(
    home: Path, sources: Sequence[PromptSource], split: Split | None, seed: int, privacy: PrivacyConfig | None = None
) -> Path:
    """Where the state of this import is kept: other files, other settings, another folder.

    Raises:
        DataError: a source is not there.
    """
    parts = [[source.model_dump(mode="json"), source_digest(source, split or "train", seed)] for source in sources]
    policy = (privacy or PrivacyConfig()).model_dump(mode="json")
    return home / "imports" / digest("import", parts, split, seed, policy)[:16]
