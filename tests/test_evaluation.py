"""Rates from readings, win rates from labels, and the records and JSON they become."""

import asyncio
import json
import math
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from cai.cli.evaluate import evaluate
from cai.config import EngineConfig, FeedbackConfig, PreferencesConfig, Profile, load_profile
from cai.constitution import load_constitution
from cai.engines.scripted import ScriptedEngine
from cai.engines.slot import EngineSlot
from cai.errors import ConfigError, DataError, ModelNotFound
from cai.evaluation import (
    answer_all,
    from_json,
    is_smallworld,
    judge_matches,
    match,
    measure_smallworld,
    rates_of,
    to_json,
    to_rows,
    win_rates_from_json,
    win_rates_to_json,
)
from cai.held_out import held_out
from cai.intervals import Rate, WinRate, wilson
from cai.ledger import MemoryLedger
from cai.records import Comparison, Evaluation, Message, Model, Prompt, Reject, Response, Sampling, digest
from cai.smallworld import world
from flows.runs import create_run
from storage.store import Store

METRICS = ["helpful_rate", "over_refusal_rate", "evasive_rate", "rude_rate"]
REFUSAL = "I will not do that, because someone could be hurt."


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


def response_to(prompt, text, model="m", index=0):
    response_id = Response.make_id(prompt.prompt_id, digest(model), Sampling(), 0, index)
    return Response(
        response_id, prompt.prompt_id, digest(model), "eval", index, 1, 1.0, 1.0, 9, text, "stop", 1, len(text)
    )


def prompts_of(n):
    return [Prompt.make([Message("user", f"request {i}")], "test") for i in range(n)]


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
        slot = EngineSlot()
        return asyncio.run(
            answer_all(models, prompts, profile=profile, engines=slot, ledger=ledger, progress=told.append)
        )

    answers = answer()
    for name, weights in models.items():
        assert {r.model_digest for r in answers[name]} == {digest("scripted", weights)}
    assert sum(a.text != b.text for a, b in zip(answers["seed"], answers["rl_cai"], strict=True)) > 15
    assert told[-1].n_requests == 20
    assert answer() == answers
    assert (told[-1].n_requests, told[-1].n_reused) == (0, 20)


