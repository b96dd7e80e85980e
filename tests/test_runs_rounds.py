"""A run of several rounds of RL: steps, files and jobs of their own."""

from functools import partial

import pytest
from scripted_run import changed, export, serve, write_profile

from cai.config import load_profile
from flows import accounts, stages
from flows.rounds import at_round, round_of
from flows.runs import create_run


@pytest.fixture
def profile(tmp_path):
    return partial(write_profile, tmp_path)


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
    serve(run, *requests)
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


@pytest.mark.parametrize(("name", "round"), [("rl", 0), ("rl_cai-r1", 1), ("reward_model-r12-3", 12), ("chains-0", 0)])
def test_a_name_says_its_round(name, round):
    assert round_of(name) == round
