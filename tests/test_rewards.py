"""Terms of a reward: what each gives, and that what cannot be scored has a reason and no number."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cai.config import EngineConfig, JudgeTerm, LengthTerm, ProcessTerm, RepetitionTerm, VerifierTerm
from cai.engines.base import Choice
from cai.engines.options import choice_from
from cai.errors import ConfigError
from cai.records import Message
from cai.rewards.base import RewardInput
from cai.rewards.build import build_rewards
from cai.rewards.judge import expected_score, question
from cai.rewards.penalties import Length, Repetition, repeated_share
from cai.rewards.process import Process, steps_of
from cai.rewards.verify import Verifier, Worker
from cai.verdict import Unscored


def reply(response="yes", expected=None, n_tokens=1, is_cut_off=False, prompt="why?"):
    return RewardInput("p", (Message("user", prompt),), response, n_tokens, is_cut_off, expected)


def verifier(check, **settings):
    return Verifier(VerifierTerm(name="check", check=check, **settings))


# Penalties


def test_the_length_penalty_is_worked_by_hand():
    source = Length(LengthTerm(name="length", free_tokens=10, scale_tokens=20, unfinished=0.5))
    inputs = [reply(n_tokens=n, is_cut_off=cut) for n, cut in [(0, False), (10, False), (15, False), (50, True)]]
    assert source.score([*inputs, reply(n_tokens=3, is_cut_off=True)]) == [0.0, 0.0, -0.25, -2.5, -0.5]


@pytest.mark.parametrize(
    ("text", "n", "share"),
    [
        ("a b c a b c", 3, 1 / 4),  # abc bca cab abc
        ("No. No! no", 1, 2 / 3),
        ("a b a b a b", 2, 3 / 5),  # ab ba ab ba ab
        ("one two", 3, 0.0),
        ("", 1, 0.0),
        ("don't don", 1, 0.0),
    ],
)
def test_the_share_of_what_was_said_before_is_worked_by_hand(text, n, share):
    assert repeated_share(text, n) == pytest.approx(share)
    assert Repetition(RepetitionTerm(name="again", n=n)).score([reply(text)]) == [pytest.approx(-share)]


def test_no_penalty_is_zero_and_not_minus_zero():
    for source in (
        Length(LengthTerm(name="length", free_tokens=9, scale_tokens=1)),
        Repetition(RepetitionTerm(name="r")),
    ):
        assert [math.copysign(1, value) for value in source.score([reply()])] == [1.0]


# Verifiers


def test_a_right_answer_is_one_and_a_wrong_one_zero():
    source = verifier("numeric")
    assert source.score([reply("it is 7", "7"), reply("it is 8", "7"), reply("no idea", "7")]) == [1.0, 0.0, 0.0]
    assert source.score([reply("7", None), reply("7", "seven"), reply("7", "7")]) == [
        Unscored("no_expected", "numeric wants the prompt's `expected`, or the term's"),
        Unscored("bad_expected", "'seven' is not one number, or one ± another"),
        1.0,
    ]
    source.close()
    source.close()


def test_what_the_term_expects_goes_before_what_the_prompt_does():
    source = verifier("regex", expected=r"\A\d+\Z")
    assert source.score([reply("12", expected="nonsense ("), reply("twelve")]) == [1.0, 0.0]


@pytest.mark.parametrize("response", ["'\"\\\n\r\u2028{{ 7 * 7 }}\x00", "\ud800", "é" * 300_000])
def test_any_text_reaches_the_check_as_it_is(response):
    source = verifier("exact")
    assert source.score([reply(response, response), reply(response, "x")]) == [1.0, 0.0]


def test_a_pattern_that_backtracks_for_ever_is_stopped_and_the_next_response_is_scored():
    source = verifier("regex", expected=r"\A(a+)+\Z", timeout_s=1)
    started = time.monotonic()
    slow, quick = source.score([reply("a" * 40 + "b"), reply("aaa")])
    assert (slow, quick) == (Unscored("check_timed_out", "regex took more than 1 s"), 1.0)
    assert time.monotonic() - started < 10


def test_code_that_never_ends_is_wrong_and_code_that_works_is_right():
    source = verifier("unit_test", timeout_s=1)
    tests = "assert f(2) == 4"
    endless, right, bad = source.score(
        [reply("while True: pass", tests), reply("def f(x): return x * x", tests), reply("x = 1", "assert (")]
    )
    assert (endless, right) == (0.0, 1.0)
    assert isinstance(bad, Unscored) and bad.reason == "bad_expected"


def test_a_function_of_your_own_gets_the_prompt_and_runs_in_another_process():
    assert verifier("own_checks:mentions_the_prompt").score([reply("why? so.", prompt="why?"), reply("so")]) == [1, 0]
    assert verifier("own_checks:share_of_a").score([reply("abab")]) == [0.5]
    (where,) = verifier("own_checks:in_which_process").score([reply()])
    assert where != os.getpid()
    assert "own_checks" not in sys.modules


def test_what_a_check_prints_is_not_its_answer():
    assert verifier("own_checks:noisy").score([reply(), reply()]) == [0.0, 0.0]


def test_a_check_that_goes_wrong_has_said_nothing_and_the_next_is_asked_again():
    source = verifier("own_checks:as_told", timeout_s=1)
    told = ["hangs", "dies", "raises", "exits", "NaN", "words", "nothing"]
    values = source.score([reply(each) for word in told for each in (word, "fine")])
    assert values[1::2] == [1.0] * len(told)
    assert [(value.reason, value.detail) for value in values[::2]] == [
        ("check_timed_out", "own_checks:as_told took more than 1 s"),
        ("check_died", "the process of own_checks:as_told ended with 7"),
        ("check_failed", "ValueError: no such thing"),
        ("check_died", "the process of own_checks:as_told ended with 3"),
        ("bad_result", "expected a bool or a finite number, got nan"),
        ("bad_result", "expected a bool or a finite number, got 'yes'"),
        ("check_cannot_tell", "it returned None"),
    ]


@pytest.mark.parametrize(
    ("check", "settings", "message"),
    [
        ("exakt", {}, "did you mean 'exact'.*exact, numeric, regex, json_schema, unit_test"),
        ("my checks:f()", {}, "there is no check"),
        ("os.system('true'):x", {}, "there is no check"),
        ("no_such_package.module:function", {}, "ModuleNotFoundError"),
        ("own_checks:missing", {}, "KeyError: 'missing'"),
        ("own_checks:NOT_A_FUNCTION", {}, "is a int, not a function"),
        ("regex", {"expected": "("}, "`expected` does not fit 'regex'"),
        ("numeric", {"expected": "many"}, "`expected` does not fit 'numeric'"),
        ("json_schema", {"expected": "{"}, "`expected` does not fit 'json_schema'"),
    ],
)
def test_a_check_that_cannot_be_used_is_a_config_error_at_once(check, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_rewards([VerifierTerm(name="check", check=check, **settings)], [])


def test_what_a_check_imports_is_not_in_the_time_of_its_first_response():
    code = (
        "import sys; from cai.rewards.worker import find; find('json_schema', 1.0); print('jsonschema' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "True\n"


def test_a_worker_ends_with_its_trainer_even_in_the_middle_of_a_check(tmp_path):
    """The trainer is killed with SIGKILL while a check hangs: neither the worker nor its sandbox may stay behind."""
    code = (
        "import json, sys, threading\n"
        "from cai.rewards.verify import Worker\n"
        "worker = Worker('check', 'unit_test', 30)\n"
        "print(worker._process.pid, flush=True)\n"
        "worker.ask((), 'while True: pass', 'pass')\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    worker = int(trainer.stdout.readline())
    sandboxes = wait_for(lambda: children(worker))
    trainer.kill()
    trainer.communicate()
    assert wait_for(lambda: not any(is_running(pid) for pid in (worker, *sandboxes)))


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(found, patience_s=10):
    deadline = time.monotonic() + patience_s
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value


# Process


@pytest.mark.parametrize(("combine", "value"), [("mean", 2 / 3), ("min", 0.0), ("product", 0.0)])
def test_steps_are_checked_one_by_one_and_combined(combine, value):
    source = Process(ProcessTerm(name="steps", check="own_checks:adds_up", combine=combine))
    assert source.score([reply("1+2=3\n\n 3+4=7 \n7+1=9\n")]) == [pytest.approx(value)]
    assert source.score([reply("1+2=3\n3+4=7")]) == [1.0]


def test_a_step_that_cannot_be_scored_is_named_and_so_is_an_empty_response():
    source = Process(ProcessTerm(name="steps", check="own_checks:adds_up"))
    none, second = source.score([reply(" \n \n"), reply("1+2=3\n\nso what\n3+4=7")])
    assert none.reason == "no_steps"
    assert (second.reason, second.detail[:20]) == ("check_failed", "step 2: ValueError: ")


def test_other_separators():
    assert steps_of("a; b;;c ;", ";") == ["a", "b", "c"]


# The judge


def choice(*shares):
    return choice_from([[math.log(share)] if share else [] for share in shares], True, 5)


@pytest.mark.parametrize(
    ("shares", "reward"),
    [
        ([0] * 9 + [1], 1.0),
        ([1] + [0] * 9, -1.0),
        ([0.1] * 10, 0.0),
        ([0, 0, 0, 0, 0, 0, 0, 0.75, 0, 0.25], (8.5 - 5.5) / 4.5),
        ([0, 0, 0, 0, 0, 0, 0, 0.45, 0, 0.15], (8.5 - 5.5) / 4.5),  # what lies outside is left out of the mean
        ([0.25, 0.75], 0.5),
    ],
)
def test_the_judges_score_is_the_mean_number_moved_to_one(shares, reward):
    assert expected_score(choice(*shares)) == pytest.approx(reward)


def test_a_judge_that_says_no_number_has_not_scored():
    assert expected_score(choice(*[0.04] * 10)) == Unscored(
        "mass_outside", "0.600 on no option; at most 0.5 is allowed"
    )
    assert expected_score(Choice((math.nan,) * 10, 0.0, True, 1)).reason == "not_a_probability"


def script(path, *rules):
    path.write_text(yaml.safe_dump({"rules": [{"when": when, "choose": shares} for when, shares in rules]}))
    return EngineConfig(kind="scripted", script=path)


def judge(engine, **settings):
    return build_rewards([JudgeTerm(name="judge", engine=engine, question="Is it kind?", **settings)], [])


def test_the_judge_is_asked_about_each_response(tmp_path):
    engine = script(
        tmp_path / "script.yaml",
        ("Response:\n\\w+\nplease\n\\w+\n\nIs it kind\\?", [0.0] * 9 + [1.0]),
        ("Response:\n\\w+\nmumble\n", [0.0] * 10),
        ("", [0.5, 0.5] + [0.0] * 8),
    )
    rewards = judge(engine)
    rewarded = rewards.score([reply("please"), reply("no"), reply("mumble")])
    assert [each.parts["judge"] for each in rewarded] == [1.0, pytest.approx(-8 / 9), None]
    assert rewarded[2].reason.startswith("judge: mass_outside (1.000 on no option")
    assert rewards.score([reply("please")] * 3)[2].total == 1.0, "the engine stays open between batches"
    rewards.close()
    rewards.close()


def test_what_a_response_says_is_data_to_the_judge():
    term = JudgeTerm(name="judge", engine=EngineConfig(kind="scripted"), question="Good?", best=9)
    text = question(term, reply("{{ best }} {% raw %}", prompt="{{ question }}")).content
    fence = text.partition("Response:\n")[2].partition("\n")[0]
    assert len(fence) == 12 and text.count(fence) == 5, "named once, and about the prompt and the response"
    assert f"user:\n{fence}\n{{{{ question }}}}\n{fence}\n" in text
    assert f"Response:\n{fence}\n{{{{ best }}}} {{% raw %}}\n{fence}\n" in text
    assert text.endswith("Good? Rate the response from 1 (worst) to 9 (best). Answer with the number alone.")


def test_a_conversation_too_long_for_the_judge_is_unscored(tmp_path):
    engine = script(tmp_path / "script.yaml", ("", [0.1] * 10)).model_copy(update={"context_length": 100})
    short, long = judge(engine).score([reply("yes"), reply("yes " * 100)])
    assert short.total == pytest.approx(0.0)
    assert long.total is None and long.reason.startswith("judge: prompt_too_long (")


def test_a_judge_whose_ten_is_a_one_and_a_zero_is_refused_with_the_way_out(tmp_path):
    """A vocabulary of single digits: 10 begins with the token of 1, so nobody could tell them apart."""
    from training_fixtures import TEMPLATE

    path = digit_model(tmp_path / "model", TEMPLATE)
    engine = EngineConfig(kind="transformers", model=str(path), dtype="float32")
    with pytest.raises(ConfigError, match="option '10' has no first token of its own.*set `best: 9`"):
        judge(engine)
    rewards = judge(engine, best=9)
    (rewarded,) = rewards.score([reply("1 2 3")])
    assert rewarded.total is not None or "mass_outside" in rewarded.reason
    rewards.close()


def digit_model(path, template):
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<unk>", "<pad>", "<end>", *"0123456789"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[0-9]|[^\s0-9]+"), "removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", pad_token="<pad>", eos_token="<end>", chat_template=template
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(words), **sizes, pad_token_id=1, eos_token_id=2, bos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(str(path))
    tokenizer.save_pretrained(str(path))
    return path


# All together


def test_terms_are_weighted_and_each_is_kept(tmp_path):
    rewards = build_rewards(
        [
            VerifierTerm(name="right", check="numeric", weight=2.0),
            LengthTerm(name="length", free_tokens=1, scale_tokens=4, weight=0.5),
            RepetitionTerm(name="again", n=1),
        ],
        [],
    )
    good, wordy, unknown = rewards.score([reply("7", "7"), reply("7 7 7", "7", n_tokens=3), reply("7")])
    assert (good.total, dict(good.parts)) == (2.0, {"right": 1.0, "length": 0.0, "again": 0.0})
    assert wordy.parts == pytest.approx({"right": 1.0, "length": -0.5, "again": -2 / 3})
    assert wordy.total == pytest.approx(2.0 - 0.25 - 2 / 3)
    assert (unknown.total, unknown.parts["length"]) == (None, 0.0)
    assert unknown.reason.startswith("right: no_expected (numeric wants")
    rewards.close()


def test_what_was_opened_is_closed_where_a_later_term_cannot_be(monkeypatch):
    closed = []
    monkeypatch.setattr(Worker, "close", lambda self: closed.append(self))
    with pytest.raises(ConfigError, match="there is no check 'nope'"):
        build_rewards([VerifierTerm(name="a", check="exact"), VerifierTerm(name="b", check="nope")], [])
    assert len(closed) == 1


def test_building_every_term_imports_neither_torch_nor_a_users_module():
    """The sandbox, the worker and the scripted judge are light: a flow may build them."""
    code = (
        "import sys\n"
        "import cai.rewards.build, cai.rewards.worker\n"
        "print(sorted({'torch', 'transformers', 'jsonschema', 'vllm'} & sys.modules.keys()))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
