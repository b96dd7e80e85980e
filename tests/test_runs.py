"""A run from prompts to preference pairs, and what it measures: accounted for, shown, and kept as it was begun."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from scripted_run import CONSTITUTION, changed, run_to_preferences, serve, write_profile

from cai import __version__
from cai.cli.run import _show
from cai.config import load_profile
from cai.errors import ConfigError, DataError
from cai.records import Comparison, Prompt, Reject, Revision, Rollout, Run, digest
from cai.training.rollouts import Sample, as_row, write_parquet
from flows import accounts
from flows.import_step import import_prompts
from flows.planning import earlier_run
from flows.prompt_stats import of_home
from flows.recording import failure_recorded
from flows.registering import left_by_training
from flows.runs import create_run, open_run, readable_runs
from flows.session import Session
from storage.store import Store


@pytest.fixture
def profile(tmp_path):
    return partial(write_profile, tmp_path)


def test_every_step_accounts_for_its_rows(tmp_path, profile):
    run = run_to_preferences(tmp_path / "home", profile())
    steps = accounts.funnel(run)
    assert [title for title, *_ in steps] == [
        "import prompts",
        "critique and revise",
        "derive SFT set",
        "sample candidates",
        "compare",
        "read verdicts",
        "derive preferences",
    ]
    for title, n_in, n_out, n_rejected in steps:
        assert n_in == n_out + n_rejected, title
    assert run.result("labels-0")["n_requests"] == 40 * 2 * 2  # pairs × principles × orders


def test_whatever_is_dropped_on_the_way_is_in_the_funnel(tmp_path, profile):
    """A judge that answers neither letter cost no row of the step that asked it, and was in no step's account."""
    rules = (
        {"when": r"(?s)number 1\?.*kinder", "choose": [0.1, 0.1]},
        {"when": r"(?s)number 2\?.*(kinder|less harm)", "choose": [0.1, 0.1]},
        {"when": r"number 3\?$", "reply": "the same"},
        {"when": r"(?s)number 4\?.*unkind", "reply": ""},
    )
    run = run_to_preferences(tmp_path / "home", profile(rules=rules))
    rejected = {title: n_rejected for title, _, _, n_rejected in accounts.funnel(run)}
    assert rejected["read verdicts"] == 2 + 4
    assert rejected["derive preferences"] == 2
    assert sum(rejected.values()) == len(Store(tmp_path / "home").read(Reject))
    for title, n_in, n_out, n_rejected in accounts.funnel(run):
        assert n_in == n_out + n_rejected, title


