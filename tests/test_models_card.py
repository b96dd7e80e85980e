"""The model card: what was recorded, as text and never as markup, and nothing about this machine."""

from pathlib import Path

import pytest
import yaml
from model_home import SEED, Home, run

from cai.card import model_card
from cai.models import content_digest
from cai.records import Evaluation
from storage.registry import load


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_card_says_what_was_recorded_and_names_no_licence(home):
    _, scorer, rl_cai = home.runs("demo-1")
    home.store.append([Evaluation("e", "rl_cai", rl_cai.model_digest, "small", "harm", 0.02, 0.01, 0.03, 1000)])
    card = model_card(load(home.store), rl_cai, base_model="acme/tiny")
    assert front_matter(card) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["constitutional-ai", "rlaif", "grpo"],
        "base_model": "acme/tiny",
        "base_model_relation": "finetune",
    }
    for said in (
        "| small | harm | 0.02 | 0.01 to 0.03 | 1000 |",
        "| table versions | prompts@4 |",
        "| n\\_rejected | 2 |",
        "| beta | 0.1 |",
        "| seed | 3 |",
        f"| trained against | {scorer.model_digest[:8]} (reward\\_model) |",
        "Rows cut to the training length: 1.",
        "AutoModelForCausalLM.from_pretrained",
    ):
        assert said in card, said
    assert "**Stale:**" not in card and str(home.path) not in card
    of_scorer = model_card(load(home.store), scorer)
    assert "AutoModelForSequenceClassification" in of_scorer and "base_model" not in front_matter(of_scorer)


def test_the_text_of_a_record_is_shown_and_never_markup_or_a_place_on_this_machine(home):
    home.runs("demo-1")
    model = home.model(
        "demo-1", "a|b <img src=x> [link](http://x)\n# head", "sft", SEED,
        config={"models": ["/home/somebody/models/rm-1"], "note": "see /etc/x/y.json, ~/z/w and https://a.b/c"},
    )  # fmt: skip
    card = model_card(load(home.store), model)
    body = card.split("---\n", 2)[2]
    assert body.startswith("\n# a\\|b \\<img src=x\\> \\[link\\](http://x) \\# head ")
    assert "| …/rm-1 |" in body and "…/y.json, …/w and https://a.b/c" in body
    assert "somebody" not in card and "<img" not in card.replace("\\<img", "") and str(home.path) not in card


def test_writing_the_card_into_the_directory_leaves_the_model_what_it_was(home):
    _, _, rl_cai = home.runs("demo-1")
    home.judge(rl_cai)
    (Path(rl_cai.path) / "README.md").write_text(run(home, "card", "rl_cai").stdout)
    assert content_digest(Path(rl_cai.path)) == rl_cai.model_digest
    run(home, "promote", "rl_cai")


def test_the_card_names_a_base_model_only_where_the_hubs_cache_has_it(home, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    home.runs("demo-1")
    assert "base_model" not in front_matter(run(home, "card", "rl_cai").stdout)
    folder = tmp_path / "hub" / "models--acme--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    assert front_matter(run(home, "card", "rl_cai").stdout)["base_model"] == "acme/tiny"
