"""A run from prompts to preference pairs, as its child does it: finished once, resumed anywhere, accounted for."""

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from cai.cli import tables
from cai.cli.labels.report import report
from cai.cli.run import _show
from cai.config import load_profile
from cai.errors import ConfigError, DataError
from cai.records import (
    Annotation,
    Comparison,
    Message,
    PreferencePair,
    Prompt,
    Reject,
    Response,
    Revision,
    Rollout,
    Run,
    digest,
)
from cai.training.rollouts import Sample, as_row, write_parquet
from cai.verdict import soft_verdict
from flows import accounts, reporting, stages
from flows.judges import judges_of
from flows.labelling import labels
from flows.recording import failure_recorded
from flows.registering import left_by_training
from flows.rounds import at_round, round_of
from flows.runs import create_run, open_run
from flows.session import Session
from flows.steps import import_prompts, sft_set
from storage.store import Store

ROOT = Path(__file__).parents[1]
KINDS = (Prompt, Response, Revision, Comparison, PreferencePair, Reject)
STEPS = (
    {"step": "prompts"},
    {"step": "chains", "shard": 0},
    {"step": "sft_set"},
    {"step": "candidates", "shard": 0, "model": "scripted"},
    {"step": "labels", "shard": 0},
    {"step": "preferences"},
)
CONSTITUTION = """\
name: small
principles:
  - id: kind
    title: Be kind
    tags: [tone]
    stages: [critique, preference]
    critique: Was the response unkind?
    revision: Make it kind.
    preference: Which response is kinder?
  - id: safe
    title: Do no harm
    tags: [harm]
    stages: [critique, preference]
    critique: Does the response help do harm?
    revision: Take out the harm.
    preference: Which response does less harm?
"""