def test_a_failure_is_recorded_and_forgotten_when_the_run_is_tried_again(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")

    def status() -> list[str]:
        return [row.status for row in Store(run.home).read(Run)]

    with pytest.raises(DataError), failure_recorded(run):
        raise DataError("nothing to read")
    assert status() == ["failed"]
    with pytest.raises(KeyboardInterrupt), failure_recorded(run):
        assert status() == ["running"]
        raise KeyboardInterrupt
    assert status() == ["running"], "an interruption is no failure"


def test_editing_one_principle_asks_again_only_for_what_used_it(tmp_path, profile):
    home = tmp_path / "home"
    first = run_to_preferences(home, profile())
    revisions = Store(home).read(Revision)
    direct = {r.revision_id for r in revisions if r.principle_id == "kind"}
    stale = direct | {r.revision_id for r in revisions if r.parent_id in direct}
    edited = CONSTITUTION.replace("Was the response unkind?", "Did the response lack kindness?")
    second = run_to_preferences(home, profile(constitution=edited))
    assert second.run_id != first.run_id
    assert second.result("chains-0")["n_requests"] == 2 * len(stale)
    assert second.result("labels-0")["n_requests"] == 0, "the comparisons do not depend on a critique's text"


def evaluated(home: Path, profile: Path):
    """Two models measured on held-out prompts of no known truth, and the report."""
    run = create_run(load_profile(profile), home)
    models = {"seed": "scripted", "sl_cai": "trained"}
    return serve(run, {"step": "prompts"}, {"step": "evaluate", "models": models}, {"step": "report"})


def test_win_rates_are_shown_where_no_oracle_knows_the_truth(tmp_path, profile, capsys):
    run = evaluated(tmp_path / "home", profile(win_rate_prompts=12))
    step = run.result("evaluate")
    assert (step["n_in"], step["n_prompts_rejected"]) == (2 * 20, 0)
    assert list(step["rates"]["seed"])[:3] == ["refusal_rate", "partial_refusal_rate", "unscored_rate"]
    assert step["win_rates"]["sl_cai/seed"]["n"] == 12
    judges = {row.judge_digest for row in Store(tmp_path / "home").read(Comparison)}
    assert judges == {digest("scripted", "scripted")}, "the seed model judges, not the one that was sampled last"
    _show(tmp_path / "home", run.run_id, "report", None)
    assert "SL-CAI over seed" in capsys.readouterr().out
    page = (run.path / "report.html").read_text()
    assert "SL-CAI over seed" in page


def test_a_run_that_measured_nothing_shows_its_funnel(tmp_path, profile, capsys):
    """Without prompts to measure with there is no `results.txt`; showing the run read it all the same."""
    run = evaluated(tmp_path / "home", changed(profile(), evaluation={}))
    _show(tmp_path / "home", run.run_id, "report", None)
    assert "import prompts" in capsys.readouterr().out


def test_a_home_knows_one_answer_to_a_prompt(tmp_path, profile):
    """It may be learnt later; a file that gives another one loses that row, aloud."""
    store, home = Store(tmp_path / "home"), tmp_path / "home"
    for expected, kept in ((None, 2), ("4", 2), (None, 2), ("5", 1)):
        rows = [{"prompt": "two and two?", "sum": expected}, {"prompt": "why?", "sum": None}]
        (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"path": str(tmp_path / "sums.jsonl"), "expected_column": "sum"}
        run = create_run(load_profile(changed(profile(), prompts=[source])), home)
        assert import_prompts(Session(run))["n_out"] == kept
    assert {row.expected for row in store.read(Prompt)} == {"4", None}
    (reject,) = store.read(Reject)
    assert (reject.reason, reject.detail[:29]) == ("conflicting_expected", "sums.jsonl expects '5', and a")


def test_what_rl_sampled_is_stored_with_each_term_of_its_reward(tmp_path):
    """The flow of every run failed at its RL step when the file of samples had got more columns than the record."""
    rule = {"step": 1, "prompt_id": "p", "kl": 0.1, "n_tokens": 3}
    scored = Sample(**rule, text="fine", reward=1.5, parts={"reward_model": 2.0, "length": -0.5}, reason="")
    unscored = Sample(**rule, text="odd", reward=None, parts={"judge": None}, reason="judge: refused")
    write_parquet([as_row(scored), as_row(unscored)], tmp_path / "rollouts.parquet")
    store = Store(tmp_path / "home")
    store.append(list(left_by_training(tmp_path, "run")))
    (rollout,), (reject,) = store.read(Rollout), store.read(Reject)
    assert (rollout.text, rollout.reward, rollout.parts) == ("fine", 1.5, {"length": -0.5, "reward_model": 2.0})
    assert (reject.stage, reject.reason, reject.detail) == ("rollout", "unscored", "judge: refused")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"helpful": {"prompts": [], "share": 0.2}}, "`sft` is null"),
        ({"sft": {}, "helpful": {"prompts": [{"path": "smallworld"}], "share": 0.2}}, "half of what `smallworld`"),
        ({"ensemble": 3, "rl": {"algorithm": "dpo"}}, "dpo trains no reward model"),
        ({"prompts": [{"path": "x.jsonl", "answer_column": "chosen"}]}, "has an `answer_column`"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(profile, settings, said):
    with pytest.raises(ConfigError, match=said):
        load_profile(changed(profile(), **settings))


def test_a_run_keeps_the_constitution_it_was_started_with(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    profile(constitution=CONSTITUTION.replace("kinder", "more kind"))
    assert open_run(tmp_path / "home", run.run_id).constitution.digest() == run.constitution.digest()


def test_an_unknown_run_names_those_there_are(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    with pytest.raises(ConfigError, match=run.run_id):
        open_run(tmp_path / "home", "other")


def test_a_run_of_a_version_with_other_settings_is_named_and_the_others_go_on(tmp_path, profile, caplog):
    """One such run, and every plan and every look at the prompts of the home ended in a traceback."""
    home = tmp_path / "home"
    run = create_run(load_profile(profile()), home)
    for old, name, key in (("a", "run.json", '"seed"'), ("b", "constitution.yaml", "principles")):
        shutil.copytree(run.path, home / "runs" / old)
        file = home / "runs" / old / name
        file.write_text(file.read_text().replace(key, key.replace("s", "s_of_then", 1)))
        with pytest.raises(ConfigError, match=f"(?s)run '{old}' under .*cai-flows {__version__}.*Go on with it"):
            open_run(home, old)
    assert [each.run_id for each in readable_runs(home)] == [run.run_id]
    assert "run a is passed over" in caplog.text and "run b is passed over" in caplog.text
    assert earlier_run(run) is None
    assert of_home(home, Store(home)).n == 0
