import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cai.errors import StorageError
from cai.training.checkpoints import (
    checkpoints,
    discard_torn,
    disk_errors,
    is_whole,
    keep_newest,
    last_whole_checkpoint,
    new_checkpoint,
    seal,
)
from cai.training.trainer import sealed


def make(folder, step, body=b"weights"):
    with new_checkpoint(folder, step) as path:
        (path / "model.safetensors").write_bytes(body)
    return folder / f"checkpoint-{step}"


def test_the_newest_whole_checkpoint_is_found_by_number_not_by_name(tmp_path):
    make(tmp_path, 9)
    newest = make(tmp_path, 10)
    assert last_whole_checkpoint(tmp_path) == newest


def test_no_checkpoint_is_no_checkpoint(tmp_path):
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["no meta", "cut short", "same size, other bytes", "file gone", "torn meta"])
def test_a_torn_checkpoint_is_never_picked_up(tmp_path, damage):
    whole, torn = make(tmp_path, 3), make(tmp_path, 6)
    weights, meta = torn / "model.safetensors", torn / "meta.json"
    if damage == "no meta":
        meta.unlink()
    elif damage == "cut short":
        os.truncate(weights, 3)
    elif damage == "same size, other bytes":
        weights.write_bytes(b"w3ights")
    elif damage == "file gone":
        weights.unlink()
    else:
        os.truncate(meta, meta.stat().st_size // 2)
    assert not is_whole(torn)
    assert last_whole_checkpoint(tmp_path) == whole
    assert discard_torn(tmp_path) == ["checkpoint-6"]
    assert checkpoints(tmp_path) == [whole]


def test_an_empty_directory_cannot_be_whole(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    seal(tmp_path / "checkpoint-1", 1)
    assert last_whole_checkpoint(tmp_path) is None


def test_a_failure_while_writing_leaves_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="interrupted"), new_checkpoint(tmp_path, 1) as path:
        (path / "model.safetensors").write_bytes(b"half")
        raise ValueError("interrupted")
    assert checkpoints(tmp_path) == []
    assert discard_torn(tmp_path) == ["tmp-checkpoint-1"]


def test_the_number_kept_is_bounded(tmp_path):
    for step in range(1, 6):
        make(tmp_path, step)
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-5"]
    keep_newest(tmp_path, kept=1)
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-5"]


def test_the_best_outlives_newer_ones_until_another_is_better(tmp_path):
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        with new_checkpoint(tmp_path, step, best) as path:
            (path / "model.safetensors").write_bytes(b"weights")
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    with new_checkpoint(tmp_path, 6, 6) as path:
        (path / "model.safetensors").write_bytes(b"weights")
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-5", "checkpoint-6"]


class Saves:
    """The parts of a Hugging Face trainer that have to do with saving."""

    def __init__(self, folder):
        self.args = SimpleNamespace(output_dir=str(folder), should_save=True)
        self.state = SimpleNamespace(global_step=0)
        self.accelerator = SimpleNamespace(wait_for_everyone=lambda: None)
        self.fails = False

    def _get_output_dir(self, trial):
        return self.args.output_dir

    def _save_checkpoint(self, model, trial):
        path = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"weights")
        assert not (Path(self.args.output_dir) / path.name).exists()
        if self.fails:
            raise KeyboardInterrupt


def test_a_trainers_checkpoint_is_not_there_before_it_is_whole(tmp_path):
    trainer = sealed(Saves)(tmp_path)
    for step in range(1, 5):
        trainer.state.global_step = step
        trainer.best_step = min(step, 2)
        trainer._save_checkpoint(None, None)
        assert last_whole_checkpoint(tmp_path).name == f"checkpoint-{step}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]

    trainer.state.global_step, trainer.fails = 5, True
    with pytest.raises(KeyboardInterrupt):
        trainer._save_checkpoint(None, None)
    assert checkpoints(tmp_path)[-1].name == "checkpoint-4"
    assert discard_torn(tmp_path) == ["tmp-5"]


def test_a_full_disk_is_one_clear_error(tmp_path):
    with (
        pytest.raises(StorageError, match="could not write it: .*No space left.*free some space"),
        disk_errors("write it"),
    ):
        raise OSError(28, "No space left on device")
