"""Prompts into the tables, in batches: read, met before or not, held out or not, committed. Memory does not grow with
the input, and an import that was killed goes on where it was. `cai prompts import` and a run's steps call it.
"""

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
from flows.import_state import ImportState
from flows.runs import source_digest
from storage.delta import locked
from storage.import_report import ImportReport
from storage.imports import Parsed, duplicate, parse, small_world
from storage.seen import IdsOnDisk, SeenIds
from storage.store import Store

BATCH_ROWS, BATCH_CHARS = 20_000, 32 * 2**20
"""What is in memory at a time: so many rows, or so much text."""


class Batch(NamedTuple):
    """What one commit took; the prompts as the home has them, which may have had them before."""

    prompts: list[Prompt]
    rejects: list[Reject]
    contaminations: list[Contamination]
    answers: Mapping[str, str]
    """By prompt, where a prompt came with one: the source names an `answer_column`."""


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
    before: Collection[str] = ()
    """Ids of prompts that count as met when the import begins."""


class Importing:
    """An import under way."""

    def __init__(self, store: Store, wish: Import, state: ImportState) -> None:
        self._store, self._wish, self._state = store, wish, state

    @property
    def report(self) -> ImportReport:
        """What was counted so far, also before a kill."""
        return self._state.report

    def ids(self, name: str) -> IdsOnDisk:
        """A file of ids that goes with this import: what is added while a batch is at hand counts once it is noted."""
        return self._state.ids(name)

    def batches(self) -> Iterator[Batch]:
        """Each batch once it is committed; after a kill, from the batch on that was not noted.

        It is noted as done when the next one is asked for.
        """
        state, wish = self._state, self._wish
        privacy = Guard(wish.privacy, state.report.personal)
        for number in range(state.source, len(wish.sources)):
            source = wish.sources[number]
            for group in _groups(_rows(source, wish, state.row, privacy), wish.batch_rows):
                batch = _checked(self._store, source, wish, group, state.seen, privacy)
                if not wish.dry_run:
                    batch = _committed(self._store, batch)
                state.report.count(len(group), batch.prompts, batch.rejects, batch.contaminations)
                state.report.personal = privacy.tally()
                yield batch
                met = dict.fromkeys(row.prompt.prompt_id for row in group if isinstance(row, Parsed))
                state.note(number, state.row + len(group), list(met))
                group.clear()
                del batch  # rows that are gone the collector need not go through
                gc.collect(1)
            state.note(number + 1, 0, [])


@contextmanager
def importing(store: Store, wish: Import) -> Iterator[Importing]:
    """An import to go through. What a kill or an error leaves of the block goes on; where it ends well, its state and
    its files of ids are gone.

    Every row becomes a prompt or a reject with its reason; prompts that are stored already stay as they are. Each batch
    is committed before it is noted as done, and ids are digests of what rows say: a batch that a kill cut short is done
    again and changes nothing, so the tables are those of an import that nobody stopped.

    Raises:
        DataError: see `storage.imports.parse`.
        StorageError: a table could not be written; what was committed stays, and the same import goes on from there.
            Or another process has been at the same import for five minutes.
    """
    lock = nullcontext() if wish.folder is None else locked(wish.folder.with_name(f"{wish.folder.name}.lock"))
    with lock, closing(ImportState(wish.folder, wish.before)) as state:
        yield Importing(store, wish, state)
        state.forget()


def run_import(
    store: Store,
    wish: Import,
    take: Callable[[Batch], object] = lambda _: None,
    progress: Callable[[ImportReport], object] = lambda _: None,
) -> ImportReport:
    """The whole of an import; see `importing`.

    Args:
        store: the tables; a dry run only reads them.
        wish: what is imported.
        take: gets each batch.
        progress: gets the counts after each batch.
    """
    with importing(store, wish) as under_way, collector_at_rest():
        for batch in under_way.batches():
            take(batch)
            progress(under_way.report)
            del batch
        return under_way.report


@contextmanager
def collector_at_rest() -> Iterator[None]:
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


_Row = Parsed | Prompt | Reject


def _rows(source: PromptSource, wish: Import, skip: int, privacy: Guard) -> Iterator[_Row]:
    if source.path == world.SOURCE:
        made = list(small_world(source, wish.split or "train", wish.seed))
        return iter(made[skip:])
    if source.path == GENERATED:
        return (Parsed(prompt, None, n, text_of(prompt.messages)) for n, prompt in enumerate(wish.generated[skip:], 1))
    return parse(source, wish.seed, privacy, skip, wish.split or "train")


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
    answers: dict[str, str] = {}
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
            if row.answer is not None:
                answers[prompt.prompt_id] = row.answer
    checked, repeats = without_held_out(rows, wish.guard)
    prompts = [row for row in checked if isinstance(row, Prompt)]
    return Batch(prompts, [row for row in checked if isinstance(row, Reject)], repeats, answers)


def _placed(prompt: Prompt, source: PromptSource, split: Split | None) -> Prompt | None:
    """The prompt on its side of the split, None where that is not asked for."""
    if source.eval_share is None:
        return prompt if prompt.split == (split or "train") else replace(prompt, split=split or "train")
    return prompt if split in (None, prompt.split) else None


def _committed(store: Store, batch: Batch) -> Batch:
    written = store.append([*batch.prompts, *batch.rejects, *batch.contaminations], index=False)
    refused = {row.prompt_id: row for row in _refused_by_home(store, batch.prompts)}
    store.append(list(refused.values()), index=False)
    prompts = [prompt for prompt in batch.prompts if prompt.prompt_id not in refused]
    if written.get("prompts", 0) < len(batch.prompts):
        known = store.find_all(Prompt, [prompt.prompt_id for prompt in prompts])
        prompts = [known[prompt.prompt_id] for prompt in prompts]
    return batch._replace(prompts=prompts, rejects=[*batch.rejects, *refused.values()])


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
