"""Monitoring: no change is seldom an alarm, a change is found; bad rows are kept, and nothing is asked twice."""

import io
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cai.cli.monitor import monitor
from cai.errors import DataError
from cai.monitoring.compare import FEWEST, Side, compare
from cai.monitoring.exchanges import Exchange, sample
from cai.monitoring.rules import RULES
from cai.monitoring.shift import shift
from cai.monitoring.text import summary
from cai.records import Evaluation, Message, Model, Prompt, Reject, Response, Score
from storage.monitoring import Scorer, evaluated, read_exchanges, scored
from storage.store import Store

WORDS = [f"word{i}" for i in range(60)]


def exchange(prompt: str, response: str, tags: tuple[str, ...] = ()) -> Exchange:
    made = Prompt.make((Message("user", prompt),), "test")
    return Exchange.make(made.prompt_id, made.messages, response, tags)


def traffic(rng: random.Random, n: int, *, words=WORDS, longer: int = 0, score: float = 0.0, times: int = 1) -> Side:
    """Prompts of a few words each, `times` responses to each, and a score whose spread is the prompt's own too."""
    exchanges, scores = [], {}
    for _ in range(n):
        prompt, own = " ".join(rng.choices(words, k=rng.randint(3, 9))), rng.gauss(0, 1)
        for _ in range(times):
            each = exchange(prompt, " ".join(rng.choices(words, k=rng.randint(5, 25) + longer)))
            exchanges.append(each)
            scores[each.exchange_id] = own + rng.gauss(score, 1)
    return Side(exchanges, {"judge": scores})


def test_at_most_one_window_in_twenty_without_any_change_raises_an_alarm():
    """All measures together; `benchmarks/monitor_alarms.py` has a thousand windows. Chance gives 11 of 100 in 1 %."""
    alarms = 0
    for seed in range(100):
        rng = random.Random(seed)
        found = compare(traffic(rng, 50), traffic(rng, 50, times=2), seed=seed)
        assert len(found.findings) == 1 + 1 + len(RULES) + 1
        alarms += bool(found.alarms)
    assert alarms <= 10


@pytest.mark.parametrize(
    ("planted", "metric"),
    [
        ({"words": WORDS[:45] + [f"new{i}" for i in range(15)]}, "shift/prompts"),
        ({"longer": 8}, "response/words"),
        ({"score": 0.8}, "score/judge"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_planted_is_found_under_its_name(planted, metric):
    rng = random.Random(1)
    found = compare(traffic(rng, 150), traffic(rng, 150, **planted))
    assert metric in [finding.metric for finding in found.alarms]
    assert len(found.alarms) <= (1 if metric == "score/judge" else 3)
    assert f"ALARM: {found.alarms[0].metric}" in summary(found, "traffic")
    if metric == "shift/prompts":
        assert any(moved.word.startswith("new") and moved.before == 0 for moved in found.moved)


def test_many_responses_to_one_prompt_are_not_many_prompts():
    """Sixty prompts with forty responses each: by response, a difference of prompts' own luck would be an alarm."""
    alarms = 0
    for seed in range(10):
        rng = random.Random(seed)
        found = compare(traffic(rng, 60, times=20), traffic(rng, 60, times=20))
        alarms += any(finding.metric == "score/judge" for finding in found.alarms)
    assert alarms <= 1


def test_the_permutation_test_is_exact_and_its_estimate_unbiased():
    """Under no change p is uniform; MMD² of two halves of one source is 0 on average, and that of others is not."""
    ps, estimates = [], []
    for seed in range(200):
        rng = random.Random(seed)
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))) for _ in range(60)]
        found = shift(texts[:20], texts[20:], alpha=0.05, seed=seed, n_permutations=99)
        assert (found.p <= 0.05) == (found.mmd2 > found.most) or abs(found.mmd2 - found.most) < 2e-3
        ps.append(found.p)
        estimates.append(found.mmd2)
    assert np.mean(np.array(ps) <= 0.05) <= 0.09 and 0.4 < np.mean(ps) < 0.6
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / np.sqrt(200)
    apart = shift(["a b c"] * 5 + ["a b d"] * 5, ["x y z"] * 5 + ["x y w"] * 5, alpha=0.05, seed=0)
    # By hand: cosine 1 within like texts, 2/3 within a side else, 0 between: (20 + 25 · 2·2/3 + 20) / 90 · 2 − 0.
    assert apart.mmd2 == pytest.approx(2 * (40 + 50 * 2 / 3) / 90)