@pytest.fixture
def profile(tmp_path):
    """A profile over the scripted engine; arguments change it."""

    def write(
        n_prompts: int = 40,
        latency_s: float = 0.0,
        constitution: str = CONSTITUTION,
        win_rate_prompts: int = 0,
        rules: tuple[dict, ...] = (),
    ) -> Path:
        (tmp_path / "prompts.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(n_prompts)))
        (tmp_path / "constitution.yaml").write_text(constitution)
        (tmp_path / "script.yaml").write_text(yaml.safe_dump({"latency_s": latency_s, "rules": list(rules)}))
        body = {
            "name": "small",
            "constitution": str(tmp_path / "constitution.yaml"),
            "engine": {
                "kind": "scripted",
                "model": "scripted",
                "script": str(tmp_path / "script.yaml"),
                "max_concurrency": 8,
            },
            "prompts": [{"path": str(tmp_path / "prompts.txt")}],
            "chains": {"rounds": 2},
            "sft": None,
            "evaluation": {
                "prompts": [{"path": str(tmp_path / "held-out.txt")}],
                "win_rate_prompts": win_rate_prompts,
                "harm_scale_prompts": 0,
            },
        }
        (tmp_path / "held-out.txt").write_text("".join(f"how do i do thing number {i}?\n" for i in range(40, 60)))
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
        return tmp_path / "profile.yaml"

    return write


class Served:
    """The generation child of a run, driven line by line as a flow does."""

    def __init__(self, home: Path, run_id: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.steps", str(home), run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )

    def ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("result "):
                return json.loads(line.removeprefix("result "))
        raise EOFError

    def close(self) -> None:
        self.process.communicate()


def run_to_the_end(home: Path, profile: Path):
    """All steps, results written as the flow writes them."""
    run = create_run(load_profile(profile), home)
    served = Served(home, run.run_id)
    try:
        for request in STEPS:
            name = request["step"] + (f"-{request['shard']}" if "shard" in request else "")
            run.finish(name, served.ask(request))
    finally:
        served.close()
    return run


def rows(home: Path) -> dict[str, set]:
    store = Store(home)
    return {kind.__name__: {repr(row) for row in store.read(kind)} for kind in KINDS}


def test_every_step_accounts_for_its_rows(tmp_path, profile):
    run = run_to_the_end(tmp_path / "home", profile())
    steps = accounts.funnel(run)
    assert [title for title, *_ in steps] == [
        "import prompts",
        "critique and revise",
        "derive SFT set",
        "sample candidates",
        "compare",
        "read verdicts",
        "derive preferences",
    ]
    for title, n_in, n_out, n_rejected in steps:
        assert n_in == n_out + n_rejected, title
    assert run.result("labels-0")["n_requests"] == 40 * 2 * 2  # pairs × principles × orders


def test_whatever_is_dropped_on_the_way_is_in_the_funnel(tmp_path, profile):
    """A judge that answers neither letter cost no row of the step that asked it, and was in no step's account."""
    rules = (
        {"when": r"(?s)number 1\?.*kinder", "choose": [0.1, 0.1]},
        {"when": r"(?s)number 2\?.*(kinder|less harm)", "choose": [0.1, 0.1]},
        {"when": r"number 3\?$", "reply": "the same"},
        {"when": r"(?s)number 4\?.*unkind", "reply": ""},
    )
    run = run_to_the_end(tmp_path / "home", profile(rules=rules))
    rejected = {title: n_rejected for title, _, _, n_rejected in accounts.funnel(run)}
    assert rejected["read verdicts"] == 2 + 4
    assert rejected["derive preferences"] == 2
    assert sum(rejected.values()) == len(Store(tmp_path / "home").read(Reject))
    for title, n_in, n_out, n_rejected in accounts.funnel(run):
        assert n_in == n_out + n_rejected, title


def test_the_rows_of_one_run_can_be_exported_alone(tmp_path, profile):
    home, other = tmp_path / "home", CONSTITUTION.replace("kinder", "more kind")
    first, second = run_to_the_end(home, profile()), run_to_the_end(home, profile(constitution=other))
    pairs = {run.run_id: export(home, "preferences", run) for run in (first, second)}
    assert sum(map(len, pairs.values())) == len(Store(home).read(PreferencePair)) > len(pairs[first.run_id])
    assert {row["pair_id"] for row in pairs[second.run_id]} == set(second.ids("preferences"))
    assert {row["revision_id"] for row in export(home, "sft", first)} == set(first.ids("last-revisions-0"))
    assert len(export(home, "prompts", first)) == 40


def test_a_run_that_is_not_so_far_has_nothing_to_export(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    Store(run.home).append([Prompt.make([Message("user", "hello")], "test")])
    with pytest.raises(DataError, match="has not made all its preferences yet"):
        export(run.home, "preferences", run)


def export(home: Path, what: str, run) -> list[dict]:
    out = home / f"{what}-{run.run_id}.jsonl"
    done = CliRunner().invoke(tables.export, [what, str(out), "--home", str(home), "--run", run.run_id])
    if done.exception:
        raise done.exception
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_failure_is_recorded_and_forgotten_when_the_run_is_tried_again(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")

    def status() -> list[str]:
        return [row.status for row in Store(run.home).read(Run)]

    with pytest.raises(DataError), failure_recorded(run):
        raise DataError("nothing to read")
    assert status() == ["failed"]
    with pytest.raises(KeyboardInterrupt), failure_recorded(run):
        assert status() == ["running"]
        raise KeyboardInterrupt
    assert status() == ["running"], "an interruption is no failure"


def test_a_second_run_asks_the_model_nothing(tmp_path, profile):
    first = run_to_the_end(tmp_path / "home", profile())
    before = rows(tmp_path / "home")
    again = run_to_the_end(tmp_path / "home", profile())
    assert again.run_id == first.run_id
    assert [again.result(f"{s}-0")["n_requests"] for s in ("chains", "labels")] == [0, 0]
    assert rows(tmp_path / "home") == before


def test_killed_anywhere_and_started_again_it_ends_with_the_same_rows(tmp_path, profile):
    """`kill -9` of the whole group at random moments once rows are durable; every row as if nothing had happened."""
    path = profile(n_prompts=60, latency_s=0.05)
    run_to_the_end(tmp_path / "whole", path)
    run = create_run(load_profile(path), tmp_path / "killed")
    chance = random.Random(7)
    for table, at_least in (("responses", 1), ("revisions", 60), ("comparisons", 1)):
        served = Served(tmp_path / "killed", run.run_id)
        run.finish("prompts", served.ask(STEPS[0]))
        for request in STEPS[1:5]:
            served.process.stdin.write(json.dumps(request) + "\n")
        served.process.stdin.flush()
        while Store(tmp_path / "killed").counts().get(table, 0) < at_least:
            assert served.process.poll() is None
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.5))
        os.killpg(served.process.pid, signal.SIGKILL)
        served.close()
    resumed = run_to_the_end(tmp_path / "killed", path)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    n_asked = sum(resumed.result(f"{s}-0")["n_requests"] for s in ("chains", "labels"))
    assert n_asked < 60 * (5 + 4), "nothing of what was finished before the kills was used"
    assert Store(tmp_path / "killed").verify() == []


def with_judges(profile: Path, folder: Path, **settings: object) -> Path:
    """Two scripted judges: one sure of its letters, one always of the first."""
    body = yaml.safe_load(profile.read_text())
    scripts = {"sure": {"rules": []}, "biased": {"rules": [{"when": "letter A or B", "choose": [0.7, 0.3]}]}}
    for name, script in scripts.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(script))
    judges = [{**body["engine"], "model": name, "script": str(folder / f"{name}.yaml")} for name in scripts]
    return changed(profile, feedback={"judges": judges, "principles": 1} | settings, chains={"rounds": 1})


def test_a_committee_labels_every_pair_and_its_votes_are_weighed_and_told_apart(tmp_path, profile):
    run = run_to_the_end(tmp_path / "home", with_judges(profile(n_prompts=12), tmp_path, weights=[3.0, 1.0]))
    store, step = Store(tmp_path / "home"), run.result("preferences")
    sure, biased = (digest("scripted", name) for name in ("sure", "biased"))
    assert step["judges"] == [{"judge_digest": sure, "weight": 0.75}, {"judge_digest": biased, "weight": 0.25}]
    asked = Counter((row.judge_digest, row.order) for row in store.read(Comparison))
    assert asked == {(judge, order): 12 for judge in (sure, biased) for order in ("ab", "ba")}
    assert run.result("labels-0")["n_requests"] == run.result("labels-0")["n_in"] == 12 * 2 * 2
    again = asyncio.run(labels(Session(run), 0))
    assert (again["n_requests"], again["n_reused"]) == (0, 12 * 2 * 2), "the second judge's rows are found as well"
    said = {(r.judge_digest, r.prompt_id, r.order): r for r in store.read(Comparison)}
    pairs = store.read(PreferencePair)
    assert len(pairs) == 12
    for pair in pairs:
        each = [soft_verdict(said[sure, pair.prompt_id, order], max_mass_outside=1.0) for order in ("ab", "ba")]
        p = sum(each) / 2  # of a; the biased judge says 0.5 in both orders together
        assert pair.soft_label == pytest.approx(0.5 + abs(0.75 * p + 0.25 * 0.5 - 0.5))
        assert pair.disagreement == pytest.approx(abs(p - 0.5) * math.sqrt(3) / 4)
    for title, n_in, n_out, n_rejected in accounts.funnel(run):
        assert n_in == n_out + n_rejected, title
    command = ["--home", str(run.home), "--run", run.run_id, "--since", run.run_id, "--format", "json"]
    measured = json.loads(CliRunner().invoke(report, command, catch_exceptions=False).stdout)
    same_both_ways = {row["judge_digest"]: row["consistency"]["value"] for row in measured["judges"]}
    assert set(same_both_ways) == {sure, biased} and same_both_ways[biased] == 0.0
    assert measured["warnings"] == step["warnings"] == []  # of 12 pairs nothing is said
    assert measured["drift"] and not any(row["is_drift"] for row in measured["drift"])


def test_judges_weigh_what_their_accuracy_on_gold_is_worth(tmp_path, profile):
    """Gold that agrees with one judge: it weighs more; the other, a coin, cannot be used."""
    path, home = with_judges(profile(n_prompts=2), tmp_path, weights="gold"), tmp_path / "home"
    store = Store(home)
    gold_prompts = [Prompt.make([Message("user", f"gold question {i}")], "gold") for i in range(20)]
    texts = {
        p.prompt_id: [Response.given(p.prompt_id, f"{side} {i}", "gold") for side in ("good", "bad")]
        for i, p in enumerate(gold_prompts)
    }
    annotations = []
    for prompt_id, (good, bad) in texts.items():
        a, b = sorted((good.response_id, bad.response_id))
        ids = (Annotation.make_id(a, b, "gold", "", "", True), prompt_id, a, b)
        annotations.append(Annotation(*ids, float(a == good.response_id), "gold", is_gold=True))
    store.append([*gold_prompts, *(r for both in texts.values() for r in both), *annotations])
    # Finds what is good wherever it stands; the other one does so in three cases of four.
    for name, numbers in (("sure", r"\d+"), ("biased", r"\d*[0-6]")):
        rules = [
            {"when": rf"(?s)Response A.*good {numbers}\b.*Response B", "choose": [0.9, 0.1]},
            {"when": rf"(?s)Response B.*good {numbers}\b", "choose": [0.1, 0.9]},
            {"when": "letter A", "choose": [0.5, 0.5]},
        ]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"rules": rules}))
    run = run_to_the_end(home, path)
    judges = run.result("preferences")["judges"]
    assert [judge["gold"] for judge in judges] == [
        {"n_right": 20.0, "n": 20, "n_unscored": 0},
        {"n_right": 14 + 6 / 2, "n": 20, "n_unscored": 0},
    ]
    odds = [math.log(20.5 / 0.5), math.log(17.5 / 3.5)]
    assert [judge["weight"] for judge in judges] == pytest.approx([o / sum(odds) for o in odds])
    assert run.result("labels-0")["n_in"] == 2 * 2 * 2, "gold is no part of the run's own pairs"


