"""Guarded runs: scored when due, stopped, resumed to the same bits, and what they publish."""

import io
import json
import math
import os
import shutil

import pyarrow.parquet as pq
import pytest
from guard_scores import GUARD, history
from training_fixtures import write_prompts

from cai.config import GRPOConfig, GuardConfig, RewardModelTerm
from cai.errors import ConfigError, TrainingError
from cai.models import content_digest
from cai.training import grpo
from cai.training.checkpoints import checkpoints
from cai.training.command import run
from cai.training.guard import Guard, fit_history
from cai.training.jobs import GRPOJob
from cai.training.progress import Progress
from cai.training.prompts import prepare_prompts
from cai.training.rollouts import append, read
from cai.training.workspace import Workspace


def job_for(folder, models, **settings):
    """Settings of the guard, and `steps`, `learning_rate`, …."""
    folder.mkdir(exist_ok=True)
    guard = {"gold": (RewardModelTerm(name="gold", models=(models[1],)),), "every": 2, "gold_prompts": 6}
    guard |= {key: settings.pop(key) for key in list(settings) if key in GuardConfig.model_fields}
    config = {
        "steps": 6, "prompts_per_step": 3, "samples_per_prompt": 4, "learning_rate": 3e-3, "max_tokens": 8,
        "max_prompt_tokens": 20, "save_steps": 100, "beta": 0.0, "guard": GuardConfig(**guard), **settings,
    }  # fmt: skip
    return GRPOJob(
        model=models[0], reward_models=[models[1]], data=write_prompts(folder / "prompts.parquet", 16),
        out=folder / "out", config=GRPOConfig(**config), seed=1,
    )  # fmt: skip


class Sees:
    """Scores as told, one after the other."""

    def __init__(self, *scores):
        self.scores = list(scores)
        self.is_broken = False

    def score(self, model):
        return {key: value for key, value in self.scores.pop(0).items() if key != "step"}

    def is_finite(self, model):
        return not self.is_broken

    def close(self):
        pass


def test_a_guard_looks_when_it_is_due_and_at_the_end(tmp_path):
    guard = Guard(GUARD, 7, tmp_path, Sees(*history(0.5, 0.6, 0.7)))
    guard.start(None)
    looked = [step for step in range(1, 8) if guard.look(step, None, 0.1, 1.0)]
    assert looked == [step for step in range(1, 8) if guard.is_due(step)] == [5, 7]
    assert read(tmp_path / "metrics.jsonl") == [history(0.5)[0]]
    assert guard.best_step() == 7


def test_a_guard_opened_on_the_file_of_another_decides_as_it_did(tmp_path):
    scores = history(0.5, 0.8, 0.7, 0.6, 0.5)
    guard = Guard(GUARD, 100, tmp_path, Sees(*scores))
    guard.start(None)
    for step in range(1, 21):
        append(tmp_path / "metrics.jsonl", [{"step": step, "loss": 1.0, **guard.look(step, None, 0.1, 1.0)}])
    again = Guard(GUARD, 100, tmp_path, Sees())
    again.start(None)
    assert again.decision() == guard.decision()
    assert again.facts() == guard.facts()
    assert again.facts()["guard"]["stopped"]["step"] == 20


@pytest.mark.parametrize("numbers", [(math.nan, 1.0), (0.1, math.inf), (0.1, 1.0)])
def test_broken_numbers_stop_a_guarded_run_and_are_an_error_without_a_guard(tmp_path, numbers):
    guard = Guard(GUARD, 100, tmp_path, seen := Sees(*history(0.5)))
    guard.start(None)
    assert not guard.is_broken
    seen.is_broken = numbers == (0.1, 1.0)
    assert guard.look(3, None, *numbers) == {"not_finite": 1.0}
    assert guard.is_broken and guard.decision()[:2] == (0, 3)
    with pytest.raises(TrainingError, match="stopped at step 3: .* no step was better than the model it started from"):
        guard.kept(tmp_path)
    if not seen.is_broken:
        with pytest.raises(TrainingError, match="expected finite numbers, there is no good checkpoint"):
            Guard(None, 100, tmp_path, None).look(3, None, *numbers)


def test_a_model_that_is_out_of_bounds_from_the_start_is_refused(tmp_path):
    guard = Guard(GUARD.model_copy(update={"min_entropy": 2.0}), 7, tmp_path, Sees(*history(0.5)))
    with pytest.raises(ConfigError, match="would stop the run at once: entropy 1 nats"):
        guard.start(None)
    assert not read(tmp_path / "metrics.jsonl")


def test_a_run_that_found_nothing_better_keeps_its_start_and_says_so(tmp_path):
    guard = Guard(GUARD, 5, tmp_path, Sees(*history(0.5, 0.4)))
    guard.start(None)
    guard.look(5, None, 0.1, 1.0)
    assert guard.kept(tmp_path / "start") == tmp_path / "start"
    assert guard.facts()["guard"] == {"stopped": None, "best_step": 0, "fit": None}


@pytest.fixture(scope="module")
def spent(tmp_path_factory, models):
    """A run of 8 steps that nothing stops, and a KL budget that it would have passed at step 6."""
    job = job_for(tmp_path_factory.mktemp("free"), models, steps=8, gold=(), save_steps=3)
    meta = run(grpo.STAGE, job, quiet())
    kl = [row["guard/kl"] for row in metrics_of(job.out) if "guard/kl" in row]
    assert kl[0] == pytest.approx(0, abs=1e-6) and max(kl[:3]) < kl[3]
    return meta, (max(kl[:3]) + kl[3]) / 2


