"""What is measured of labels, as columns made row by row; `storage/verdicts.py` makes the same ones in SQL."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cai.labels.opinions import Annotated
from cai.labels.verdicts import Verdicts, encoded
from cai.records import Annotation, Comparison
from cai.verdict import Unscored, soft_verdict


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


def _mean_p(asks: Sequence[Comparison], order: str, max_mass_outside: float) -> float:
    read = [soft_verdict(c, max_mass_outside=max_mass_outside) for c in asks if c.order == order]
    scored = [p for p in read if not isinstance(p, Unscored)]
    return sum(scored) / len(scored) if scored else float("nan")


def _longer(a: int | None, b: int | None) -> float:
    return float("nan") if a is None or b is None else float(np.sign(a - b))


def annotated(annotations: Iterable[Annotation]) -> Annotated:
    rows = sorted(annotations, key=lambda row: row.annotation_id)
    return Annotated(
        [row.prompt_id for row in rows],
        [f"{row.response_a}/{row.response_b}" for row in rows],
        [row.source for row in rows],
        [row.annotator for row in rows],
        np.array([row.p_a for row in rows]),
        np.array([row.is_gold for row in rows], dtype=np.bool_),
    )
