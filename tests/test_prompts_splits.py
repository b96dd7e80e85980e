"""Held out by a hash of the prompt: the same prompts whatever else comes, and never trained on as well."""

from contextlib import suppress
from pathlib import Path

import pytest
from prompt_files import asking, command, jsonl
from scripted_run import changed, write_profile

from cai.config import EvaluationSource, PromptSource, load_profile
from cai.held_out import HeldOutGuard
from cai.records import Contamination, Prompt, Reject
from cai.splits import split_error, split_of
from flows.held_out import guard_of
from flows.import_step import import_prompts
from flows.importing import Import, import_folder, run_import
from flows.runs import create_run
from flows.session import Session
from storage.evaluation_sets import read_sets
from storage.exports import export_prompts
from storage.imports import read_answered, read_sources
from storage.store import Store


def test_a_split_moves_no_prompt_when_rows_are_added_and_a_larger_share_keeps_the_smaller(tmp_path):
    rows = [{"prompt": f"question {n}?"} for n in range(300)]
    few, many = jsonl(tmp_path / "few.jsonl", *rows[:100]), jsonl(tmp_path / "many.jsonl", *rows[::-1])
    command(tmp_path / "few", few, "--eval-share", 0.2)
    command(tmp_path / "many", many, "--eval-share", 0.2)
    before, after = ({p.prompt_id: p.split for p in Store(tmp_path / n).read(Prompt)} for n in ("few", "many"))
    assert len(before) == 100 and before.items() <= after.items() and set(before.values()) == {"train", "eval"}
    held = [{key for key in after if split_of(key, share) == "eval"} for share in (0.1, 0.2, 0.5)]
    assert held[0] < held[1] < held[2]


def test_each_tag_is_held_out_in_the_stated_share_as_far_as_a_hash_can(tmp_path):
    """Of 30 tags and 95 % bounds one or two may be outside; four times the standard error none."""
    sizes = {f"tag {n}": 40 + 17 * n for n in range(30)}
    outside = 0
    for tag, n in sizes.items():
        ids = [asking(f"{tag}: question {i}").prompt_id for i in range(n)]
        difference = abs(sum(split_of(key, 0.1) == "eval" for key in ids) / n - 0.1)
        assert difference < 2.05 * split_error(0.1, n)
        outside += difference > split_error(0.1, n)
    assert outside <= 5


def test_one_file_gives_what_is_trained_on_and_what_is_measured_with(tmp_path):
    """Prompts are told apart, and put on a side, by what is left of them without personal items."""
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": f"question {n % 180}? q{n}@acme.org"} for n in range(200)))
    source = PromptSource(path=str(path), eval_share=0.2)
    sides = {}
    for split in ("train", "eval"):
        sides[split] = {r.prompt_id for r in read_sources([source], split, 0) if isinstance(r, Prompt)}
        store = Store(tmp_path / split)
        report = run_import(store, Import([source], HeldOutGuard([]), split, batch_rows=30))
        assert {p.prompt_id for p in store.read(Prompt)} == sides[split]
        assert report.n_rows == report.n_prompts + report.n_rejected + report.n_other == 200
    measured = read_sets([EvaluationSource(path=str(path), eval_share=0.2)], 0).prompts
    assert {prompt.prompt_id for prompt in measured} == sides["eval"], "a profile measures with that side"
    assert not sides["train"] & sides["eval"] and len(sides["train"] | sides["eval"]) == 180


def twins(path: Path, n: int = 60) -> Path:
    """Pairs that differ in case alone, which the hash often puts on two sides."""
    texts = [f"How do I bake cake number {i} at home?" for i in range(n)]
    return jsonl(path, *({"prompt": each} for text in texts for each in (text, text.lower())))


def tables(home: Path) -> list[list]:
    return [Store(home).read(kind) for kind in (Prompt, Reject, Contamination)]


