"""What every source of labels says of a pair, side by side: judges, their principles, people, files; and gold. Pure.

A judge's opinion is the mean P(a better) over the principles it was asked about, each counting once, the position
averaged out. Gold is the mean of the gold annotations of a pair.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai.intervals import Floats
from cai.labels.verdicts import Codes, Verdicts, encoded, groups_of


class Source(NamedTuple):
    """`judge` is the judge that a principle was applied by, "" for other kinds. A file is a source of annotations that
    names no annotators.
    """

    kind: Literal["judge", "principle", "person", "file"]
    name: str
    judge: str = ""


@dataclass(frozen=True, slots=True)
class Annotated:
    """Annotations as columns, each `(n,)`; `pair` is `response_a/response_b`."""

    prompt: Sequence[str] = ()
    pair: Sequence[str] = ()
    source: Sequence[str] = ()
    annotator: Sequence[str] = ()
    p_a: Floats = field(default_factory=lambda: np.zeros(0))
    is_gold: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class Opinions:
    """One row a source and pair. By pair are `prompt`, the `group` it is resampled with, and, NaN where unknown, `gold`
    and `longer` (see `Verdicts`).
    """

    source: Codes
    pair: Codes
    p_a: Floats
    sources: list[Source]
    pairs: list[str]
    prompts: list[str]
    prompt: Codes
    group: Codes
    gold: Floats
    longer: Floats

    def of(self, kinds: Sequence[str], judge: str = "") -> list[int]:
        """The codes of the sources of these kinds, and of this judge where they are principles."""
        return [code for code, each in enumerate(self.sources) if each.kind in kinds and each.judge == judge]


def opinions_of(verdicts: Verdicts, said: Annotated | None = None, *, seed: int = 0) -> Opinions:
    """Everything known of the pairs that were compared or annotated."""
    said = said or Annotated()
    pairs = sorted({*verdicts.pairs, *said.pair})
    place = {pair: code for code, pair in enumerate(pairs)}
    compared = np.array([place[pair] for pair in verdicts.pairs], dtype=np.int_)[verdicts.pair]
    annotated_pair = np.array([place[pair] for pair in said.pair], dtype=np.int_)
    prompts = encoded([*verdicts.prompts, *said.prompt])
    prompt = np.zeros(len(pairs), dtype=np.int_)
    prompt[annotated_pair] = prompts.codes[len(verdicts.prompts) :]
    prompt[compared] = prompts.codes[: len(verdicts.prompts)][verdicts.prompt]
    longer = np.full(len(pairs), np.nan)
    longer[compared] = verdicts.longer
    parts = [*_judged(verdicts, compared, len(pairs)), *_said(said, annotated_pair)]
    return Opinions(
        np.repeat(np.arange(len(parts)), [len(part.pair) for part in parts]),
        np.concatenate([part.pair for part in parts]) if parts else np.zeros(0, dtype=np.int_),
        np.concatenate([part.p_a for part in parts]) if parts else np.zeros(0),
        [part.source for part in parts],
        pairs,
        prompts.names,
        prompt,
        groups_of(prompts.names, prompt, seed),
        _mean_by_pair(annotated_pair[said.is_gold], said.p_a[said.is_gold], len(pairs)),
        longer,
    )


class _Part(NamedTuple):
    source: Source
    pair: Codes
    p_a: Floats


def _judged(verdicts: Verdicts, pair: Codes, n_pairs: int) -> Iterable[_Part]:
    scored = verdicts.is_scored
    for judge, digest in enumerate(verdicts.judges):
        rows = scored & (verdicts.judge == judge)
        if not rows.any():
            continue
        yield _part(Source("judge", digest), pair[rows], verdicts.p_a[rows], n_pairs)
        for principle in np.unique(verdicts.principle[rows]):
            own = rows & (verdicts.principle == principle)
            yield _part(
                Source("principle", verdicts.principles[principle], digest), pair[own], verdicts.p_a[own], n_pairs
            )


def _said(said: Annotated, pair: Codes) -> Iterable[_Part]:
    names = [
        Source("person", f"{source}:{who}") if who else Source("file", source)
        for source, who in zip(said.source, said.annotator, strict=True)
    ]
    rows_of: dict[Source, list[int]] = {}
    for row, name in enumerate(names):
        if not said.is_gold[row]:
            rows_of.setdefault(name, []).append(row)
    for name in sorted(rows_of):
        yield _part(name, pair[rows_of[name]], said.p_a[rows_of[name]], int(pair.max()) + 1)


def _part(source: Source, pair: Codes, p_a: Floats, n_pairs: int) -> _Part:
    means = _mean_by_pair(pair, p_a, n_pairs)
    known = np.flatnonzero(~np.isnan(means))
    return _Part(source, known, means[known])


def _mean_by_pair(pair: Codes, p_a: Floats, n_pairs: int) -> Floats:
    with np.errstate(invalid="ignore"):
        means: Floats = np.bincount(pair, p_a, n_pairs) / np.bincount(pair, minlength=n_pairs)
    return means
