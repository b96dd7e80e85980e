"""Prompts into the tables, in batches: read, met before or not, held out or not, committed. Memory does not grow with
the input, and an import that was killed goes on where it was. `cai prompts import` and a run's steps call it.
"""

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cai.config import Config, PrivacyConfig, PromptSource
from cai.config.prompts import GENERATED
from cai.held_out import HeldOutGuard
from cai.privacy import Guard
from cai.prompts.drafts import text_of
from cai.records import Contamination, Prompt, Reject, digest
from cai.smallworld import world
from cai.splits import Split
from flows.held_out import without_held_out
from flows.import_home import DryHome, Home, StoredHome, compared
from flows.import_state import ImportState
from flows.runs import source_digest
from storage.delta import locked
from storage.import_report import ImportReport
from storage.imports import Parsed, duplicate, held_out_side, parse, small_world
from storage.seen import IdsOnDisk, SeenIds
from storage.store import Store

BATCH_ROWS, BATCH_CHARS = 40_000, 32 * 2**20
"""What is in memory at a time: so many rows, or so much text."""


class Batch(NamedTuple):
    """What one commit took; the prompts as the home has them, which may have had them before."""

    prompts: list[Prompt]
    rejects: list[Reject]
    contaminations: list[Contamination]
    answers: Mapping[str, str]
    """By prompt, where a prompt came with one: the source names an `answer_column`."""
    otherwise: Mapping[str, int] = {}
    """How many of the prompts have another licence, origin or kind in the home."""


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
        has_answers = any(source.expected_column is not None for source in wish.sources)
        home: Home = DryHome(self._store, has_answers) if wish.dry_run else StoredHome(self._store)
        for number in range(state.source, len(wish.sources)):
            source = wish.sources[number]
            for group in _groups(_rows(source, wish, state.row, privacy), wish.batch_rows):
                batch = _committed(home, source, _checked(source, wish, group, state.seen), privacy)
                state.report.count(len(group), batch.prompts, batch.rejects, batch.contaminations)
                state.report.otherwise.update(batch.otherwise)
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
        yield Importing(store, _with_own_side(store, wish), state)
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
        progress: gets the counts before the first batch and after each.
    """
    with importing(store, wish) as under_way, collector_at_rest():
        progress(under_way.report)
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


_Row = Parsed | Reject


def _rows(source: PromptSource, wish: Import, skip: int, privacy: Guard) -> Iterator[_Row]:
    if source.path == world.SOURCE:
        return islice(small_world(source, wish.split or "train", wish.seed), skip, None)
    if source.path == GENERATED:
        rows = (Parsed(row, None, n, text_of(row.messages)) for n, row in enumerate(wish.generated, 1))
        return islice(rows, skip, None)
    return parse(source, wish.seed, privacy, skip, split=wish.split or "train")


def _groups(rows: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    group: list[_Row] = []
    n_chars = 0
    for row in rows:
        group.append(row)
        n_chars += len(row.raw if isinstance(row, Parsed) else row.text)
        if len(group) >= size or n_chars >= BATCH_CHARS:
            yield group
            group, n_chars = [], 0
    if group:
        yield group


class _Checked(NamedTuple):
    """What may be used of a batch, and why the rest may not, as far as its rows say."""

    batch: Batch
    repeated: list[Parsed]
    """Rows of prompts that were met before."""


def _checked(source: PromptSource, wish: Import, group: Sequence[_Row], seen: SeenIds) -> _Checked:
    parsed = [row for row in group if isinstance(row, Parsed)]
    met = seen.find([row.prompt.prompt_id for row in parsed])
    rows: list[Prompt | Reject] = []
    repeated: list[Parsed] = []
    answers: dict[str, str] = {}
    for row in group:
        if not isinstance(row, Parsed):
            rows.append(row)
        elif (prompt := _placed(row.prompt, source, wish.split)) is None:
            continue
        elif prompt.prompt_id in met:
            repeated.append(row)
        else:
            met.add(prompt.prompt_id)
            rows.append(prompt)
            if row.answer is not None:
                answers[prompt.prompt_id] = row.answer
    checked, repeats = without_held_out(rows, wish.guard)
    prompts = [row for row in checked if isinstance(row, Prompt)]
    rejects = [row for row in checked if isinstance(row, Reject)]
    return _Checked(Batch(prompts, rejects, repeats, answers), repeated)


def _placed(prompt: Prompt, source: PromptSource, split: Split | None) -> Prompt | None:
    """The prompt on its side of the split, None where that is not asked for."""
    if source.eval_share is None:
        return prompt if prompt.split == (split or "train") else replace(prompt, split=split or "train")
    return prompt if split in (None, prompt.split) else None


def _committed(home: Home, source: PromptSource, checked: _Checked, privacy: Guard) -> Batch:
    """The batch as the home has it. Prompts are written first: what another process wrote meanwhile is found."""
    batch, repeated = checked
    n_new = home.add(batch.prompts)
    asked = [row.prompt for row in repeated if row.prompt.expected is not None]
    if n_new < len(batch.prompts):
        asked += batch.prompts
    known = home.known(asked) if asked else {}
    prompts, rejects, learnt, otherwise = compared(batch.prompts, known)
    known |= learnt
    for row in repeated:
        first = known.get(row.prompt.prompt_id)
        rejects.append(duplicate(source, row, None if first is None else first.expected, privacy))
        if first is not None and first.expected is None and row.prompt.expected is not None:
            known[first.prompt_id] = learnt[first.prompt_id] = replace(first, expected=row.prompt.expected)
    if learnt:
        home.learn(learnt.values())
        prompts = [learnt.get(prompt.prompt_id, prompt) for prompt in prompts]
    rejects += batch.rejects
    home.add([*rejects, *batch.contaminations])
    return batch._replace(prompts=prompts, rejects=rejects, otherwise=otherwise)


def _with_own_side(store: Store, wish: Import) -> Import:
    """What an `eval_share` of these sources holds out is held out from the first row on, for an import that was killed
    or is done twice has it in the home. A prompt that the home has to train on is not measured with.
    """
    if wish.split == "eval" or all(source.eval_share is None for source in wish.sources):
        return wish
    own = {prompt.prompt_id: prompt for prompt in held_out_side(wish.sources, wish.seed, wish.privacy)}
    if wish.split is None:
        stored = store.find_all(Prompt, list(own))
        own = {key: prompt for key, prompt in own.items() if key not in stored or stored[key].split == "eval"}
    return wish._replace(guard=wish.guard.with_evaluation(own.values()))


def import_folder(
    home: Path, sources: Sequence[PromptSource], split: Split | None, seed: int, privacy: PrivacyConfig | None = None
) -> Path:
    """Where the state of this import is kept: other files, other settings, another folder. Settings that are left as
    they come do not count, so that a later version with more of them goes on.

    Raises:
        DataError: a source is not there.
    """
    parts = [[_stated(source), source_digest(source, split or "train", seed)] for source in sources]
    policy = _stated(privacy or PrivacyConfig())
    return home / "imports" / digest("import", parts, split, seed, policy)[:16]


def _stated(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_defaults=True)
