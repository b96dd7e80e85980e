"""Stored comparisons as columns: what a judge said of a pair under a principle, in both orders. Pure; numpy.

`storage/verdicts.py` reads the same columns from the tables in SQL, a million rows in seconds. All that is measured of
labels (`agreement.py`, `sources.py`) is computed from these, however they were read.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai.intervals import Floats, dealt
from cai.records import Comparison
from cai.verdict import Unscored, soft_verdict

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


class _Key(NamedTuple):
    judge: str
    template: str
    principle: str
    principle_digest: str
    method: str
    reasons: bool
    response_a: str
    response_b: str


def verdicts_of(
    comparisons: Iterable[Comparison], *, max_mass_outside: float = 0.5, lengths: Mapping[str, int] | None = None
) -> Verdicts:
    """The columns of these comparisons; `lengths` are the characters of each response, by id."""
    asked: dict[_Key, list[Comparison]] = defaultdict(list)
    for c in comparisons:
        mode = (c.method, c.reasoning is not None)
        principle = (c.principle_id, c.principle_digest)
        key = _Key(c.judge_digest, c.template_digest, *principle, *mode, c.response_a, c.response_b)
        asked[key].append(c)
    keys = sorted(asked)
    known = lengths or {}
    return Verdicts.of(
        encoded([key.judge for key in keys]),
        encoded([key.principle for key in keys]),
        encoded([asked[key][0].prompt_id for key in keys]),
        encoded([f"{key.response_a}/{key.response_b}" for key in keys]),
        ab=np.array([_mean_p(asked[key], "ab", max_mass_outside) for key in keys]),
        ba=np.array([_mean_p(asked[key], "ba", max_mass_outside) for key in keys]),
        mass_outside=np.array([float(np.mean([c.mass_outside for c in asked[key]])) for key in keys]),
        longer=np.array([_longer(known.get(key.response_a), known.get(key.response_b)) for key in keys]),
    )


def encoded(column: Sequence[str]) -> Encoded:
    """Names as places in the sorted list of all of them."""
    names = sorted(set(column))
    place = {name: code for code, name in enumerate(names)}
    return Encoded(np.array([place[name] for name in column], dtype=np.int_), names)


def _mean_p(asks: Sequence[Comparison], order: str, max_mass_outside: float) -> float:
    read = [soft_verdict(c, max_mass_outside=max_mass_outside) for c in asks if c.order == order]
    scored = [p for p in read if not isinstance(p, Unscored)]
    return sum(scored) / len(scored) if scored else float("nan")


def _longer(a: int | None, b: int | None) -> float:
    return float("nan") if a is None or b is None else float(np.sign(a - b))


def lean(p: Floats, tie_band: float) -> Floats:
    """1 where a is better, -1 where b is, 0 within the band about 0.5; NaN stays."""
    away = p - 0.5
    return np.where(np.abs(away) <= tie_band + 1e-12, 0.0 * away, np.sign(away))


def groups_of(prompts: Sequence[Hashable], codes: Codes, seed: int) -> Codes:
    """The group that each row's prompt is resampled with: the prompt itself, where there are not too many."""
    return dealt(len(prompts), np.random.default_rng(seed))[codes]
