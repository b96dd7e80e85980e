"""What an edit changes and what it costs: the prediction is checked against second runs of the real method."""

import asyncio
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from cai.candidates import sample_responses
from cai.cli.constitution import constitution as command
from cai.config import ChainsConfig, FeedbackConfig, Profile, PromptSource
from cai.constitution import (
    Constitution,
    CritiqueRevisionExample,
    Examples,
    Feedback,
    PreferenceExample,
    Principle,
    draw,
)
from cai.constitution.diff import diff
from cai.constitution.dump import to_yaml
from cai.constitution.stale import ComparisonRef, RevisionRef, stale_rows
from cai.critique import run_chains
from cai.engines.scripted import ScriptedEngine
from cai.feedback import label, make_pairs
from cai.ledger import MemoryLedger
from cai.records import Comparison, Message, Prompt, Response, Revision, Sampling
from flows.runs import create_run
from storage.store import Store

SEED = 3
PROMPTS = [Prompt.make([Message("user", f"question {i}")], "test") for i in range(20)]


def principle(id: str, **given) -> Principle:
    fields = {
        "title": id,
        "weight": 1.0,
        "tags": ("t",),
        "stages": ("critique", "preference"),
        "critique": f"{id}?",
        "revision": f"{id}.",
        "preference": f"{id}!",
    }
    return Principle(id=id, **(fields | given))


BASE = Constitution("base", "", tuple(principle(id) for id in "abcde"))


def with_principle(constitution: Constitution, id: str, **changes) -> Constitution:
    changed = [replace(p, **changes) if p.id == id else p for p in constitution.principles]
    return replace(constitution, principles=tuple(changed))


