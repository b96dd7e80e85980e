"""Two runs side by side: planted differences are found, chance ones are not, and what is missing is said."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from scripted_run import CONSTITUTION, run_steps

from cai.cli import compare as command
from cai.comparison import examples, measures
from cai.comparison.conclusion import conclusion, outcome
from cai.comparison.data import Comparison, Example, HeadToHead, Side
from cai.comparison.labels import Label, compare_labels, flips_of
from cai.comparison.page import to_page
from cai.comparison.readings import Answers, examples_of
from cai.comparison.readings import outcomes as outcomes_by_prompt
from cai.comparison.text import WIDTH, to_text
from cai.config import load_profile
from cai.constitution import load_constitution
from cai.constitution.diff import diff
from cai.errors import ConfigError
from cai.intervals import Rate, WinRate, rate
from cai.records import Comparison as Asked
from cai.records import Message, Prompt, Reject, Response
from cai.smallworld import world
from cai.training.reward_pairs import HELD_OUT
from flows import reporting
from flows.comparing import gather
from flows.label_quality import labels_of
from flows.rejected import made_by
from flows.runs import create_run, open_run
from storage.store import Store

# Labels


def pairs(*p_a: float, per_prompt: int = 1) -> dict[str, Label]:
    return {f"a{i}/b{i}": Label(p, f"prompt {i // per_prompt}") for i, p in enumerate(p_a)}


def test_planted_flips_are_counted():
    before = pairs(*[0.9] * 50, *[0.2] * 50)
    after = before | {key: Label(1 - label.p_a, label.prompt) for key, label in list(before.items())[45:55]}
    flips = flips_of("", before, after, tie_band=0.01)
    assert (flips.flip_rate.value, flips.flip_rate.n) == (0.1, 100)
    assert flips.flip_rate.low < 0.1 < flips.flip_rate.high
    assert flips.kappa.value == pytest.approx(0.8)
    assert flips.shift.value == pytest.approx((5 * 0.8 + 5 * 0.6) / 100)
    assert flips.drift.value == pytest.approx(-flips.shift.value), "what A preferred lost all of it"


def test_a_label_that_becomes_a_tie_is_no_flip_and_lowers_kappa():
    before = pairs(*[0.9, 0.1] * 20)
    after = before | {"a0/b0": Label(0.505, "prompt 0"), "a1/b1": Label(0.5, "prompt 1")}
    flips = flips_of("", before, after, tie_band=0.01)
    assert flips.flip_rate.value == 0 and flips.kappa.value < 1 and flips.shift.value > 0


def test_only_pairs_that_both_runs_labelled_and_could_read_count():
    after = {"a1/b1": Label(0.9, "prompt 1"), "a2/b2": Label(float("nan"), "prompt 2"), "x/y": Label(0.1, "prompt 9")}
    labels = compare_labels(pairs(0.1, 0.1, 0.1), after, {"kind": pairs(0.1)}, {"safe": pairs(0.1)}, tie_band=0.01)
    assert (labels.n_a, labels.n_b, labels.n_shared) == (3, 3, 2)
    assert (labels.overall.flip_rate.n, labels.overall.n_unscored) == (1, 1)
    assert labels.by_principle == ()


def test_pairs_of_one_prompt_widen_the_interval():
    before, after = [0.9] * 60, [0.9] * 48 + [0.1] * 12
    alone, together = (
        flips_of("", pairs(*before, per_prompt=n), pairs(*after, per_prompt=n), tie_band=0.01).flip_rate for n in (1, 6)
    )
    assert together.high - together.low > 1.3 * (alone.high - alone.low)


# Measures


def outcomes(name: str, n: int, n_true: int, start: int = 0) -> dict[str, dict[str, bool]]:
    return {name: {f"p{i + start}": i < n_true for i in range(n)}}


def compared(*found: measures.Measure, won: WinRate | None = None, held=({}, {})) -> Comparison:
    judged, head = measures.jointly(found, HeadToHead(won, "by the judge"), *held)
    sides = (Side(name, "small", "", "c", "d" * 32, "rl_cai") for name in ("a", "b"))
    same = load_constitution(Path("constitution/smallworld.yaml"))
    return Comparison(*sides, diff(same, same), measures=tuple(judged), n_prompts=100, head_to_head=head)


def harm(n_a: int, n_b: int, n: int = 200) -> tuple[measures.Measure, ...]:
    return tuple(measures.paired(outcomes("harmful_rate", n, n_a), outcomes("harmful_rate", n, n_b)))


def help_(n_a: int, n_b: int, n: int = 200) -> tuple[measures.Measure, ...]:
    return tuple(measures.paired(outcomes("helpful_rate", n, n_a), outcomes("helpful_rate", n, n_b)))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (harm(60, 10), "BETTER"),
        (harm(10, 60), "WORSE"),
        (help_(150, 190), "BETTER"),
        (harm(60, 10) + help_(190, 150), "MIXED"),
        (harm(60, 58) + help_(190, 192), "UNDECIDED"),
        (harm(60, 60), "UNDECIDED"),
        ((), "NOT MEASURED"),
        (tuple(measures.lengths({"p": 1, "q": 2}, {"p": 9, "q": 10})), "NOT MEASURED"),
    ],
)
def test_the_verdict_follows_from_intervals_alone(found, verdict):
    comparison = compared(*found)
    assert outcome(comparison) == verdict and verdict in conclusion(comparison)


def test_the_judge_counts_as_a_measure():
    rates = {high: Rate(0.6, low, high, 100) for low, high in ((0.55, 0.65), (0.45, 0.75))}
    assert outcome(compared(won=WinRate(rates[0.65], 0, 0))) == "BETTER"
    assert outcome(compared(won=WinRate(rates[0.75], 0, 0))) == "UNDECIDED"


def test_of_many_measures_one_that_leaves_out_zero_by_chance_decides_nothing():
    """95 % each: 7 more harmful of 200 is beyond its own interval, and not beyond that of five measures together."""
    held = [outcomes("harmful_rate", 200, n) for n in (0, 7)]
    others = ("helpful_rate", "over_refusal_rate", "evasive_rate", "rude_rate")
    sides = [dict(side) for side in held]
    for side in sides:
        side.update({name: dict(outcomes(name, 200, 100)[name]) for name in others})
    alone = compared(*measures.paired(*held), held=held)
    assert alone.measures[0].difference.low > 0 and outcome(alone) == "WORSE"
    five = compared(*measures.paired(*sides), held=sides)
    assert five.measures[0].difference == alone.measures[0].difference
    assert five.measures[0].joint.low < 0 and outcome(five) == "UNDECIDED"


def test_prompts_that_only_one_policy_answered_do_not_count():
    (found,) = measures.paired(outcomes("harmful_rate", 100, 10), outcomes("harmful_rate", 100, 10, start=50))
    assert found.difference.n == 50 and found.a.value == 0.0 and found.b.value == 0.2


def test_the_interval_of_an_unpaired_difference_covers():
    rng, n = np.random.default_rng(3), 150
    hits = 0
    for _ in range(800):
        sides = [rate((rng.random(n) < p).tolist(), range(n)) for p in (0.2, 0.35)]
        (found,) = measures.unpaired({"m": sides[0]}, {"m": sides[1]})
        hits += found.difference.low <= 0.15 <= found.difference.high
    assert 0.93 <= hits / 800 <= 0.975


def test_where_no_oracle_knows_the_truth_refusals_are_read_by_rules():
    prompts = [Prompt.make([Message("user", f"How do I fix bicycle number {i}?")], "test") for i in range(12)]
    sorry = "I'm sorry, but I cannot help you with that."

    def said(*texts: str) -> dict[str, Response]:
        return {p.prompt_id: Response.given(p.prompt_id, text, "test") for p, text in zip(prompts, texts, strict=True)}

    texts = ["Turn it upside down and take off the wheel."] * 11
    answers = Answers({p.prompt_id: p for p in prompts}, said(*texts, ""), said(*[sorry] * 11, sorry))
    held = [outcomes_by_prompt(answers, side) for side in (answers.a, answers.b)]
    found, _, unscored = measures.paired(*held)
    assert (unscored.name, unscored.a.value, unscored.b.value) == ("unscored_rate", 1 / 12, 0)
    assert (found.name, found.a.value, found.b.value, found.difference.n, found.effect) == (
        "refusal_rate",
        0,
        1,
        11,
        "",
    )
    assert next(iter(examples_of(answers))).reading_b == "full refusal"


def test_answers_that_do_something_else_come_first():
    def example(a: str, b: str, *readings: str) -> Example:
        return Example("?", (), a, b, *readings, examples.distance(a, b))

    same = example("so", "so", "comply", "comply")
    little = example("a b c d", "a b c e", "comply", "comply")
    other = example("a b c d", "x y z w", "comply", "comply")
    turned = example("a b c d", "a b c f", "comply", "refuse")
    assert examples.changed_most([same, little, other, turned], 2) == ([turned, other], 3)
    assert (same.distance, other.distance) == (0, 1)


# Runs

STEPS = ("prompts", "chains", "sft_set", "candidates", "labels", "preferences")
EDITED = ("Which response does less harm?", "Which response is the less harmful one, by far?")


def made(folder: Path, name: str, constitution: str, seed_model: str = "scripted"):
    """A run of 30 prompts to its preference pairs."""
    (folder / f"{name}.yaml").write_text(constitution)
    body = {
        "name": "small",
        "constitution": str(folder / f"{name}.yaml"),
        "engine": {"kind": "scripted", "model": seed_model},
        "prompts": [{"path": "smallworld", "limit": 30}],
        "chains": {"rounds": 1},
        "sft": None,
        "feedback": {"self_test": False},
        "evaluation": {"prompts": [{"path": "smallworld", "limit": 60}]},
    }
    (folder / f"{name}-profile.yaml").write_text(yaml.safe_dump(body))
    return run_steps(create_run(load_profile(folder / f"{name}-profile.yaml"), folder / "home"), *STEPS)


def answered(run, *, harmful_share: float) -> None:
    """What `evaluate` leaves: answers of the policy, of which so many of the harmful requests are complied with."""
    prompts = world.prompts("eval", 60)
    rows = []
    for place, prompt in enumerate(prompts):
        request = world.find(prompt.messages[-1].content)
        does_it = request.kind is None or place % 10 < harmful_share * 10
        text = (
            f"first get ready , then {request.action} {request.object} ."
            if does_it
            else "I cannot do that because it would hurt people badly ."
        )
        rows.append(
            replace(Response.given(prompt.prompt_id, text, run.run_id), stage="eval", n_tokens=len(text.split()))
        )
    store = Store(run.home)
    store.append([*prompts, *rows])
    run.save_ids("eval-rl_cai", [row.response_id for row in rows])
    run.finish("evaluate", {"models": ["seed", "rl_cai"], "rates": {}, "win_rates": {}, "n_in": 60, "n_out": 60})


def rewarded(run, folder: Path, n_right: int) -> None:
    """A reward model that is right on so many of twenty held-out pairs."""
    folder.mkdir()
    lines = [{"pair": f"pair {i}", "prompt": f"{i}", "is_right": i < n_right} for i in range(20)]
    (folder / HELD_OUT).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "meta.json").write_text(json.dumps({"parent_digest": "p" * 32, "metrics": {}, "code": {}}))
    run.finish("reward_model", {"path": str(folder)})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two runs over one home, B with one principle edited and less harm done; to be read and not written to."""
    folder = tmp_path_factory.mktemp("compare")
    a, b = made(folder, "a", CONSTITUTION), made(folder, "b", CONSTITUTION.replace(*EDITED))
    answered(a, harmful_share=0.8)
    answered(b, harmful_share=0.1)
    rewarded(a, folder / "rm-a", 10)
    rewarded(b, folder / "rm-b", 19)
    return SimpleNamespace(path=folder / "home", a=a, b=b, compared=gather(a, b))


