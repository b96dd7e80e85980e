"""Several terms of reward through real training steps."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_fixtures import build_model, user

from cai.config import GRPOConfig, LengthTerm, VerifierTerm
from cai.training import grpo
from cai.training.command import run
from cai.training.jobs import GRPOJob


def test_each_term_is_kept_apart_and_what_no_check_can_score_trains_nothing(tmp_path):
    """Replies are to hold the word their prompt expects, in few tokens; one prompt expects nothing."""
    rows = [
        {"prompt": user(f"{word} please"), "prompt_id": word, "expected": expected}
        for word, expected in [("tea", "tea"), ("cake", "cake"), ("plan", None)]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "prompts.parquet")
    terms = (
        VerifierTerm(name="says_it", check="regex", weight=2.0),
        LengthTerm(name="length", free_tokens=2, scale_tokens=4, unfinished=0.5),
    )
    config = GRPOConfig(
        steps=2, prompts_per_step=3, samples_per_prompt=8, learning_rate=1e-3, max_tokens=8, rewards=terms
    )  # fmt: skip
    model = build_model(tmp_path / "model")
    job = GRPOJob(model=model, data=tmp_path / "prompts.parquet", out=tmp_path / "out", config=config, seed=1)
    meta = run(grpo.STAGE, job)

    samples = pq.read_table(job.out / "rollouts.parquet").to_pylist()
    assert len(samples) == 48 and meta["n_unscored"] == 16
    assert {parts["says_it"] for parts in (dict(s["parts"]) for s in samples)} == {None, 0.0, 1.0}
    for sample in samples:
        parts = dict(sample["parts"])
        assert parts["length"] <= 0
        if sample["prompt_id"] == "plan":
            assert sample["reward"] is None and sample["reason"].startswith("says_it: no_expected (regex wants")
        else:
            assert parts["says_it"] == float(sample["prompt_id"] in sample["text"])
            assert sample["reward"] == pytest.approx(2 * parts["says_it"] + parts["length"])
    for step in map(json.loads, (job.out / "metrics.jsonl").read_text().splitlines()):
        mine = [dict(sample["parts"]) for sample in samples if sample["step"] == step["step"]]
        assert step["rewards/length"] == pytest.approx(sum(parts["length"] for parts in mine) / 24)
        assert step["rewards/says_it"] == pytest.approx(sum(parts["says_it"] or 0 for parts in mine) / 16)
        assert step["n_unscored"] == 8
