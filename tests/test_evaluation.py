"""Rates from readings, each model's own answers, and the records and JSON that results become."""

import asyncio
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from evaluation_rows import REFUSAL, prompts_of, response_to

from cai.config import EngineConfig, Profile
from cai.constitution import load_constitution
from cai.engines.slot import EngineSlot
from cai.errors import DataError
from cai.evaluation import (
    Setup,
    answer_all,
    from_json,
    is_smallworld,
    measure_smallworld,
    rates_of,
    to_json,
    to_rows,
    win_rates_from_json,
    win_rates_to_json,
)
from cai.intervals import Rate, WinRate, wilson
from cai.ledger import MemoryLedger
from cai.records import digest
from cai.smallworld import world

METRICS = ["helpful_rate", "over_refusal_rate", "evasive_rate", "rude_rate"]


@dataclass(frozen=True)
class Read:
    """A reading written by hand."""

    kind: str | None
    act: str
    on_topic: bool = True
    is_rude: bool = False


READINGS = [
    Read("theft", "comply"),
    Read("theft", "comply", is_rude=True),
    Read("theft", "refuse"),
    Read("theft", "evade"),
    Read("poison", "comply", on_topic=False),
    Read("poison", "ramble", on_topic=False),
    Read(None, "comply"),
    Read(None, "comply", is_rude=True),
    Read(None, "comply", on_topic=False),
    Read(None, "refuse"),
]


def test_rates_are_those_worked_by_hand():
    measured = rates_of(READINGS, list(range(10)), ["theft", "poison", "fraud"])
    assert {name: (each.value, each.n) for name, each in measured.items() if each.n} == {
        "harmful_rate": (3 / 6, 6),
        "harmful_rate/theft": (2 / 4, 4),
        "harmful_rate/poison": (1 / 2, 2),
        "helpful_rate": (2 / 4, 4),
        "over_refusal_rate": (1 / 4, 4),
        "evasive_rate": (1 / 10, 10),
        "rude_rate": (2 / 10, 10),
    }
    assert (measured["rude_rate"].low, measured["rude_rate"].high) == wilson(0.2, 10)


def test_a_kind_nobody_asked_about_is_unknown_and_not_harmless():
    measured = rates_of(READINGS, list(range(10)), ["fraud"])["harmful_rate/fraud"]
    assert math.isnan(measured.value)
    assert (measured.low, measured.high, measured.n) == (0.0, 1.0, 0)


def test_refusing_everything_is_harmless_and_useless():
    prompts = world.prompts("eval", 40, 0)
    measured = measure_smallworld(prompts, [response_to(prompt, REFUSAL) for prompt in prompts])
    assert list(measured) == ["harmful_rate", *(f"harmful_rate/{kind}" for kind in world.KINDS), *METRICS]
    assert measured["harmful_rate"].value == 0.0
    assert measured["helpful_rate"].value == 0.0
    assert measured["over_refusal_rate"].value == 1.0


def test_doing_everything_is_helpful_and_harmful():
    requests, prompts = world.requests("eval", 40, 0), world.prompts("eval", 40, 0)
    texts = [f"Sure. First you {request.action} {request.object}. Then you rest." for request in requests]
    measured = measure_smallworld(prompts, list(map(response_to, prompts, texts)))
    assert measured["harmful_rate"].value == 1.0
    assert measured["helpful_rate"].value == 1.0
    assert measured["over_refusal_rate"].value == measured["evasive_rate"].value == 0.0


def test_a_response_to_an_unknown_prompt_is_an_error():
    prompts = prompts_of(2)
    with pytest.raises(DataError, match="1 responses answer prompts that were not given"):
        measure_smallworld(prompts[:1], [response_to(prompt, "text") for prompt in prompts])


def test_each_model_answers_with_its_own_weights_and_only_once():
    prompts, ledger, told = prompts_of(20), MemoryLedger(), []
    profile = Profile(name="test", constitution="c.yaml", engine=EngineConfig(kind="scripted"), prompts=())
    models = {"seed": "loose", "rl_cai": "careful"}

    def answer():
        setup = Setup(
            profile, load_constitution(Path("constitution/smallworld.yaml")), EngineSlot(), ledger, told.append
        )
        return asyncio.run(answer_all(models, prompts, setup))

    answers = answer()
    for name, weights in models.items():
        assert {r.model_digest for r in answers[name]} == {digest("scripted", weights)}
    assert sum(a.text != b.text for a, b in zip(answers["seed"], answers["rl_cai"], strict=True)) > 15
    assert told[-1].n_requests == 20
    assert answer() == answers
    assert (told[-1].n_requests, told[-1].n_reused) == (0, 20)


def test_rows_name_what_they_measured_and_leave_out_the_unmeasured():
    prompts = prompts_of(2)
    responses = {"seed": [response_to(prompt, "text") for prompt in prompts]}
    results = {"seed": {"rude_rate": Rate(0.5, 0.1, 0.9, 2), "harmful_rate/theft": Rate(math.nan, 0.0, 1.0, 0)}}
    (row,) = to_rows(results, responses, set="test")
    assert (row.model, row.metric, row.value, row.low, row.high, row.n) == ("seed", "rude_rate", 0.5, 0.1, 0.9, 2)
    assert row.model_digest == digest("m")
    (other,) = to_rows(results, {"seed": responses["seed"][:1]}, set="test")
    assert other.evaluation_id != row.evaluation_id


def test_json_is_strict_and_reads_back():
    results = {"seed": {"rude_rate": Rate(0.5, 0.1, 0.9, 2), "helpful_rate": Rate(math.nan, 0.0, 1.0, 0)}}
    text = json.dumps(to_json(results), allow_nan=False)
    assert json.loads(text)["seed"]["rude_rate"] == {"value": 0.5, "low": 0.1, "high": 0.9, "n": 2}
    back = from_json(json.loads(text))
    assert back["seed"]["rude_rate"] == results["seed"]["rude_rate"]
    assert math.isnan(back["seed"]["helpful_rate"].value)


def test_win_rates_read_back_from_json_even_where_nothing_was_scored():
    win_rates = {
        ("sl_cai", "seed"): WinRate(Rate(0.7, 0.5, 0.8, 10), 4, 1, 2, Rate(0.6, 0.4, 0.8, 10)),
        ("rl_cai", "seed"): WinRate(Rate(math.nan, 0.0, 1.0, 0), 0, 3),
    }
    data = json.loads(json.dumps(win_rates_to_json(win_rates), allow_nan=False))
    assert data["sl_cai/seed"]["value"] == 0.7 and data["rl_cai/seed"]["value"] is None
    back = win_rates_from_json(data)
    assert back["sl_cai", "seed"] == win_rates["sl_cai", "seed"]
    assert math.isnan(back["rl_cai", "seed"].rate.value) and back["rl_cai", "seed"].n_unscored == 3


def test_the_oracle_knows_the_small_world_alone():
    assert is_smallworld(world.prompts("eval", 3, 0))
    assert not is_smallworld([*world.prompts("eval", 3, 0), *prompts_of(1)])
    assert not is_smallworld([])
