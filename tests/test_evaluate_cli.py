"""`cai evaluate`: which models answer which prompts, what the judge is asked, and the rates and Elo written."""

import json
import math
import random
import re

import pytest
from click.testing import CliRunner
from evaluation_rows import REFUSAL
from tiny_model import save_tiny_model

from cai.cli.evaluate import evaluate
from cai.config import ProbesConfig, load_profile
from cai.errors import ConfigError, ModelNotFound
from cai.models import model_digest
from cai.records import Comparison, Evaluation, Message, Model, Prompt, Reject, Response, Score
from cai.training.rollouts import Sample, as_row, write_parquet
from flows.runs import create_run
from storage.store import Store

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
    more = {name for name in set(written["rl_cai"]) - set(written["seed"]) if not name.startswith("probe/")}
    assert more == {"win_rate/seed", "length_controlled_win_rate/seed"}
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
    assert "harmful, by kind" not in done.stdout
    written = json.loads(file.read_text())
    assert list(written) == ["old", "new"]
    assert list(written["old"])[:3] == ["refusal_rate", "partial_refusal_rate", "unscored_rate"]
    assert "harmful_rate" not in written["old"] and written["old"]["harmfulness"]["n"] == 9
    store = Store(home / "home")
    new = {r.response_id for r in store.read(Response) if r.model_digest == "d" * 32}
    ahead = dict.fromkeys((p.prompt_id for p in store.read(Prompt)), 0.0)
    for row in store.read(Comparison):
        p_a, p_b = math.exp(row.logp_a), math.exp(row.logp_b)
        ahead[row.prompt_id] += (p_a / (p_a + p_b) - 0.5) * (1 if row.response_a in new else -1) / 2
    wins = [0.5 if abs(margin) <= 0.01 else float(margin > 0) for margin in ahead.values()]
    assert 0 < sum(wins) < 9, "the script decides nothing"
    more = {name for name in set(written["new"]) - set(written["old"]) if not name.startswith("probe/")}
    assert more == {"win_rate/old", "length_controlled_win_rate/old"}
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
    assert {name: (measured[name]["value"], measured[name]["n"]) for name in measured if name.endswith("l_rate")} == {
        "refusal_rate": (1.0, 9),
        "partial_refusal_rate": (0.0, 9),
    }
    assert measured["unscored_rate"]["n"] == 9
    assert measured["probe/bare_refusals"]["n"] == 9 and measured["probe/bare_refusals"]["limit"] == 0.5
    assert measured["probe/hedging"]["outcome"] == "unmeasured"
    assert "another model" in measured["probe/hedging"]["why"]


def test_the_command_probes_the_last_model_as_a_run_probes_its_policy(home):
    """Beside the model before it, and with the samples of RL in its folder; what is not measured says why."""
    rng = random.Random(0)
    texts = ["take the path. ask.", "it depends. ask."]
    sampled = [
        Sample(step, str(i), texts[k], k + rng.random(), {}, "", 0.1 * step, 5 + k)
        for step in (1, 2)
        for i in range(20)
        for k in (0, 1)
    ]
    write_parquet([as_row(sample) for sample in sampled], home / "rl" / "rollouts.parquet")
    models = [part for name, path in (("old", "seed"), ("new", "rl")) for part in ("--model", f"{name}={home / path}")]
    file = home / "rates.json"
    done = run_evaluate(home, *models, "--win-rate-prompts", "0", "--json", str(file))
    written = json.loads(file.read_text())
    assert not any(name.startswith("probe/") for name in written["old"])
    probes = {name.removeprefix("probe/"): row for name, row in written["new"].items() if name.startswith("probe/")}
    assert set(probes) == set(ProbesConfig.model_fields)
    assert probes["hedging"]["value"] == 0.0 and probes["hedging"]["n"] == 30
    assert probes["reward_hedging"]["outcome"] == "tripped" and probes["reward_hedging"]["n"] == 80
    assert probes["sycophancy"]["why"] == "the evaluation has no sycophancy items"
    assert written["new"]["kl"]["value"] == pytest.approx(0.2)
    assert "sycophancy: not measured, the evaluation has no sycophancy items" in done.stdout
    assert re.search(r"reward hedging +\+0\.\d\d .* ≤ 0\.30 +80 +tripped", done.stdout)


def test_an_evaluation_of_pairs_alone_has_no_probes(home):
    row = {"input": "Can you help?", "targets": {"choices": ["No.", "Yes, gladly."], "labels": [0, 1]}}
    (home / "helpful.jsonl").write_text(json.dumps(row) + "\n")
    done = run_evaluate(home, "--prompts", str(home / "helpful.jsonl"))
    assert "right of pairs" in done.stdout and "probe" not in done.stdout


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


def test_a_reward_model_tells_pairs_and_what_it_gives_each_response_is_stored(home):
    from transformers import AutoModelForSequenceClassification

    folder = save_tiny_model(home / "rm", seed=0)
    model = AutoModelForSequenceClassification.from_pretrained(str(folder), num_labels=1)
    model.config.pad_token_id = 0
    model.save_pretrained(folder)
    row = {"input": "Can you help?", "targets": {"choices": ["No.", "Yes, gladly."], "labels": [0, 1]}}
    (home / "helpful.jsonl").write_text(json.dumps(row) + "\n")
    pairs = ["--prompts", str(home / "helpful.jsonl"), "--win-rate-prompts", "0"]
    done = run_evaluate(home, *pairs, "--reward-model", str(folder))
    assert "reward model" in done.stdout
    store = Store(home / "home")
    scores = store.read(Score)
    assert {row.response_id for row in scores} == {row.response_id for row in store.read(Response)}
    assert len(scores) == 2 and {row.reward_model_digest for row in scores} == {model_digest(folder)}
