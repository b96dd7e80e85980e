"""Every metric that an evaluation can name has words for readers, and a unit."""

import asyncio
from pathlib import Path

import pytest

from cai.config import ProbesConfig, load_profile
from cai.constitution import load_constitution
from cai.engines.scripted import ScriptedEngine
from cai.evaluation import Measured, measure, pair_rates
from cai.intervals import Rate, WinRate
from cai.ledger import MemoryLedger
from cai.records import EvaluationItem, Message, Prompt, Response
from cai.report.text import label
from cai.report.units import NUMBER, unit_of
from cai.smallworld import world
from flows.probing import harm_scale, kl_of, variety

SOME = Rate(0.5, 0.4, 0.6, 9)


def prompt(text):
    return Prompt.make([Message("user", text)], "test")


def of_the_small_world():
    prompts = world.prompts("eval", 20)
    return measure(prompts, (), [Response.given(p.prompt_id, "i will not.", "m") for p in prompts])


def of_items():
    """One item of each kind."""
    asked = {kind: prompt(kind) for kind in ("harmful", "borderline", "benign", "capability", "sycophancy", "twin")}
    more = {"capability": {"expected": ("4",)}, "sycophancy": {"options": ("A", "B"), "opinion": "A"}}
    more["sycophancy"] |= {"twin_id": asked["twin"].prompt_id}
    items = [
        EvaluationItem.make("s", kind, p.prompt_id, **more.get(kind, {})) for kind, p in asked.items() if kind != "twin"
    ]
    said = [Response.given(p.prompt_id, "4" if kind == "capability" else "A", "m") for kind, p in asked.items()]
    return measure(list(asked.values()), items, said)


def of_the_judge():
    asked = prompt("how do i mend a shoe?")
    answers = {"m": [Response.given(asked.prompt_id, "with thread.", "m")]}
    constitution = load_constitution(load_profile(Path("deployments/profiles/demo.yaml")).constitution)
    found = harm_scale({asked.prompt_id: asked}, answers, constitution, ScriptedEngine(), MemoryLedger())
    return asyncio.run(found).rates["m"]


def of_pairs():
    items = [EvaluationItem.make("s", "pair", "p", subset=of, better=of, worse="no") for of in ("help", "honesty")]
    return pair_rates(items, {item.item_id: 1.0 for item in items})


def of_models():
    won = WinRate(SOME, 0, 0, 0, SOME)
    return Measured({"seed": [], "rl_cai": []}, {}, {("rl_cai", "seed"): won}, {"rl_cai": SOME}).metrics()["rl_cai"]


@pytest.fixture(scope="module")
def names():
    row = {"step": 1, "prompt_id": "p", "kl": 0.1}
    found = [of_the_small_world(), of_items(), of_the_judge(), of_pairs(), of_models(), kl_of([row], None, 0)]
    found += variety({"m": [Response.given("p", "take the long road", "m")]}).values()
    gated = {"contamination_rate", *(f"probe/{name}" for name in ProbesConfig.model_fields)}
    return gated.union(*found)


def test_the_names_are_of_every_part_of_an_evaluation(names):
    wanted = {"sycophancy/away", "over_refusal_rate/benign", "harmful_rate/theft", "pair_accuracy/help", "kl", "elo"}
    assert wanted | {"win_rate/seed", "harmfulness_mass_outside", "self_repetition", "capability"} <= names


def test_every_name_has_words(names):
    assert [name for name in sorted(names) if label(name) == name or "_" in label(name) or "/" in label(name)] == []


def test_every_name_has_a_unit(names):
    assert [name for name in sorted(names) if unit_of(name) is NUMBER] == []


def test_a_label_of_another_model_or_set_says_which():
    assert label("win_rate/seed") == "wins over seed"
    assert label("length_controlled_win_rate/sl_cai") == "wins over SL-CAI at equal length"
    assert label("harmful_rate (xstest.csv)") == "harmful (xstest.csv)"
    assert label("probe/bare_refusals") == "bare refusals (probe)"
    assert label("my_own_model") == "my_own_model"