def test_the_edited_principle_is_all_that_changed(home):
    found = home.compared
    (change,) = found.constitution.changed
    assert (change.id, [field.field for field in change.fields]) == ("safe", ["preference"])
    assert found.changes == (), "same engine, model, code, settings and prompts"


def test_labels_flip_under_the_edited_principle_alone(home):
    labels = home.compared.labels
    kind, safe = labels.by_principle
    assert (kind.principle, kind.flip_rate.value, kind.kappa.value) == ("kind", 0, 1)
    assert safe.principle == "safe" and safe.flip_rate.value > 0.1 and safe.shift.value > 0
    assert labels.n_shared == labels.n_a == labels.n_b == 30
    assert 0 < labels.overall.shift.value < safe.shift.value


def test_the_better_policy_is_found_with_its_interval(home):
    by_name = {measure.name: measure for measure in home.compared.measures}
    harmful, helpful = by_name["harmful_rate"], by_name["helpful_rate"]
    assert harmful.is_paired and harmful.difference.high < 0 and harmful.effect == "better"
    assert harmful.difference.value == pytest.approx(harmful.b.value - harmful.a.value) and harmful.a.n == 30
    assert (helpful.difference.value, helpful.effect) == (0, "undecided")
    (accuracy,) = home.compared.reward_models
    assert (accuracy.a.value, accuracy.b.value, accuracy.is_paired) == (0.5, 0.95, True)
    assert outcome(home.compared) == "BETTER"


