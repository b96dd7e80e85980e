import os

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


def test_a_full_disk_is_one_clear_error(tmp_path):
    with (
        pytest.raises(StorageError, match="could not write it: .*No space left.*free some space"),
        disk_errors("write it"),
    ):
        raise OSError(28, "No space left on device")
