import json
import math
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_fixtures import assistant, build_model, user, write_job, write_pairs, write_sft

from cai.errors import ConfigError, DataError
from cai.training.batches import batches, n_steps, prompt_order
from cai.training.jobs import GRPOJob, RewardModelJob, SFTJob, check_heads, input_digests, job_digest, load_job
from cai.training.rows import in_held_out, read_pairs, read_prompts, read_sft


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


def command(stage, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"cai.training.{stage}", *map(str, arguments)], capture_output=True, text=True
    )


def test_building_a_job_imports_no_torch():
    code = "import sys, cai.training.jobs; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'trl')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_digest_covers_settings_seed_and_content_but_no_path(tmp_path, model):
    data = write_sft(tmp_path / "a.parquet")
    job = SFTJob(model=model, data=data, out=tmp_path / "out")
    digest = job_digest(job, input_digests(job))
    moved = job.model_copy(update={"data": data.rename(tmp_path / "b.parquet"), "out": tmp_path / "elsewhere"})
    assert job_digest(moved, input_digests(moved)) == digest
    reseeded = moved.model_copy(update={"seed": 1})
    assert job_digest(reseeded, input_digests(reseeded)) != digest
    write_sft(moved.data, n=41)
    assert job_digest(moved, input_digests(moved)) != digest


def test_a_job_file_is_read_strictly(tmp_path, model):
    good = write_job(tmp_path / "good.json", model=model, data="d.parquet", out="o", reward_models=["r"])
    assert load_job(good, GRPOJob).config.beta == 0.1
    bad = write_job(tmp_path / "bad.json", model=model, data="d.parquet", out="o", config={"epoch": 3})
    with pytest.raises(ConfigError, match=r"bad.json.*'config.epoch' \(line 1\); did you mean 'epochs'"):
        load_job(bad, SFTJob)
    with pytest.raises(ConfigError, match="no job file"):
        load_job(tmp_path / "none.json", SFTJob)


@pytest.mark.parametrize("stage", ["sft", "reward_model", "grpo", "rloo", "ppo", "dpo"])
def test_help_teaches_with_an_example(stage):
    done = command(stage, "--help")
    assert done.returncode == 0
    assert "job.json" in done.stdout and f"python -m cai.training.{stage} --job" in done.stdout


def test_an_error_is_one_line_without_a_traceback(tmp_path, model):
    job = write_job(tmp_path / "job.json", model=model, data=tmp_path / "none.parquet", out=tmp_path / "out")
    done = command("sft", "--job", job)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no data file at") and done.stderr.count("\n") == 1


def test_empty_data_wrong_columns_and_broken_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"lacks the columns \['prompt', 'completion'\].*has \['x'\]"):
        pq.write_table(pa.table({"x": [1]}), tmp_path / "columns.parquet")
        read_sft(tmp_path / "columns.parquet")
    with pytest.raises(DataError, match="no rows"):
        pq.write_table(pq.read_table(write_sft(tmp_path / "s.parquet")).slice(0, 0), tmp_path / "empty.parquet")
        read_sft(tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="'prompt' must be a list of"):
        pq.write_table(pa.table({"prompt": ["hello"], "prompt_id": ["1"]}), tmp_path / "text.parquet")
        read_prompts(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        (tmp_path / "torn.parquet").write_bytes(b"PAR1torn")
        read_sft(tmp_path / "torn.parquet")


def test_pairs_that_cannot_be_used_are_rejects_with_their_reason(tmp_path):
    labels = [0.0, 0.5, 1.0, math.nan, 1.2, -0.1, None, 0.9, 0.9]
    chosen = ["sure"] * 7 + ["no", ""]
    rows = [
        {
            "prompt": user("how"), "chosen": assistant(text), "rejected": assistant("no"), "soft_label": label,
            "is_tie": label == 0.5, "pair_id": f"pair-{i}", "prompt_id": "p",
        }
        for i, (label, text) in enumerate(zip(labels, chosen, strict=True))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    pairs, rejects = read_pairs(tmp_path / "pairs.parquet")
    assert [p.pair_id for p in pairs] == ["pair-0", "pair-1", "pair-2", "pair-8"]
    assert [(r.parent_ids[0], r.reason) for r in rejects] == [
        ("pair-3", "soft_label_out_of_range"),
        ("pair-4", "soft_label_out_of_range"),
        ("pair-5", "soft_label_out_of_range"),
        ("pair-6", "soft_label_out_of_range"),
        ("pair-7", "identical_responses"),
    ]


def test_batches_hold_every_row_once_and_depend_on_seed_and_epoch_alone():
    lengths = [(7 * i) % 23 for i in range(101)]
    first = batches(lengths, 8, seed=3, epoch=0)
    assert sorted(i for batch in first for i in batch) == list(range(101))
    assert max(map(len, first)) == 8
    assert first == batches(lengths, 8, seed=3, epoch=0)
    assert first != batches(lengths, 8, seed=3, epoch=1)
    assert first != batches(lengths, 8, seed=4, epoch=0)


def test_steps_count_partial_batches_and_partial_epochs():
    assert n_steps(101, 8, 1.0) == 13
    assert n_steps(101, 8, 0.5) == 7
    assert n_steps(1, 8, 0.01) == 1


def test_every_prompt_is_drawn_before_any_is_drawn_again():
    for seed in range(20):
        order = prompt_order(5, per_step=3, steps=4, seed=seed)
        assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]
        assert [len(set(order[i : i + 3])) for i in range(0, 12, 3)] == [3, 3, 3, 3]
    assert len(prompt_order(2, per_step=3, steps=2, seed=0)) == 6


def test_held_out_share_is_kept_and_nested():
    names = [f"prompt-{i}" for i in range(2000)]
    tenth = {n for n in names if in_held_out(n, 0.1)}
    assert 150 < len(tenth) < 250
    assert tenth <= {n for n in names if in_held_out(n, 0.3)}
    assert not any(in_held_out(n, 0.0) for n in names)


def test_dry_run_counts_and_writes_nothing(tmp_path, model):
    job = write_job(
        tmp_path / "job.json", model=model, data=write_pairs(tmp_path / "p.parquet"), out=tmp_path / "out", seed=1,
        config={"batch_size": 16, "epochs": 2, "held_out": 0.2},
    )  # fmt: skip
    done = command("reward_model", "--job", job, "--dry-run")
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["status"] == "dry run"
    assert counted["n_rows"] + counted["n_held_out"] == 60
    assert counted["n_steps"] == n_steps(counted["n_rows"], 16, 2)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.unfinished").exists()


def test_a_job_of_the_wrong_kind_says_what_is_missing(tmp_path, model):
    with pytest.raises(ConfigError, match="`reward_models` is empty"):
        load_job(write_job(tmp_path / "j.json", model=model, data="d", out="o"), GRPOJob)
    assert RewardModelJob.stage == "reward_model"


def test_a_model_of_the_wrong_kind_is_refused(tmp_path, model):
    """A language model taken for a reward model would score with a random head."""
    job = GRPOJob(model=model, reward_models=[model], data=write_sft(tmp_path / "d.parquet"), out=tmp_path / "out")
    with pytest.raises(ConfigError, match="`reward_model/0` must be a reward model; .* is LlamaForCausalLM"):
        check_heads(job)
    check_heads(SFTJob(model=model, data=job.data, out=job.out))
