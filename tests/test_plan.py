"""`cai plan`: numbers worked by hand, and plans held against runs by the scripted engine."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tiny_model import save_tiny_model

from cai.cli.plan import plan as command
from cai.config import Profile, load_profile
from cai.constitution import Constitution, Principle
from cai.engines.base import Generation
from cai.engines.chat import ChatTokenizer
from cai.errors import EngineError
from cai.plan.campaign import again_and_kept
from cai.plan.given import Counters, Known, Sampled, Work
from cai.plan.lines import Line
from cai.plan.meter import Meter, PrefixCache, Usage
from cai.plan.predict import predict
from cai.plan.sources import Replies
from cai.plan.text import seconds_text
from cai.plan.tokens import Characters, Counting
from cai.records import Comparison, Message, Prompt, Response, Revision
from flows.plan_facts import facts
from flows.planning import Wish, block_of, counters_of, make_plan
from flows.runs import RunFolder, create_run
from flows.session import Session
from flows.steps import dispatch
from storage.store import Store

STAGES = ("critique", "preference")
KIND = Principle("kind", "", 1.0, (), STAGES, "Was it unkind?", "Make it kind.", "Which is kinder?")
QUESTION = """Here is a conversation, and two responses the assistant could give next.
{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}
Response A: {{ response_a }} Response B: {{ response_b }}
{{ preference }} Answer with the letter A or B alone."""
ONE = Constitution("one", "", (KIND,), templates={"comparison": QUESTION})
PROMPTS = [Prompt.make([Message("user", text)], "test") for text in ("help this please", "can I harm")]
SETTINGS = {
    "name": "tiny",
    "constitution": "unread.yaml",
    "engine": {"kind": "scripted"},
    "prompts": [{"path": "unread.txt"}],
    "chains": {"rounds": 1},
    "sft": None,
    "candidates": {"k": 2, "response": {"temperature": 1.2}},
    "feedback": {"self_test": False},
    "reward_model": {"epochs": 2, "batch_size": 1, "held_out": 0.5},
    "rl": {"steps": 2, "prompts_per_step": 3, "samples_per_prompt": 2, "max_tokens": 8},
}


def said(text: str) -> Generation:
    return Generation(text, "stop", 0, len(text.split()) + 1)  # and the token that ends the turn


CHAIN = [said("I can help"), said("yes bad"), said("I can not")]
REPLIES = Replies({"candidates": [said("I can help"), said("yes I can help")]}, [CHAIN])


@pytest.fixture(scope="module")
def counting(tmp_path_factory) -> Counting:
    return Counting(ChatTokenizer(save_tiny_model(tmp_path_factory.mktemp("tiny"), 0)), 256, "")


def planned(
    counting: Counting,
    *,
    block: int | None = None,
    n: int = 2,
    prompts: Sequence[Prompt] = PROMPTS,
    speeds: dict | None = None,
    replies: Replies = REPLIES,
    held_out: Sampled | None = None,
    **settings: object,
) -> dict[str, Line]:
    profile = Profile.model_validate(SETTINGS | settings)
    work = Work(Sampled(prompts, n), Sampled([], 0), held_out or Sampled([], 0))
    known = Known(replies, "", speeds or {}, "", {}, "", 1000)
    lines = asyncio.run(predict(profile, ONE, work, known, Counters(counting, (counting, counting)), block))
    return {line.stage: line for line in lines}


def costs(line: Line) -> tuple[float, float, float, float, float]:
    return line.n_asks, line.n_prompt_tokens, line.n_computed_tokens, line.n_tokens, line.n_rows


def test_two_prompts_cost_what_they_cost_by_hand(counting):
    """A turn is its words and two tokens around them, and the assistant's beginning is one more.

    prompt: 3 words + 2 + 1 = 6. Critique: 5 (the prompt) + 5 (the response) + 7 ("Critique request: Was it unkind?")
    + 1 = 18. Revision: 17 + 4 (the critique) + 12 (its request has 10 words) + 1 = 34. Comparison: 12 + 4 + (2 + 3) +
    (2 + 4) + 3 + 8 words in one turn, + 2 + 1 = 41; one principle, two orders, two prompts.
    """
    lines = planned(counting)
    assert costs(lines["responses"]) == (2, 12, 12, 8, 2)
    assert costs(lines["critiques"]) == (2, 36, 36, 6, 0)
    assert costs(lines["revisions"]) == (2, 68, 68, 8, 2)
    assert costs(lines["candidates"]) == (4, 24, 24, 18, 4)
    assert costs(lines["labels"]) == (4, 164, 164, 4, 4)
    assert costs(lines["preferences"]) == (0, 0, 0, 0, 2)
    assert "SFT" not in lines and "evaluation" not in lines and "win rates" not in lines


def test_a_reply_that_the_chains_have_already_is_not_asked_for_again(counting):
    """Sampled like the chains' responses by the same model, the first candidate is the chain's own response. The other
    one is planned to differ from it, though it is the first that is known: on HH-RLHF a tenth of the pairs was missing.
    """
    lines = planned(counting, candidates={"k": 2})
    assert (lines["candidates"].n_asks, lines["candidates"].n_rows, lines["preferences"].n_rows) == (2, 2, 2)


def test_each_judge_of_a_committee_is_asked(counting):
    judges = [{"kind": "scripted", "model": name} for name in ("one", "other")]
    lines = planned(counting, feedback={"self_test": False, "judges": judges})
    assert costs(lines["labels"]) == (8, 328, 328, 8, 8)
    assert costs(planned(counting, feedback={"self_test": False})["labels"]) == (4, 164, 164, 4, 4)


def test_reasoning_is_an_ask_of_its_own(counting):
    """Each comparison is asked twice: for the reasoning, here as long as the known one, and for the letter."""
    thought = Replies({**REPLIES.pools, "labels": [said("help is kind")]}, [CHAIN])
    lines = planned(counting, feedback={"self_test": False, "reasoning": {}}, replies=thought)
    assert (lines["labels"].n_asks, lines["labels"].n_rows) == (8, 4)
    assert lines["labels"].n_tokens == 4 * (4 + 1)


def test_the_self_test_costs_the_same_for_any_number_of_prompts(counting):
    few, many = planned(counting, feedback={}), planned(counting, n=200, feedback={})
    assert costs(few["self-test"]) == costs(many["self-test"])
    assert few["self-test"].n_asks > 0


def test_each_model_is_marked_on_the_first_held_out_prompts(counting):
    lines = planned(counting, held_out=Sampled(PROMPTS, 10), evaluation={"harm_scale_prompts": 5})
    n_models = 2  # the seed model and the policy
    assert (lines["harm scale"].n_asks, lines["harm scale"].n_rows) == (5 * n_models, 5 * n_models)
    none = planned(counting, held_out=Sampled(PROMPTS, 10), evaluation={"harm_scale_prompts": 0})
    assert "harm scale" not in none


def test_the_shards_of_a_ray_cluster_go_side_by_side(counting):
    """Five prompts in shards of one: two workers do three, one after the other. Evaluation has one engine."""
    speeds, held_out = {"responses": 10.0, "labels": 10.0, "evaluation": 10.0}, Sampled(PROMPTS, 5)
    alone = planned(counting, n=5, speeds=speeds, held_out=held_out)
    ray = {"workers": 2, "shard": 1}
    lines = planned(counting, n=5, speeds=speeds, held_out=held_out, ray=ray)
    for stage in ("responses", "labels"):
        assert lines[stage].seconds == pytest.approx(alone[stage].seconds * 3 / 5)
        assert lines[stage].n_asks == alone[stage].n_asks
    assert lines["evaluation"].seconds == alone["evaluation"].seconds
    assert planned(counting, n=5, speeds=speeds, ray=ray | {"shard": 9})["labels"].seconds == alone["labels"].seconds


def test_replies_of_no_use_are_asked_for_again_so_often_and_no_more():
    assert again_and_kept(None, 3) == (1.0, 1.0) == again_and_kept(1.0, 3)
    assert again_and_kept(0.5, 3) == (1 + 0.5 + 0.25, 0.875)
    assert again_and_kept(0.0, 3) == (3.0, 0.0)


def test_training_is_counted_in_rows_tokens_and_steps(counting):
    """A candidate has 4.5 tokens on average, so a pair 2 × (6 + 4.5) = 21; one of two pairs is held out; two epochs."""
    lines = planned(counting)
    reward_model, rl = lines["reward model"], lines["RL"]
    assert (reward_model.n_rows, reward_model.n_trained_tokens, reward_model.n_steps) == (1, 42, 2)
    assert costs(rl) == (12, 72, 72, 54, 12)
    assert rl.n_steps == 2
    assert reward_model.n_bytes == 1000 and rl.n_bytes > 1000
    twice = planned(counting, rounds=2, ensemble=3)
    assert (twice["reward model"].n_trained_tokens, twice["RL"].n_asks) == (6 * 42, 24)
    assert twice["labels"].n_asks == 8 and twice["responses"].n_asks == 2


def test_sft_trains_on_the_revisions_and_its_model_speaks_like_them(counting):
    """A revision has 4 tokens after a prompt's 6. All known revisions say the same, so no pair differs."""
    sft = {"epochs": 3, "batch_size": 1, "rounds": "last"}
    revised = Replies({"last revisions": [said("I can not"), said("no")]}, [CHAIN])
    lines = planned(counting, sft=sft, replies=revised)
    assert lines["candidates"].n_tokens == 2 * (4 + 2)
    assert (lines["SFT"].n_rows, lines["SFT"].n_steps) == (2, 6)
    assert lines["SFT"].n_trained_tokens == 3 * 2 * (6 + 3)


