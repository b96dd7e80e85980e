"""Near duplicates: what repeats an earlier prompt is found, what only looks like it is kept."""

import random

import pytest

from cai.coverage import near
from cai.coverage.near import near_duplicates
from cai.records import Message, Prompt

STORY = (
    "My uncle kept bees behind the old station for thirty years. Last spring he sold all his hives to a stranger. "
    "Since then he sits by the window and counts the trains. The doctor says that he needs something to do. "
    "Nobody in the family knows what to suggest to him. Please write him a letter that he would enjoy."
)
REWORDED = STORY.replace("counts the trains", "watches every bus")
THINGS = "tent kettle piano scarf ladder camera violin anvil canoe drill lantern parrot mattress bicycle".split()


def asked(*texts: str, system: str = "", expected: str | None = None) -> Prompt:
    """A conversation in which the user and the assistant take turns."""
    told = [Message("system", system)] if system else []
    said = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
    return Prompt.make([*told, *said], "test", expected=expected)


def kinds(*prompts: Prompt) -> list[str]:
    return [repeat.kind for repeat in near_duplicates(prompts)]


@pytest.mark.parametrize(
    ("text", "other", "kind"),
    [
        ("How do I pick a lock?", "HOW do i pick a lock", "same_words"),
        ("How do I pick a lock?", "How do I “pick” a lock…?!", "same_words"),
        ("How do I pick a lock?", "**How** do I pick a lock?", "same_words"),
        ("How do I pick a lock?", "How I do pick a lock?", "moved_words"),
        (STORY, STORY.replace("something to do", "to do something"), "moved_words"),
        (STORY, REWORDED, "near"),
        (STORY, STORY.replace("The doctor says that he needs something to do. ", ""), "near"),
        (STORY, f"{STORY} I hope that this is not too much to ask.", "near"),
    ],
)
def test_a_variant_repeats_what_came_before(text, other, kind):
    assert kinds(asked(text), asked("Something else entirely."), asked(other)) == [kind]
    talk = ("hello there", "Hi! What is it?")
    assert kinds(asked(*talk, text), asked(*talk, other)) == [kind]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("How do I steal a bicycle?", "How do I steal a scarf?"),
        ("can dogs eat cats", "can cats eat dogs"),
        ("How do I sort a list in C?", "How do I sort a list in C++?"),
        ("What is 2 + 2?", "What is 2 * 2?"),
        ("What is 12 / 4?", "What is 4 / 12?"),
        ("What is 7 - 3?", "What is 7 + 3?"),
        ("???", "!!!"),
        ("🔥", "💧"),
    ],
)
def test_another_question_is_kept(text, other):
    assert kinds(asked(text), asked(other)) == []


def test_a_conversation_that_goes_on_with_another_question_is_kept():
    talk = (STORY, "Dear uncle, the trains will wait. The bees would too.")
    assert kinds(asked(*talk, "Now make it rhyme."), asked(*talk, "And what do I tell my aunt?")) == []
    assert kinds(asked(*talk, "Now make it rhyme."), asked(REWORDED, talk[1], "now make it rhyme")) == ["near"]


@pytest.mark.parametrize("sep", ["\n", "\n\n"])
def test_another_question_under_the_same_text_is_kept(sep):
    """HarmBench asks several things of one long context, and each of them is a behaviour of its own."""
    text = f"{STORY} {STORY[::-1]}"
    assert kinds(asked(f"{text}{sep}Who sold the hives?"), asked(f"{text}{sep}Translate this into German.")) == []
    assert kinds(asked(f"Summarise:{sep}{text}"), asked(f"Translate:{sep}{text}")) == []
    changed = text.replace("counts the trains", "watches every bus")
    assert kinds(asked(f"{text}{sep}Who sold the hives?"), asked(f"{changed}{sep}who sold the HIVES")) == ["near"]
    assert kinds(asked(f"{text}{sep}Who sold the hives?"), asked(f"{changed} Who sold the hives?")) == ["near"]


def test_another_system_message_or_expected_answer_makes_another_prompt():
    assert kinds(asked(STORY), asked(REWORDED, system="You are a pirate.")) == []
    assert kinds(asked("what is it", expected="4"), asked("What is it?", expected="5")) == []
    assert kinds(asked("what is it", expected="4"), asked("What is it?", expected="4")) == ["same_words"]


def test_what_many_share_is_a_template():
    """Twenty near copies of a prompt are copies; when there are more, what differs is what they ask."""
    few = [asked(f"{STORY} Mention the number {n}.") for n in range(near.TEMPLATE)]
    assert len(near_duplicates(few)) == near.TEMPLATE - 1
    many = [asked(f"{STORY} Mention the number {n}.") for n in range(near.TEMPLATE + 2)]
    finder = near.NearDuplicates()
    for each in many:
        finder.add(each)
    assert finder.repeats() == [] and finder.n_of_templates == len(many), "they stay, and that is said"
    assert [r.kind for r in near_duplicates([*many, asked(f"{STORY.upper()} mention the number 3")])] == ["same_words"]


def test_what_is_repeated_stays_and_is_the_first():
    """What has the words of one that is near the first is near the first: it was told to have the first one's words."""
    shouted, changed = asked(REWORDED.upper()), asked(REWORDED)
    repeats = near_duplicates([asked(STORY), changed, shouted])
    assert [(r.prompt_id, r.of, r.kind) for r in repeats] == [
        (changed.prompt_id, asked(STORY).prompt_id, "near"),
        (shouted.prompt_id, asked(STORY).prompt_id, "near"),
    ]
    assert 0.6 <= repeats[0].similarity == repeats[1].similarity < 1
    assert [r.of for r in near_duplicates([changed, asked(STORY)])] == [changed.prompt_id]
    backwards = near_duplicates([changed, shouted, asked(STORY)])
    assert [repeat.kind for repeat in backwards] == ["same_words", "near"]


def test_the_order_decides_which_of_a_family_stays_and_nothing_else():
    rng = random.Random(1)
    words = [f"{thing}{end}" for thing in THINGS for end in ("", "s", "ed", "ing")]
    texts = [" ".join(rng.choice(words) for _ in range(40)) for _ in range(60)]
    family = {
        asked(variant).prompt_id: text
        for text in texts
        for variant in (text, text.upper(), f"please {text}", text.split(maxsplit=2)[2])
    }
    prompts = [asked(v) for t in texts for v in (t, t.upper(), f"please {t}", t.split(maxsplit=2)[2])]
    for seed in range(3):
        shuffled = random.Random(seed).sample(prompts, len(prompts))
        repeats = near_duplicates(shuffled)
        gone = {repeat.prompt_id for repeat in repeats}
        assert sorted(family[p.prompt_id] for p in shuffled if p.prompt_id not in gone) == sorted(texts)
        assert all(family[r.prompt_id] == family[r.of] and r.of not in gone for r in repeats)
        assert repeats == near_duplicates(shuffled)


def test_a_prompt_does_not_repeat_itself():
    assert near_duplicates([asked(STORY), asked("why?"), asked(STORY)]) == []


def test_no_prompts_have_no_repeats():
    assert near_duplicates([]) == [] == near_duplicates([asked("hello")])
