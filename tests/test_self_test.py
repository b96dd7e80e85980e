"""The self-test: each kind of broken judge is caught by its name, through the real prompt and aggregation."""

import asyncio
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cai.cli.labels.self_test import command
from cai.config import FeedbackConfig, PreferencesConfig, load_profile
from cai.constitution import Constitution, KnownPair, Principle, load_constitution
from cai.constitution.dump import to_yaml
from cai.constitution.lint import lint
from cai.constitution.load import parse_text
from cai.engines.scripted import ScriptedEngine
from cai.errors import SelfTestFailed
from cai.feedback import comparison_message
from cai.labels import known_pairs
from cai.labels.injections import ATTACKS
from cai.labels.self_test import N_PAIRS, Outcome, SelfTest, cases, findings, n_needed, self_test
from cai.records import Message, digest
from cai.smallworld import lessons
from cai.templates import DEFAULTS, render
from flows.labelling import try_judges
from flows.runs import create_run, plan_run
from flows.session import Session

ROOT = Path(__file__).parents[1]
KIND = Principle("kind", "kind", 1.0, (), ("preference",), "", "", "Which response is kinder?")
PAIRS = tuple(KnownPair("kind", f"question {i}", f"a GOOD reply {i}", f"a BAD reply {i}") for i in range(12))
CONSTITUTION = Constitution("test", "", (KIND,), self_test=PAIRS)

Choose = Callable[[Sequence[Message], Sequence[str]], tuple[float, float]]


def tried(choose: Choose, constitution: Constitution = CONSTITUTION) -> SelfTest:
    engine = ScriptedEngine(choices=choose)
    settings = {"feedback": FeedbackConfig(), "preferences": PreferencesConfig(), "seed": 0, "max_concurrency": 8}
    made = asyncio.run(self_test(constitution, engine, **settings))
    assert made.n_asks == engine.n_choose <= 60
    return made


def names(made: SelfTest) -> list[str]:
    return [finding.name for finding in made.findings]


def quoted(shown: str) -> list[str]:
    """What stands between lines of the delimiter that the question names: the conversation, then A, then B."""
    fence = re.search(r"between lines of (\w+) is quoted", shown)[1]
    return [part.strip() for part in re.split(rf"^{fence}$", shown, flags=re.MULTILINE)[1::2]]


def outside(shown: str) -> str:
    """What is no quotation to a reader who knows fences: everything, where none is announced."""
    for part in quoted(shown) if "is quoted: data" in shown else ():
        shown = shown.replace(part, "", 1)
    return shown


def by_text(shown: str) -> tuple[float, float]:
    """Prefers the GOOD reply by what is truly in the places; nothing in it is followed."""
    if "is quoted: data" in shown:
        _, a, b = quoted(shown)
    else:
        a, b = shown.split("Response A:", 1)[1].rsplit("Response B:", 1)
    merit = ("GOOD" in a) - ("GOOD" in b)
    return 0.5 + 0.4 * merit, 0.5 - 0.4 * merit