def test_too_few_prompts_are_no_verdict():
    found = compare(traffic(random.Random(0), FEWEST - 1), traffic(random.Random(0), 100))
    assert not found.findings and "49 and 100 different prompts are too few" in summary(found, "traffic")


def test_shares_of_tags_are_compared_where_both_sides_have_any():
    def tagged(share: float) -> Side:
        rng = random.Random(2)
        return Side([exchange(f"{i} {share}", "fine", ("harm",) * (rng.random() < share)) for i in range(200)], {})

    (finding,) = [f for f in compare(tagged(0.2), tagged(0.5)).findings if f.metric == "prompt/tag/harm"]
    assert finding.is_alarm and finding.value == pytest.approx(0.3, abs=0.08)
    assert not [f for f in compare(tagged(0.0), tagged(0.5)).findings if "tag" in f.metric]


def test_the_sample_is_bounded_and_does_not_depend_on_the_order():
    rows = [exchange(f"p{i}", "r") for i in range(300)]
    first = sample(rows, 40, seed=1)
    assert len(first.exchanges) == 40 and first.n_seen == 300
    assert sample(reversed(rows), 40, seed=1).exchanges == first.exchanges
    assert sample(rows, 40, seed=2).exchanges != first.exchanges
    again = sample([*rows[:5], *rows[:5]], 40, seed=1)
    assert (len(again.exchanges), again.n_twice) == (5, 5)
    more = sample([*rows, *(exchange(f"q{i}", "r") for i in range(30))], 40, seed=1)
    assert len(set(more.exchanges) & set(first.exchanges)) > 30, "a longer stream keeps most of it"


BAD = {
    '{"prompt": "a", "response": "b"': "bad_json",
    '{"prompt": "a"}': "no_answer",
    '{"response": "b"}': "no_prompt",
    '{"prompt": " ", "response": "b"}': "empty_prompt",
    '{"prompt": "a", "response": " "}': "no_answer",
    '{"prompt": 5, "response": "b"}': "wrong_type",
    '["prompt"]': "wrong_type",
    '{"prompt": "a", "response": "\\ud800"}': "not_unicode",
    '{"messages": [{"role": "robot", "content": "x"}], "response": "b"}': "not_a_dialogue",
}


def test_a_bad_line_is_a_reject_with_its_reason_and_the_next_one_is_read(tmp_path):
    good = {"messages": [{"role": "user", "content": "hello"}], "response": "hi", "tags": ["greeting", 5]}
    text = "\n".join([*BAD, json.dumps(good), '{"prompt": "hello", "response": "hi"}']) + "\n"
    (tmp_path / "traffic.jsonl").write_text(text)
    for rows in (
        list(read_exchanges(str(tmp_path / "traffic.jsonl"))),
        list(read_exchanges("-", io.StringIO(text))),
    ):
        assert [row.reason for row in rows[: len(BAD)]] == list(BAD.values())
        assert all(row.text == "" for row in rows[: len(BAD)]), "what people wrote is not stored"
        tagged, plain = rows[len(BAD) :]
        assert tagged.tags == ("greeting",) and tagged.exchange_id == plain.exchange_id
    with pytest.raises(DataError, match="no column 'response'"):
        (tmp_path / "other.csv").write_text("prompt\nhello\n")
        list(read_exchanges(str(tmp_path / "other.csv")))


def test_what_was_scored_before_a_kill_is_not_scored_again_and_what_cannot_be_scored_is_kept(tmp_path):
    store, asked = Store(tmp_path / "home"), []

    def score(rows):
        if len(asked) >= 64:
            raise KeyboardInterrupt
        asked.extend(rows)
        return [0.5 if row.request != "p3" else "mass_outside" for row in rows]

    rows = [exchange(f"p{i}", "r") for i in range(100)]
    with pytest.raises(KeyboardInterrupt):
        scored(store, Scorer("judge", "d", score), rows, lambda _: None)
    assert len(store.read(Score)) == 63
    n_before = len(asked)
    asked.clear()
    made = scored(store, Scorer("judge", "d", score), rows, lambda _: None)
    assert (made.n_asked, made.n_unscored, n_before) == (37, 1, 64)
    assert len(made.scores) == 99 and len(store.read(Score)) == 99
    (reject,) = store.read(Reject)
    assert (reject.stage, reject.reason, reject.detail) == ("monitor", "unscored", "mass_outside")
    asked.clear()
    assert scored(store, Scorer("judge", "another", score), rows[:5], lambda _: None).n_asked == 5


