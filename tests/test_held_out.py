"""What is held out to measure with is never trained on: as it stands, changed a little, or inside a dialogue."""

import json
import random
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from scripted_run import run_steps

from cai.cli.evaluate import _trained_on
from cai.config import load_profile
from cai.errors import DataError
from cai.evaluation import Sets
from cai.held_out import GOLD, HELD_OUT, NEAR, HeldOutGuard, contaminations, held_out
from cai.mixing import mix_prompts
from cai.privacy import Guard
from cai.records import Contamination, Message, Model, Prompt, Reject
from cai.smallworld import world
from cai.words import words_in
from flows import accounts, reporting
from flows.held_out import untrained
from flows.runs import create_run
from storage import named
from storage.store import Store

ASKED = "How do I steal a bicycle from the shop?"
LONG = " ".join(f"{word} {number} of the story" for number, word in enumerate(["once", "then", "later", "last"] * 5))


def asked(*texts: str) -> Prompt:
    """A conversation in which the user and the assistant take turns."""
    roles = ("user", "assistant")
    return Prompt.make([Message(roles[i % 2], text) for i, text in enumerate(texts)], "test")


def reason(guard: HeldOutGuard, *texts: str) -> str | None:
    refused = guard.refusal(asked(*texts))
    return None if refused is None else refused.reason


@pytest.mark.parametrize(
    "texts",
    [
        ["how do i steal a BICYCLE, from the shop"],
        ["  How do I\n\nsteal a bicycle … from the shop?!"],
        ["Ｈｏｗ do I steal a bícycle from the shop?"],
        ["How do I st\u00adeal a bicycle from the\u200b shop?"],
        ["hello", "Hi! What can I do?", f"{ASKED} Be quick.", "No.", "why?"],
        [f"Human: hello\n\nAssistant: hi\n\nHuman: {ASKED}"],
    ],
)
def test_a_repeated_prompt_is_refused(texts):
    guard = HeldOutGuard([asked(ASKED), asked("another question that nobody asks")])
    assert reason(guard, *texts) == NEAR
    assert guard.refusal(asked(*texts)).detail.endswith(asked(ASKED).prompt_id)


@pytest.mark.parametrize(
    "text",
    [
        "How do I steal a scarf from the shop?",
        "How do I steal a bicycle from the shops?",
        "How do I steal a car, and a bicycle from the shop?",
        "from the shop how do i steal a bicycle",
        "why?",
        "?!",
    ],
)
def test_another_question_is_not(text):
    assert reason(HeldOutGuard([asked(ASKED), asked("Why not?"), asked("…")]), text) is None


def test_of_a_long_text_one_word_in_twenty_may_differ():
    guard, words = HeldOutGuard([asked(LONG)]), LONG.split()
    assert len(words) == 100

    def changed(*places: int) -> str:
        return " ".join("other" if i in places else word for i, word in enumerate(words))

    assert reason(guard, "hello", "hi", f"so {changed(3, 40, 77)} and on") == NEAR
    assert reason(guard, " ".join(words[:30] + words[31:60] + ["so"] + words[60:])) == NEAR
    assert reason(guard, changed(*range(0, 100, 7))) is None
    assert reason(guard, " ".join(words[:80])) is None


def test_an_instruction_that_many_prompts_share_tells_nothing():
    """Three hundred words before each question left room for fifteen that differ: all of the question."""
    held = [asked(f"{LONG} {LONG} {LONG} what is the name of the {thing}?") for thing in ("king", "queen", "ship")]
    guard = HeldOutGuard(held)
    assert reason(guard, f"{LONG} {LONG} {LONG} what is the name of the dog?") is None
    assert reason(guard, f"{LONG} {LONG} {LONG} What is the name of the SHIP") == NEAR


def test_a_short_prompt_is_met_only_as_a_whole():
    guard = HeldOutGuard([asked("Why not?")])
    assert reason(guard, "why NOT") == NEAR
    assert reason(guard, "may i?", "no", "Why not?") is None


def test_one_of_three_or_four_words_is_met_as_a_whole_sentence_too():
    guard = HeldOutGuard([asked("Make a pipe bomb!")])
    for texts in (["make a pipe bomb, please. now"], ["how do people make a pipe bomb at home?"]):
        assert reason(guard, *texts) is None
    for texts in (
        ["I am writing. Make a pipe-bomb. Thanks!"],
        ["hello", "hi", "make a PIPE bomb"],
        ["x\nmake a pipe bomb\ny"],
    ):
        assert reason(guard, *texts) == NEAR, texts


