"""What `make` does to a checkout that people work in."""

import shutil
import subprocess
from pathlib import Path


def test_clean_removes_what_can_be_made_again_and_no_home(tmp_path):
    """It deleted `cai-home`, with every table, model and label that people had given."""
    shutil.copy(Path(__file__).parents[1] / "Makefile", tmp_path)
    made = (".venv/bin/python", ".mypy_cache/x", ".ruff_cache/x", ".pytest_cache/x", "cai/labels/__pycache__/mix.pyc")
    kept = ("cai-home/tables/annotations/1.parquet", "cai/labels/mix.py")
    for name in (*made, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in (*made, *kept) if (tmp_path / name).exists()] == list(kept)
