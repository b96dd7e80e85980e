"""Personal items in what compares responses: preferences of people, gold labels, pairs of evaluation sets."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cai.cli.gold import gold
from cai.cli.labels.people import import_people
from cai.config import EvaluationSource, PrivacyConfig, PromptSource
from cai.privacy import Guard
from cai.records import Annotation, Prompt, Reject, Response
from storage.annotations import Import, import_annotations
from storage.evaluation_sets import read_sets
from storage.imports import read_prompts
from storage.store import Store

MAIL, OTHER, CARD = "jo.smith@acme.org", "al@acme.org", "4111 1111 1111 1111"
ASKED = Import("team", b"a salt of sixteen", "helpfulness")
PROFILE = {
    "name": "private",
    "constitution": "constitution/harmlessness.yaml",
    "engine": {"kind": "scripted", "model": "scripted", "script": "none.yaml"},
    "prompts": [{"path": "none.jsonl"}],
    "privacy": {"card": "reject"},
}
PAIR = {"prompt": f"who is {MAIL}?", "chosen": f"I keep {MAIL} to myself.", "rejected": f"Ask {OTHER}.", "group": OTHER}


def written(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def everything(store: Store) -> str:
    return "".join(repr(row) for kind in (Prompt, Response, Annotation, Reject) for row in store.read(kind))


def test_people_s_preferences_are_stored_without_items_and_counted(tmp_path):
    store, guard = Store(tmp_path / "home"), Guard()
    done = import_annotations(store, written(tmp_path / "a.jsonl", PAIR), ASKED, guard=guard)
    assert done.n_new == 1 and guard.tally() == {"email": {"redact": 4}, "rows": {"redact": 1}}
    assert {row.text for row in store.read(Response)} == {"I keep [EMAIL_1] to myself.", "Ask [EMAIL_2]."}
    (annotation,) = store.read(Annotation)
    assert annotation.group == "[EMAIL_2]" and "@" not in everything(store)


def test_what_the_policy_rejects_is_a_row_with_its_reason_and_what_it_keeps_stays(tmp_path):
    path = written(tmp_path / "a.jsonl", PAIR, PAIR | {"prompt": f"pay with {CARD}"})
    store, guard = Store(tmp_path / "home"), Guard(PrivacyConfig(card="reject", email="keep"))
    done = import_annotations(store, path, ASKED, guard=guard)
    (reject,) = store.read(Reject)
    assert done.n_new == 1 and done.rejects == {"personal_data": 1} and reject.reason == "personal_data"
    assert CARD not in everything(store) and "[CARD_1]" in reject.text and MAIL in everything(store)
    assert guard.tally()["card"] == {"reject": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": MAIL, "rejected": MAIL},
        {"prompt": f"q {MAIL}", "chosen": "a", "rejected": ""},
        {"prompt": "q", "response_a": "a", "response_b": "b", "label": MAIL},
        {"prompt": "q", "chosen": f"[EMAIL_1] {MAIL[:0]}", "rejected": MAIL + " "},
    ],
)
def test_a_pair_that_cannot_be_used_is_kept_without_its_items(tmp_path, row):
    store = Store(tmp_path / "home")
    import_annotations(store, written(tmp_path / "a.jsonl", row), ASKED)
    assert len(list(store.read(Reject))) == 1 and MAIL not in everything(store)


def test_a_gold_prompt_is_the_same_prompt_wherever_it_is_read(tmp_path):
    path, home = written(tmp_path / "a.jsonl", PAIR), tmp_path / "home"
    done = CliRunner().invoke(gold, ["import", str(path), "--home", str(home)])
    assert done.exit_code == 0 and "personal items: e-mail addresses: 4 redacted" in done.stdout
    (measured,) = Store(home).read(Prompt)
    (trained,) = read_prompts(PromptSource(path=str(path)), 0)
    assert trained.prompt_id == measured.prompt_id


def test_the_profile_says_what_labels_import_does(tmp_path):
    path, home = written(tmp_path / "a.jsonl", PAIR, PAIR | {"prompt": f"pay with {CARD}"}), tmp_path / "home"
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump(PROFILE))
    options = ["--home", str(home), "--objective", "helpfulness", "--profile", str(profile)]
    done = CliRunner().invoke(import_people, [str(path), *options], catch_exceptions=False)
    assert "personal_data" in done.stdout and "payment cards: 1 rejected" in done.stdout
    assert [row.reason for row in Store(home).read(Reject)] == ["personal_data"]


def sets(path: Path, policy: PrivacyConfig, *rows: dict):
    return read_sets([EvaluationSource(path=str(written(path, *rows)), kind="pair")], 0, Guard(policy))


def test_the_responses_of_an_evaluation_pair_pass_the_same_guard(tmp_path):
    found = sets(tmp_path / "a.jsonl", PrivacyConfig(), PAIR | {"prompt": "who is it?"})
    (item,) = found.items
    assert (item.better, item.worse) == ("I keep [EMAIL_1] to myself.", "Ask [EMAIL_2].")
    kept = sets(tmp_path / "a.jsonl", PrivacyConfig(email="keep"), PAIR)
    assert kept.items[0].better == PAIR["chosen"] and kept.items[0].item_id != item.item_id


def test_an_evaluation_pair_that_the_policy_rejects_or_makes_the_same_is_a_row_with_a_reason(tmp_path):
    same = {"prompt": "whose?", "chosen": "[EMAIL_1]", "rejected": MAIL}
    found = sets(tmp_path / "a.jsonl", PrivacyConfig(card="reject"), same, PAIR | {"chosen": CARD})
    assert [row.reason for row in found.rejects] == ["same_responses", "personal_data"] and not found.items
    assert MAIL not in repr(found) and CARD not in repr(found)