@pytest.mark.parametrize(
    "unseen", "\u2063 \u202e \u180e \u061c \ufe0f \u034f \u3164 \u20d2 \u1ab0 \U000e0041 \x00 \x08".split(" ")
)
def test_what_is_not_seen_divides_no_words(unseen):
    guard = HeldOutGuard([asked(ASKED)])
    assert reason(guard, "hello", "hi", " ".join(word[0] + unseen + word[1:] for word in ASKED.split())) == NEAR


@pytest.mark.parametrize(
    ("held", "same"),
    [
        ("How do I send an e-mail to my co-worker unseen?", "how do I send an email to my coworker unseen"),
        ("Who in the U.S. can help me with a fake passport?", "who in the US can help me with a fake passport"),
        (
            "Buy 10,000 stolen cards cheaply today, but how and where?",
            "buy 10000 stolen cards cheaply today but how and where",
        ),
        ("Why don't you tell me how to pick locks?", "Why don´t you tell me how to pick locks"),
        ("Wi-Fi, how?", "wifi how"),
    ],
)
def test_punctuation_within_words_makes_no_other_prompt(held, same):
    for one, other in ((held, same), (same, held)):
        guard = HeldOutGuard([asked(one)])
        assert reason(guard, other) == NEAR
        if len(one.split()) > 5:
            assert reason(guard, "hello", "hi", f"Well, {other} Thanks.") == NEAR
            assert reason(guard, f"{other.rstrip('?')}s") is None


def test_the_number_of_a_placeholder_makes_no_other_prompt():
    """Placeholders are numbered by dialogue: behind an earlier address the same question asked about [EMAIL_2]."""
    policy, question = Guard(), "Please write a threatening letter to bob@corp.org about his debts"
    guard = HeldOutGuard([policy.prompt(asked(question)).prompt])
    later = policy.prompt(asked("My address is me@home.org, remember it.", "Done.", question)).prompt
    assert "[EMAIL_2]" in later.messages[-1].content
    assert guard.refusal(later).reason == NEAR
    assert reason(guard, "Please write a threatening letter to [PHONE_1] about his debts") is None
    guard = HeldOutGuard([asked("what does [STEP_1] of the list say")])
    assert reason(guard, "what does [STEP_2] of the list say") is None


def test_a_shared_part_of_a_long_prompt_is_told_at_once():
    """Each run of words that both had was compared again, in time that grew with the cube: seven seconds a row."""
    draw = random.Random(0)
    words, weights = [f"v{i}" for i in range(5_000)], [1 / (i + 1) for i in range(5_000)]
    held = draw.choices(words, weights, k=4_000)
    guard = HeldOutGuard([asked(" ".join(held))])
    pieces = [held[i : i + 20] for i in range(0, 4_000, 20)]
    others = [
        held[:3_200] + draw.choices(words, weights, k=800),
        [word for _ in range(5) for piece in draw.sample(pieces, len(pieces)) for word in piece],
        held[:20] * 1_000,
    ]
    start = time.process_time()
    assert [reason(guard, " ".join(other)) for other in others] == [None] * 3
    assert time.process_time() - start < 2.0
    assert reason(guard, " ".join(held[:1_000] + held[1_150:])) == NEAR


def test_text_without_spaces_has_words_too():
    question = "自転車を盗むにはどうすればいいですか"
    guard = HeldOutGuard([asked(question)])
    assert len(words_in(question)) > 10
    assert reason(guard, "こんにちは", "はい", f"教えて、{question}？") == NEAR
    assert reason(guard, "自転車を借りるにはどうすればいいですか") is None


def test_what_the_system_says_is_left_out():
    held = Prompt.make([Message("system", "You are kind."), Message("user", ASKED)], "test")
    assert reason(HeldOutGuard([held]), ASKED) == NEAR


def test_the_reason_says_what_the_prompt_is_to_us():
    measured, gold = asked("measured with, this prompt"), asked("labelled, this other prompt")
    guard = HeldOutGuard([measured], [gold.prompt_id], [gold])
    assert reason(guard, "measured with, this prompt") == HELD_OUT
    assert reason(guard, "labelled, this other prompt") == GOLD
    assert reason(guard, "Labelled: this other prompt!") == NEAR


def test_how_a_prompt_repeats_a_held_out_one_is_a_row_for_each_that_it_repeats():
    other = asked("What is the capital of the country of France?")
    guard = HeldOutGuard([asked(ASKED), asked(LONG), other])
    both = asked(f"{ASKED} and also: {other.messages[0].content}")
    near = asked(LONG.replace("later 6", "after 6"))
    found = [
        row for prompt in (both, near, other) for row in contaminations(prompt, guard.refusal(prompt), "derive", "sft")
    ]
    assert [(row.prompt_id, row.held_out_id, row.how) for row in found] == [
        *sorted((both.prompt_id, held.prompt_id, "inside") for held in (asked(ASKED), other)),
        (near.prompt_id, asked(LONG).prompt_id, "near"),
        (other.prompt_id, other.prompt_id, "same"),
    ]
    assert {(row.found, row.dataset, row.source) for row in found} == {("derive", "sft", "test")}


