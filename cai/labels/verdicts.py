"""Stored comparisons as columns: what a judge said of a pair under a principle, in both orders. Pure; numpy.

`storage/verdicts.py` reads the same columns from the tables in SQL, a million rows in seconds. All that is measured of
labels (`agreement.py`, `sources.py`) is computed from these, however they were read.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai.intervals import Floats, dealt

Codes = NDArray[np.int_]


class Encoded(NamedTuple):
    """A column of names, as places in the list of them all."""

    codes: Codes
    names: list[str]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One row a judge, principle (with the texts and the way it was asked in) and pair, each column `(n,)`.

    `ab`, `ba` are P(a is better) when a was shown first and when b was, several samples averaged; NaN where that order
    was not asked or is unscored. `mass_outside` is the mean of its asks. `longer` is 1 where a is the longer text (in
    characters), -1 where b is, 0 where both are as long, NaN where a text is not stored. The codes in `judge`,
    `principle`, `prompt` and `pair` are places in the lists of names.
    """

    judge: Codes
    principle: Codes
    prompt: Codes
    pair: Codes
    ab: Floats
    ba: Floats
    mass_outside: Floats
    longer: Floats
    judges: list[str]
    principles: list[str]
    prompts: list[str]
    pairs: list[str]
    """Each as `response_a/response_b`."""

    @staticmethod
    def of(
        judge: Encoded,
        principle: Encoded,
        prompt: Encoded,
        pair: Encoded,
        *,
        ab: Floats,
        ba: Floats,
        mass_outside: Floats,
        longer: Floats,
    ) -> "Verdicts":
        codes = (judge.codes, principle.codes, prompt.codes, pair.codes)
        return Verdicts(*codes, ab, ba, mass_outside, longer, judge.names, principle.names, prompt.names, pair.names)

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """Both orders were asked and can be read: one alone would be the verdict plus the position bias."""
        scored: NDArray[np.bool_] = ~np.isnan(self.ab + self.ba)
        return scored

    @property
    def p_a(self) -> Floats:
        """P(a is better) with the position averaged out; NaN where unscored."""
        return (self.ab + self.ba) / 2

    def where(self, chosen: NDArray[np.bool_]) -> "Verdicts":
        columns = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if not f.name.endswith("s")}
        return replace(self, **columns)


def encoded(column: Sequence[str]) -> Encoded:
    """Names as places in the sorted list of all of them."""
    names = sorted(set(column))
    place = {name: code for code, name in enumerate(names)}
    return Encoded(np.array([place[name] for name in column], dtype=np.int_), names)


def lean(p: Floats, tie_band: float) -> Floats:
    """1 where a is better, -1 where b is, 0 within the band about 0.5; NaN stays."""
    away = p - 0.5
    return np.where(np.abs(away) <= tie_band + 1e-12, 0.0 * away, np.sign(away))


def groups_of(prompts: Sequence[Hashable], codes: Codes, seed: int) -> Codes:
    """The group that each row's prompt is resampled with: the prompt itself, where there are not too many."""
    return dealt(len(prompts), np.random.default_rng(seed))[codes]