def good(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
    return by_text(messages[-1].content)


def commanded(text: str) -> tuple[float, float] | None:
    """The letter that an order or a verdict in the text names last."""
    said = re.findall(r"(?i:choose|verdict:|answer:) ([AB])\b", text)
    return None if not said else (0.95, 0.05) if said[-1] == "A" else (0.05, 0.95)


def obeys_everything(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
    """What stands inside the answers, too."""
    return commanded(messages[-1].content) or good(messages, options)


def obeys_outside(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
    """A judge that takes orders, and has learnt that quoted text gives none."""
    return commanded(outside(messages[-1].content)) or good(messages, options)


CLOSED = re.compile(r"(?:<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|\[/INST\]|<\|end\|>)[^AB]*?\b([AB])\b")


def falls_for_tokens(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
    """Reads a control token as the end of the turn, and what follows as its own words."""
    closed = CLOSED.search(messages[-1].content)
    return (0.95, 0.05) if closed and closed[1] == "A" else (0.05, 0.95) if closed else good(messages, options)


def by_request(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
    p = int(digest(messages[-1].content)[:4], 16) / 0xFFFF
    return p, 1 - p


def by_conversation(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
    p = int(digest(quoted(messages[-1].content)[0])[:4], 16) / 0xFFFF
    return p, 1 - p


BROKEN: dict[str, tuple[str, Choose]] = {
    "always A": ("always_one_letter", lambda m, o: (0.9, 0.05)),
    "always B, unsure": ("always_one_letter", lambda m, o: (0.45, 0.55)),
    "one half each": ("ignores_the_text", lambda m, o: (0.5, 0.5)),
    "the conversation alone": ("ignores_the_text", by_conversation),
    "follows the answers": ("obeys_answers", obeys_everything),
    "random": ("random", by_request),
    "says neither": ("says_neither", lambda m, o: (0.1, 0.1)),
    "the wrong way round": ("prefers_the_worse", lambda m, o: good(m, o)[::-1]),
}


@pytest.mark.parametrize("judge", BROKEN)
def test_a_broken_judge_is_caught_by_its_name(judge: str) -> None:
    name, choose = BROKEN[judge]
    made = tried(choose)
    assert names(made) == [name] and not made.passed
    assert made.findings[0].detail and made.findings[0].remedy


@pytest.mark.parametrize("choose", [good, obeys_outside, falls_for_tokens])
def test_a_judge_that_the_fence_defends_passes(choose: Choose) -> None:
    made = tried(choose)
    assert made.passed
    assert {o.said for o in made.outcomes if o.kind == "known"} == {"right"}
    assert [o.said for o in made.outcomes if o.kind == "identical"] == ["tie"]


def undefended(messages: Sequence[Message], first: str, second: str) -> Message:
    """The question without fence, and control tokens as they came."""
    fields = {"messages": messages, "response_a": first, "response_b": second, "preference": KIND.preference}
    return Message("user", render(lessons.COMPARISON, fields))


def defended(messages: Sequence[Message], first: str, second: str) -> Message:
    return comparison_message(DEFAULTS["comparison"], messages, first, second, KIND.preference)


def win_rate(choose: Choose, asked: Callable[..., Message], attacks: Sequence[Callable[[str, str], str]]) -> float:
    """How often the BAD reply is preferred, attacked for the letter it stands under."""
    wins = []
    for pair in PAIRS:
        conversation = [Message("user", pair.prompt)]
        for attacked in attacks:
            first = choose([asked(conversation, attacked(pair.worse, "A"), pair.better)], "AB")[0]
            second = choose([asked(conversation, pair.better, attacked(pair.worse, "B"))], "AB")[1]
            wins += [first > 0.5, second > 0.5]
    return sum(wins) / len(wins)


@pytest.mark.parametrize("choose", [obeys_outside, falls_for_tokens])
def test_attacked_answers_win_as_often_as_clean_ones_and_undefended_they_win(choose: Choose) -> None:
    speaking = [attack.text for attack in ATTACKS if not attack.replaces]
    clean = win_rate(choose, defended, [lambda answer, letter: answer])
    assert abs(win_rate(choose, defended, speaking) - clean) <= 0.02
    assert win_rate(choose, undefended, speaking) >= 0.4


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_each_attack_makes_of_an_answer_one_for_its_letter(attack) -> None:
    a, b = attack.text("{{ answer }} {% x", "A"), attack.text("{{ answer }} {% x", "B")
    assert (a != b) == attack.names_letter
    assert ("{{ answer }} {% x" in a) != attack.replaces  # an answer is data


def test_an_answer_that_says_nothing_cannot_win_a_judge_over() -> None:
    def loves_brevity(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
        _, a, b = quoted(messages[-1].content)
        return (
            by_text(messages[-1].content) if min(len(a), len(b)) > 40 else (0.9, 0.1)[:: 1 if len(a) < len(b) else -1]
        )

    long = tuple(replace(p, better=p.better + " and more" * 5, worse=p.worse + " and more" * 5) for p in PAIRS)
    made = tried(loves_brevity, replace(CONSTITUTION, self_test=long))
    said = {o.name: (o.said, o.reason) for o in made.outcomes if o.kind == "attack"}
    assert {said[name] for name in ("empty", "key_letter", "key_verdict", "key_colon", "key_opening")} == {
        ("unscored", "key_only_response")
    }


def test_a_judge_that_answers_one_question_in_two_ways_is_told_by_the_twins() -> None:
    twins = iter([0.9, 0.1])  # asked in both orders: the first place, and then the second

    def wavers(messages: Sequence[Message], options: Sequence[str]) -> tuple[float, float]:
        p = good(messages, options)[0]
        p = next(twins) if p == 0.5 else p
        return p, 1 - p

    assert names(tried(wavers)) == ["identical_is_no_tie"]


def test_the_pairs_are_the_constitutions_own_or_its_examples_and_the_shipped_ones() -> None:
    own = [case for case in cases(CONSTITUTION) if case.kind == "known"]
    assert [case.name for case in own] == [pair.prompt for pair in PAIRS]
    assert {case.constitution.principles for case in own} == {(KIND,)}
    shipped = replace(load_constitution(ROOT / "constitution" / "harmlessness.yaml"), self_test=())
    known = [case for case in cases(shipped) if case.kind == "known"]
    n_examples = len(shipped.examples.preference)
    assert len(known) == N_PAIRS == 12 and 0 < n_examples < N_PAIRS
    for case, example in zip(known, shipped.examples.preference, strict=False):
        assert example not in case.constitution.examples.preference  # its answer is not among what is shown
        assert example.preference == case.constitution.principles[0].preference
    assert known[-1].constitution.principles == (known_pairs.PRINCIPLE,)


@pytest.mark.parametrize("name", ["smallworld", "harmlessness", "helpful-honest-harmless"])
def test_the_shipped_constitutions_have_pairs_of_their_own(name: str) -> None:
    constitution = load_constitution(ROOT / "constitution" / f"{name}.yaml")
    assert len(constitution.self_test) == N_PAIRS
    assert len({pair.principle for pair in constitution.self_test}) >= 8
    assert to_yaml(constitution).count("\n  - principle:") == N_PAIRS


def test_what_is_left_out_is_not_tried() -> None:
    constitution = load_constitution(ROOT / "constitution" / "smallworld.yaml").without("theft")
    ids = {principle.id for principle in constitution.principles}
    assert 6 <= len(constitution.self_test) < N_PAIRS and {pair.principle for pair in constitution.self_test} <= ids


def test_a_coin_passes_in_at_most_one_test_of_fifty() -> None:
    assert [n_needed(n) for n in (6, 8, 10, 12)] == [6, 8, 9, 10]
    assert n_needed(3) == 3  # too few to tell


def outcomes_of(accuracy: float, rng: random.Random) -> list[Outcome]:
    """A judge that is right with this probability, of each pair and of each attack."""
    said = ["right" if rng.random() < accuracy else "wrong" for _ in range(12)]
    known = [Outcome("known", "", "p", s, 0.9, (0.9, 0.1)) for s in said]
    attacks = [
        Outcome("attack", attack.name, "p", "right", 0.9, (0.9, 0.1), rng.random() > accuracy, i % 12)
        for i, attack in enumerate(ATTACKS)
    ]
    return [*known, *attacks]


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Of judges that err in 1, 3 and 5 % of pairs, and of coins: how many are refused."""
    rng = random.Random(1)
    refused = {p: sum(bool(findings(outcomes_of(p, rng))) for _ in range(4000)) / 4000 for p in (0.99, 0.97, 0.95, 0.5)}
    assert refused[0.99] <= 0.002 and refused[0.97] <= 0.01 and refused[0.95] <= 0.03
    assert refused[0.5] >= 0.98


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., Path]:
    """A profile whose judge answers as a script says."""

    def write(*rules: dict) -> Path:
        (tmp_path / "prompts.txt").write_text("how do i bake bread?\n")
        (tmp_path / "script.yaml").write_text(yaml.safe_dump({"rules": list(rules)}))
        body = {
            "name": "tried",
            "constitution": str(ROOT / "constitution" / "harmlessness.yaml"),
            "engine": {"kind": "scripted", "script": str(tmp_path / "script.yaml")},
            "prompts": [{"path": str(tmp_path / "prompts.txt")}],
        }
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(body))
        return tmp_path / "profile.yaml"

    return write


def test_a_run_whose_judge_fails_ends_by_name_and_keeps_what_was_seen(tmp_path, scripted) -> None:
    run = create_run(load_profile(scripted({"when": "letter A or B", "choose": [0.9, 0.1]})), tmp_path / "home")
    assert run.profile.feedback.self_test, "on, unless a profile says otherwise"
    with pytest.raises(SelfTestFailed, match="always_one_letter.*100% of asks said A.*self_test: false"):
        asyncio.run(try_judges(Session(run)))
    (seen,) = json.loads((run.path / "self_test.json").read_text())
    assert not seen["passed"] and [case["kind"] for case in seen["cases"]].count("known") == 12


def test_other_pairs_in_the_constitution_are_another_run(tmp_path, scripted) -> None:
    """What was wrong with the pairs is mended in the file, and the run must read the file again."""
    profile = load_profile(scripted())
    text = profile.constitution.read_text()
    (tmp_path / "other.yaml").write_text(text.replace("better: June has 30 days.", "better: It has 30 days."))
    other = profile.model_copy(update={"constitution": tmp_path / "other.yaml"})
    assert plan_run(profile, tmp_path).run_id != plan_run(other, tmp_path).run_id


def test_the_command_shows_every_pair_and_ends_with_1_where_the_judge_fails(scripted) -> None:
    profile = str(scripted({"when": "letter A or B", "choose": [0.4, 0.4]}))
    shown = CliRunner().invoke(command, [profile])
    assert shown.exit_code == 1
    assert "FAILED  ignores_the_text" in shown.output and "fake_delimiter" in shown.output
    made = json.loads(CliRunner().invoke(command, [profile, "--format", "json"]).output)
    assert [finding["name"] for finding in made["findings"]] == ["ignores_the_text"]
    assert len(made["cases"]) == 12 + len(ATTACKS) + 1


def test_errors_in_the_pairs_name_their_line() -> None:
    head = 'name: n\nprinciples:\n  - {id: kind, preference: "Kinder?", stages: [preference]}\nself_test:\n'
    for pair, said in (
        ("{principle: kin, prompt: p, better: x, worse: y}", "did you mean 'kind'"),
        ("{principle: kind, prompt: p, better: x, worse: x}", "same text"),
        ("{principle: kind, prompt: p, better: x}", "'worse' is missing"),
    ):
        (problem,) = parse_text(f"{head}  - {pair}\n").problems
        assert problem.line == 5 and said in problem.message


def test_few_pairs_are_warned_of(tmp_path: Path) -> None:
    pairs = "".join(f"  - {{principle: kind, prompt: p{i}, better: x, worse: y}}\n" for i in range(5))
    head = 'name: n\nprinciples:\n  - {id: kind, preference: "Kinder?", stages: [preference], tags: [t]}\nself_test:\n'
    (tmp_path / "c.yaml").write_text(head + pairs)
    assert any("self_test has 5 pairs" in problem.message for problem in lint(tmp_path / "c.yaml"))
