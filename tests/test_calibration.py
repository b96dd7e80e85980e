"""Calibration: errors by hand, their noise floor and intervals, and maps fitted on gold that make them smaller."""

from dataclasses import replace

import numpy as np
import pytest
from test_preferences import PAIR, comparisons, constitution, labelling

from cai.config import PreferencesConfig
from cai.errors import ConfigError, DataError
from cai.labels.calibration import calibration, ece, ece_floor, ece_interval, entropy, reliability
from cai.labels.recalibration import Curve, Sample, fit
from cai.preferences import derive
from cai.records import Recalibration


def test_entropy_is_in_nats_and_zero_where_nothing_is_open():
    assert entropy(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, np.log(2), 0], abs=1e-12)


def test_calibration_error_is_zero_for_the_truth_and_by_hand_otherwise():
    """All pairs said 0.9, truth 0.7: in both orders the gap is 0.2, so is the mean."""
    rng = np.random.default_rng(0)
    p = rng.random(1000)
    assert ece(p, p) == pytest.approx(0, abs=1e-12)
    assert ece(np.full(10, 0.95), np.full(10, 0.75)) == pytest.approx(0.2)


def test_the_floor_is_what_a_calibrated_model_shows():
    """Labels drawn from the probabilities themselves: the error seen is the floor on average, and above it 1 in 20."""
    rng = np.random.default_rng(1)
    p = rng.random(400)
    seen = [ece(p, (rng.random(400) < p).astype(float)) for _ in range(400)]
    floor = ece_floor(p, np.ones(400))
    assert np.mean(seen) == pytest.approx(floor.mean, rel=0.05)
    assert np.mean(np.array(seen) > floor.high) == pytest.approx(0.05, abs=0.03)


def test_the_floor_of_soft_labels_is_lower_by_as_much_as_they_vary_less():
    rng = np.random.default_rng(2)
    p = 0.3 + 0.4 * rng.random(400)
    seen = [ece(p, p + 0.05 * rng.normal(size=400)) for _ in range(200)]
    floor = ece_floor(p, p + 0.05 * rng.normal(size=400))
    assert np.mean(seen) == pytest.approx(floor.mean, rel=0.15)
    assert floor.mean < 0.2 * ece_floor(p, np.ones(400)).mean
    assert ece_floor(p, p).high == 0
    too_sure = 0.5 + 0.7 * (p - 0.5) + 0.05 * rng.normal(size=400)
    assert ece(p, too_sure) > 5 * floor.high
    assert ece_floor(p, too_sure).mean < 1.2 * floor.mean  # what is wrong with the model is not taken for noise


def test_the_interval_of_the_calibration_error_counts_prompts_not_pairs():
    """Ten copies of a pair say no more than one of them."""
    rng = np.random.default_rng(3)
    p = rng.random(100)
    label = np.clip(p + 0.15, 0, 1)
    label[::3] = 0.2
    names = [f"prompt-{i}" for i in range(100)]
    once = ece_interval(p, label, names)
    copied = ece_interval(np.tile(p, 10), np.tile(label, 10), names * 10)
    assert once.low < once.value < once.high
    assert copied.value == pytest.approx(once.value)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.05)


def test_of_many_pairs_the_floor_is_the_same_drawn_at_once():
    rng = np.random.default_rng(4)
    p = rng.random(20_001)
    many, few = ece_floor(p, np.ones(20_001)), ece_floor(p[:20_000], np.ones(20_000))
    assert many.mean == pytest.approx(few.mean, rel=0.03)
    assert many.high == pytest.approx(few.high, rel=0.05)


def test_calibration_by_hand():
    """Ten pairs said 0.9, seven right: the gap is 0.2 both ways round; Brier (7·0.01 + 3·0.81) / 10."""
    found = calibration(np.full(10, 0.9), np.array([1.0] * 7 + [0.0] * 3), list(range(10)))
    assert (found.ece.value, found.brier.value) == (pytest.approx(0.2), pytest.approx(0.25))
    assert [(b.predicted, b.observed, b.n) for b in found.bins] == [
        (pytest.approx(0.1), pytest.approx(0.3), 10),
        (pytest.approx(0.9), pytest.approx(0.7), 10),
    ]
    assert reliability(np.full(10, 0.9), np.ones(10))[1].observed == 1.0
    assert found.floor.mean > 0


