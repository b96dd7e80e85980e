"""Every benchmark still starts, though nothing here runs one: its imports are there, and its arguments can be read."""

import importlib
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))
STARTED = [file.stem for file in FILES if "__main__" in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", STARTED)
def test_a_benchmark_starts_and_shows_its_arguments(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])  # some put the checkout there, to be started as files
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        importlib.import_module(f"benchmarks.{name}").main()
    assert capsys.readouterr().out.startswith(f"usage: {name}.py")
