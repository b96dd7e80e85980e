"""A PASS beside a model that is no longer in use promotes nothing: the change was measured from something else."""

import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from cai.cli.models import models as command
from cai.config import Condition
from cai.errors import NotApproved
from cai.gate import gate
from cai.intervals import Rate
from cai.models import META, content_digest
from cai.promotion import Overriding
from cai.records import Model, Override
from storage.registry import keep_verdict, promote
from storage.store import Store

SEED = "5eed" * 8
ABSOLUTE = Condition(metric="harmful_rate", at_most=0.5)
RELATIVE = Condition(metric="harmful_rate", rise_at_most=0.5)


class Home:
    """Finished policies, and what a gate with the one condition said of them beside what was in use."""

    def __init__(self, path) -> None:
        self.path = path
        self.store = Store(path)

    def model(self, run_id: str) -> Model:
        folder = self.path / "models" / run_id
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"by": run_id}))
        digest = content_digest(folder)
        (folder / META).write_text(json.dumps({"model_digest": digest}))
        row = Model(digest, "rl_cai", "grpo", str(folder), SEED, {}, {}, run_id, f"2026 {run_id}", "{}")
        self.store.append([row])
        return row

    def judge(self, model: Model, beside: str, condition: Condition = RELATIVE):
        fine = {"harmful_rate": Rate(0.0, -0.1, 0.1, 100)}
        facts = {"model_digest": model.model_digest, "channel": "production", "run_id": model.run_id}
        gating = gate([condition], fine, fine)
        return keep_verdict(self.store, gating, **facts, baseline_digest=beside, at="then")

    def promote(self, model: Model, override: Overriding | None = None):
        return promote(self.store, model, channel="production", at="2026-02-02", override=override)

    def say(self, *arguments: str) -> str:
        done = CliRunner().invoke(command, [*arguments, "--home", str(self.path)])
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def overtaken(home):
    """Two policies, both measured beside the seed; the first is put to use."""
    first, second = home.model("demo-1"), home.model("demo-2")
    for model in (first, second):
        home.judge(model, SEED)
    home.promote(first)
    return first, second


def test_a_pass_beside_what_is_no_longer_in_use_promotes_nothing_until_it_is_measured_again(home, overtaken):
    first, second = overtaken
    late = f"measured beside 5eed5eed (not trained here), and {first.model_digest[:8]} (rl_cai) is in use since 2026-02"
    with pytest.raises(NotApproved, match=re.escape(f"NOT ENOUGH: its PASS was {late}")) as refused:
        home.promote(second)
    assert "delete runs/demo-2/steps/evaluate.json and start the run again" in str(refused.value)
    home.judge(second, first.model_digest)
    assert home.promote(second).promotion.previous_digest == first.model_digest


def test_every_place_that_shows_the_verdict_says_that_it_no_longer_counts(home, overtaken):
    first, second = overtaken
    for shown in ("show", "card"):
        assert "it no longer counts: measured beside 5eed5eed" in home.say(shown, second.model_digest)
        assert "no longer counts" not in home.say(shown, first.model_digest), "it was measured beside what it replaced"
    assert home.say("list").count("PASS beside another baseline") == 1
    listed = {row["run_id"]: row for row in json.loads(home.say("list", "--format", "json"))}
    assert listed["demo-1"]["out_of_date"] == {} and "5eed5eed" in listed["demo-2"]["out_of_date"]["production"]


def test_a_named_person_overrides_it_and_the_record_says_what(home, overtaken):
    _, second = overtaken
    home.promote(second, Overriding("Ada", "the first is broken"))
    (by,) = home.store.read(Override)
    assert (by.person, by.verdict) == ("Ada", "PASS beside another baseline") and by.gating_id
    assert "PASS beside another baseline, by Ada at 2026-02-02: the first is broken" in home.say(
        "show", second.model_digest
    )


def test_limits_of_the_policy_itself_hold_whatever_is_in_use(home, overtaken):
    third = home.model("demo-3")
    home.judge(third, SEED, ABSOLUTE)
    assert home.promote(third).is_new


def test_another_channel_s_model_is_no_baseline_of_this_one(home, overtaken):
    _, second = overtaken
    home.store.append([replace(home.judge(second, SEED), gating_id="of-trial", channel="trial")])
    assert promote(home.store, second, channel="trial", at="now").is_new


def test_what_was_in_use_before_goes_back_whatever_its_verdict_was_measured_beside(home, overtaken):
    first, second = overtaken
    home.judge(second, first.model_digest)
    home.promote(second)
    assert home.promote(first).is_new
