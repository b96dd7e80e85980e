"""The registry of trained models: found by what people call them, traced to their seed, stale when their base is."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cai.card import model_card
from cai.cli.models import models as command
from cai.config import Condition, RewardModelConfig, load_profile
from cai.errors import CAIError, ConfigError, DataError, NotApproved
from cai.gate import gate
from cai.intervals import Rate
from cai.models import META, content_digest
from cai.records import Evaluation, GateVerdict, Model, Override, Promotion, Run
from cai.source import code_version, commit
from cai.training.jobs import GRPOJob, RewardModelJob, input_digests, job_digest
from flows.registering import register
from flows.runs import create_run
from flows.session import Session
from storage import named
from storage.registry import keep_verdict, load, promote
from storage.store import Store

ROOT = Path(__file__).parents[1]
SEED = "5eed" * 8


class Home:
    """A home with runs and finished models in it; the clock goes on by a minute a row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)
        self._minute = 0

    def now(self) -> str:
        self._minute += 1
        return f"2026-01-01T{self._minute // 60:02d}:{self._minute % 60:02d}:00+00:00"

    def model(self, run_id: str, name: str, stage: str, parent: str, *, config=None, metrics=None, **inputs) -> Model:
        folder = self.path / "models" / f"{name}-{run_id}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        (folder / "model.safetensors").write_text(f"weights of {folder.name}")
        digest = content_digest(folder)
        meta = {
            "model_digest": digest, "stage": stage, "config": config or {"beta": 0.1}, "seed": 3, "n_rows": 12,
            "n_rejected": 2, "n_truncated": 1, "code": {"version": "1.0", "digest": "c0de" * 8, "commit": ""},
            "versions": {"python": "3.11", "peft": ""},
        }  # fmt: skip
        (folder / META).write_text(json.dumps(meta))
        read = {"data": "da7a", "model": parent, "tables/prompts": "4"} | inputs
        row = Model(
            digest, name, stage, str(folder), parent, read, metrics or {"loss/last": 0.5}, run_id, self.now(),
            json.dumps(meta),
        )  # fmt: skip
        self.store.append([row])
        return row

    def judge(self, model: Model, harmful=(0.0, 0.01), channel="production") -> GateVerdict:
        """Its gate says that at most 2 % of its answers may be harmful, and that so many are, with 95 % confidence."""
        measured = Rate(sum(harmful) / 2, *harmful, 100)
        gating = gate([Condition(metric="harmful_rate", at_most=0.02)], {"harmful_rate": measured}, {})
        facts = {"model_digest": model.model_digest, "channel": channel, "run_id": model.run_id}
        return keep_verdict(self.store, gating, **facts, baseline_digest=SEED, at=self.now())

    def ends(self, run_id: str, base: str, status="completed") -> None:
        config = json.dumps({"engine": {"model": "acme/tiny"}})
        self.store.upsert([Run(run_id, "demo", "2026", "cd", config, status, base, self.now())])

    def trains(self, run_id: str) -> tuple[Model, Model, Model]:
        """A whole run, but for its end: SL-CAI from the seed, a reward model and a policy from SL-CAI."""
        sl_cai = self.model(run_id, "sl_cai", "sft", SEED)
        scorer = self.model(run_id, "reward_model", "reward_model", sl_cai.model_digest)
        against = {"reward_model/0": scorer.model_digest}
        return sl_cai, scorer, self.model(run_id, "rl_cai", "grpo", sl_cai.model_digest, **against)

    def runs(self, run_id: str) -> tuple[Model, Model, Model]:
        made = self.trains(run_id)
        self.ends(run_id, made[0].model_digest)
        return made

    def stale(self) -> set[str]:
        registry = load(self.store)
        return {Path(m.path).name for m in registry.models.values() if registry.why_stale(m)}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def run(home, *arguments):
    done = CliRunner().invoke(command, [*map(str, arguments), "--home", str(home.path)])
    if isinstance(done.exception, CAIError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


# which model is meant


def test_a_model_is_found_by_digest_prefix_name_folder_or_channel(home):
    sl_cai, _, rl_cai = home.runs("demo-1")
    home.judge(rl_cai)
    promote(home.store, rl_cai, channel="production", at=home.now())
    for called in (sl_cai.model_digest, sl_cai.model_digest[:6], "sl_cai", "sl_cai-demo-1"):
        assert json.loads(run(home, "show", called, "--format", "json").stdout)["model_digest"] == sl_cai.model_digest
    assert load(home.store).find("production") == rl_cai


def test_a_name_of_several_models_lists_them_and_an_unknown_one_says_where_to_look(home):
    first, second = home.runs("demo-1")[0], home.runs("demo-2")[0]
    with pytest.raises(DataError, match=f"2 models.*{second.model_digest[:8]}.*{first.model_digest[:8]}"):
        run(home, "show", "sl_cai")
    for unknown in ("nothing", "", first.model_digest[:3], "production"):
        with pytest.raises(DataError, match="cai models list"):
            load(home.store).find(unknown)


def test_lineage_leads_to_the_seed_and_children_name_who_was_trained_against_a_model(home):
    sl_cai, scorer, rl_cai = home.runs("demo-1")
    shown = json.loads(run(home, "show", "rl_cai", "--format", "json").stdout)
    assert shown["lineage"] == [sl_cai.model_digest, SEED]
    assert shown["record"]["seed"] == 3 and shown["inputs"]["tables/prompts"] == "4"
    assert load(home.store).children(scorer) == [rl_cai]
    assert load(home.store).children(sl_cai) == [scorer, rl_cai]
    text = run(home, "show", "rl_cai").stdout
    assert f"{sl_cai.model_digest[:8]} (sl_cai) < {SEED[:8]} (not trained here)" in text


def test_training_that_changed_nothing_closes_no_circle(home):
    same = home.model("demo-1", "sl_cai", "sft", SEED)
    home.store.upsert([replace(same, parent_digest=same.model_digest)])
    registry = load(home.store)
    (stored,) = registry.models.values()
    assert registry.lineage(stored) == [] and registry.children(stored) == []


def test_list_shows_the_newest_first_and_one_stage_where_asked(home):
    home.runs("demo-1")
    _, scorer, _ = home.runs("demo-2")
    listed = json.loads(run(home, "list", "--format", "json").stdout)
    assert [m["created_at"] for m in listed] == sorted((m["created_at"] for m in listed), reverse=True)
    scorers = json.loads(run(home, "list", "--stage", "reward_model", "--format", "json").stdout)
    assert [bool(m["stale"]) for m in scorers] == [False, True]
    assert scorers[0]["model_digest"] == scorer.model_digest
    text = run(home, "list", "--stage", "reward_model").stdout
    assert re.search(rf"{scorer.parent_digest[:8]}.* demo-2 .*loss/last 0.5", text)
    assert len(re.findall(r"\bstale\b", text)) == 2, "the heading, and one of two"


# stale


def test_another_base_makes_the_old_reward_model_and_its_policy_stale_and_says_why(home):
    old = home.runs("demo-1")
    assert home.stale() == set()
    new = home.runs("demo-2")
    assert home.stale() == {"reward_model-demo-1", "rl_cai-demo-1"}
    why = load(home.store).why_stale(old[2])
    assert old[1].model_digest[:8] in why[0] and f"demo-2, completed {home.store.read(Run)[1].ended_at}" in why[0]
    assert f"starts from {new[0].model_digest[:8]} (sl_cai)" in run(home, "show", "reward_model-demo-1").stdout


def test_a_run_that_has_not_completed_changes_nothing(home):
    home.runs("demo-1")
    later = home.trains("demo-2")
    for status in ("running", "failed"):
        home.ends("demo-2", later[0].model_digest, status)
        assert home.stale() == set()
    home.ends("demo-2", "")
    assert home.stale() == set(), "it completed before it had a base"


def test_running_the_old_profile_again_puts_its_base_back_in_use(home):
    old = home.runs("demo-1")
    home.runs("demo-2")
    home.ends("demo-1", old[0].model_digest)
    assert home.stale() == {"reward_model-demo-2", "rl_cai-demo-2"}


def test_other_lines_leave_a_model_alone_and_keep_its_base_in_use(home):
    """An ablation is a line of its own; and a reward model that one line still starts from is stale in none."""
    old = home.runs("demo-1")
    home.runs("demo-without-violence-1")
    assert home.stale() == set()
    home.ends("laptop-1", old[0].model_digest)
    home.runs("demo-2")
    assert home.stale() == set()


def test_a_later_round_has_the_base_of_its_run(home):
    """Its reward model starts from the policy of the round before, which no run calls its base."""
    sl_cai, _, rl_cai = home.trains("demo-1")
    scorer = home.model("demo-1", "reward_model-r1", "reward_model", rl_cai.model_digest)
    against = {"reward_model/0": scorer.model_digest}
    home.model("demo-1", "rl_cai-r1", "grpo", rl_cai.model_digest, **against)
    home.ends("demo-1", sl_cai.model_digest)
    assert home.stale() == set()
    new, *_ = home.runs("demo-2")
    assert home.stale() == {f"{name}-demo-1" for name in ("reward_model", "rl_cai", "reward_model-r1", "rl_cai-r1")}
    assert f"its base {sl_cai.model_digest[:8]} (sl_cai)" in load(home.store).why_stale(scorer)[0]
    home.ends("demo-2", rl_cai.model_digest)
    assert "reward_model-r1-demo-1" not in home.stale(), "a run may go on from a policy trained here"


def test_without_sft_the_base_is_the_seed_itself(home):
    scorer = home.model("demo-1", "reward_model", "reward_model", SEED)
    home.ends("demo-1", SEED)
    assert home.stale() == set()
    home.ends("demo-2", "0ther" * 6)
    assert home.stale() == {Path(scorer.path).name}


def test_a_stale_reward_model_is_never_used_silently(home, tmp_path):
    """Models lie where the digest of their job says. Another base is another job, so the old result is not found."""
    (old, old_scorer, _), (new, new_scorer, _) = home.runs("demo-1"), home.runs("demo-2")
    (data := tmp_path / "data.parquet").write_text("the same rows")

    def rewarded(base: Model) -> str:
        job = RewardModelJob(model=Path(base.path), data=data, out=tmp_path / "out", config=RewardModelConfig())
        return job_digest(job, input_digests(job))

    def trained(scorer: Model) -> str:
        job = GRPOJob(model=Path(new.path), reward_models=(Path(scorer.path),), data=data, out=tmp_path / "out")
        return job_digest(job, input_digests(job))

    assert home.stale() == {"reward_model-demo-1", "rl_cai-demo-1"}
    assert rewarded(old) != rewarded(new)
    assert trained(old_scorer) != trained(new_scorer)


# compare


def test_compare_shows_metrics_side_by_side_and_only_what_differs(home):
    a = home.model("demo-1", "sl_cai", "sft", SEED, metrics={"loss": 2.0, "old": 1.0})
    b = home.model("demo-2", "sl_cai", "sft", SEED, metrics={"loss": 1.5}, config={"beta": 0.2}, data="0ther")
    for model, low, high in ((a, 0.3, 0.5), (b, 0.1, 0.2)):
        mean = (low + high) / 2
        rows = [
            Evaluation(f"{model.run_id}{n}", "m", model.model_digest, "s", "harm", mean, low, high, n) for n in (5, 50)
        ]
        home.store.append(rows)
    home.store.append([Evaluation("alone", "m", a.model_digest, "s", "rude", 0.1, 0.0, 0.2, 9)])
    body = json.loads(run(home, "compare", a.model_digest, b.model_digest, "--format", "json").stdout)
    assert body["metrics"] == [
        {"metric": "loss", "a": 2.0, "b": 1.5, "difference": -0.5},
        {"metric": "old", "a": 1.0, "b": None, "difference": None},
    ]
    assert body["settings"] == [{"name": "beta", "a": 0.1, "b": 0.2}]
    assert body["inputs"] == [{"name": "data", "a": "da7a", "b": "0ther"}] and body["code"] == []
    (harm,) = body["evaluations"]
    assert (harm["metric"], harm["apart"], harm["a"]["n"]) == ("harm", True, 50)
    assert harm["difference"] == pytest.approx(-0.25)
    text = run(home, "compare", a.model_digest, b.model_digest).stdout
    assert "0.4 (0.3 to 0.5)" in text and "settings, where they differ" in text


# promote


def test_promotions_are_kept_in_order_and_the_last_counts(home):
    _, scorer, rl_cai = home.runs("demo-1")
    for model, channel in ((rl_cai, "production"), (rl_cai, "trial"), (scorer, "production")):
        home.judge(model, channel=channel)
    said = run(home, "promote", "rl_cai", "--note", "the first").stdout
    assert said == f"production: rl_cai {rl_cai.model_digest[:8]} promoted\n"
    assert "nothing to do" in run(home, "promote", "rl_cai").stdout
    run(home, "promote", "rl_cai", "--channel", "trial")
    assert f"in place of {rl_cai.model_digest[:8]}" in run(home, "promote", "reward_model").stdout
    registry = load(home.store)
    assert [
        (p.channel, p.number, p.note) for p in sorted(registry.promotions, key=lambda p: (p.channel, p.number))
    ] == [
        ("production", 1, "the first"),
        ("production", 2, ""),
        ("trial", 1, ""),
    ]
    assert registry.promoted("production").previous_digest == rl_cai.model_digest
    assert (registry.channels(scorer), registry.channels(rl_cai)) == (["production"], ["trial"])
    assert "the first" in run(home, "show", "rl_cai", "--format", "json").stdout


def test_promotions_at_once_are_all_kept_each_after_another(home):
    made = [home.model(f"demo-{i}", "sl_cai", "sft", SEED) for i in range(5)]
    for model in made:
        home.judge(model)
    threads = [
        threading.Thread(target=lambda m=m: promote(Store(home.path), m, channel="production", at="now")) for m in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = sorted(home.store.read(Promotion), key=lambda row: row.number)
    assert [row.number for row in rows] == list(range(1, 6))
    assert {row.model_digest for row in rows} == {model.model_digest for model in made}
    assert [row.previous_digest for row in rows] == ["", *(row.model_digest for row in rows[:-1])]


def test_a_stale_model_is_promoted_only_by_force_and_with_a_reason_which_is_kept(home):
    home.judge(home.runs("demo-1")[2])
    home.runs("demo-2")
    for arguments, hint in (([], "--force --note"), (["--force"], "--note"), (["--force", "--note", " "], "--note")):
        with pytest.raises(DataError, match=f"is stale: .*no longer in use.*{hint}"):
            run(home, "promote", "rl_cai-demo-1", *arguments)
    assert home.store.read(Promotion) == []
    run(home, "promote", "rl_cai-demo-1", "--force", "--note", "roll back")
    (row,) = home.store.read(Promotion)
    assert row.note == "roll back" and "no longer in use" in row.stale


FAIL, OPEN, PASS = (0.1, 0.2), (0.011, 0.03), (0.0, 0.01)
SAID = {FAIL: "FAIL: harmful_rate at most 0.02: 0.15 (0.1 to 0.2, n 100)"}


@pytest.mark.parametrize("harmful", [FAIL, None])
def test_only_what_passed_its_gate_is_promoted_or_what_a_named_person_overrides_with_a_reason(home, harmful):
    model = home.model("demo-1", "rl_cai", "grpo", SEED)
    said = home.judge(model, harmful) if harmful else None
    home.judge(model, PASS, channel="trial")
    why = re.escape(SAID.get(harmful, "no gate has judged it; give the profile of its run a `gate`"))
    with pytest.raises(NotApproved, match=f"has no PASS for production: .*{why}.*--override NAME --reason TEXT"):
        run(home, "promote", "rl_cai", "--note", "it looks good", "--force")
    for lacking in (["--override", "Ada"], ["--reason", "so"], ["--override", " ", "--reason", "so"]):
        with pytest.raises(ConfigError, match="takes a person's name and their reason"):
            run(home, "promote", "rl_cai", *lacking)
    assert home.store.read(Promotion) == home.store.read(Override) == []

    run(home, "promote", "rl_cai", "--override", "Ada", "--reason", "the set is wrong")
    (promoted,), (by,) = home.store.read(Promotion), home.store.read(Override)
    assert (by.promotion_id, by.gating_id, by.verdict) == (
        promoted.promotion_id,
        said.gating_id if said else "",
        said.verdict if said else "",
    )
    assert (by.person, by.reason, by.overridden_at) == ("Ada", "the set is wrong", promoted.promoted_at)
    assert "production (overridden)" in run(home, "list").stdout
    for shown in (run(home, "show", "rl_cai"), run(home, "card", "rl_cai")):
        assert re.search(rf"overridden.*{by.verdict or 'no verdict'}, by Ada at .*: the set is wrong", shown.stdout)
    (row,) = home.store.query(named.resolve("promotions"))
    assert (row["overridden_by"], row["override_reason"], row["overridden_verdict"]) == ("Ada", by.reason, by.verdict)


def test_how_many_prompts_would_decide_is_said_with_the_refusal(home):
    model = home.model("demo-1", "rl_cai", "grpo", SEED)
    needed = home.judge(model, OPEN).n_needed
    with pytest.raises(NotApproved, match=f"some {needed:,} prompts in `evaluation.prompts` would decide"):
        run(home, "promote", "rl_cai")


def test_the_newest_verdict_counts_and_the_same_facts_again_are_no_new_row(home):
    model = home.model("demo-1", "rl_cai", "grpo", SEED)
    for harmful, n in ((PASS, 1), (PASS, 1), (FAIL, 2), (PASS, 3), (FAIL, 4), (FAIL, 4)):
        assert home.judge(model, harmful).number == n == len(home.store.read(GateVerdict))
    with pytest.raises(NotApproved, match="FAIL: harmful_rate"):
        run(home, "promote", "rl_cai")
    home.judge(model, PASS)
    said = run(home, "promote", "rl_cai", "--override", "Ada", "--reason", "to be sure")
    assert "nothing was overridden" in said.stderr and home.store.read(Override) == []
    (listed,) = json.loads(run(home, "list", "--format", "json").stdout)
    assert (listed["verdicts"], listed["overridden"]) == ({"production": "PASS"}, [])
    assert re.search(r"rl_cai .* production +PASS ", run(home, "list").stdout)
    rows = home.store.query(named.resolve("gatings"))
    assert [(row["number"], row["verdict"]) for row in rows[:2]] == [(5, "PASS"), (4, "FAIL")]


def test_going_back_to_a_model_that_was_in_use_needs_no_verdict(home):
    """And who overrode the gate when it was first promoted is still said."""
    old, new = (home.model(f"demo-{n}", "rl_cai", "grpo", SEED) for n in (1, 2))
    run(home, "promote", old.model_digest, "--override", "Ada", "--reason", "the first")
    home.judge(new, PASS)
    run(home, "promote", new.model_digest)
    home.judge(old, FAIL)
    run(home, "promote", old.model_digest, "--note", "roll back")
    registry = load(home.store)
    assert registry.promoted("production").number == 3 and [o.person for o in registry.overridden(old)] == ["Ada"]
    assert registry.overridden(new) == []
    with pytest.raises(NotApproved, match="has no PASS for trial"):
        run(home, "promote", old.model_digest, "--channel", "trial")


def test_force_overrides_nothing_but_staleness(home):
    """Each way a directory can fail to be what its record says."""
    unfinished, changed, other, gone = (home.model(f"demo-{i}", "sl_cai", "sft", SEED) for i in range(4))
    (Path(unfinished.path) / META).unlink()
    (Path(changed.path) / "model.safetensors").write_text("other weights")
    (Path(other.path) / META).write_text(json.dumps({"model_digest": "f" * 32}))
    Path(gone.path).rename(home.path / "elsewhere")
    for model, problem in (
        (unfinished, "not finished"),
        (changed, "other bytes"),
        (other, "other bytes"),
        (gone, "gone"),
    ):
        with pytest.raises(DataError, match=problem):
            run(home, "promote", model.model_digest, "--force", "--note", "x")
    with pytest.raises(ConfigError, match="lower-case"):
        run(home, "promote", gone.model_digest, "--channel", "Prod uction")
    assert home.store.read(Promotion) == []


# the card


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_card_says_what_was_recorded_and_names_no_licence(home):
    _, scorer, rl_cai = home.runs("demo-1")
    home.store.append([Evaluation("e", "rl_cai", rl_cai.model_digest, "small", "harm", 0.02, 0.01, 0.03, 1000)])
    card = model_card(load(home.store), rl_cai, base_model="acme/tiny")
    assert front_matter(card) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["constitutional-ai", "rlaif", "grpo"],
        "base_model": "acme/tiny",
        "base_model_relation": "finetune",
    }
    for said in (
        "| small | harm | 0.02 | 0.01 to 0.03 | 1000 |",
        "| table versions | prompts@4 |",
        "| n\\_rejected | 2 |",
        "| beta | 0.1 |",
        "| seed | 3 |",
        f"| trained against | {scorer.model_digest[:8]} (reward\\_model) |",
        "Rows cut to the training length: 1.",
        "AutoModelForCausalLM.from_pretrained",
    ):
        assert said in card, said
    assert "**Stale:**" not in card and str(home.path) not in card
    of_scorer = model_card(load(home.store), scorer)
    assert "AutoModelForSequenceClassification" in of_scorer and "base_model" not in front_matter(of_scorer)


def test_the_text_of_a_record_is_shown_and_never_markup_or_a_place_on_this_machine(home):
    home.runs("demo-1")
    model = home.model(
        "demo-1", "a|b <img src=x> [link](http://x)\n# head", "sft", SEED,
        config={"models": ["/home/somebody/models/rm-1"], "note": "see /etc/x/y.json, ~/z/w and https://a.b/c"},
    )  # fmt: skip
    card = model_card(load(home.store), model)
    body = card.split("---\n", 2)[2]
    assert body.startswith("\n# a\\|b \\<img src=x\\> \\[link\\](http://x) \\# head ")
    assert "| …/rm-1 |" in body and "…/y.json, …/w and https://a.b/c" in body
    assert "somebody" not in card and "<img" not in card.replace("\\<img", "") and str(home.path) not in card


def test_writing_the_card_into_the_directory_leaves_the_model_what_it_was(home):
    _, _, rl_cai = home.runs("demo-1")
    home.judge(rl_cai)
    (Path(rl_cai.path) / "README.md").write_text(run(home, "card", "rl_cai").stdout)
    assert content_digest(Path(rl_cai.path)) == rl_cai.model_digest
    run(home, "promote", "rl_cai")


def test_the_card_names_a_base_model_only_where_the_hubs_cache_has_it(home, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    home.runs("demo-1")
    assert "base_model" not in front_matter(run(home, "card", "rl_cai").stdout)
    folder = tmp_path / "hub" / "models--acme--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    assert front_matter(run(home, "card", "rl_cai").stdout)["base_model"] == "acme/tiny"


# what the record is made of


def test_a_run_records_its_base_and_registers_its_models_whole(home, tmp_path):
    (tmp_path / "prompts.txt").write_text("how do i bake bread?\n")
    body = {
        "name": "tried",
        "constitution": str(ROOT / "constitution" / "harmlessness.yaml"),
        "engine": {"kind": "scripted"},
        "prompts": [{"path": str(tmp_path / "prompts.txt")}],
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    session = Session(create_run(load_profile(tmp_path / "profile.yaml"), home.path))
    session.record("running")
    assert [(r.base_digest, r.ended_at) for r in home.store.read(Run)] == [("", "")]
    made = home.model("elsewhere-1", "sl_cai", "sft", SEED)
    meta = json.loads(made.meta) | {
        "parent_digest": SEED,
        "inputs": {"data": "d", "model": SEED},
        "metrics": {"loss": 1.0},
    }
    (Path(made.path) / META).write_text(json.dumps(meta | {"model_digest": "a" * 32}))
    session.run.finish("sft_set", {"versions": {"prompts": 7}})
    register(session, "sl_cai", made.path, "sft")
    session.run.finish("sft", {"path": made.path, "model_digest": "a" * 32})
    session.record("completed")
    (row,) = (r for r in home.store.read(Run) if r.run_id == session.run.run_id)
    assert row.base_digest == "a" * 32 and row.ended_at >= row.started_at
    stored = home.store.find_all(Model)["a" * 32]
    assert stored.inputs["tables/prompts"] == "7" and row.started_at <= stored.created_at <= row.ended_at
    assert json.loads(stored.meta)["code"]["version"] == "1.0"


def test_the_code_is_known_by_its_sources_and_by_the_commit_of_a_checkout(tmp_path):
    made_by = code_version()
    assert made_by["version"] and re.fullmatch(r"[0-9a-f]{32}", made_by["digest"])
    assert made_by == code_version()
    assert commit(tmp_path) == "", "no checkout"

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    git("tag", "v1")
    assert re.fullmatch(r"[0-9a-f]{40}", clean := commit(tmp_path))
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == f"{clean}-dirty"


def test_no_model_library_is_loaded_to_read_the_registry(home):
    home.judge(home.runs("demo-1")[2])
    code = (
        "import sys\nfrom cai.cli import main\n"
        "try: main()\nfinally: sys.stderr.write(str({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'vllm', 'prefect', 'transformers', 'trl'}))"
    )
    for arguments in (["list"], ["card", "rl_cai"], ["promote", "rl_cai"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "models", *arguments, "--home", str(home.path)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout and done.stderr.endswith("set()"), done.stderr