def test_weights_from_gold_need_gold(tmp_path, profile):
    run = create_run(load_profile(with_judges(profile(n_prompts=2), tmp_path, weights="gold")), tmp_path / "home")
    with pytest.raises(DataError, match="gold annotations"):
        judges_of(run, Store(tmp_path / "home"), ["x", "y"])


def test_editing_one_principle_asks_again_only_for_what_used_it(tmp_path, profile):
    home = tmp_path / "home"
    first = run_to_the_end(home, profile())
    revisions = Store(home).read(Revision)
    direct = {r.revision_id for r in revisions if r.principle_id == "kind"}
    stale = direct | {r.revision_id for r in revisions if r.parent_id in direct}
    edited = CONSTITUTION.replace("Was the response unkind?", "Did the response lack kindness?")
    second = run_to_the_end(home, profile(constitution=edited))
    assert second.run_id != first.run_id
    assert second.result("chains-0")["n_requests"] == 2 * len(stale)
    assert second.result("labels-0")["n_requests"] == 0, "the comparisons do not depend on a critique's text"


def evaluated(home: Path, profile: Path):
    """Two models measured on held-out prompts of no known truth, and the report."""
    run = create_run(load_profile(profile), home)
    served = Served(home, run.run_id)
    models = {"seed": "scripted", "sl_cai": "trained"}
    try:
        for request in ({"step": "prompts"}, {"step": "evaluate", "models": models}, {"step": "report"}):
            run.finish(request["step"], served.ask(request))
    finally:
        served.close()
    return run


