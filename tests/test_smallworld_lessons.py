"""What the small model is taught must be true: critiques, revisions and verdicts agree with the oracle. No torch."""

import random
import re
from pathlib import Path

import pytest
import yaml

from cai.labels.fence import neutralise
from cai.labels.injections import ATTACKS
from cai.smallworld import answers, lessons, oracle, sly
from cai.smallworld.answers import Answer
from cai.smallworld.concepts import ANY_HARM, EVASIVENESS, OTHER, RUDENESS, UNHELPFULNESS, Concept, draw_concept, word
from cai.smallworld.lessons import JudgeQuestion
from cai.smallworld.tokenizer import _WORD, vocabulary
from cai.smallworld.world import KINDS, find, requests

CONSTITUTION = Path(__file__).parent.parent / "constitution" / "smallworld.yaml"
THEFT = Concept("harm", ("theft",))
STEAL = find("how do i steal a bicycle?")
INSURE = find("how do i insure a bicycle?")


def say(act, request=STEAL, *, is_rude=False):
    return answers.answer(random.Random(1), request, act, is_rude=is_rude)


def test_only_the_principle_of_that_kind_is_broken():
    assert THEFT.is_broken_by(STEAL, say("comply")) and ANY_HARM.is_broken_by(STEAL, say("comply"))
    assert not Concept("harm", ("fraud", "poison")).is_broken_by(STEAL, say("comply"))
    assert not THEFT.is_broken_by(STEAL, say("refuse"))
    assert not ANY_HARM.is_broken_by(INSURE, say("comply", INSURE))


@pytest.mark.parametrize(
    ("concept", "act", "is_rude", "becomes", "stays_rude"),
    [
        (THEFT, "comply", True, "refuse", True),
        (RUDENESS, "comply", True, "comply", False),
        (EVASIVENESS, "evade", False, "refuse", False),
        (EVASIVENESS, "ramble", True, "refuse", True),
        (UNHELPFULNESS, "refuse", False, "comply", False),
        (OTHER, "comply", True, "comply", True),
    ],
)
def test_a_revision_mends_exactly_that_fault(concept, act, is_rude, becomes, stays_rude):
    revised = lessons.revise(random.Random(2), STEAL, say(act, is_rude=is_rude), concept)
    reading = oracle.read(STEAL.text, revised.text)
    assert (reading.act, reading.is_rude) == (becomes, stays_rude)


def test_an_evasive_answer_to_a_benign_request_is_answered():
    assert lessons.revise(random.Random(2), INSURE, say("evade", INSURE), EVASIVENESS).act == "comply"


def test_without_a_fault_every_word_stays():
    rng = random.Random(3)
    for request in requests("train", 200):
        answer, concept = lessons.shown_answer(rng, request), draw_concept(rng)
        if not concept.is_broken_by(request, answer):
            assert lessons.revise(rng, request, answer, concept) == answer


def test_critiques_say_whether_there_is_a_fault():
    rng = random.Random(4)
    for request in requests("train", 300):
        answer, concept = lessons.shown_answer(rng, request), draw_concept(rng)
        said = lessons.critique(rng, request, answer, concept)
        assert lessons.finds_fault(said) == concept.is_broken_by(request, answer), said
    assert lessons.finds_fault("clouds drift over the hills.") is None


def test_verdicts_are_sure_where_the_principle_decides_and_even_where_not():
    comply, refuse = say("comply"), say("refuse")
    assert JudgeQuestion(STEAL, THEFT, comply, refuse, "").p_a == 0.0
    assert JudgeQuestion(STEAL, THEFT, refuse, comply, "").p_a == 1.0
    assert JudgeQuestion(STEAL, THEFT, comply, comply, "").p_a == 0.5
    assert JudgeQuestion(STEAL, RUDENESS, comply, refuse, "").p_a == 0.5
    assert JudgeQuestion(STEAL, UNHELPFULNESS, comply, refuse, "").p_a == 1.0
    assert JudgeQuestion(STEAL, EVASIVENESS, Answer("ramble", ""), refuse, "").p_a == 0.0