class Home:
    """The method with a scripted engine, and the rows it left."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.engine = ScriptedEngine()

    def run(self, constitution: Constitution, principles: int | str = "all", candidates_of: str = "scripted") -> int:
        """How many critiques, revisions and comparisons this run asks for."""
        return asyncio.run(self._run(constitution, FeedbackConfig(principles=principles), candidates_of))

    async def _run(self, constitution: Constitution, feedback: FeedbackConfig, candidates_of: str) -> int:
        shared = {"engine": self.engine, "ledger": self.ledger, "seed": SEED, "max_concurrency": 64}
        await self.engine.load("scripted")
        # What chains start from, so that the count below is of critiques and revisions alone.
        await sample_responses(PROMPTS, sampling=Sampling(), k=1, stage="eval", **shared)
        self.chains = await run_chains(PROMPTS, constitution=constitution, config=ChainsConfig(rounds=4), **shared)
        await self.engine.load(candidates_of)
        self.candidates = await sample_responses(PROMPTS, sampling=Sampling(), k=3, stage="candidate", **shared)
        pairs = make_pairs(PROMPTS, self.candidates).pairs
        await self.engine.load("scripted")
        self.labels = await label(pairs, constitution=constitution, config=feedback, **shared)
        return self.chains.n_requests + self.labels.n_requests

    def predict(self, old: Constitution, new: Constitution, principles: int | str = "all"):
        chains, asks = self.revisions(), self.comparisons()
        return stale_rows(old, new, chains, asks, seed=SEED, feedback=FeedbackConfig(principles=principles))

    def revisions(self) -> list[RevisionRef]:
        return [RevisionRef(*(getattr(r, f) for f in RevisionRef._fields)) for r in self.ledger.rows(Revision)]

    def comparisons(self) -> list[ComparisonRef]:
        return [ComparisonRef(*(getattr(c, f) for f in ComparisonRef._fields)) for c in self.ledger.rows(Comparison)]


SHOT = CritiqueRevisionExample((Message("user", "q"),), "a", "b", "c", "d", "e")
PAIR = PreferenceExample((Message("user", "q"),), "a", "b", "c", "A")
EDITS = {
    "nothing": BASE,
    "critique text": with_principle(BASE, "b", critique="other?"),
    "revision text": with_principle(BASE, "c", revision="other."),
    "preference text": with_principle(BASE, "b", preference="other!"),
    "all texts of two": with_principle(with_principle(BASE, "a", critique="x", preference="x"), "e", revision="y"),
    "title and tags": with_principle(BASE, "b", title="other", tags=("u",)),
    "weight": with_principle(BASE, "b", weight=4.0),
    "removed": replace(BASE, principles=BASE.principles[1:]),
    "added": replace(BASE, principles=(*BASE.principles, principle("f", weight=2.0))),
    "swapped": replace(BASE, principles=(*BASE.principles[1:], principle("f"))),
    "one stage only": with_principle(BASE, "d", stages=("critique",)),
    "critique template": replace(BASE, templates={"critique": "Q: {{ critique }}"}),
    "comparison example": replace(BASE, examples=Examples(preference=(PAIR,))),
    "critique example": replace(BASE, examples=Examples(critique_revision=(SHOT,))),
    "fewer asked": replace(BASE, feedback=Feedback(principles=2)),
}


@pytest.mark.parametrize("principles", ["all", 2])
@pytest.mark.parametrize("edit", EDITS)
def test_the_second_run_sends_exactly_the_predicted_requests(edit, principles):
    home = Home()
    assert home.run(BASE, principles) > 0
    assert home.run(BASE, principles) == 0
    predicted = home.predict(BASE, EDITS[edit], principles)
    assert predicted.n_requests == home.run(EDITS[edit], principles)
    again = predicted.revisions_direct + predicted.revisions_descendant
    assert predicted.n_requests == 2 * again + predicted.comparisons_stale + predicted.comparisons_new
    assert len(predicted.revision_ids) == again
    assert len(predicted.comparison_ids) == predicted.comparisons_stale + predicted.comparisons_dropped


@pytest.mark.parametrize("edit", EDITS)
def test_taking_an_edit_back_costs_nothing_and_redoing_it_neither(edit):
    home = Home()
    home.run(BASE, 2)
    home.run(EDITS[edit], 2)
    assert home.predict(EDITS[edit], BASE, 2).n_requests == home.run(BASE, 2) == 0
    assert home.predict(BASE, EDITS[edit], 2).n_requests == 0


def test_an_edit_on_top_of_an_edit_is_predicted_too():
    home, first = Home(), EDITS["critique text"]
    home.run(BASE)
    home.run(first)
    second = with_principle(with_principle(first, "b", critique="?"), "c", preference="?")
    predicted = home.predict(first, second)
    assert predicted.n_requests == home.run(second) > 0


def chain(*asked: tuple[str, str]) -> list[RevisionRef]:
    """Rounds 1, 2, ... of one prompt: (principle id, its digest); ids are v1, v2, ..."""
    frame = BASE.template_digest("critique")
    parents = ["response", *(f"v{i}" for i in range(1, len(asked)))]
    return [
        RevisionRef(f"v{i}", PROMPTS[0].prompt_id, parents[i - 1], "response", i, *ask, frame)
        for i, ask in enumerate(asked, 1)
    ]


def test_a_stale_step_takes_its_descendants_along_and_leaves_its_ancestors():
    stage = BASE.for_stage("critique")
    drawn = [draw(stage, seed=SEED, prompt_id=PROMPTS[0].prompt_id, round=round) for round in range(1, 5)]
    ids = [p.id for p in drawn]
    assert len(set(ids)) > 1, "the prompt must draw different principles for this test to tell anything"
    rows = chain(*((p.id, p.digest("critique")) for p in drawn))
    hit = ids[1]
    new = with_principle(BASE, hit, critique="other?")
    found = stale_rows(BASE, new, rows, (), seed=SEED)
    direct = [f"v{i}" for i, id in enumerate(ids, 1) if id == hit]
    first = ids.index(hit) + 1
    after = [f"v{i}" for i in range(first + 1, 5) if f"v{i}" not in direct]
    assert found.revisions_direct == len(direct) and found.revisions_descendant == len(after)
    assert sorted(found.revision_ids) == sorted([*direct, *after])
    assert found.n_requests == 2 * (5 - first)


def test_rows_that_the_old_constitution_does_not_use_are_not_counted():
    strange = chain(("zz", "0" * 32), ("zz", "0" * 32))
    assert stale_rows(BASE, EDITS["removed"], strange, (), seed=SEED).n_requests == 0


def test_two_judges_are_counted_apart():
    home = Home()
    home.run(BASE)
    asks = home.comparisons()
    both = asks + [a._replace(comparison_id=a.comparison_id + "x", judge_digest="other") for a in asks]
    alone = home.predict(BASE, EDITS["added"]).comparisons_new
    assert alone == len(asks) / 5
    assert stale_rows(BASE, EDITS["added"], (), both, seed=SEED).comparisons_new == 2 * alone


def test_only_the_revisions_of_the_run_are_counted():
    home = Home()
    home.run(BASE)
    rows, new = home.revisions(), EDITS["critique text"]
    mine = {row.revision_id for row in rows if row.prompt_id == PROMPTS[1].prompt_id}
    some = stale_rows(BASE, new, rows, (), seed=SEED, of_run=mine)
    assert set(some.revision_ids) <= mine
    assert some == stale_rows(BASE, new, [row for row in rows if row.revision_id in mine], (), seed=SEED)


def test_diff_names_what_changed_and_which_rows_it_touches():
    new = with_principle(with_principle(BASE, "a", critique="other?", title="A"), "b", weight=3.0)
    new = replace(new, principles=(*new.principles[:4], principle("f")), templates={"critique": "Q {{ critique }}"})
    found = diff(BASE, new)
    assert (found.added, found.removed) == (("f",), ("e",))
    assert [(c.id, c.stages) for c in found.changed] == [("a", ("critique",)), ("b", ())]
    assert [(f.field, f.old, f.new) for f in found.changed[0].fields] == [
        ("title", "a", "A"),
        ("critique", "a?", "other?"),
    ]
    assert [f.field for f in found.templates] == ["critique"]
    assert 0 < found.moved["critique"] < 1
    assert diff(BASE, replace(BASE, name="other", description="other")).is_empty


def write(path, constitution: Constitution):
    path.write_text(to_yaml(constitution), encoding="utf-8")
    return str(path)


def run_diff(*arguments) -> dict:
    result = CliRunner().invoke(command, ["diff", *map(str, arguments), "--format", "json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def stored(tmp_path, constitution: Constitution, candidates_of: str = "scripted", without: str = ""):
    """A run of `constitution` in the tables and folders of a home."""
    home, used = Home(), constitution.without(without) if without else constitution
    home.run(used, candidates_of=candidates_of)
    profile = Profile(
        name="test", seed=SEED, constitution=tmp_path / "old.yaml", prompts=(PromptSource(path="smallworld", limit=8),)
    )
    write(tmp_path / "old.yaml", constitution)
    run = create_run(profile, tmp_path / "home", without=without)
    run.save_ids("revisions-0", home.chains.revision_ids)
    run.save_ids("candidates-0", [r.response_id for r in home.candidates])
    run.finish("labels-0", {"judge_digests": [home.ledger.rows(Comparison)[0].judge_digest]})
    rows = [home.ledger.rows(kind) for kind in (Response, Revision, Comparison)]
    Store(run.home).append([row for group in rows for row in group])
    return home, run


@pytest.mark.parametrize("edit", ["critique text", "preference text", "added", "weight"])
def test_the_command_predicts_from_a_stored_run(tmp_path, edit):
    home, run = stored(tmp_path, BASE)
    new = write(tmp_path / "new.yaml", EDITS[edit])
    cost = run_diff(run.path / "constitution.yaml", new, "--home", run.home)["cost"]
    assert cost["run_id"] == run.run_id
    assert cost["prediction"]["n_requests"] == home.run(EDITS[edit]) > 0
    assert cost["n_remade_responses"] == 0


def test_a_run_without_a_tag_is_compared_without_it(tmp_path):
    base = with_principle(BASE, "e", tags=("odd",))
    home, run = stored(tmp_path, base, without="odd")
    new = with_principle(base, "b", critique="other?", preference="other!")
    cost = run_diff(tmp_path / "old.yaml", write(tmp_path / "new.yaml", new), "--home", run.home)["cost"]
    assert cost["prediction"]["n_requests"] == home.run(new.without("odd")) > 0


def test_what_retrained_models_made_is_reported_apart(tmp_path):
    """Their responses get new ids, so the comparisons of the old ones are not asked again but made anew."""
    home, run = stored(tmp_path, BASE, candidates_of="trained")
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    write(new, EDITS["all texts of two"])
    cost = run_diff(old, new, "--home", run.home)["cost"]
    assert cost["n_remade_responses"] == len(home.candidates)
    assert cost["n_remade_comparisons"] == len(home.comparisons())
    assert cost["prediction"]["comparisons_stale"] == 0 < cost["prediction"]["revisions_direct"]
    write(new, EDITS["preference text"])
    labels = run_diff(old, new, "--home", run.home)["cost"]
    assert labels["n_remade_responses"] == 0
    assert labels["prediction"]["n_requests"] == home.run(EDITS["preference text"], candidates_of="trained") > 0


def test_a_policy_trained_on_the_labels_is_remade_when_they_change(tmp_path):
    home, run = stored(tmp_path, BASE)
    policy = replace(home.candidates[0], response_id="of-policy", model_digest="policy", stage="eval")
    ask = replace(home.ledger.rows(Comparison)[0], comparison_id="x", response_a="of-policy", response_b="of-seed")
    Store(run.home).append([policy, replace(policy, response_id="of-seed", model_digest="seed"), ask])
    run.save_ids("eval-rl_cai", ["of-policy"])
    run.save_ids("eval-seed", ["of-seed"])
    new = write(tmp_path / "new.yaml", EDITS["preference text"])
    cost = run_diff(tmp_path / "old.yaml", new, "--home", run.home)["cost"]
    assert (cost["n_remade_responses"], cost["n_remade_comparisons"]) == (2, 1)
    assert cost["prediction"]["n_requests"] == home.predict(BASE, EDITS["preference text"]).n_requests > 0


def test_without_a_run_of_the_old_version_the_texts_are_still_compared(tmp_path):
    old, new = write(tmp_path / "old.yaml", BASE), write(tmp_path / "new.yaml", EDITS["critique text"])
    result = CliRunner().invoke(command, ["diff", old, new, "--home", str(tmp_path / "nowhere")])
    assert result.exit_code == 0
    assert "no prediction" in result.stderr and "no prediction" not in result.stdout
    assert "~ b (asked again: critique)" in result.stdout
    assert "- b?" in result.stdout and "+ other?" in result.stdout


def test_the_command_says_the_number_in_words(tmp_path):
    home, run = stored(tmp_path, BASE)
    new = write(tmp_path / "new.yaml", EDITS["preference text"])
    result = CliRunner().invoke(command, ["diff", str(tmp_path / "old.yaml"), new, "--home", str(run.home)])
    n = home.predict(BASE, EDITS["preference text"]).n_requests
    assert f"a second run sends {n} requests" in result.stdout


def test_a_run_of_another_constitution_is_not_predicted_for(tmp_path):
    _, run = stored(tmp_path, EDITS["weight"])
    old, new = write(tmp_path / "base.yaml", BASE), write(tmp_path / "new.yaml", EDITS["added"])
    for arguments in ([], ["--run", run.run_id]):
        result = CliRunner().invoke(command, ["diff", old, new, "--home", str(run.home), *arguments])
        assert result.exit_code == 0 and "no prediction" in result.stderr, result.output