def test_shared_beginnings_are_computed_once_in_whole_blocks(counting):
    """Blocks of 4. A critique's ask begins with its response's 6 tokens and the 3 said: 8 of them are found, 10 are
    computed. A revision's begins with 18 + 2: all five blocks are found, 14 are computed. The second prompt differs in
    its first block. Its second candidate finds one block of four; of a comparison, what is asked again is asked of
    the other order: they share role, 12 + 4 words, "Response A:", and the "I can help" or "yes" that tells them apart.
    """
    lines = planned(counting, block=4)
    assert lines["responses"].n_computed_tokens == 12
    assert lines["critiques"].n_computed_tokens == 20
    assert lines["revisions"].n_computed_tokens == 28
    assert lines["candidates"].n_computed_tokens == 2 * (6 + 2)
    assert lines["labels"].n_prompt_tokens == 164
    first_of_all, other_order, second_prompt = 41, 41 - 16, 41 - 12
    assert lines["labels"].n_computed_tokens == first_of_all + second_prompt + 2 * other_order


def test_a_cache_finds_whole_blocks_and_never_the_last_token():
    cache = PrefixCache(4)
    assert cache.computed([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 9
    cache.keep([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert cache.computed([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 1
    assert cache.computed([1, 2, 3, 4, 5, 6, 7, 8]) == 4  # something has to be computed
    assert cache.computed([1, 2, 3, 4, 0, 6, 7, 8, 9]) == 5
    assert cache.computed([0, 2, 3, 4, 5, 6, 7, 8, 9]) == 9
    assert PrefixCache(None).computed([1, 2, 3]) == 3


def test_what_all_prompts_share_is_not_scaled_up():
    meter = Meter(lambda stage, messages: stage)
    for part, computed in enumerate((100, 10)):
        meter.part = part
        meter.add("labels", Usage(1, 100, computed, 5), None)
    assert meter.usage("labels", 10, 2) == Usage(10, 1000, 100 + 9 * 10, 50)
    assert meter.usage("labels", 2, 2) == Usage(2, 200, 110, 10)
    assert meter.usage("labels", 0, 2) == Usage()


def test_a_sample_stands_for_all(counting):
    some, every = planned(counting, n=20), planned(counting)
    assert costs(some["labels"]) == tuple(10 * cost for cost in costs(every["labels"]))
    assert costs(some["revisions"]) == tuple(10 * cost for cost in costs(every["revisions"]))
    assert some["preferences"].n_rows == 20


def test_a_prompt_that_does_not_fit_is_not_planned_to_be_asked(counting):
    """250 words fit a context of 256; with a response of three and the critique's request they do not."""
    long = Prompt.make([Message("user", "harm " * 250)], "test")
    lines = planned(counting, prompts=[*PROMPTS, long], n=3)
    assert (lines["responses"].n_asks, lines["critiques"].n_asks, lines["labels"].n_asks) == (3, 2, 4)


def test_a_chain_that_said_nothing_ends_in_the_plan_too(counting):
    silent = Replies(REPLIES.pools, [[said("I can help"), said("yes bad")]])
    lines = planned(counting, replies=silent)
    assert (lines["critiques"].n_asks, lines["revisions"].n_asks, lines["revisions"].n_rows) == (2, 2, 0)


def test_time_is_tokens_by_speed_and_unknown_without(counting):
    lines = planned(counting, speeds={"labels": 84.0})
    assert lines["labels"].seconds == 2.0
    assert lines["responses"].seconds is None and seconds_text(lines["responses"].seconds) == "unknown"
    assert [seconds_text(s) for s in (0, 0.4, 59.6, 3600 + 125)] == ["0 s", "<1 s", "1 min 00 s", "1 h 02 min"]


def test_without_a_tokenizer_four_characters_are_a_token():
    assert len(Characters().encode("twelve chars")) == 3
    assert len(Characters().prompt([Message("user", "hi")], 100)) == -(-len("user: hi\nassistant: ") // 4)


# --- held against runs ------------------------------------------------------------------------------------------------


def write_profile(folder: Path, n: int = 12, name: str = "small", **engine: object) -> Path:
    asks = "critique: Was it unkind, revision: Be kind., preference: Which is kinder"
    stages = "stages: [critique, preference]"
    principles = [f"  - {{id: {i}, title: {i}, {stages}, {asks}}}\n" for i in ("kind", "safe")]
    (folder / "constitution.yaml").write_text(f"name: small\nprinciples:\n{''.join(principles)}")
    (folder / f"{name}.txt").write_text("".join(f"how {'so ' * (i % 5)}do i do {name} {i}\n" for i in range(n)))
    body = {
        "name": name,
        "constitution": str(folder / "constitution.yaml"),
        "engine": {"kind": "scripted", "model": "scripted", "max_concurrency": 8} | engine,
        "prompts": [{"path": str(folder / f"{name}.txt")}],
        "chains": {"rounds": 2},
        "sft": None,
        "candidates": {"k": 2, "response": {"temperature": 1.2}},
        "feedback": {"self_test": False},  # an engine that answers by digest would fail it
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(body))
    return folder / f"{name}.yaml"


async def run_to_preferences(profile: Profile, home: Path) -> RunFolder:
    run = create_run(profile, home)
    session = Session(run)
    for name, asked in (
        ("prompts", {}),
        ("chains-0", {"shard": 0}),
        ("sft_set", {}),
        ("candidates-0", {"shard": 0, "model": "scripted"}),
        ("labels-0", {"shard": 0}),
        ("preferences", {}),
    ):
        result = await dispatch(session, {"step": name.removesuffix("-0"), **asked})
        run.finish(name, result | {"seconds": 2.0})
    await session.engines.close()
    return run


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> RunFolder:
    """A run of twelve prompts to preference pairs, each step of two seconds; its profile lies beside its home."""
    folder = tmp_path_factory.mktemp("ran")
    return asyncio.run(run_to_preferences(load_profile(write_profile(folder)), folder / "home"))


def became(run: RunFolder) -> dict[str, Line]:
    found = facts(run, Store(run.home), counters_of(run.profile), block_of(run.profile.engine))
    return {line.stage: line for line in asyncio.run(found)}


def test_the_facts_of_a_run_are_those_of_its_tables_and_results(ran):
    lines, store = became(ran), Store(ran.home)
    responses, revisions = store.read(Response), store.read(Revision)
    assert ran.result("chains-0")["n_requests"] == sum(lines[s].n_asks for s in ("responses", "critiques", "revisions"))
    assert lines["labels"].n_asks == ran.result("labels-0")["n_requests"] == len(store.read(Comparison))
    assert lines["candidates"].n_asks == ran.result("candidates-0")["n_in"] == 24
    initial = [row for row in responses if row.stage == "initial"]
    assert lines["responses"].n_tokens == sum(row.n_tokens for row in initial)
    assert lines["revisions"].n_prompt_tokens == sum(row.n_prompt_tokens for row in revisions)
    assert lines["revisions"].n_computed_tokens == lines["revisions"].n_prompt_tokens  # rendered anew, and the same
    assert sum(lines[s].seconds for s in ("responses", "critiques", "revisions")) == pytest.approx(2.0)


def test_a_probe_of_every_prompt_plans_what_then_happens(ran, tmp_path):
    plan = asyncio.run(make_plan(ran.profile, tmp_path / "home", wish=Wish(n_probe=12)))
    assert not (tmp_path / "home").exists()
    facts = became(ran)
    for line in plan.lines:
        if line.stage in facts:
            assert costs(line) == pytest.approx(costs(facts[line.stage]), rel=0.05), line.stage


def test_an_earlier_run_is_asked_before_the_engine(ran, tmp_path):
    """How long replies are, and how fast, is known from the run of other prompts; no run is planned from itself."""
    other = load_profile(write_profile(tmp_path, 30, "other"))
    plan = asyncio.run(make_plan(other, ran.home, wish=Wish()))
    assert ran.run_id in "".join(plan.assumptions) and "probe" not in "".join(plan.assumptions)
    lines = {line.stage: line for line in plan.lines}
    assert lines["labels"].n_asks == 30 * 2 * 2
    assert lines["labels"].seconds == pytest.approx(2.0 * 30 / 12, rel=0.1)
    unseen = asyncio.run(make_plan(ran.profile, ran.home, wish=Wish(0)))
    assert "nothing is known" in "".join(unseen.assumptions)


def test_a_probe_that_cannot_ask_says_how_to_plan_without(tmp_path):
    made = load_profile(write_profile(tmp_path, kind="openai", base_url="http://127.0.0.1:9/v1", tries=1))
    with pytest.raises(EngineError, match="--probe 0"):
        asyncio.run(make_plan(made, tmp_path / "home", wish=Wish()))
    plan = asyncio.run(make_plan(made, tmp_path / "home", wish=Wish(0, tokens_per_second=100.0)))
    lines = {line.stage: line for line in plan.lines}
    assert any("characters / 4" in said for said in plan.assumptions)
    assert lines["labels"].seconds == pytest.approx(lines["labels"].n_worked_tokens / 100)


def test_the_command_plans_keeps_the_plan_and_compares_it(ran):
    home, path, ask = ran.home, ran.home.parent / "small.yaml", CliRunner().invoke
    unplanned = ask(command, ["--run", ran.run_id, "--home", str(home)])
    assert unplanned.exit_code == 0 and "without a look at that run" in unplanned.stderr
    shown = ask(command, [str(path), "--home", str(home), "--format", "json"])
    assert shown.exit_code == 0, shown.output
    body = json.loads(shown.stdout)
    assert body["run_id"] == ran.run_id
    assert body["total"]["n_asks"] == sum(line["n_asks"] for line in body["lines"])
    compared = ask(command, ["--run", ran.run_id, "--home", str(home)])
    assert compared.exit_code == 0 and "was kept" not in compared.stderr
    labels = next(line for line in compared.stdout.splitlines() if line.startswith("labels")).split()
    assert labels[1:4] == ["48", "48", "+0.0%"]
    assert "no fact yet: reward model, RL" in compared.stdout


def test_the_command_wants_a_profile_or_a_run_not_both(tmp_path):
    for arguments in ([], [str(write_profile(tmp_path)), "--run", "x"]):
        assert CliRunner().invoke(command, arguments).exit_code == 2


def test_an_option_that_changes_nothing_is_refused_and_named(tmp_path):
    """They were ignored, and the plan was of something else than was asked for."""
    path, home = str(write_profile(tmp_path)), ["--home", str(tmp_path / "home")]
    typed = ["--constitution", "c.yaml", "--prompts", "p.txt", "--limit", "3", "--without", "theft", "--probe", "16"]
    refused = CliRunner().invoke(command, [path, "--generate", *typed, *home])
    assert refused.exit_code == 2
    for name in typed[::2]:
        assert name in refused.output
    refused = CliRunner().invoke(command, ["--run", "small-0123456789", "--generate", "--limit", "3", *home])
    assert refused.exit_code == 2 and "nothing comes of --generate, --limit beside --run" in refused.output
    assert "--probe" not in refused.output and "--prompts" not in refused.output
