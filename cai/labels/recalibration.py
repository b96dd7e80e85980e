"""A map from a judge's probabilities to what gold says they mean: a temperature, or an isotonic curve. Pure.

    cai labels calibrate my.yaml --method isotonic

It is fitted on pairs, the position and the principles averaged out, and applied where pairs are derived. Each pair
counts as (P, y) and (1 - P, 1 - y): which response is called a is no information, so f(1 - P) = 1 - f(P).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from cai.errors import ConfigError, DataError
from cai.feedback import ResponsePair
from cai.intervals import Floats
from cai.labels.calibration import Calibration, calibration
from cai.labels.verdicts import Codes, encoded, groups_of
from cai.records import Recalibration

Method = Literal["temperature", "isotonic"]
FOLDS = 5
FEWEST = 50
"""Gold pairs below which a map would be fitted to noise."""
_SURE = 1e-6  # a logit needs an end


class Curve(NamedTuple):
    """A fitted map; see `Recalibration`."""

    method: Method
    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def __call__(self, p: Floats) -> Floats:
        if self.method == "isotonic":
            return np.interp(p, self.xs, self.ys)
        logit = np.log(np.clip(p, _SURE, 1 - _SURE)) - np.log1p(-np.clip(p, _SURE, 1 - _SURE))
        mapped: Floats = np.exp(-np.logaddexp(0, -logit / self.xs[0]))
        return mapped


class Fitted(NamedTuple):
    """The record, and the calibration before and, by cross-validation, after."""

    record: Recalibration
    before: Calibration
    after: Calibration


def recalibrated(p: float, record: Recalibration) -> float:
    """What gold says of a pair to which the judge gives P(a better) `p`."""
    return float(Curve(record.method, record.xs, record.ys)(np.array([p]))[0])


def check_recalibration(record: Recalibration | None, wanted: str | None, judges: Sequence[str]) -> None:
    """Raise `ConfigError` unless the record is the one that is wanted and of one of these judges."""
    given = None if record is None else record.recalibration_id
    if given != wanted:
        raise ConfigError(f"`preferences.recalibration` is {wanted!r}, the record given is {given!r}; pass that one")
    if record is not None and record.judge_digest not in judges:
        raise ConfigError(
            f"recalibration {given!r} was fitted on judge {record.judge_digest!r}, these labels are by "
            f"{', '.join(map(repr, judges))}; fit one with `cai labels calibrate PROFILE --judge {judges[0]}`"
        )


class Sample(NamedTuple):
    """What a judge says of gold pairs and what gold does, 1 or 0, `(n,)` each; `group` is resampled as one."""

    p: Floats
    y: Floats
    group: Codes


def sample_of(
    pairs: Iterable[ResponsePair],
    means: Mapping[tuple[str, str], float],
    gold: Mapping[tuple[str, str], float],
    *,
    seed: int = 0,
) -> Sample:
    """The pairs that gold decides and the judge was read on.

    Args:
        pairs: with gold.
        means: P(a better), by the responses' ids, as `cai.preferences.raw_means` has it.
        gold: P(a better) by gold, never 0.5.
        seed: of how many prompts are dealt into groups.
    """
    known = {(pair.a.response_id, pair.b.response_id): pair.prompt.prompt_id for pair in pairs}
    read = [key for key in known if key in means and key in gold]
    prompts = encoded([known[key] for key in read])
    return Sample(
        np.array([means[key] for key in read], dtype=np.float64),
        np.array([float(gold[key] > 0.5) for key in read], dtype=np.float64),
        groups_of(prompts.names, prompts.codes, seed),
    )


def fit(
    sample: Sample, judge: str, method: Method, *, gold_sources: Sequence[str], gold_version: int, seed: int = 0
) -> Fitted:
    """A map for this judge.

    Raises:
        DataError: the judge has labelled too few gold pairs.
    """
    if len(sample.p) < FEWEST:
        raise DataError(
            f"judge {judge!r} has labelled {len(sample.p)} gold pairs as the profile asks, {FEWEST} are needed to fit "
            "a map; import gold (`cai gold import`) and have its pairs labelled (`cai labels explain gold --profile "
            "PROFILE`)"
        )
    curve = _curve(sample.p, sample.y, method)
    unseen = _cross_validated(sample, method, seed)
    before, after = (calibration(p, sample.y, sample.group, seed=seed) for p in (sample.p, unseen))
    record = Recalibration(
        Recalibration.make_id(judge, method, curve.xs, curve.ys, gold_version),
        judge,
        method,
        curve.xs,
        curve.ys,
        len(sample.p),
        tuple(sorted(gold_sources)),
        gold_version,
        before.ece.value,
        after.ece.value,
        before.brier.value,
        after.brier.value,
    )
    return Fitted(record, before, after)


def _cross_validated(sample: Sample, method: Method, seed: int) -> Floats:
    """Each pair mapped by a curve fitted on the other folds; a prompt's pairs are in one fold."""
    _, group = np.unique(sample.group, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(int(group.max()) + 1) % FOLDS)[group]
    mapped = np.empty_like(sample.p)
    for k in range(FOLDS):
        out = fold == k
        if out.any():
            mapped[out] = _curve(sample.p[~out], sample.y[~out], method)(sample.p[out])
    return mapped


def _curve(p: Floats, y: Floats, method: Method) -> Curve:
    both, labels = np.concatenate([p, 1 - p]), np.concatenate([y, 1 - y])
    fitted: dict[Method, Callable[[Floats, Floats], Curve]] = {"temperature": _temperature, "isotonic": _isotonic}
    return fitted[method](both, labels)


def _temperature(p: Floats, y: Floats) -> Curve:
    """The T of least cross-entropy (Guo et al. 2017, section 4.2), by golden section over ln T: it has one minimum."""
    logit = np.log(np.clip(p, _SURE, 1 - _SURE)) - np.log1p(-np.clip(p, _SURE, 1 - _SURE))

    def loss(log_t: float) -> float:
        scaled = logit / math.exp(log_t)
        return float(np.mean(y * np.logaddexp(0, -scaled) + (1 - y) * np.logaddexp(0, scaled)))

    low, high, golden = math.log(0.01), math.log(100), (math.sqrt(5) - 1) / 2
    while high - low > 1e-9:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return Curve("temperature", (math.exp((low + high) / 2),), ())


def _isotonic(p: Floats, y: Floats) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(p, y)
    return Curve("isotonic", tuple(map(float, model.X_thresholds_)), tuple(map(float, model.y_thresholds_)))