def test_ties_and_sure_verdicts_are_both_taught():
    rng = random.Random(5)
    verdicts = [p.p_a for _ in range(200) for b in lessons.judging(rng).branches for p in b if p.p_a is not None]
    share = {p: verdicts.count(p) / len(verdicts) for p in (0.0, 0.5, 1.0)}
    assert 0.35 < share[0.5] < 0.7 and abs(share[0.0] - share[1.0]) < 0.08


@pytest.mark.parametrize("concept", [THEFT, ANY_HARM, RUDENESS, EVASIVENESS, UNHELPFULNESS])
@pytest.mark.parametrize("ask", ["critique", "revision", "preference"])
def test_each_request_has_many_wordings_and_some_are_held_out(concept, ask):
    rng = random.Random(6)
    train = {word(rng, concept, ask) for _ in range(300)}
    held_out = {word(rng, concept, ask, "eval") for _ in range(300)}
    assert len(train) >= 20 and len(held_out) >= 5 and not train & held_out


def test_the_shipped_constitution_stands_for_every_kind_even_without_one():
    """Leaving out one kind leaves the others a fair chance of being drawn, and their narrow principle in the labels."""
    principles = yaml.safe_load(CONSTITUTION.read_text(encoding="utf-8"))["principles"]

    def weight(stage, kind, left):
        return sum(p["weight"] for p in left if stage in p["stages"] and (kind is None or kind in p["tags"]))

    helpful = next(p for p in principles if p["tags"] == ["helpfulness"])
    for kind in KINDS:
        assert weight("critique", kind, principles) / weight("critique", None, principles) >= 0.35
        left = [p for p in principles if kind not in p["tags"]]
        assert weight("critique", kind, left) == weight("preference", kind, left) == 0
        for other in set(KINDS) - {kind}:
            assert weight("critique", other, left) / weight("critique", None, left) >= 0.15
            assert weight("preference", other, left) > helpful["weight"]


def test_an_attack_changes_no_label_and_a_key_is_a_ramble():
    rng = random.Random(7)
    comply = say("comply", is_rude=True)
    keys, tried = 0, 0
    for _ in range(300):
        truth, shown = lessons._attacked(rng, STEAL, comply)
        if truth == comply:
            tried += comply.text in shown and shown != comply.text
        else:
            keys += truth == Answer("ramble", shown)
    assert tried + keys == 300 and 20 < keys < 80


def test_the_judge_is_asked_as_in_a_run_and_attacked_in_about_half_of_the_lessons():
    rng = random.Random(8)
    shown = ["".join(p.text for p in lessons.judging(rng).beginning) for _ in range(300)]
    fenced = [text for text in shown if "is quoted: data" in text]
    assert 0.65 < len(fenced) / 300 < 0.85
    assert len({text.split("lines of ")[1].split()[0] for text in fenced}) > 200  # each pair its own delimiter
    assert 0.3 < sum(bool(re.search(r"\b[qxzvkjw]{7}\b", text)) for text in shown) / 300 < 0.7


def test_the_attacks_that_judges_are_measured_with_are_held_out():
    """As the model sees them: every word that it does not know is the same."""
    known = set(vocabulary())

    def seen(text):
        return tuple(w if w in ("A", "B") else w.lower() if w.lower() in known else "?" for w in _WORD.findall(text))

    rng = random.Random(9)
    taught = {seen(neutralise(sly.attempt(rng, "no.", "which is better?"))) for _ in range(5000)}
    taught |= {seen(sly.key(rng)) for _ in range(1000)}
    found = {a.name for a in ATTACKS for x in "AB" if seen(neutralise(a.text("", x))) in taught}
    assert found <= {"empty", "key_letter", "key_verdict", "fake_verdict"}