def too_sure(n=600, factor=2.5, seed=0):
    """A judge whose logits are too large by a factor, and gold drawn from what they should be; two pairs a prompt."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.2, n)
    gold = rng.random(n) < 1 / (1 + np.exp(-logit))
    return Sample(1 / (1 + np.exp(-factor * logit)), gold.astype(float), np.arange(n) // 2)


def fitted(sample, method):
    return fit(sample, "judge", method, gold_sources=["gold.csv"], gold_version=0)


def test_the_temperature_of_a_judge_that_is_too_sure_is_found():
    found = fitted(too_sure(n=2000), "temperature")
    assert found.record.xs[0] == pytest.approx(2.5, rel=0.15)
    assert found.record.ece_before > found.before.floor.high
    assert found.record.ece_after < 0.3 * found.record.ece_before


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_on_pairs_it_has_not_seen_the_brier_score_falls_by_a_tenth(method):
    found = fitted(too_sure(factor=4.0), method)
    assert found.record.brier_after <= 0.9 * found.record.brier_before
    assert found.record.n == 600


def test_a_map_does_not_depend_on_which_response_is_called_a():
    curve = fitted(too_sure(), "isotonic").record
    p = np.linspace(0, 1, 41)
    f = Curve(curve.method, curve.xs, curve.ys)
    assert f(1 - p) == pytest.approx(1 - f(p), abs=1e-9)
    assert (np.diff(f(p)) >= 0).all()
    t = Curve("temperature", (2.0,), ())
    assert t(np.array([0.0, 0.5, 0.8, 1.0])) == pytest.approx([0.001, 0.5, 2 / 3, 0.999], abs=1e-9 + 1e-4)


def test_a_judge_that_is_calibrated_already_keeps_its_probabilities():
    assert fitted(too_sure(n=2000, factor=1.0), "temperature").record.xs[0] == pytest.approx(1.0, abs=0.15)


def test_too_few_gold_pairs_are_refused():
    with pytest.raises(DataError, match="labelled 40 gold pairs as the profile asks, 50"):
        fitted(too_sure(n=40), "isotonic")


RECORD = Recalibration("r1", "judge", "temperature", (2.0,), (), 60, ("g",), 0, 0.1, 0.02, 0.2, 0.18)


def derived(record, **config):
    of = labelling(constitution(kind=1.0, safe=1.0))
    rows = comparisons(of, {"kind": (0.9, 0.7), "safe": (0.9, 0.7)})
    (pair,) = derive([PAIR], rows, labelling=of, config=PreferencesConfig(**config), recalibration=record)
    return pair


def test_the_mean_of_a_pair_is_mapped_and_the_clamp_comes_after():
    assert derived(None).soft_label == pytest.approx(0.8)
    mapped = derived(RECORD, recalibration="r1")
    assert mapped.soft_label == pytest.approx(2 / 3)  # logit(0.8) = ln 4, halved: ln 2
    assert derived(RECORD, recalibration="r1", clamp=(0.4, 0.6)).soft_label == pytest.approx(0.6)
    assert mapped.pair_id != derived(None).pair_id
    assert mapped.chosen_id == derived(None).chosen_id


def test_a_map_of_another_judge_or_one_that_was_not_asked_for_is_refused():
    with pytest.raises(ConfigError, match="is 'r1', the record given is None"):
        derived(None, recalibration="r1")
    with pytest.raises(ConfigError, match="is None, the record given is 'r1'"):
        derived(RECORD)
    with pytest.raises(ConfigError, match="fitted on judge 'other'"):
        derived(replace(RECORD, judge_digest="other"), recalibration="r1")
