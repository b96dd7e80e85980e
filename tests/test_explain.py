"""Which principles explain preference pairs: planted ones are found, and what no principle covers is shown."""

import json
import math

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from verdicts_by_row import verdicts_of

from cai.cli import door
from cai.errors import DataError
from cai.labels.explain import choose, explain
from cai.records import Comparison

# A table of votes by hand: P(a better) of each principle on each pair; both orders say the same.


def judged(table, judge="judge"):
    """`{principle: {pair number: P(a better)}}` as comparisons in both orders."""
    rows = []
    for principle, votes in table.items():
        for pair, p in votes.items():
            for order in ("ab", "ba"):
                ids = (f"{principle}{pair}{order}", f"p{pair}", f"a{pair:03}", f"b{pair:03}", order, principle)
                rows.append(Comparison(*ids, "d", "d", "d", judge, math.log(p), math.log(1 - p), 0.0, True))
    return verdicts_of(rows)


def labels(n, p=1.0):
    return {f"a{pair:03}/b{pair:03}": p for pair in range(n)}


def test_votes_and_the_list_by_hand():
    """240 pairs prefer a: `kind` says so on the first 160, `brief` on 60 of the rest and, wrongly, on 16 of them."""
    kind = {i: 0.9 if i < 160 else 0.5 for i in range(240)}
    brief = {i: 0.2 if i < 16 else 0.8 if 160 <= i < 220 else 0.5 for i in range(240)}
    opposite = {i: 0.3 for i in range(240)}
    table = {"kind": kind, "brief": brief, "opposite": opposite}
    found = explain(judged(table), labels(241) | {"x/y": 0.5}, "judge")
    assert (found.n_pairs, found.n_ties, found.n_unasked) == (240, 1, 1)
    votes = {vote.principle_id: (vote.agreement.value, vote.coverage.value) for vote in found.votes}
    assert votes == {
        "kind": (1.0, pytest.approx(160 / 240)),
        "brief": (pytest.approx(60 / 76), pytest.approx(76 / 240)),
        "opposite": (0.0, 1.0),
    }
    assert [vote.principle_id for vote in found.votes] == ["kind", "brief", "opposite"]
    assert [step.principle_id for step in found.steps] == ["kind", "brief"]
    assert found.steps[1].adds.value == pytest.approx(60 / 80)  # of those that `kind` left open
    assert found.steps[1].agreement.value == 1.0
    assert found.steps[1].explained.value == pytest.approx(220 / 240)
    assert found.explained.value == pytest.approx(220 / 240) and found.silent.value == pytest.approx(20 / 240)
    assert {each.pair for each in found.examples} == {f"a{i:03}/b{i:03}" for i in range(220, 240)}
    assert all(each.is_silent and each.prefers.startswith("a") for each in found.examples)


def test_pairs_decided_against_their_label_are_shown_with_who_decided():
    kind = {i: 0.9 if i else 0.1 for i in range(30)}
    found = explain(judged({"kind": kind}), labels(30), "judge")
    (example,) = found.examples
    assert (example.pair, example.is_silent, example.principle_id) == ("a000/b000", False, "kind")
    assert example.p_preferred == pytest.approx(0.1)
    assert found.contradicted.value == pytest.approx(1 / 30)


def test_a_planted_principle_is_found_among_coins_and_the_missing_one_is_not_covered_up():
    """70 % of the pairs follow `safe`, which leans on these alone; the rest follow a principle nobody wrote down."""
    rng = np.random.default_rng(1)
    n = 400
    table = {f"coin {k:02}": {i: float(p) for i, p in enumerate(rng.choice([0.2, 0.8], n))} for k in range(12)}
    prefers_a = rng.random(n) < 0.5
    covered = rng.random(n) < 0.7
    right = rng.random(n) < 0.95
    table["safe"] = {i: (0.9 if prefers_a[i] == right[i] else 0.1) if covered[i] else 0.5 for i in range(n)}
    said = {f"a{i:03}/b{i:03}": float(prefers_a[i]) for i in range(n)}
    found = explain(judged(table), said, "judge", n_examples=n)
    assert [step.principle_id for step in found.steps] == ["safe"]
    assert found.votes[0].principle_id == "safe" and found.votes[0].agreement.low > 0.9
    assert sum(vote.agreement.low <= 0.5 <= vote.agreement.high for vote in found.votes) >= 10
    assert found.explained.low < 0.7 * 0.95 < found.explained.high
    assert found.silent.low < 0.3 < found.silent.high
    assert found.by_any.value > 0.99  # twelve coins agree with anything
    assert sum(each.is_silent for each in found.examples) == n - covered.sum()