def test_a_guarded_run_publishes_the_checkpoint_it_keeps(tmp_path, models, spent):
    """What is published is, bit for bit, what a run that was to end at the step kept would have been."""
    free, budget = spent
    assert free["guard"] == {"stopped": None, "best_step": 8, "fit": None}
    job = job_for(tmp_path / "stopped", models, steps=30, gold=(), kl_budget=budget, save_steps=3)
    stopped = run(grpo.STAGE, job, quiet())
    assert stopped["guard"]["stopped"]["step"] == stopped["n_steps"] == 6
    assert "above kl_budget" in stopped["guard"]["stopped"]["reason"]
    assert stopped["guard"]["best_step"] == 4
    short = run(grpo.STAGE, job_for(tmp_path / "short", models, steps=4, gold=(), every=4), quiet())
    assert stopped["model_digest"] == short["model_digest"] != free["model_digest"]


def test_gold_the_fit_and_the_prompts_held_aside_are_accounted_for(tmp_path, models):
    job = job_for(tmp_path, models)
    meta = run(grpo.STAGE, job, quiet())
    rows = [row for row in metrics_of(job.out) if "gold/mean" in row]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert all(row["gold/mean"] == row["proxy/mean"] == row["golds/gold"] for row in rows)
    best = max(rows, key=lambda row: row["gold/mean"])
    assert meta["guard"]["best_step"] == best["step"] > 0
    assert meta["guard"]["fit"]["alpha"] == rows[-1]["fit/alpha"] == fit_history(rows).alpha
    assert (meta["n_rows"], meta["n_held_aside"]) == (10, 6)
    trained_on = set(pq.read_table(job.out / "rollouts.parquet")["prompt_id"].to_pylist())
    assert not trained_on & {p.prompt_id for p in prepare_prompts(job).held_aside}
    assert meta["metrics"]["gold/mean/first"] == rows[0]["gold/mean"]


def test_checkpoints_of_a_guarded_run_are_bounded_and_the_best_is_among_them(tmp_path, models):
    """Gold is the proxy's opposite: the best is the first score after the start, and newer ones never push it out."""
    start = {"gold": (RewardModelTerm(name="gold", models=(models[1],), weight=-1.0),), "patience": 3, "every": 1}
    job = job_for(tmp_path, models, steps=30, learning_rate=2e-2, samples_per_prompt=8, **start)
    with pytest.raises(TrainingError, match="no step was better than the model it started from"):
        run(grpo.STAGE, job, quiet())
    work = tmp_path / "out.unfinished"
    assert len(checkpoints(work)) == 2 and not job.out.exists()
    rows = metrics_of(work)
    assert rows[-1]["step"] < 30 and rows[-1]["proxy/mean"] > rows[0]["proxy/mean"]


def test_a_killed_guarded_run_ends_with_the_same_bits_and_the_same_decision(tmp_path, models, spent):
    """Killed after its stop and before its result; and with one, then two of its checkpoints and the last line torn."""
    settings = {"gold": (), "kl_budget": spent[1], "save_steps": 1, "steps": 30}
    whole = job_for(tmp_path / "whole", models, **settings)
    expected = run(grpo.STAGE, whole, quiet())
    assert expected["guard"]["stopped"]["step"] == 6
    job = job_for(tmp_path, models, **settings)
    grpo.STAGE.train(job, Workspace(job), quiet())
    work, kept = tmp_path / "out.unfinished", tmp_path / "kept"
    assert len(checkpoints(work)) == 3 and not list(work.glob("tmp-*"))
    shutil.copytree(work, kept)
    for n_torn, tail in ((0, b""), (1, b""), (2, b'{"step": 99, "rew')):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(kept, work)
        for path in checkpoints(work)[3 - n_torn :]:
            os.truncate(path / "optimizer.pt", 100)
        with (work / "metrics.jsonl").open("ab") as file:
            file.write(tail)
        found = run(grpo.STAGE, job, quiet())
        assert (found["model_digest"], found["guard"], found["metrics"]) == (
            expected["model_digest"], expected["guard"], expected["metrics"],
        )  # fmt: skip
        assert without_times(job.out) == without_times(whole.out)
        shutil.rmtree(job.out)


def quiet():
    return Progress("grpo", io.StringIO())


def without_times(out):
    return [{k: v for k, v in row.items() if k != "step_s"} for row in metrics_of(out)]


def test_a_damaged_best_checkpoint_is_an_error_that_says_what_to_do(tmp_path):
    guard = Guard(GUARD, 100, tmp_path, Sees(*history(0.5, 0.8)))
    guard.start(None)
    guard.look(5, None, 0.1, 1.0)
    with pytest.raises(TrainingError, match="checkpoint-5 is to be kept and is damaged; remove"):
        guard.kept(tmp_path)


def test_scoring_more_often_does_not_change_what_is_trained(tmp_path, models):
    often = run(grpo.STAGE, job_for(tmp_path / "often", models, gold=(), every=1), quiet())
    once = run(grpo.STAGE, job_for(tmp_path / "once", models, gold=(), every=6), quiet())
    assert often["model_digest"] == once["model_digest"] == content_digest(tmp_path / "often" / "out")


def test_weights_that_explode_are_a_reason_and_no_traceback(tmp_path, models):
    with pytest.raises(TrainingError, match="loss, gradient or logits after step . are no numbers"):
        run(grpo.STAGE, job_for(tmp_path, models, learning_rate=1e30), quiet())


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