@pytest.fixture
def constitution(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(
        "name: one\ndescription: One principle.\nprinciples:\n  - id: good\n    title: Be good\n"
        "    preference: Which response is better?\n"
        "    stages: [preference]\n"
    )
    return load_constitution(path)


def judge(strength, first_bonus=0.0):
    """Prefers the response that says `good` with this probability, and what it reads first by `first_bonus`."""

    def choose(messages, options):
        shown = messages[-1].content
        a, b = shown.split("Response A:")[1].split("Response B:")
        merit = ("good" in a) - ("good" in b)
        p = 0.5 + merit * (strength - 0.5) + first_bonus
        return [p, 1 - p]

    return choose


def played(constitution, texts, others, choose, **preferences):
    prompts = prompts_of(len(texts))
    first = [response_to(prompt, text, "first") for prompt, text in zip(prompts, texts, strict=True)]
    second = [response_to(prompt, text, "second") for prompt, text in zip(prompts, others, strict=True)]
    ledger = MemoryLedger()

    def win_rate(one, other):
        return asyncio.run(
            judge_matches(
                prompts,
                one,
                other,
                constitution=constitution,
                engine=ScriptedEngine(choices=choose),
                ledger=ledger,
                feedback=FeedbackConfig(),
                preferences=PreferencesConfig(**preferences),
                seed=0,
            )
        ).win_rate

    return win_rate(first, second), win_rate(second, first), ledger


def test_win_rate_counts_wins_and_half_of_the_ties(constitution):
    """Of ten prompts: five won, one lost, two called equal by the judge, two with the same text."""
    texts = ["good"] * 5 + ["bad"] + ["plain"] * 2 + ["same"] * 2
    others = ["bad"] * 5 + ["good"] + ["other"] * 2 + ["same"] * 2
    won, lost, ledger = played(constitution, texts, others, judge(0.9))
    assert won.rate.value == pytest.approx((5 + 0.5 * 4) / 10)
    assert (won.rate.n, won.n_ties, won.n_unscored, won.n_unmatched) == (10, 4, 0, 0)
    assert won.rate.low < 0.7 < won.rate.high <= 1.0
    assert lost.rate.value == pytest.approx(1 - won.rate.value)
    assert len(ledger.rows(Comparison)) == 8 * 2  # both orders of the pairs that differ; the second call asks nothing


def test_a_judge_that_only_follows_the_position_gives_ties(constitution):
    won, _, _ = played(constitution, ["plain"] * 6, ["other"] * 6, judge(0.9, first_bonus=0.3))
    assert won.rate.value == 0.5
    assert won.n_ties == 6


def test_what_could_not_be_scored_is_left_out_and_counted(constitution):
    def mute(messages, options):
        p = 0.01 if "mute" in messages[-1].content else 0.45
        return [p, p] if "good" not in messages[-1].content else judge(0.9)(messages, options)

    won, _, _ = played(constitution, ["good", "mute"], ["bad", "bad"], mute)
    assert won.rate.value == 1.0
    assert (won.rate.n, won.n_unscored) == (1, 1)
    assert won.rate.low == wilson(1.0, 1)[0]


def test_winning_every_match_is_not_certainty(constitution):
    won, _, _ = played(constitution, ["good"] * 12, ["bad"] * 12, judge(0.9))
    assert (won.rate.low, won.rate.high) == wilson(1.0, 12)


def test_responses_without_a_counterpart_are_counted():
    prompts = prompts_of(3)
    first = [response_to(prompt, "a", "first") for prompt in prompts]
    second = [response_to(prompt, "b", "second") for prompt in prompts[:1]]
    matches = match(prompts, first, second)
    assert (len(matches.pairs), matches.n_unmatched) == (1, 2)


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


def test_a_prompt_that_was_trained_on_is_a_reject_and_so_is_what_its_file_got_wrong():
    one, other = prompts_of(2)
    bad = Reject.make("import", "bad_json")
    kept, rejects = held_out([one, bad, other], {other.prompt_id: "run-1"})
    assert kept == [one]
    assert [(r.stage, r.reason) for r in rejects] == [("import", "bad_json"), ("evaluate", "trained_on")]
    assert rejects[1].parent_ids == ("run-1", other.prompt_id)


def test_the_oracle_knows_the_small_world_alone():
    assert is_smallworld(world.prompts("eval", 3, 0))
    assert not is_smallworld([*world.prompts("eval", 3, 0), *prompts_of(1)])
    assert not is_smallworld([])


CONSTITUTION = """\
name: one
principles:
  - id: good
    title: Be good
    preference: Which response is better?
    stages: [preference]
"""


@pytest.fixture
def home(tmp_path):
    """A home with a finished `rl_cai` model in its tables, and a profile of the scripted engine."""
    for name in ("seed", "rl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"name": name}))
        (tmp_path / name / "model.safetensors").write_bytes(b"")
    (tmp_path / "rl" / "meta.json").write_text(json.dumps({"model_digest": "d" * 32}))
    (tmp_path / "script.yaml").write_text(f"rules:\n  - when: .\n    reply: {REFUSAL}\n")
    (tmp_path / "c.yaml").write_text(CONSTITUTION)
    (tmp_path / "profile.yaml").write_text(
        f"name: test\nconstitution: {tmp_path / 'c.yaml'}\nprompts: []\n"
        f"engine: {{kind: scripted, model: {tmp_path / 'seed'}, script: {tmp_path / 'script.yaml'}}}\n"
        "evaluation: {prompts: [{path: smallworld, limit: 30}], win_rate_prompts: 12}\n"
    )
    (tmp_path / "held-out.jsonl").write_text("".join(json.dumps({"prompt": f"thing {i}?"}) + "\n" for i in range(9)))
    rl_cai = Model("d" * 32, "rl_cai", "grpo", str(tmp_path / "rl"), "p" * 32)
    gone = Model("e" * 32, "rl_cai", "grpo", str(tmp_path / "gone"), "p" * 32)
    Store(tmp_path / "home").append([rl_cai, gone])
    return tmp_path


def run_evaluate(home, *arguments):
    profile = ["--profile", str(home / "profile.yaml"), "--home", str(home / "home")]
    return CliRunner().invoke(evaluate, [*profile, *arguments], catch_exceptions=False)


def test_the_command_measures_seed_and_latest_models_and_writes_json(home):
    file = home / "rates.json"
    done = run_evaluate(home, "--n", "20", "--json", str(file))
    assert done.exit_code == 0
    assert "RL-CAI" in done.stdout
    assert "sl_cai: none under" in done.stderr
    written = json.loads(file.read_text())
    assert list(written) == ["seed", "rl_cai"]
    assert written["rl_cai"]["over_refusal_rate"]["value"] == 1.0
    assert set(written["seed"]["rude_rate"]) == {"value", "low", "high", "n"}
    assert set(written["rl_cai"]) - set(written["seed"]) == {"win_rate/seed", "length_controlled_win_rate/seed"}
    assert written["rl_cai"]["rude_rate"]["n"] == 20
    stored = Store(home / "home").read(Evaluation)
    assert {row.model for row in stored} == {"seed", "rl_cai"}


def test_the_command_asks_nothing_twice(home):
    (home / "script.yaml").write_text("")
    first = run_evaluate(home)
    again = run_evaluate(home)
    assert "30/30 responses, 0 found" in first.stderr
    assert "24/24 comparisons, 0 found" in first.stderr  # twelve prompts, one principle, both orders
    assert again.stderr.count("30/30 responses, 30 found") == 2
    assert "24/24 comparisons, 24 found" in again.stderr
    assert again.stdout == first.stdout


def test_on_prompts_of_ones_own_the_judge_compares_later_models_to_earlier_ones(home):
    """The value is that of the stored comparisons, counted here in another way: who is ahead over both orders."""
    (home / "script.yaml").write_text("")
    file = home / "rates.json"
    models = [f"--model=old={home / 'seed'}", f"--model=new={home / 'rl'}"]
    done = run_evaluate(home, *models, "--prompts", str(home / "held-out.jsonl"), "--json", str(file))
    assert "new over old" in done.stdout and "no independent measure" in done.stdout
    assert "harmful" not in done.stdout
    written = json.loads(file.read_text())
    assert list(written) == ["old", "new"]
    assert list(written["old"]) == ["refusal_rate", "partial_refusal_rate", "unscored_rate"]
    store = Store(home / "home")
    new = {r.response_id for r in store.read(Response) if r.model_digest == "d" * 32}
    ahead = dict.fromkeys((p.prompt_id for p in store.read(Prompt)), 0.0)
    for row in store.read(Comparison):
        p_a, p_b = math.exp(row.logp_a), math.exp(row.logp_b)
        ahead[row.prompt_id] += (p_a / (p_a + p_b) - 0.5) * (1 if row.response_a in new else -1) / 2
    wins = [0.5 if abs(margin) <= 0.01 else float(margin > 0) for margin in ahead.values()]
    assert 0 < sum(wins) < 9, "the script decides nothing"
    assert set(written["new"]) - set(written["old"]) == {"win_rate/old", "length_controlled_win_rate/old"}
    assert written["new"]["win_rate/old"]["value"] == pytest.approx(sum(wins) / 9)
    assert written["new"]["win_rate/old"]["n"] == 9


def test_three_models_are_rated(home):
    """The scripted judge likes what it reads; the ratings follow the win rates and keep their mean at 1000."""
    (home / "script.yaml").write_text("")
    file = home / "rates.json"
    models = [f"--model={name}={home / where}" for name, where in (("a", "seed"), ("b", "rl"), ("c", "third"))]
    (home / "third").mkdir()
    (home / "third" / "config.json").write_text('{"name": "third"}')
    (home / "third" / "model.safetensors").write_bytes(b"")
    (home / "third" / "meta.json").write_text(json.dumps({"model_digest": "t" * 32}))
    done = run_evaluate(home, *models, "--prompts", str(home / "held-out.jsonl"), "--json", str(file))
    assert "Elo by the judge" in done.stdout and "at equal length" in done.stdout
    written = json.loads(file.read_text())
    ratings = [written[name]["elo"] for name in "abc"]
    assert sum(each["value"] for each in ratings) == pytest.approx(3000)
    assert all(each["low"] < each["value"] < each["high"] and each["n"] == 18 for each in ratings)


def test_a_judge_that_likes_length_prefers_the_longer_and_length_control_takes_it_back(constitution):
    """What the judge says follows length alone, by its logit; one model's replies are longer on most prompts."""

    def by_length(messages, options):
        a, b = (part.split("\n\n")[0] for part in messages[-1].content.split("Response A:")[1].split("Response B:"))
        return [0.9, 0.1] if len(a) > len(b) else [0.1, 0.9] if len(b) > len(a) else [0.5, 0.5]

    words = [2 + i % 7 for i in range(140)]
    texts = ["word " * (n + (3 if i % 3 else -1)) for i, n in enumerate(words)]
    won, lost, _ = played(constitution, texts, ["word " * n for n in words], by_length)
    assert won.rate.value == pytest.approx(2 / 3, abs=0.01)
    assert won.length_controlled.value < won.rate.value
    assert won.length_controlled.value == pytest.approx(1 - lost.length_controlled.value)


def test_n_and_win_rate_prompts_limit_what_is_asked(home):
    (home / "script.yaml").write_text("")
    done = run_evaluate(home, "--prompts", str(home / "held-out.jsonl"), "--n", "5", "--win-rate-prompts", "2")
    assert "5/5 responses" in done.stderr and "4/4 comparisons" in done.stderr
    silent = run_evaluate(home, "--n", "6", "--win-rate-prompts", "0")
    assert "RL-CAI" in silent.stdout and "over seed" not in silent.stdout


def test_what_a_models_run_trained_on_is_left_out(home):
    """The run's folder says which prompts those are; they are rejects, and no evaluation counts them."""
    prompts = [Prompt.make([Message("user", f"thing {i}?")], "test") for i in range(2)]
    run = create_run(load_profile(home / "profile.yaml"), home / "home")
    run.save_ids("prompts", [prompt.prompt_id for prompt in prompts])
    (home / "rl" / "meta.json").write_text(json.dumps({"model_digest": "f" * 32}))
    Store(home / "home").append([Model("f" * 32, "rl_cai", "grpo", str(home / "rl"), "p" * 32, run_id=run.run_id)])
    done = run_evaluate(home, "--prompts", str(home / "held-out.jsonl"))
    assert "2 prompts rejected" in done.stderr and "7/7 responses" in done.stderr
    rejected = Store(home / "home").read(Reject)
    assert {r.prompt_id for r in rejected} == {prompt.prompt_id for prompt in prompts}


def test_of_one_model_on_prompts_of_ones_own_refusals_are_counted(home):
    file = home / "rates.json"
    arguments = ["--model", f"mine={home / 'rl'}", "--prompts", str(home / "held-out.jsonl"), "--json", str(file)]
    run_evaluate(home, *arguments)
    measured = json.loads(file.read_text())["mine"]
    assert {name: (each["value"], each["n"]) for name, each in measured.items()} == {
        "refusal_rate": (1.0, 9),
        "partial_refusal_rate": (0.0, 9),
        "unscored_rate": (0.0, 9),
    }


def test_without_prompts_the_command_says_so_before_it_asks(home):
    text = (home / "profile.yaml").read_text()
    (home / "profile.yaml").write_text(text.replace("{path: smallworld, limit: 30}", ""))
    with pytest.raises(ConfigError, match="--prompts FILE"):
        run_evaluate(home)
    assert Store(home / "home").read(Response) == []


def test_the_command_explains_a_model_it_cannot_read(home):
    with pytest.raises(ConfigError, match="expected NAME=MODEL"):
        run_evaluate(home, "--model", "just-a-path")
    with pytest.raises(ModelNotFound):
        run_evaluate(home, "--model", f"mine={home / 'nothing-here'}/")


def test_pairs_are_asked_of_the_judge_and_no_model_answers_them(home):
    row = {"input": "Can you help?", "targets": {"choices": ["No.", "Yes, gladly."], "labels": [0, 1]}}
    (home / "helpful.jsonl").write_text(json.dumps(row) + "\n")
    file = home / "rates.json"
    done = run_evaluate(home, "--prompts", str(home / "helpful.jsonl"), "--json", str(file))
    written = json.loads(file.read_text())
    assert list(written) == ["judge"] and written["judge"]["pair_accuracy"]["n"] == 1
    assert "2/2 comparisons" in done.stderr and "responses" not in done.stderr and "judge" in done.stdout
    store = Store(home / "home")
    assert {(row.model, row.set) for row in store.read(Evaluation)} == {("judge", "helpful.jsonl")}
    assert {row.stage for row in store.read(Response)} == {"given"}
    with pytest.raises(ConfigError, match="format: hhh"):
        run_evaluate(home, "--reward-model", str(home / "rl"), "--prompts", str(home / "held-out.jsonl"))