def test_coins_explain_nothing():
    chosen = 0
    for seed in range(60):
        coins = np.random.default_rng(seed).choice([-1.0, 1.0], (150, 8))
        chosen += bool(choose(coins, np.arange(150)))
    assert chosen <= 8  # 5 % of data sets, give or take


def test_a_judge_that_was_not_asked_is_an_error_and_ties_need_no_explanation():
    verdicts = judged({"kind": {0: 0.9}})
    with pytest.raises(DataError, match="asked about none of the 1 pairs"):
        explain(verdicts, labels(1), "another")
    with pytest.raises(DataError, match="asked about none"):
        explain(verdicts, labels(1, 0.5), "judge")
    with pytest.raises(DataError, match="asked about none"):
        explain(verdicts_of([]), labels(1), "")


# The command, on a scripted judge

CONSTITUTION = {
    "name": "two",
    "principles": [
        {"id": "kind", "title": "Kind", "stages": ["preference"], "preference": "Which response is KINDER?"},
        {"id": "brief", "title": "Brief", "stages": ["preference"], "preference": "Which response is BRIEFER?"},
    ],
}
RULES = [
    {"when": r"(?s)Response A:.*gentle.*Response B:.*KINDER", "choose": [0.9, 0.1]},
    {"when": r"(?s)Response B:.*gentle.*KINDER", "choose": [0.1, 0.9]},
    {"when": ".", "choose": [0.5, 0.5]},
]


@pytest.fixture
def profile(tmp_path):
    (tmp_path / "constitution.yaml").write_text(yaml.safe_dump(CONSTITUTION))
    (tmp_path / "script.yaml").write_text(yaml.safe_dump({"rules": RULES}))
    body = {
        "name": "test",
        "constitution": str(tmp_path / "constitution.yaml"),
        "engine": {"kind": "scripted", "script": str(tmp_path / "script.yaml")},
        "prompts": [{"path": "smallworld", "limit": 1}],
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    return tmp_path / "profile.yaml"


def run(*arguments):
    return CliRunner().invoke(door, ["labels", "explain", *map(str, arguments)])


def test_the_command_asks_a_judge_about_a_file_and_then_explains_from_what_is_stored(tmp_path, profile):
    """24 pairs prefer the gentle reply; 8 prefer what neither principle sees."""
    rows = [{"prompt": f"question {i}", "chosen": f"a gentle word {i}", "rejected": f"a word {i}"} for i in range(24)]
    rows += [
        {"prompt": f"rhyme {i}", "chosen": f"time and lime {i}", "rejected": f"clock and fruit {i}"} for i in range(8)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    home = tmp_path / "home"
    asked = run(path, "--home", home, "--profile", profile, "--format", "json")
    assert asked.exit_code == 0, asked.output
    assert "128 asked, 0 found" in asked.stderr  # 32 pairs, two principles, both orders
    found = json.loads(asked.stdout)
    assert [step["principle_id"] for step in found["steps"]] == ["kind"]
    assert found["explained"]["value"] == pytest.approx(24 / 32) and found["silent"]["value"] == pytest.approx(8 / 32)
    again = run(path, "--home", home, "--profile", profile)
    assert "0 asked, 128 found" in again.stderr
    stored = run(path, "--home", home)
    assert stored.stdout == again.stdout and "time and lime" in stored.stdout and "75.0%" in stored.stdout
    assert run("nobody", "--home", home).exit_code != 0

    imported = CliRunner().invoke(
        door, ["labels", "import", str(path), "--objective", "helpfulness", "--home", str(home)]
    )
    assert imported.exit_code == 0, imported.output
    assert run("pairs.jsonl", "--home", home).stdout == stored.stdout
    sql = CliRunner().invoke(door, ["sql", "explained", "--home", str(home), "--format", "json"])
    (kind, brief) = json.loads(sql.stdout)
    assert (kind["principle_id"], kind["coverage"], kind["agreement"]) == ("kind", 0.75, 1.0)
    assert (brief["principle_id"], brief["coverage"], brief["agreement"]) == ("brief", 0.0, None)


def test_the_profile_says_how_much_may_be_said_beside_the_letters(tmp_path, profile):
    """A judge that puts 0.6 on neither letter: its asks count where the profile lets them, as they do in a run."""
    (tmp_path / "script.yaml").write_text(yaml.safe_dump({"rules": [{"when": ".", "choose": [0.3, 0.1]}]}))
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "q", "chosen": "one", "rejected": "two"}) + "\n")
    asked = (tmp_path / "pairs.jsonl", "--home", tmp_path / "home", "--profile", profile)
    assert "was asked about none of the 1 pairs" in str(run(*asked).exception)
    profile.write_text(profile.read_text() + "preferences: {max_mass_outside: 0.7}\n")
    assert "1 pairs, compared by judge" in run(*asked).stdout