def test_the_other_way_round_it_is_worse(home):
    found = gather(home.b, home.a)
    assert outcome(found) == "WORSE"
    assert conclusion(found).startswith("Changed: the constitution (principle safe edited). B is WORSE than A")


def test_the_answers_that_changed_most_do_something_else(home):
    found = home.compared
    harmful = found.measures[0]
    assert found.n_changed == round((harmful.a.value - harmful.b.value) * harmful.a.n) > len(found.examples) == 10
    for example in found.examples:
        assert (example.reading_a, example.reading_b) == ("comply", "refuse") and "benign" not in example.tags


def cli(*arguments: object) -> str:
    done = CliRunner().invoke(command.compare, list(map(str, arguments)))
    if done.exception:
        raise done.exception
    return done.stdout


def test_the_command_fits_a_terminal_and_ends_in_words(home, tmp_path):
    out = cli(home.a.run_id, home.b.run_id, "--home", home.path, "--json", tmp_path / "c.json")
    assert max(map(len, out.splitlines())) <= WIDTH
    last = out.rstrip().split("\n\n")[-1]
    assert "principle safe edited" in last and "BETTER" in last
    body = json.loads((tmp_path / "c.json").read_text())
    assert body["outcome"] == "BETTER" and body["measures"][0]["name"] == "harmful_rate"
    assert "--judge" in out, "who wins was not asked, and the command that asks is named"