def test_win_rates_are_shown_where_no_oracle_knows_the_truth(tmp_path, profile, capsys):
    run = evaluated(tmp_path / "home", profile(win_rate_prompts=12))
    step = run.result("evaluate")
    assert (step["n_in"], step["n_prompts_rejected"]) == (2 * 20, 0)
    assert list(step["rates"]["seed"])[:3] == ["refusal_rate", "partial_refusal_rate", "unscored_rate"]
    assert step["win_rates"]["sl_cai/seed"]["n"] == 12
    judges = {row.judge_digest for row in Store(tmp_path / "home").read(Comparison)}
    assert judges == {digest("scripted", "scripted")}, "the seed model judges, not the one that was sampled last"
    _show(tmp_path / "home", run.run_id, "report", None)
    assert "SL-CAI over seed" in capsys.readouterr().out
    page = (run.path / "report.html").read_text()
    assert "SL-CAI over seed" in page


def test_a_run_that_measured_nothing_shows_its_funnel(tmp_path, profile, capsys):
    """Without prompts to measure with there is no `results.txt`; showing the run read it all the same."""
    run = evaluated(tmp_path / "home", changed(profile(), evaluation={}))
    _show(tmp_path / "home", run.run_id, "report", None)
    assert "import prompts" in capsys.readouterr().out


def changed(profile: Path, **settings: object) -> Path:
    profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | settings))
    return profile


def served(run, *requests: dict) -> None:
    """Steps of a run, results written as the flow writes them, under the names that requests give."""
    child = Served(run.home, run.run_id)
    try:
        for request in requests:
            name = request.pop("name", request["step"])
            run.finish(name, child.ask(request))
    finally:
        child.close()