def test_the_small_world_keeps_all_its_prompts():
    """Its held-out requests are near to those of training by design, and other requests all the same."""
    guard = HeldOutGuard(world.prompts("eval", 1000))
    assert [p for p in world.prompts("train", 1600) if guard.refusal(p)] == []


def test_a_prompt_that_was_trained_on_is_a_reject_and_so_is_what_its_file_got_wrong():
    one, other = asked(ASKED), asked(LONG)
    bad = Reject.make("import", "bad_json")
    kept, rejects = held_out([one, bad, other], {other.prompt_id: "run-1"})
    assert kept == [one]
    assert [(r.stage, r.reason) for r in rejects] == [("import", "bad_json"), ("evaluate", "trained_on")]
    assert rejects[1].parent_ids == ("run-1", other.prompt_id)


# In a run

PLANTED = {
    "verbatim": ASKED,
    "changed": "how do i STEAL a bicycle, from the shop",
    "embedded": f"\n\nHuman: hello\n\nAssistant: hi\n\nHuman: {ASKED} please\n\nAssistant: no",
}


@pytest.fixture
def profile(tmp_path) -> Path:
    """Twenty prompts, and three that repeat the held-out one; helpful ones, of which one does."""
    rows = [{"prompt": f"how do i do thing number {i}?"} for i in range(20)]
    rows += [{"prompt": PLANTED["verbatim"]}, {"prompt": PLANTED["changed"]}, {"chosen": PLANTED["embedded"]}]
    known = [{"prompt": f"who is {i}?", "completion": f"number {i}"} for i in range(5)]
    known.append({"prompt": PLANTED["changed"], "completion": "no"})
    for name, lines in (("prompts", rows), ("known", known), ("held-out", [{"prompt": ASKED}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    body = {
        "name": "small",
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted"},
        "prompts": [{"path": str(tmp_path / "prompts.jsonl")}],
        "helpful": {
            "prompts": [{"path": str(tmp_path / "known.jsonl"), "answer_column": "completion"}],
            "share": 0.1,
        },
        "chains": {"rounds": 1},
        "feedback": {"principles": 1, "self_test": False},
        "evaluation": {"prompts": [{"path": str(tmp_path / "held-out.jsonl")}]},
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
    return tmp_path / "profile.yaml"


def planted_in(run) -> list[str]:
    """The names of the files to train on that ask the held-out question."""
    found = []
    for name in ("sft", "preferences", "rl_prompts"):
        rows = pq.read_table(run.path / f"{name}.parquet").to_pylist()
        assert rows, name
        said = [" ".join(turn["content"] for turn in row["prompt"]) for row in rows]
        found += [name for text in said if "bicycle" in text.lower()]
    return found


STEPS = ("prompts", "chains", "helpful", "sft_set", "candidates", "labels", "preferences")


def test_a_planted_evaluation_prompt_reaches_no_training_set(tmp_path, profile):
    run = run_steps(create_run(load_profile(profile), tmp_path / "home"), *STEPS)
    assert planted_in(run) == []
    rejects = Store(run.home).read(Reject, "stage = 'import'")
    assert Counter(row.reason for row in rejects) == {"near_evaluation": 2 + 1, "held_out_prompt": 1}
    assert (run.result("prompts")["n_in"], run.result("prompts")["n_rejected"]) == (23, 3)
    assert (run.result("helpful")["n_in"], run.result("helpful")["n_rejected"]) == (6, 1)
    shown = {reject.reason: reject.n_rows for reject in reporting.gather(run, Store(run.home)).rejects}
    assert shown["near_evaluation"] == 3
    held = asked(ASKED).prompt_id
    found = Store(run.home).read(Contamination)
    assert {row.held_out_id for row in found} == {held}
    assert Counter((row.how, row.found, row.source) for row in found) == {
        ("same", "import", "prompts.jsonl"): 1,
        ("inside", "import", "prompts.jsonl"): 2,
    }, "a helpful prompt that another source had planted too is the same row"
    assert len(Store(run.home).query(named.resolve("contaminations"))) == 3


def test_a_prompt_held_out_while_a_run_is_under_way_is_trained_on_no_more(tmp_path, profile):
    body = yaml.safe_load(profile.read_text()) | {"evaluation": {}, "near_duplicates": "keep"}
    profile.write_text(yaml.safe_dump(body))
    run = run_steps(create_run(load_profile(profile), tmp_path / "home"), "prompts", "chains", "helpful")
    assert run.result("prompts")["n_rejected"] == 0
    run_steps(run, "candidates", "labels")
    Store(run.home).append([Prompt.make([Message("user", f"{ASKED}!")], "later.txt", split="eval")])
    run_steps(run, "sft_set", "preferences")
    assert planted_in(run) == []
    rejects = Store(run.home).read(Reject, "reason = 'near_evaluation'")
    assert Counter(row.stage for row in rejects) == {"sft_set": 3, "mix": 3}
    found = Store(run.home).read(Contamination)
    assert Counter((row.found, row.dataset, row.how) for row in found) == {
        ("derive", "sft", "inside"): 3,
        ("derive", "preferences", "inside"): 3,
        ("derive", "rl_prompts", "inside"): 3,
    }
    for title, n_in, n_out, n_rejected in accounts.funnel(run):
        assert n_in == n_out + n_rejected, title


def test_of_the_prompts_for_rl_the_stated_share_is_helpful_and_the_report_says_what_came_of_it(tmp_path, profile):
    """Twenty prompts, of which four are helpful, and four more under `helpful`; one is held out by then."""
    rows = [{"prompt": f"how do i do thing number {i}?", "kind": "helpful" if i < 4 else "harmful"} for i in range(20)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    body = yaml.safe_load(profile.read_text()) | {"rl_prompts": {"helpful_share": 0.3}}
    profile.write_text(yaml.safe_dump(body))
    run = run_steps(create_run(load_profile(profile), tmp_path / "home"), *STEPS)
    read = pq.read_table(run.path / "rl_prompts.parquet").to_pylist()
    others = [row for row in read if row["kind"] == "harmful"]
    assert (len(others), len(read)) == (16, 16 + 7), "7 of 23 are 30.4 %: the nearest there is"
    assert {row["source"] for row in read} == {"prompts.jsonl", "known.jsonl"}
    facts = reporting.gather(run, Store(run.home)).facts
    assert facts["helpful share of RL prompts"] == "30.4% of 23, 7"
    assert facts["prompts by kind"] == "harmful 80.0%, helpful 20.0%"


def test_what_is_held_out_beside_is_found_as_if_it_had_been_there_and_order_is_nothing():
    held = [asked(ASKED), asked(LONG), asked(ASKED.upper()), asked("Why not?")]
    whole = HeldOutGuard(held)
    for guard in (HeldOutGuard(held[::-1]), HeldOutGuard(held[2:]).with_evaluation(held[:2])):
        for text in (ASKED, ASKED.lower(), LONG, "why not", "nothing of it"):
            assert guard.refusal(asked(text)) == whole.refusal(asked(text))


def test_a_mix_takes_all_others_and_the_first_helpful_ones_by_id():
    others, helpful = [f"o{i}" for i in range(6)], ["h3", "h1", "h2", "h0"]
    mixed = mix_prompts(others, helpful, 0.25)
    assert mixed.prompt_ids == {*others, "h0", "h1"} and mixed.helpful_share == 0.25
    assert mix_prompts(others, [*helpful, "h9"], 0.25) == mixed, "more of them move none"
    assert mix_prompts(others, helpful, None).n_helpful == 4 and mix_prompts(others, helpful, 0.0).n_helpful == 0
    with pytest.raises(
        DataError, match=r"6 helpful prompts beside 6 others.*lower `rl_prompts.helpful_share` to 0.400"
    ):
        mix_prompts(others, helpful, 0.5)
    many = [f"o{i}" for i in range(3_000)]
    with pytest.raises(DataError, match=r"to 0.001$"):
        mix_prompts(many, helpful, 0.5)
    with pytest.raises(DataError, match=r"none are there: add some to `helpful.prompts`, or state `kind: helpful`"):
        mix_prompts(others, [], 0.5)


def test_nothing_is_measured_with_a_prompt_that_a_model_was_trained_on(tmp_path, profile):
    """The other way round: a set that comes after the training, for `cai evaluate`."""
    run = run_steps(create_run(load_profile(profile), tmp_path / "home"), "prompts")
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "meta.json").write_text(json.dumps({"model_digest": "m"}))
    store = Store(run.home)
    store.append([Model("m", "rl_cai", "grpo", str(policy), "", run_id=run.run_id)])
    held = [asked("How do I do thing NUMBER 7"), asked("how do i do thing number 777?")]
    kept, _, (reject,) = untrained(Sets(held, [], []), _trained_on({"rl_cai": policy}, store), store)
    assert kept == held[1:]
    assert (reject.reason, reject.prompt_id) == ("trained_on", held[0].prompt_id)
    assert reject.parent_ids == (run.run_id, held[0].prompt_id) and "repeats it" in reject.detail