def test_what_a_share_holds_out_is_held_out_from_the_first_row_on(tmp_path):
    """What was known as held out was read when the process began: an import that was killed, or done twice, found
    repeats that the first had trained on.
    """
    path = twins(tmp_path / "p.jsonl")
    first = command(tmp_path / "whole", path, "--eval-share", 0.3)
    whole = tables(tmp_path / "whole")
    again = command(tmp_path / "whole", path, "--eval-share", 0.3)
    stored = {prompt.messages[0].content: prompt.split for prompt in whole[0]}
    assert not [text for text, split in stored.items() if (split, stored.get(text.lower(), split)) == ("train", "eval")]
    assert first["n_contaminations"] > 5 and first["n_contaminations"] == first["rejects"]["near_evaluation"]
    assert again == first | {"n_stored_before": first["n_stored"]} and tables(tmp_path / "whole") == whole
    dry = command(tmp_path / "dry", path, "--eval-share", 0.3, "--dry-run")
    assert dry == first | {"dry_run": True, "n_stored": 0}

    home, source = tmp_path / "killed", PromptSource(path=str(path), eval_share=0.3)
    folder = import_folder(home, [source], None, 0)

    def some(batch: object) -> None:
        done.append(batch)
        if len(done) == 3:
            raise KeyboardInterrupt

    done: list[object] = []
    for _ in range(2):
        wish = Import([source], guard_of(Store(home), None), None, folder=folder, batch_rows=20)
        with suppress(KeyboardInterrupt):
            report = run_import(Store(home), wish, some)
    assert report.rejects == first["rejects"] and tables(home) == whole


def test_a_run_does_not_train_on_repeats_of_what_its_own_source_holds_out(tmp_path):
    path = twins(tmp_path / "p.jsonl")
    profile = changed(write_profile(tmp_path), prompts=[{"path": str(path), "eval_share": 0.3}])
    run = create_run(load_profile(profile), tmp_path / "home")
    import_prompts(Session(run))
    assert {row.reason for row in Store(run.home).read(Reject)} == {"near_evaluation", "near_duplicate"}


@pytest.mark.parametrize("name", ["p.jsonl", "p.parquet"])
def test_what_was_held_out_in_one_home_is_not_trained_on_in_another(tmp_path, name):
    """`cai export prompts` wrote the split, and the import read all rows to train on."""
    rows = [{"prompt": "how do i mend a shoe?"}, {"prompt": "how do i steal a shoe?", "split": "eval"}]
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    command(tmp_path / "first", jsonl(tmp_path / "train.jsonl", rows[0]))
    assert command(tmp_path / "first", path, "--split", "eval")["rejects"] == {"stored_to_train": 1}
    export_prompts(Store(tmp_path / "first"), tmp_path / name)
    assert command(tmp_path / "to-train", tmp_path / name)["rejects"] == {"split_eval": 1}
    (reject,) = Store(tmp_path / "to-train").read(Reject)
    assert "--split eval" in reject.detail and reject.prompt_id == asking("how do i steal a shoe?").prompt_id
    assert {p.split for p in Store(tmp_path / "to-train").read(Prompt)} == {"train"}
    assert command(tmp_path / "to-measure", tmp_path / name, "--split", "eval")["splits"] == {"eval": 2}
    assert command(tmp_path / "shared", tmp_path / name, "--eval-share", 0.001)["splits"] == {"train": 1, "eval": 1}
    (_, refused) = read_answered(PromptSource(path=str(path)), 0)
    assert isinstance(refused, Reject) and refused.reason == "split_eval"


def test_a_split_of_somebody_else_says_nothing(tmp_path):
    rows = ({"prompt": f"how {n}?", "split": s} for n, s in enumerate(["test", 3, ["eval"], None, "train_prefs"]))
    assert command(tmp_path / "home", jsonl(tmp_path / "p.jsonl", *rows))["splits"] == {"train": 5}


def test_what_the_home_has_to_train_on_is_not_measured_with_later_nor_the_other_way_round(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "how do i do this one thing?"})
    command(tmp_path / "home", path)
    assert command(tmp_path / "home", path, "--split", "eval")["rejects"] == {"stored_to_train": 1}
    command(tmp_path / "other", path, "--split", "eval")
    assert command(tmp_path / "other", path)["rejects"] == {"held_out_prompt": 1}