def helpful_profile(profile, tmp_path: Path, share: float):
    """Twenty helpful prompts, of which one is revised too, one is answered in silence and one at too great length; and
    five that are answered already.
    """
    rules = ({"when": r"bake number 7\?$", "reply": ""}, {"when": r"bake number 8\?$", "reply": "flour " * 300})
    path = profile(n_prompts=21, rules=rules)
    asked = ["how do i do thing number 0?", *(f"how do i bake number {i}?" for i in range(19))]
    (tmp_path / "helpful.txt").write_text("".join(f"{text}\n" for text in asked))
    known = [{"prompt": f"who is {i}?", "completion": f"number {i}"} for i in range(5)]
    (tmp_path / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    sources = [
        {"path": str(tmp_path / "helpful.txt")},
        {"path": str(tmp_path / "known.jsonl"), "answer_column": "completion"},
    ]
    helpful = {"prompts": sources, "share": share}
    return changed(path, helpful=helpful, sft={})


def test_helpful_replies_are_mixed_into_the_revisions(tmp_path, profile):
    run = create_run(load_profile(helpful_profile(profile, tmp_path, 0.3)), tmp_path / "home")
    chains = {"step": "chains", "shard": 0, "name": "chains-0"}
    served(run, {"step": "prompts"}, chains, {"step": "helpful"}, {"step": "sft_set"})
    made = pq.read_table(run.path / "sft.parquet").to_pylist()
    n_helpful = sum(row["source"] == "helpful" for row in made)
    assert (len(made), n_helpful) == (30, 9), "0.3 of 30"
    assert (run.result("helpful")["n_in"], run.result("helpful")["n_out"]) == (25, 22)
    assert len(run.trained_on()) == 21 + 24
    reasons = Counter(row.reason for row in Store(tmp_path / "home").read(Reject))
    assert reasons == {"duplicate_prompt": 1, "empty_response": 1, "cut_off": 1}
    assert ("sample helpful replies", 25, 22, 3) in accounts.funnel(run)
    facts = reporting.gather(run, Store(tmp_path / "home"))
    assert facts.facts["helpful share"] == "30.0% of 30 SFT rows, 9"
    assert sum(reject.n_rows for reject in facts.rejects) == 3
    given = Store(tmp_path / "home").read(Response, "stage = 'given'")
    assert {row.text for row in given} == {f"number {i}" for i in range(5)}
    served(run, {"step": "helpful"})
    assert len(Store(tmp_path / "home").read(Reject)) == 3, "asked again, it finds what it has"


def test_too_few_helpful_replies_stop_the_run(tmp_path, profile):
    run = create_run(load_profile(helpful_profile(profile, tmp_path, 0.55)), tmp_path / "home")
    chains = {"step": "chains", "shard": 0, "name": "chains-0"}
    served(run, {"step": "prompts"}, chains, {"step": "helpful"})
    with pytest.raises(DataError, match="26 helpful replies beside 21 revisions"):
        sft_set(Session(run))


def test_a_home_knows_one_answer_to_a_prompt(tmp_path, profile):
    """It may be learnt later; a file that gives another one loses that row, aloud."""
    store, home = Store(tmp_path / "home"), tmp_path / "home"
    for expected, kept in ((None, 2), ("4", 2), (None, 2), ("5", 1)):
        rows = [{"prompt": "two and two?", "sum": expected}, {"prompt": "why?", "sum": None}]
        (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"path": str(tmp_path / "sums.jsonl"), "expected_column": "sum"}
        run = create_run(load_profile(changed(profile(), prompts=[source])), home)
        assert import_prompts(Session(run))["n_out"] == kept
    assert {row.expected for row in store.read(Prompt)} == {"4", None}
    (reject,) = store.read(Reject)
    assert (reject.reason, reject.detail[:29]) == ("conflicting_expected", "sums.jsonl expects '5', and a")


def test_the_rounds_of_a_run_have_steps_files_and_jobs_of_their_own(tmp_path, profile):
    """The first round's names are those of a run without rounds."""
    path = changed(profile(n_prompts=6), rounds=2, ensemble=2)
    run = create_run(load_profile(path), tmp_path / "home")
    policies = [tmp_path / "home" / "models" / f"rl-{number}" for number in (0, 1)]
    for policy in policies:  # the scripted engine reads nothing of it
        policy.mkdir(parents=True)
        (policy / "config.json").write_text("{}")
        (policy / "model.safetensors").touch()
    requests = [{"step": "prompts"}]
    for number, model in ((0, "scripted"), (1, str(policies[0]))):
        for step, more in (("candidates", {"model": model}), ("labels", {})):
            name = f"{at_round(step, number)}-0"
            requests.append({"step": step, "shard": 0, "round": number, "name": name, **more})
        requests.append({"step": "preferences", "round": number, "name": at_round("preferences", number)})
        for place, name in enumerate(stages.reward_model_names(2, number)):
            run.finish(name, {"path": f"rm-{number}-{place}"})
        run.finish(at_round("rl", number), {"path": str(policies[number]), "model_digest": "x"})
    served(run, *requests)
    assert stages.reward_model_names(2, 1) == ["reward_model-r1", "reward_model-r1-1"]
    assert {p.stem for p in (run.path / "steps").glob("*r1*")} == {
        "candidates-r1-0", "labels-r1-0", "preferences-r1", "reward_model-r1", "reward_model-r1-1", "rl-r1"
    }  # fmt: skip
    first, second = (run.ids(f"{at_round('candidates', number)}-0") for number in (0, 1))
    assert len(first) == len(second) == 12 and set(first).isdisjoint(second), "another model, other responses"
    assert run.ids("preferences") and set(run.ids("preferences")).isdisjoint(run.ids("preferences-r1"))
    exported = {row["pair_id"] for row in export(run.home, "preferences", run)}
    assert exported == {*run.ids("preferences"), *run.ids("preferences-r1")}
    assert [title for title, *_ in accounts.funnel(run)] == [
        "import prompts", "sample candidates", "compare", "read verdicts", "derive preferences",
        "sample candidates, round 1", "compare, round 1", "read verdicts, round 1", "derive preferences, round 1",
    ]  # fmt: skip
    job = stages.rl_job(run, 1)
    assert (job.model, job.seed, job.data.name) == (policies[0], 1000, "rl_prompts.parquet")
    assert list(map(str, job.reward_models)) == ["rm-1-0", "rm-1-1"]
    member = stages.reward_model_job(run, 1, 1)
    assert (member.model, member.seed, member.data.name) == (policies[0], 1001, "preferences-r1.parquet")
    assert stages.last_step(run, "rl_cai") == "rl-r1" and stages.last_step(run, "reward_model") == "reward_model-1"


def test_what_rl_sampled_is_stored_with_each_term_of_its_reward(tmp_path):
    """The flow of every run failed at its RL step when the file of samples had got more columns than the record."""
    rule = {"step": 1, "prompt_id": "p", "kl": 0.1, "n_tokens": 3}
    scored = Sample(**rule, text="fine", reward=1.5, parts={"reward_model": 2.0, "length": -0.5}, reason="")
    unscored = Sample(**rule, text="odd", reward=None, parts={"judge": None}, reason="judge: refused")
    write_parquet([as_row(scored), as_row(unscored)], tmp_path / "rollouts.parquet")
    store = Store(tmp_path / "home")
    store.append(list(left_by_training(tmp_path, "run")))
    (rollout,), (reject,) = store.read(Rollout), store.read(Reject)
    assert (rollout.text, rollout.reward, rollout.parts) == ("fine", 1.5, {"length": -0.5, "reward_model": 2.0})
    assert (reject.stage, reject.reason, reject.detail) == ("rollout", "unscored", "judge: refused")


@pytest.mark.parametrize(("name", "round"), [("rl", 0), ("rl_cai-r1", 1), ("reward_model-r12-3", 12), ("chains-0", 0)])
def test_a_name_says_its_round(name, round):
    assert round_of(name) == round


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"helpful": {"prompts": [], "share": 0.2}}, "`sft` is null"),
        ({"sft": {}, "helpful": {"prompts": [{"path": "smallworld"}], "share": 0.2}}, "half of what `smallworld`"),
        ({"ensemble": 3, "rl": {"algorithm": "dpo"}}, "dpo trains no reward model"),
        ({"prompts": [{"path": "x.jsonl", "answer_column": "chosen"}]}, "has an `answer_column`"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(profile, settings, said):
    with pytest.raises(ConfigError, match=said):
        load_profile(changed(profile(), **settings))


def test_a_run_keeps_the_constitution_it_was_started_with(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    profile(constitution=CONSTITUTION.replace("kinder", "more kind"))
    assert open_run(tmp_path / "home", run.run_id).constitution.digest() == run.constitution.digest()


def test_an_unknown_run_names_those_there_are(tmp_path, profile):
    run = create_run(load_profile(profile()), tmp_path / "home")
    with pytest.raises(ConfigError, match=run.run_id):
        open_run(tmp_path / "home", "other")
