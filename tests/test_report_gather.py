"""What a run's report gathers: chains, curves and frontier from RL's samples, the datasheet."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai.intervals import Rate
from cai.records import Message, PreferencePair, Prompt, Response, Revision, Score
from cai.report.data import LabelCount, RejectCount, Step
from cai.smallworld import world
from flows.report_chains import chains
from flows.report_datasheet import datasheet, sources_in_words
from flows.report_rollouts import MEANS, frontier, mean_line, read_rollouts
from storage.store import Store


def revision(key, parent, prompt_id, text):
    ids = (key, prompt_id, "r", parent)
    return Revision(*ids, 0, "be-kind", "p", "c", "t", "m", 0, "rude", "stop", text, "stop", 1, 1)


def pair(prompt_id, source="ai", *, is_tie=False, objective=""):
    return PreferencePair(
        f"{source}{prompt_id}{is_tie}", prompt_id, (), "a", "b", "x", "y", 0.75, is_tie, 2, 1.0, 0.0, source,
        objective=objective,
    )  # fmt: skip


def test_a_chain_is_whole_and_carries_labels_scores_and_the_soft_labels_of_its_prompt(tmp_path):
    (prompt,) = world.prompts("train", 1, 0)
    store = Store(tmp_path)
    store.append(
        [
            prompt,
            Response("r", prompt.prompt_id, "m", "initial", 0, 0, 1.0, 1.0, 8, "", "stop", 1, 1),
            revision("v1", "r", prompt.prompt_id, "I will not help because it hurts people."),
            revision("v2", "v1", prompt.prompt_id, "I would rather not."),
            Score("s1", "r", "mine", -1.5),
            Score("s2", "v2", "mine", 2.0),
            Score("s3", "v1", "another", 9.0),
        ]
    )
    (made,) = chains(store, {prompt.prompt_id: prompt}, ["v2"], pairs=[pair(prompt.prompt_id)], reward_model="mine")
    assert made.steps == tuple(
        Step("be-kind", "rude", text) for text in ("I will not help because it hurts people.", "I would rather not.")
    )
    assert made.labels == ("ramble", "refuse", "evade")
    assert made.scores == (-1.5, None, 2.0), "what no reward model scored is no 0"
    assert (made.soft_labels, made.tags, made.response_id) == ((0.75,), prompt.tags, "r")
    (bare,) = chains(store, {prompt.prompt_id: prompt}, ["v2"], pairs=[], reward_model="")
    assert (bare.scores, bare.soft_labels) == ((), ())


def rollouts(path, prompts):
    """Step 1 complies with everything, step 2 refuses everything; two samples a prompt, the second worth one more."""
    rows = [
        {"step": step, "prompt_id": p.prompt_id, "reward": step + place + i, "kl": None, "n_tokens": 10 * step,
         "text": _comply(p) if step == 1 else "I will not do that because it hurts people."}
        for step in (2, 1) for place, p in enumerate(prompts) for i in (0, 1)
    ]  # fmt: skip
    columns = {"step": pa.int32(), "prompt_id": pa.string(), "reward": pa.float64(), "kl": pa.float64()}
    schema = pa.schema({**columns, "n_tokens": pa.int32(), "text": pa.string()})
    pq.write_table(pa.Table.from_pylist(rows, schema), path / "rollouts.parquet")
    return path


def _comply(prompt):
    request = world.find(prompt.messages[-1].content)
    return f"first take a map. then {request.action} {request.object}."


def test_the_mean_of_a_step_has_an_interval_over_its_prompts(tmp_path):
    prompts = world.prompts("train", 6, 0)
    rows = read_rollouts(rollouts(tmp_path, prompts), *MEANS.values())
    line = mean_line(rows, "reward/mean", "reward")
    assert (line.name, line.x, line.y) == ("reward", (1.0, 2.0), (4.0, 5.0))
    half = [high - low for low, high in zip(line.low, line.high, strict=True)]
    # Means of the prompts are 0 to 5 and a constant: standard error √(3.5 / 6), Student's 2.57 at 5 degrees.
    assert half == pytest.approx([2 * 2.57 * math.sqrt(3.5 / 6)] * 2, rel=0.15)
    assert mean_line(rows, "kl/k3", "kl") is None, "a step without a KL has no point"
    assert mean_line(rows, "entropy", "entropy") is None
    assert list(read_rollouts(tmp_path / "nowhere")) == []


def test_the_frontier_has_the_models_and_the_steps_of_rl(tmp_path):
    prompts = {p.prompt_id: p for p in world.prompts("train", 12, 0)}
    rows = read_rollouts(rollouts(tmp_path, list(prompts.values())), "text")
    measured = {"harmful_rate": Rate(0.8, 0.7, 0.9, 50), "helpful_rate": Rate(0.9, 0.8, 0.95, 50)}
    unmeasured = measured | {"helpful_rate": Rate(math.nan, 0.0, 1.0, 0)}
    models, steps = frontier({"seed": measured, "sl_cai": unmeasured}, {"RL": rows}, prompts)
    assert [point.name for point in models.points] == ["seed"]
    assert models.points[0].harmless == Rate(pytest.approx(0.2), pytest.approx(0.1), pytest.approx(0.3), 50)
    assert [(p.name, p.harmless.value, p.helpful.value) for p in steps.points] == [("step 1", 0, 1), ("step 2", 1, 0)]
    assert list(frontier({}, {"RL": rows}, prompts)) == []


def test_a_datasheet_counts_sources_with_licences_and_says_what_speaks_against_them():
    def prompt(n, licence):
        tags, origin = ("x",) if n else ("x", "y"), "o/a" if n else ""
        return Prompt.make([Message("user", str(n))], "a.jsonl", licence, tags, origin=origin)

    used = {"revisions": [prompt(0, "MIT"), prompt(1, "MIT"), prompt(2, "")], "evaluation": [prompt(3, "MIT")]}
    rejects = [RejectCount("import", "duplicate_prompt", 2)]
    made = datasheet(
        used, [pair("p"), pair("q", is_tie=True), pair("q", "human", objective="harmlessness")], rejects, None
    )
    assert [(s.licence, s.origin, s.used_for, s.n_prompts, s.tags) for s in made.sources] == [
        ("", "o/a", "revisions", 1, (("x", 1),)),
        ("MIT", "", "revisions", 1, (("x", 1), ("y", 1))),
        ("MIT", "o/a", "revisions", 1, (("x", 1),)),
        ("MIT", "o/a", "evaluation", 1, (("x", 1),)),
    ]
    assert sources_in_words(used["revisions"][:2]) == (
        "1 of a.jsonl (MIT, no origin stated); 1 of a.jsonl (MIT, origin o/a)"
    )
    assert made.labels == (LabelCount("feedback model", "", 2, 1), LabelCount("people", "harmlessness", 1, 0))
    assert made.limits[0].startswith("No licence is stated for 1 of 4 prompts")
    assert made.limits[1].startswith("No origin is stated for 1 of 4 prompts")
    assert made.limits[2].startswith("2 of 6 rows were not imported")
    assert len(made.limits) == 3, "people labelled some"


def test_origins_that_each_row_states_anew_are_counted_together():
    rows = [Prompt.make([Message("user", str(n))], "a.jsonl", origin=f"o{min(n, 11) // 2 * 2:02}") for n in range(40)]
    rows += [Prompt.make([Message("user", f"x{n}")], "generated", origin=f"c{n}") for n in range(12)]
    sources = datasheet({"RL": rows}, [], [], None).sources
    assert [(s.name, s.origin, s.n_prompts) for s in sources if s.name == "a.jsonl"][-1] == ("a.jsonl", "o10", 30)
    written = [s for s in sources if s.name == "generated"]
    assert len(written) == 8 + 1 and written[0].origin == "4 others" and written[0].n_prompts == 4