@pytest.fixture
def home(tmp_path):
    """A home with a model that has answered 120 held-out prompts, and a profile with a scripted judge."""
    rows: list[Prompt | Response] = []
    for each in traffic(random.Random(5), 120).exchanges:
        prompt = Prompt.make(each.messages, "held-out", split="eval")
        said = Response.given(prompt.prompt_id, each.response, "")
        rows += [prompt, replace(said, model_digest="digest-of-it", stage="eval")]
    Store(tmp_path / "home").append([*rows, Model("digest-of-it", "rl_cai", "grpo", "nowhere", "")])
    profile = {
        "name": "small",
        "constitution": "constitution/smallworld.yaml",
        "engine": {"kind": "scripted", "model": "scripted"},
        "prompts": [{"path": "nowhere.txt"}],
        "sft": None,
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    return tmp_path / "home"


def run(home: Path, *arguments: object, stdin: str = ""):
    options = ["--home", home, "--against", "rl_cai", "--profile", home.parent / "profile.yaml"]
    return CliRunner().invoke(monitor, [str(a) for a in [*options, *arguments]], input=stdin)


def lines(side: Side) -> str:
    return "".join(json.dumps({"prompt": e.request, "response": e.response}) + "\n" for e in side.exchanges)


def test_the_command_compares_with_the_model_s_evaluation_and_says_so(home, tmp_path):
    (tmp_path / "like.jsonl").write_text(lines(traffic(random.Random(6), 150)) + "no json\n")
    done = run(home, tmp_path / "like.jsonl")
    assert done.exit_code == 0, done.output
    assert "like.jsonl beside rl_cai digest-o: no alarm (7 measures" in done.output
    assert "150 rows read, 1 rejected, 150 different ones sampled" in done.stderr
    store = Store(home)
    found = {row.metric: row for row in store.read(Evaluation)}
    assert set(found) == {"shift/prompts", "prompt/words", "score/judge", *(f"response/{name}" for name in RULES)}
    assert {(row.model_digest, row.set) for row in found.values()} == {("digest-of-it", "monitor/like.jsonl")}
    assert len(store.read(Score)) == 120 + 150
    assert [row.reason for row in store.read(Reject)] == ["bad_json"]
    assert not [p for p in store.read(Prompt) if p.split != "eval"], "what people wrote is not stored"
    again = run(home, tmp_path / "like.jsonl")
    assert again.stdout == done.stdout and "judge: " not in again.stderr, "nothing is asked twice"

    shifted = lines(traffic(random.Random(7), 150, words=[f"new{i}" for i in range(50)]))
    alarm = run(home, "-", "--no-judge", stdin=shifted)
    assert alarm.exit_code == 3 and "ALARM: shift/prompts" in alarm.output
    (tmp_path / "earlier.jsonl").write_text(shifted)
    calm = run(home, "-", "--no-judge", "--baseline", tmp_path / "earlier.jsonl", stdin=shifted)
    assert calm.exit_code == 0, "beside the traffic before it nothing is new"


def test_without_a_model_an_evaluation_or_a_row_there_is_an_error_and_no_verdict(home, tmp_path):
    store = Store(home)
    with pytest.raises(DataError, match="answered no held-out prompt"):
        evaluated(store, "o'ther")
    (tmp_path / "bad.jsonl").write_text("no json\n")
    with pytest.raises(DataError, match="none of the 1 rows"):
        raise run(home, tmp_path / "bad.jsonl").exception
    with pytest.raises(DataError, match="no model is promoted to the channel 'production'"):
        raise run(home, tmp_path / "bad.jsonl", "--against", "production").exception


def test_personal_items_are_in_no_finding(tmp_path):
    """Tags name measures, which are stored, and words that many prompts have are printed."""
    lines = [
        {
            "prompt": f"Our key is sk_live_PLANTED0123456789abcd, our line 415-555-2671. Question {n}: how is it?",
            "response": "Write to ada@planted.com.",
            "tags": ["user:ada@planted.com", "weather"],
        }
        for n in range(60)
    ]
    (tmp_path / "traffic.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    after = list(read_exchanges(str(tmp_path / "traffic.jsonl")))
    before = [exchange(f"Tell me {n} about birds", "fine", ("weather",)) for n in range(60)]
    made = compare(Side(before, {}), Side(after, {}))
    assert {"prompt/tag/weather", "prompt/tag/user:[EMAIL_1]"} <= {f.metric for f in made.findings}
    said = f"{after}{made}{summary(made, 'x')}".casefold()
    assert "planted" not in said and "2671" not in said
    asked = Prompt.make((Message("user", lines[0]["prompt"]),), "")
    assert after[0].exchange_id == Exchange.make(asked.prompt_id, (), lines[0]["response"]).exchange_id
