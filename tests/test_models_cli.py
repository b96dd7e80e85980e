"""The registry of trained models: found by what people call them, traced to their seed, stale when their base is."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub.utils import filter_repo_objects
from model_home import SEED, Home, run

from cai.config import RewardModelConfig, load_profile
from cai.errors import DataError
from cai.models import DOWNLOADED, META, SMALLWORLD
from cai.records import Evaluation, Model, Run
from cai.source import code_version, commit
from cai.training.jobs import GRPOJob, RewardModelJob, input_digests, job_digest
from flows.registering import register
from flows.runs import create_run
from flows.session import Session
from storage.registry import load, promote

ROOT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


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


def test_of_a_model_on_the_hub_all_that_a_folder_of_ours_has_is_downloaded():
    """Its chat template was not, where it is a file of its own, and the model was refused for having none."""
    names = [file.name for file in SMALLWORLD.iterdir()]
    assert "chat_template.jinja" in names
    assert list(filter_repo_objects(names, allow_patterns=DOWNLOADED)) == names
    others = ["modeling_own.py", "pytorch_model.bin", "README.md"]
    assert not list(filter_repo_objects(others, allow_patterns=DOWNLOADED))


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
