"""Position bias and consistency of a judge: known judges give known numbers, and what cannot be read is counted."""

import math
import random
from dataclasses import replace

import pytest
from verdicts_by_row import verdicts_of

from cai.labels.agreement import JudgeQuality, judge_quality, principle_agreement
from cai.labels.report import label_report
from cai.labels.verdicts import Verdicts
from cai.records import Comparison, Response
from storage import named
from storage.store import Store
from storage.verdicts import read_labels


def measured(rows: list[Comparison]) -> list[JudgeQuality]:
    return judge_quality(verdicts_of(rows))


def asked(pair: int, order: str, p_a: float, *, principle: str = "kind", judge: str = "judge") -> Comparison:
    """One ask of pair `pair`; two pairs share a prompt."""
    ids = (f"{judge}{principle}{pair}{order}", f"prompt {pair // 2}", f"a{pair}", f"b{pair}", order, principle)
    logps = (math.log(p) if p > 0 else -math.inf for p in (p_a, 1 - p_a))
    return Comparison(*ids, "d", "d", "d", judge, *logps, 0.0, True)


def both(pair: int, ab: float, ba: float, **named: str) -> list[Comparison]:
    return [asked(pair, "ab", ab, **named), asked(pair, "ba", ba, **named)]


def test_a_judge_that_always_says_a_is_all_bias_and_never_consistent() -> None:
    (overall, kind) = measured([row for i in range(20) for row in both(i, 1.0, 0.0)])
    assert (overall.principle_id, kind.principle_id) == ("", "kind")
    for row in (overall, kind):
        assert (row.position_bias.value, row.position_bias.low, row.position_bias.high) == (0.5, 0.5, 0.5)
        assert (row.consistency.value, row.consistency.n, row.n_unscored) == (0.0, 20, 0)


def test_a_planted_bias_is_found_within_its_interval() -> None:
    """Verdicts differ by pair; the first place adds 0.1 to each."""
    draw = random.Random(1)
    quality = [draw.uniform(0.15, 0.85) for _ in range(200)]
    (overall, _) = measured([row for i, q in enumerate(quality) for row in both(i, q + 0.1, q - 0.1)])
    assert overall.position_bias.value == pytest.approx(0.1)
    noisy = [row for i, q in enumerate(quality) for row in both(i, q, draw.uniform(0.15, 0.85))]
    (overall, _) = measured(noisy)
    assert overall.position_bias.low < 0 < overall.position_bias.high
    assert 0.3 < overall.consistency.value < 0.7


def test_bias_is_told_apart_by_principle_and_by_judge() -> None:
    rows = [row for i in range(10) for row in both(i, 0.9, 0.9)]
    rows += [row for i in range(10) for row in both(i, 0.9, 0.3, principle="safe")]
    rows += [row for i in range(10) for row in both(i, 0.2, 0.6, judge="other")]
    found = {(r.judge_digest, r.principle_id): r for r in measured(rows)}
    assert {key: round(row.position_bias.value, 6) for key, row in found.items()} == {
        ("judge", ""): 0.15,
        ("judge", "kind"): 0.0,
        ("judge", "safe"): 0.3,
        ("other", ""): -0.2,
        ("other", "kind"): -0.2,
    }
    assert found["judge", ""].consistency.value == 0.5


def test_opposite_biases_of_two_principles_do_not_hide_each_other() -> None:
    rows = (
        both(0, 1.0, 0.0)
        + both(1, 1.0, 0.0)
        + both(0, 0.0, 1.0, principle="safe")
        + both(1, 0.0, 1.0, principle="safe")
    )
    biases = {r.principle_id: r.position_bias.value for r in measured(rows)}
    assert biases == {"": 0.0, "kind": 0.5, "safe": -0.5}


def test_what_has_one_order_or_cannot_be_read_is_counted_and_left_out() -> None:
    rows = [*both(0, 0.9, 0.9), asked(1, "ab", 0.9), asked(2, "ab", math.nan), asked(2, "ba", 0.9)]
    (overall, _) = measured(rows)
    assert (overall.position_bias.n, overall.n_unscored) == (1, 2)


def test_nothing_scored_is_unknown_and_not_zero() -> None:
    (overall, _) = measured([asked(0, "ab", 0.9)])
    assert math.isnan(overall.position_bias.value)
    assert overall.n_unscored == 1
    assert measured([]) == []


def test_prompts_are_the_unit_that_varies() -> None:
    """Asking about each pair under ten copies of a principle adds rows, and no certainty."""
    draw = random.Random(2)
    verdicts = [(draw.random(), draw.random()) for _ in range(40)]
    once = [row for i, (ab, ba) in enumerate(verdicts) for row in both(i, ab, ba)]
    often = [
        row for k in range(10) for i, (ab, ba) in enumerate(verdicts) for row in both(i, ab, ba, principle=f"p{k}")
    ]
    (one, *_), (ten, *_) = measured(once), measured(often)
    width = one.position_bias.high - one.position_bias.low
    assert ten.position_bias.high - ten.position_bias.low == pytest.approx(width, rel=0.05)


def test_a_principle_that_never_leans_fires_on_nothing_and_is_warned_about() -> None:
    rows = [row for i in range(200) for row in both(i, 0.9, 0.9) + both(i, 0.5, 0.5, principle="idle")]
    found = {row.principle_id: row for row in measured(rows)}
    assert (found["kind"].fires.value, found["idle"].fires.value) == (1.0, 0.0)
    assert found["idle"].entropy.value == pytest.approx(math.log(2))
    (warning,) = label_report(verdicts_of(rows)).warnings
    assert "leans on few pairs under idle (0%)" in warning


