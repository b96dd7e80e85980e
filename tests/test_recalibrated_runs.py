"""A recalibration from gold to the run that uses it: it maps labels, and nothing else needs it or is changed by it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from scripted_run import CONSTITUTION, changed, run_steps, write_profile

from cai.cli import door
from cai.config import PreferencesConfig, load_profile
from cai.constitution import load_constitution
from cai.feedback import Labelling
from cai.labels.recalibration import recalibrated
from cai.preferences import derive
from cai.records import Annotation, Comparison, Message, PreferencePair, Prompt, Recalibration, Response
from flows.judges import read_gold
from flows.runs import create_run
from storage.store import Store

KNOWN = [
    {"principle": "kind", "prompt": f"question {i}", "better": f"a GOOD reply {i}", "worse": f"a BAD reply {i}"}
    for i in range(12)
]
# Both principles find the GOOD reply; the one that weighs 9 is surer than the one that weighs 1.
RULES = tuple(
    {"when": rf"(?s)^(?=.*{asked}).*{first}.*{second}", "choose": [p, 1 - p] if first == "GOOD" else [1 - p, p]}
    for asked, p in (("kinder", 0.95), ("less harm", 0.65))
    for first, second in (("GOOD", "BAD"), ("BAD", "GOOD"))
)
STEPS = ("prompts", "candidates", "self_test", "labels", "preferences", "evaluate", "report")


def cli(*arguments: str | Path) -> str:
    done = CliRunner().invoke(door, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def gold() -> list[Prompt | Response | Annotation]:
    """Sixty pairs, of which gold says in twelve that the BAD reply is better."""
    rows: list[Prompt | Response | Annotation] = []
    for i in range(60):
        prompt = Prompt.make([Message("user", f"gold question {i}")], "gold")
        good, bad = (Response.given(prompt.prompt_id, f"a {word} answer {i}", "gold") for word in ("GOOD", "BAD"))
        a, b = sorted((good.response_id, bad.response_id))
        p_a = float((a == good.response_id) == (i % 5 > 0))
        ids = (Annotation.make_id(a, b, "gold", "", "harmlessness", True), prompt.prompt_id, a, b)
        rows += [prompt, good, bad, Annotation(*ids, p_a, "gold", objective="harmlessness", is_gold=True)]
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with gold, a recalibration fitted on it, and two finished runs: without it and with it."""
    folder = tmp_path_factory.mktemp("recalibrated")
    home = folder / "home"
    constitution = yaml.safe_load(CONSTITUTION) | {"self_test": KNOWN}
    constitution["principles"][0]["weight"] = 9.0
    text = yaml.safe_dump(constitution)
    profile = write_profile(folder, n_prompts=12, constitution=text, win_rate_prompts=8, rules=RULES)
    Store(home).append(gold())
    cli("labels", "explain", "gold", "--profile", profile, "--home", home)
    said = cli("labels", "calibrate", profile, "--home", home, "--objective", "harmlessness")
    (record,) = Store(home).read(Recalibration)
    assert f"recalibration: {record.recalibration_id}" in said
    models = {"seed": "scripted", "sl_cai": "another"}
    without = run_steps(create_run(load_profile(profile), home), *STEPS, models=models)
    profile = changed(profile, preferences={"recalibration": record.recalibration_id})
    run = run_steps(create_run(load_profile(profile), home), *STEPS, models=models)
    return SimpleNamespace(home=home, profile=profile, record=record, without=without, run=run)


def of_gold(made, record: Recalibration | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What the profile makes of the gold pairs: P(a better) by labels and by gold."""
    profile, store = load_profile(made.profile), Store(made.home)
    config = PreferencesConfig(recalibration=record and record.recalibration_id)
    known = read_gold(store)
    labelling = Labelling(
        load_constitution(profile.constitution), profile.feedback, seed=0, judge_digest=made.record.judge_digest
    )
    rows = [*derive(known.pairs, store.read(Comparison), labelling=labelling, config=config, recalibration=record)]
    p = [
        row.soft_label if row.chosen_id == pair.a.response_id else 1 - row.soft_label
        for row, pair in zip(rows, known.pairs, strict=True)
    ]
    return np.array(p), np.array([known.sides[pair.a.response_id, pair.b.response_id] for pair in known.pairs])


def test_a_recalibration_is_fitted_on_the_mean_that_it_is_applied_to(made):
    """The mean over principles by their weight: 0.92 of the better reply, where each counting once would be 0.8."""
    p, gold = of_gold(made)
    assert np.maximum(p, 1 - p) == pytest.approx(0.9 * 0.95 + 0.1 * 0.65)
    assert made.record.n == 60 and made.record.gold_sources == ("gold",)
    assert made.record.brier_before == pytest.approx(np.mean((p - gold) ** 2))
    mapped, _ = of_gold(made, made.record)
    assert np.maximum(mapped, 1 - mapped) == pytest.approx(0.8, abs=1e-4), "as often as gold agrees"


def test_the_labels_of_a_run_are_mapped_and_its_evaluation_is_the_judges_own_word(made):
    store = Store(made.home)
    plain, mapped = (
        {(row.chosen_id, row.rejected_id): row.soft_label for row in store.find_all(PreferencePair, ids).values()}
        for ids in (run.ids("preferences") for run in (made.without, made.run))
    )
    assert plain.keys() == mapped.keys() and len(plain) > 5
    assert mapped == {key: pytest.approx(recalibrated(p, made.record)) for key, p in plain.items()}
    assert all(abs(mapped[key] - p) > 0.001 for key, p in plain.items())
    rates, tests = (
        [run.result(step)[what] for run in (made.without, made.run)]
        for step, what in (("evaluate", "win_rates"), ("self_test", "said"))
    )
    assert rates[0] and rates[0] == rates[1]
    assert tests[0] == tests[1]


def test_every_command_over_such_a_run_works(made, tmp_path):
    runs, home = [made.without.run_id, made.run.run_id], ("--home", made.home)
    cli("labels", "self-test", made.profile)
    assert "drift" in cli("labels", "report", *home, "--run", runs[1], "--since", runs[0]).lower()
    assert "passed" in cli("labels", "compare", runs[1], *home, "--n", "5")
    made.without.save_ids("eval-sl_cai", made.without.ids("eval-seed"))  # something to tell the two runs apart by
    assert "by B's judge" in cli("compare", *runs, *home, "--judge", "4")
    assert made.record.recalibration_id in cli("labels", "calibrate", made.profile, *home), "found, and not made anew"
    cli("labels", "calibrate", made.profile, *home, "--method", "isotonic")
    assert len(Store(made.home).read(Recalibration)) == 2
    pairs = [{"prompt": f"who {i}?", "chosen": f"a GOOD one {i}", "rejected": f"a BAD one {i}"} for i in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    measure = ("evaluate", "--profile", made.profile, *home, "--prompts", tmp_path / "pairs.jsonl")
    cli(*measure, "--model", f"seed={tmp_path}", "--json", tmp_path / "rates.json")
    assert json.loads((tmp_path / "rates.json").read_text())["judge"]["pair_accuracy"]["value"] == 1.0
