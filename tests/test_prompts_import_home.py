"""Imports of several sources: what is met twice, and settings that would change nothing."""

import pytest
from click.testing import CliRunner
from prompt_files import asking, command, rejected

from cai.cli import door
from cai.config import PromptSource
from cai.held_out import HeldOutGuard
from cai.records import Prompt
from cai.smallworld import world
from flows.importing import Import, run_import
from storage.imports import read_sources
from storage.store import Store


def of_small_world(*limits: int) -> list[PromptSource]:
    return [PromptSource(path="smallworld", limit=n) for n in limits]


def test_a_prompt_that_two_sources_of_the_small_world_make_comes_in_once(tmp_path):
    """13 prompts and no rejects were reported, 8 were stored, and a run's ids had five of them twice."""
    sources = of_small_world(5, 8)
    for size in (1, 3, 100):
        store, taken = Store(tmp_path / str(size)), []
        wish = Import(sources, HeldOutGuard([]), batch_rows=size)
        report = run_import(store, wish, lambda batch, taken=taken: taken.extend(batch.prompts))
        n_out = report.rejects.total()
        assert (report.n_rows, report.n_prompts + n_out) == (13, 13), size
        assert len(taken) == len({prompt.prompt_id for prompt in taken}) == store.counts()["prompts"], size
        assert report.rejects == rejected(tmp_path / str(size)) == {"duplicate_prompt": n_out}, size
        assert n_out == 5, size
    planned = [row for row in read_sources(sources, "train", 0) if isinstance(row, Prompt)]
    assert planned == taken, "a plan counts them alike"


@pytest.mark.parametrize("split", ["train", "eval"])
def test_one_source_of_the_small_world_gives_what_the_world_makes(tmp_path, split):
    taken = []
    wish = Import(of_small_world(1_600), HeldOutGuard([]), split, seed=3, batch_rows=700)
    report = run_import(Store(tmp_path / "home"), wish, lambda batch: taken.extend(batch.prompts))
    assert taken == world.prompts(split, 1_600, seed=3) and not report.rejects


def test_a_generated_prompt_that_was_met_is_a_reject(tmp_path):
    made = asking("why?")
    wish = Import([PromptSource(path="generated")], HeldOutGuard([]), generated=[made], before=[made.prompt_id])
    assert run_import(Store(tmp_path / "home"), wish).rejects == {"duplicate_prompt": 1}


def refusal_of(tmp_path, *arguments: str) -> str:
    said = CliRunner().invoke(door, ["prompts", "import", *arguments, "--home", str(tmp_path / "home")])
    assert said.exit_code == 2 and not (tmp_path / "home").exists(), said.output
    return " ".join(said.output.split())


def test_settings_that_change_nothing_in_the_small_world_are_refused_by_name(tmp_path):
    """They were taken without a word: nothing was held out, and no prompt had the kind or the licence."""
    said = refusal_of(
        tmp_path, "smallworld", "--limit", "5", "--eval-share", "0.5", "--kind", "helpful", "--licence", "X"
    )
    assert all(name in said for name in ("`smallworld`", "--eval-share", "--kind", "--licence")), said
    assert "--limit" not in said and "--tags" not in said
    assert command(tmp_path / "home", "smallworld", "--limit", 5, "--split", "eval")["splits"] == {"eval": 5}


def test_the_name_that_only_a_profile_knows_is_refused(tmp_path):
    """With `--dry-run` it was 0 rows and a success; without, an error about a file."""
    for more in ([], ["--dry-run"]):
        assert "in a profile only" in refusal_of(tmp_path, "generated", *more)
