"""What a reward follows besides merit: its slope and correlation with length, with hedging, with any number. Pure.

Responses to one prompt are compared with each other, so that a prompt which calls for long answers, and gets good ones,
is no evidence of a reward for length.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cai.errors import DataError
from cai.intervals import Floats, Rate, bootstrap, cluster_sums


class Rewarded(NamedTuple):
    """One response: what it earned, and the number that should not matter, such as its tokens or its hedges."""

    prompt_id: str
    reward: float
    feature: float
    group: int = 0
    """What it is compared within, beside the prompt: the step of RL that sampled it, as a policy changes."""


class RewardBias(NamedTuple):
    """`slope`: reward for one more of the feature, by least squares; `correlation`: Pearson's. Both NaN where the
    feature is the same in all responses to each prompt.
    """

    slope: Rate
    correlation: Rate


def reward_bias(rows: Sequence[Rewarded], *, seed: int) -> RewardBias:
    """Within prompts, and groups of one prompt: of the differences from the mean of each. Where there is one response
    it says nothing and does not count. Intervals over prompts.

    Raises:
        DataError: a reward or a feature is not finite.
    """
    if bad := [row for row in rows if not (math.isfinite(row.reward) and math.isfinite(row.feature))]:
        raise DataError(f"{len(bad)} rows are not finite, the first {bad[0]!r}; leave out what was not scored")
    times = Counter((row.prompt_id, row.group) for row in rows)
    kept = [row for row in rows if times[row.prompt_id, row.group] > 1]
    if not kept:
        nothing = Rate(math.nan, -math.inf, math.inf, 0)
        return RewardBias(nothing, nothing)
    prompt_ids = [row.prompt_id for row in kept]
    values = np.array([[row.feature, row.reward] for row in kept])
    compared = [f"{row.prompt_id}/{row.group}" for row in kept]
    sums = cluster_sums(np.column_stack([values, np.ones(len(values))]), compared)
    _, which = np.unique(compared, return_inverse=True)
    x, y = (values - (sums[:, :2] / sums[:, 2:])[which]).T
    measured = bootstrap(cluster_sums(np.column_stack([x * x, x * y, y * y]), prompt_ids), _slopes, seed=seed)
    return RewardBias(*(Rate(*each, len(kept)) for each in measured))


def _slopes(sums: Floats) -> Floats:
    xx, xy, yy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.column_stack(
            [np.where(xx > 0, xy / xx, np.nan), np.where(xx * yy > 0, xy / np.sqrt(xx * yy), np.nan)]
        )