def test_principles_that_contradict_each_other_are_found_and_so_is_the_one_that_decides() -> None:
    """`loud` is surer than `kind` and always against it; `safe` goes with `loud`."""
    rows = []
    for i in range(40):
        loud = 0.95 if i % 3 else 0.05
        for principle, p in (("loud", loud), ("kind", 0.7 - 0.4 * (loud > 0.5)), ("safe", 0.6 if loud > 0.5 else 0.4)):
            rows += both(i, p, p, principle=principle)
    (agreed,) = principle_agreement(verdicts_of(rows))
    by_name = {(pair.first, pair.second): pair for pair in agreed.pairs}
    assert (agreed.pairs[0].agreement.value, by_name["loud", "safe"].agreement.value) == (0.0, 1.0)
    assert by_name["loud", "safe"].kappa.value == 1.0
    roles = {role.principle_id: role for role in agreed.roles}
    assert (roles["loud"].follows.value, roles["kind"].follows.value) == (1.0, 0.0)
    assert (roles["loud"].decides.value, roles["safe"].decides.value) == (1.0, 0.0)
    assert agreed.alpha.value < 0 and agreed.fleiss.value < 0


def test_what_neither_order_leans_on_contradicts_nothing_and_the_rest_is_warned_about() -> None:
    rows = [row for i in range(40) for row in both(i, 0.504, 0.497)]
    assert measured(rows)[0].consistency.n == 0
    rows += [row for i in range(40, 80) for row in both(i, 0.9, 0.9 if i % 2 else 0.2)]
    overall = measured(rows)[0]
    assert (overall.consistency.value, overall.consistency.n, overall.n_unscored) == (0.5, 40, 0)
    assert any("only kind (50%) stay the same, below 70%" in text for text in label_report(verdicts_of(rows)).warnings)


def test_a_judge_that_likes_length_has_a_length_bias() -> None:
    rows = [row for i in range(30) for row in both(i, 0.8 if i % 2 else 0.2, 0.8 if i % 2 else 0.2)]
    lengths = {f"{side}{i}": 100 + 50 * ((side == "a") == bool(i % 2)) for i in range(30) for side in "ab"}
    verdicts = verdicts_of(rows, lengths=lengths)
    assert judge_quality(verdicts)[0].length_bias.value == pytest.approx(0.3)
    unknown = judge_quality(verdicts_of(rows))[0].length_bias
    assert math.isnan(unknown.value) and unknown.n == 0


def test_sql_reads_the_columns_that_python_makes(tmp_path) -> None:
    """Several samples, unscored asks, a missing order: the same rows, the same numbers."""
    draw = random.Random(3)
    rows = [row for i in range(40) for row in both(i, draw.random(), draw.random(), principle=f"p{i % 3}")]
    again = (replace(row, sample=1, logp_a=-draw.random(), comparison_id=row.comparison_id + "1") for row in rows[:9])
    edges = ((math.nan, 0.0, 0.0), (math.inf, 0.0, 0.0), (-math.inf, -math.inf, 0.0), (-1.0, -1.0, 0.6), (-900, 0.0, 0))
    odd = [asked(50 + i, "ab", 0.5, judge="odd") for i in range(len(edges))]
    strange = [replace(r, logp_a=a, logp_b=b, mass_outside=m) for r, (a, b, m) in zip(odd, edges, strict=True)]
    rows += [*again, *strange, *(replace(r, order="ba", comparison_id=f"{r.comparison_id}x") for r in odd)]
    texts = {f"{side}{i}": "x" * draw.randint(1, 3) for i in range(30) for side in "ab"}
    store = Store(tmp_path)
    store.append([*rows, *(replace(Response.given("p", text, "s"), response_id=i) for i, text in texts.items())])
    expected = verdicts_of(rows, lengths={i: len(text) for i, text in texts.items()})
    found = read_labels(store)
    assert found.n_comparisons == len(rows)
    assert by_row(found.verdicts) == by_row(expected)
    measured = {(q.judge_digest, q.principle_id): q for q in judge_quality(expected)}
    for name, column, value in (
        ("position_bias", "mean_bias", lambda q: 2 * q.position_bias.value),
        ("label_entropy", "mean_entropy", lambda q: q.entropy.value),
        ("label_entropy", "fires_rate", lambda q: q.fires.value),
        ("length_bias", "length_bias", lambda q: q.length_bias.value),
    ):
        for row in store.query(named.resolve(name)):
            assert row[column] == pytest.approx(value(measured[row["judge"], row["principle_id"]]), abs=6e-5), name


def by_row(verdicts: Verdicts) -> list[tuple[object, ...]]:
    """Every value; NaN as None, so that it equals itself."""
    columns = zip(verdicts.ab, verdicts.ba, verdicts.mass_outside, verdicts.longer, strict=True)
    numbers = [tuple(None if math.isnan(v) else round(float(v), 14) for v in row) for row in columns]
    names = zip(verdicts.judge, verdicts.principle, verdicts.prompt, verdicts.pair, strict=True)
    lists = (verdicts.judges, verdicts.principles, verdicts.prompts, verdicts.pairs)
    keys = [tuple(names[code] for names, code in zip(lists, row, strict=True)) for row in names]
    return sorted(zip(keys, numbers, strict=True), key=repr)