def test_the_judge_is_asked_once_and_found_again(home):
    found = cli(home.a.run_id, home.b.run_id, "--home", home.path, "--judge", 20)
    n_asked = len(Store(home.path).read(Asked))
    again = cli(home.a.run_id, home.b.run_id, "--home", home.path)
    said = [re.search(r"B preferred to A: ([\d.]+ %)", out)[1] for out in (found, again)]
    assert said[0] == said[1]
    assert len(Store(home.path).read(Asked)) == n_asked


def test_the_page_stands_alone_and_shows_what_models_wrote_as_text(home):
    example = replace(home.compared.examples[0], a="<script>alert(1)</script> & so", b="\x1b[31mred")
    page = to_page(replace(home.compared, examples=(example,)))
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src &#39;none&#39;" in page and "http" not in page.replace("http-equiv", "")
    assert "\x1b" not in to_text(replace(home.compared, examples=(example,)))


def test_rejects_are_each_runs_own(home, tmp_path):
    """Both label the same pairs in one home: what B could not read must not be counted in A."""
    store = Store(home.path)
    asks = {run.run_id: store.read(Asked) for run in (home.a, home.b)}
    edited = {
        row.principle_digest for row in asks[home.b.run_id] if row.constitution_digest == home.b.constitution.digest()
    }
    row = next(
        r for r in store.read(Asked) if r.principle_digest == home.b.constitution.principles[1].digest("preference")
    )
    assert row.principle_digest in edited
    store.append([Reject.make("verdict", "planted", prompt_id=row.prompt_id, parents=(row.comparison_id, "s"))])
    (line,) = [line for line in gather(home.a, home.b).rejects if line.reason == "planted"]
    assert (line.n_a, line.n_b) == (0, 1)
    shown = [{r.reason: r.n_rows for r in reporting.gather(run, store).rejects} for run in (home.a, home.b)]
    assert [counts.get("planted", 0) for counts in shown] == [0, 1], "nor in the report of A"


def test_the_labels_of_a_run_are_those_of_its_constitution_alone(home):
    """Both ask one judge about one set of pairs; the principle that both have is asked once, and is read in both."""
    store = Store(home.path)
    asked = [set(made_by(run, store).asks) for run in (home.a, home.b)]
    assert asked[0] & asked[1] and asked[0] - asked[1] and asked[1] - asked[0]
    for run, asks in zip((home.a, home.b), asked, strict=True):
        assert labels_of(store, run).n_comparisons == len(asks) == 2 * 2 * 30


def test_unfinished_runs_are_compared_as_far_as_they_go(home, tmp_path):
    (tmp_path / "c.yaml").write_text(CONSTITUTION)
    body = yaml.safe_load((home.path.parent / "a-profile.yaml").read_text()) | {"seed": 1}
    body["engine"]["model"] = "another"
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(body | {"constitution": str(tmp_path / "c.yaml")}))
    begun = create_run(load_profile(tmp_path / "p.yaml"), tmp_path / "home")
    found = gather(home.a, begun)
    assert outcome(found) == "NOT MEASURED" and found.labels is None and not found.measures
    assert ("B has not done: import prompts, critique and revise" in found.notes[-2]) and "no model" in found.notes[-1]
    assert {(c.kind, c.key) for c in found.changes} >= {("model", "engine.model"), ("settings", "seed")}
    out = cli(home.a.run_id, begun.run_id, "--home", home.path, "--home-b", begun.home)
    assert "engine.model: scripted → another" in out and "not done" in out


def test_a_missing_run_names_the_newest(home):
    with pytest.raises(ConfigError, match=r"no run 'x'.*small-.*the newest first"):
        open_run(home.path, "x")
