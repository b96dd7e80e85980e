"""Detectors of personal items, and what a policy does to one dialogue."""

import gzip
import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
import re2

from benchmarks import privacy as benchmark
from benchmarks import privacy_held_back, privacy_held_back_2, privacy_held_back_3, privacy_items
from cai.config import PrivacyConfig
from cai.privacy import Guard, added, find, in_words, masked, redacted, signs
from cai.privacy.find import is_bare
from cai.records import Message, Prompt

CARD, IBAN, MAIL = "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32", "jo.smith@acme.org"
GITHUB = "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"


def kinds(text: str) -> list[str]:
    return [found.kind for found in find(text)]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"write to {MAIL}, now", "write to [EMAIL_1], now"),
        ("jo [at] acme [dot] org", "[EMAIL_1]"),
        ("see ?to=jo%40acme.org", "see ?to=[EMAIL_1]"),
        ("see ?to=jo@acme.org", "see ?to=[EMAIL_1]"),
        ("from back+jo=acme.org@lists.org", "from [EMAIL_1]"),
        ("reach me at jo.smith at studio dot photography", "reach me at [EMAIL_1]"),
        ("dial 202.555.0152 #54", "dial [PHONE_1]"),
        ("card 9792 4641 0092 3805", "card [CARD_1]"),
        ("IBANDE89370400440532013000", "IBAN[IBAN_1]"),
        ("81[.]44[.]2[.]9 and ::ffff:81.44.2.8", "[IP_1] and [IP_2]"),
        ("my SSN is 219 - 09 - 9998", "my SSN is [SSN_1]"),
        ("login bot password c20FFO8", "login bot password [KEY_1]"),
        ('Client("QI1bvbdzuo77c20FFO8TxL07ozbamF07")', 'Client("[KEY_1]")'),
        ("call +44 20 7946 0958 or (415) 555-0123.", "call [PHONE_1] or [PHONE_2]."),
        ("my number is 4155550123", "my number is [PHONE_1]"),
        ("his cell is (555-3476)", "his cell is [PHONE_1])"),
        (f"{CARD} 12/27", "[CARD_1] 12/27"),
        (f"to {IBAN} today", "to [IBAN_1] today"),
        (f"TOKEN={GITHUB}", "TOKEN=[KEY_1]"),
        ("password: hunter22!", "password: [KEY_1]"),
        ("postgres://app:s3cr3t@db/main", "postgres://app:[KEY_1]@db/main"),
        ("a -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- b", "a [KEY_1] b"),
        ("from 81.44.2.9:8080", "from [IP_1]:8080"),
        ("219-09-9998", "[SSN_1]"),
        # mailboxes of RFC 5322 and RFC 3696, without what the text puts before them
        ("MAIL_TO=ada/bob@acme.org", "MAIL_TO=[EMAIL_1]"),
        ("a customer/department=x@acme.org", "a [EMAIL_1]"),
        ("https://acme.org/jo@acme.org?cc=al@acme.org", "https://acme.org/[EMAIL_1]?cc=[EMAIL_2]"),
        ("jo@acme.org/al@acme.org", "[EMAIL_1]/[EMAIL_2]"),
        ("jo@[81.44.2.9]", "[EMAIL_1]"),
        # at and dot in words of other languages, in names, and half of them
        ("jo arobase acme point fr", "[EMAIL_1]"),
        ("jo arroba acme punto es", "[EMAIL_1]"),
        ("jo (ät) acme punkt de", "[EMAIL_1]"),
        ("jo_smith_at_acme_dot_org", "[EMAIL_1]"),
        ("jo@acme dot org", "[EMAIL_1]"),
        # other groups
        ("35895312 10615958", "[CARD_1]"),
        ("624071.2210360363188", "[CARD_1]"),
        ("4111\t1111\t1111\t1111", "[CARD_1]"),
        ("4014 4566 29812 exp 04/29", "[CARD_1] exp 04/29"),
        ("GB82_WEST_1234_5698_7654_32", "[IBAN_1]"),
        ("GB82 - WEST - 1234 - 5698 - 7654 - 32", "[IBAN_1]"),
        ("social security no. 480 097 680", "social security no. [SSN_1]"),
        ("SS# 219_09_9998", "SS# [SSN_1]"),
        # scripts without spaces
        ("把GB82WEST12345698765432发给他", "把[IBAN_1]发给他"),
        ("把2607:f8b0::c1ea:10bb发给他", "把[IP_1]发给他"),
        ("電話番号は0684318769です", "電話番号は[PHONE_1]です"),
        # numbers of countries with an area in brackets, a space behind the 0, and none given yet
        ("(22) 928 40 17", "[PHONE_1]"),
        ("0 (532) 604 70 87", "[PHONE_1]"),
        ("8 912 237 96 45", "[PHONE_1]"),
        ("0044 7700 900550", "[PHONE_1]"),
        ("mijn telefoonnummer is 612345678", "mijn telefoonnummer is [PHONE_1]"),
        # addresses within others
        ("81.44.2.9-81.44.2.255", "[IP_1]"),
        ("081.044.002.009", "[IP_1]"),
        ("81 dot 44 dot 2 dot 9", "[IP_1]"),
        ("64:ff9b::81.44.2.9", "[IP_1]"),
        ("254.2.44.81.in-addr.arpa", "[IP_1].in-addr.arpa"),
        # secrets by their issuer's prefix, by a variable's name, and in other languages
        ("acme_app_9aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE", "[KEY_1]"),
        ("shop_live_0123456789abcdef0123456789abcdef", "[KEY_1]"),
        ("CACHE_KEY=dk3Jf8slPq0zXn5v", "CACHE_KEY=[KEY_1]"),
        ("<password>hunter22!</password>", "<password>[KEY_1]</password>"),
        ("sshpass -p hunter22! ssh host", "sshpass -p [KEY_1] ssh host"),
        ("CREATE USER jo IDENTIFIED BY 'hunter22!'", "CREATE USER jo IDENTIFIED BY '[KEY_1]'"),
        ("senha: hunter22!", "senha: [KEY_1]"),
        ("пароль: hunter22!", "пароль: [KEY_1]"),
        ("Dr. Ada King and my name is Jo", "Dr. [NAME_1] and my name is [NAME_2]"),
    ],
)
def test_an_item_leaves_its_placeholder_and_nothing_of_itself(text, left):
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # Luhn
        "GB83 WEST 1234 5698 7654 32",  # mod 97
        "666-12-3456",  # never given out
        "order number 4155550123",
        "invoice 4111111111111111 of 2023-10-12, 12:30:45",
        "version 81.44.2.9, and 192.168.1.1, and 127.0.0.1",
        "ISBN 978-3-16-148410-0 costs $1,234,567.89",
        "the password is wrong and the token expired",
        "look at the dot in the middle, meet me @ the bar",
        "my name is not important",
        "what is 870234920 + 346965295?",
        "1 1 2 3 5 8 13 21 34 55 89 144 233 377 610 987 1597",
        "meet me at the dot com office, look at acme dot com",
        "USPS tracking number 9400 4111 1111 1111 1111 00",
        "logo@2x.png and icon@3x.png",
        "Chrome/120.0.0.0",
        "ZIP 02223-3812, NDC 0844-0409-08",
        "SKU 00-9835-6412-A",
        "1999\t4111\t1111\t1111\t1111\t2001",  # a table
        "relative_states @ self.proj",
        "flat_fn at this point coincides with it",
        "look_at_polka_dot_dress",
        "sha256-9aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE",
    ],
)
def test_what_looks_alike_is_left_alone(text):
    assert redacted(text) == text


@pytest.mark.parametrize("form", privacy_items.UNICODE)
def test_the_same_digits_in_another_script_or_with_unseen_characters_are_the_same_item(form):
    shown = privacy_items.UNICODE[form]("4111 1111-1111 1111".replace("-", " " if "hyphen" not in form else "-"))
    (found,) = find(f"é {shown} é")
    assert (found.kind, found.same) == ("card", "4111111111111111")
    assert redacted(f"é {shown} é") == "é [CARD_1] é"


def test_each_kind_is_looked_for_only_when_it_is_asked_for():
    text = f"{MAIL} {CARD}"
    assert [found.kind for found in find(text, ("card",))] == ["card"] and kinds(text) == ["email", "card"]


def test_asking_only_the_detectors_whose_sign_a_text_has_finds_what_asking_all_would(shared_data: Path):
    """The signs are what makes imports quick; an item without one would never be looked for."""
    rng, texts = random.Random(3), list[str]()
    for module in (privacy_items, privacy_held_back, privacy_held_back_2, privacy_held_back_3):
        texts += [row.text for row in benchmark.planted_rows(rng, module)]
    for module in (privacy_items, privacy_held_back_2, privacy_held_back_3):
        texts += [module.look_alike(rng) for _ in range(500)]
    texts += benchmark.human_turns(shared_data)[:1_000]
    texts += [
        "Prof. Ada",
        "signed, Ada",
        "I am called Ada",
        "pass: abc12",
        "a\n-u a:b12",
        "GT82 TR4J 0102 0000 0012 1002 9690",
    ]
    texts += [f"{text[: len(text) // 2]}\n{text}" for text in texts[::7]] + [text.upper() for text in texts[::5]]
    for text in texts:
        assert find(text) == find(text, ask_all=True), text
    assert sum(is_bare(text) for text in texts) > 1_000


def test_a_short_secret_and_an_address_in_words_have_a_sign_however_they_are_said():
    """Of a password behind `is:`, or behind another language's word and `is`, only half was asked for."""
    words = "password passwort PWD pw contraseña senha wachtwoord hasło lösenord ŞİFRE пароль 密码 パスワード".split()
    links = [":", " : ", "=", " => ", " is ", " was ", " İst ", " es: ", " is : ", '"] = "', "\x85is\u2028", "\n=\t"]
    texts = [f"my {word}{link}hunter2!" for word in words for link in links]
    dots = [" dot ", " DOT ", " punkt ", " point ", " ponto ", " kropka ", " точка ", "[.]", " (dot) ", "{ . }", "<.>"]
    ats = [" at ", " [at] ", " arroba ", " chiocciola ", "(ät)", " собака ", "\u00a0at\u00a0", " AT "]
    texts += [f"jo.b{at}acme{dot}org, please" for at in ats for dot in dots]
    found = {text: find(text) for text in texts}
    assert found == {text: find(text, ask_all=True) for text in texts}
    assert sum(not items for items in found.values()) < 0.1 * len(texts), "most of them are items"


def test_where_the_search_for_signs_has_no_memory_every_detector_is_asked(monkeypatch):
    """RE2 then answers that nothing matches, not even the sign that every text has."""
    nothing = re2.Set.SearchSet()
    nothing.Add("no text has this")
    nothing.Compile()
    monkeypatch.setattr(signs, "_all_signs", lambda: nothing)
    assert signs.signs("hello") == list(signs.DETECTORS)
    assert kinds(f"{MAIL} {CARD}") == ["email", "card"]


def test_no_text_takes_long_to_read():
    """Each of these is slow for a pattern that tries again at every place, or goes back as far as it came."""
    n = 30_000
    repeated = [
        "a",
        "1",
        "1 ",
        "a.",
        "a@",
        "a@a.",
        "a dot ",
        "-",
        "eyJ",
        "eyJa.",
        "://a:",
        "-----BEGIN PRIVATE KEY-----\n",
    ]
    repeated += [
        "+1 ",
        "0",
        "01 ",
        "4111 ",
        "GB82",
        "GB 82 ",
        ":",
        "::",
        "a:",
        "1.1.",
        "password is ",
        "Mr. A ",
        "[at] a",
        "%40",
    ]
    for part in [
        *repeated,
        "ſ\u200b",
        "key=",
        "a/",
        "a_at_",
        "a_",
        "1\t",
        "a arroba ",
        "A_",
        '"a',
        "-u a:",
        "sk-",
        "0171 2",
        "a [dot] ",
    ]:
        for tail in ("", "@", "!"):
            size = 5 * n if "dot" in part else n  # words cost less than characters
            text = (part * (size // len(part) + 1))[:size] + tail
            started = time.process_time()
            find(text)
            assert time.process_time() - started < 1.0, f"{part!r} over and over, then {tail!r}"


def test_recall_and_false_alarms_keep_their_limits():
    """What `python -m benchmarks.privacy` prints in full, with other seeds."""
    for seed, module in enumerate((privacy_items, privacy_held_back, privacy_held_back_2, privacy_held_back_3), 17):
        rng = random.Random(seed)
        planted = list(benchmark.planted_rows(rng, module))
        found = sum(benchmark.is_covered(row, find(row.text, benchmark.PATTERNED)) for row in planted)
        assert len(planted) == 1_000 and found >= 980
    for module in (privacy_items, privacy_held_back_2, privacy_held_back_3):
        rng = random.Random(5)
        texts = [module.look_alike(rng) for _ in range(1_000)]
        assert sum(bool(find(text, benchmark.PATTERNED)) for text in texts) <= 10


def test_a_benchmark_that_leaves_a_character_does_not_count_the_item_as_found():
    row = benchmark.Row(f"a {MAIL}", "planted", privacy_items.Planted("email", "", MAIL), (2, 2 + len(MAIL)))
    (found,) = find(row.text)
    assert benchmark.is_covered(row, [found])
    assert not benchmark.is_covered(row, [found._replace(end=found.end - 1)])
    assert privacy_held_back.MAKERS.keys() == privacy_items.MAKERS.keys()


def test_public_dialogues_hold_what_was_counted_there_by_hand(shared_data: Path):
    """Each of these was looked at: all are what they are said to be, though made up by the model for the most part."""
    with gzip.open(shared_data / "hh-rlhf" / "harmless-base-test.jsonl.gz", "rt", encoding="utf-8") as file:
        dialogues = [json.loads(line)["chosen"] for line in file]
    items = {(each.kind, each.same) for text in dialogues for each in find(text, benchmark.PATTERNED)}
    assert Counter(kind for kind, _ in items) == {"phone": 12, "email": 5}


# A policy


def dialogue(*contents: str, **settings) -> Prompt:
    roles = ("user", "assistant") * len(contents)
    return Prompt.make(
        [Message(role, text) for role, text in zip(roles, contents, strict=False)], "a.jsonl", **settings
    )


def test_the_same_item_has_the_same_number_throughout_a_dialogue_however_it_is_written():
    prompt = dialogue(f"mail {MAIL} and b@c.org", "JO.SMITH@acme.org?", "no, b@c.org", tags=(MAIL,), expected="b@c.org")
    clean, answer, refused = Guard(PrivacyConfig()).prompt(prompt, f"sent to {MAIL}")
    assert [m.content for m in clean.messages] == ["mail [EMAIL_1] and [EMAIL_2]", "[EMAIL_1]?", "no, [EMAIL_2]"]
    assert (clean.tags, clean.expected, answer, refused) == (("[EMAIL_1]",), "[EMAIL_2]", "sent to [EMAIL_1]", ())
    assert clean.prompt_id == Prompt.make(clean.messages, "").prompt_id != prompt.prompt_id


def test_a_dialogue_without_items_is_the_same_object():
    prompt = dialogue("how are you?")
    guard = Guard(PrivacyConfig())
    assert guard.prompt(prompt).prompt is prompt and guard.tally() == {}


def test_every_kind_has_the_action_that_the_profile_gives_it():
    guard = Guard(PrivacyConfig(email="keep", card="reject", name="redact"))
    clean, _, refused = guard.prompt(dialogue(f"{MAIL}, {CARD}, my name is Ada"))
    assert clean.messages[0].content == f"{MAIL}, [CARD_1], my name is [NAME_1]"
    assert refused == ("card",)
    guard.prompt(dialogue(MAIL))
    counts = {"card": {"reject": 1}, "email": {"keep": 2}, "name": {"redact": 1}, "rows": {"reject": 1, "keep": 1}}
    assert guard.tally() == counts and Guard(PrivacyConfig(), counts).tally() == counts
    assert added(counts, {"email": {"keep": 1}})["email"] == {"keep": 3}
    assert in_words(counts) == "e-mail addresses: 2 kept; payment cards: 1 rejected; names: 1 redacted"


def test_an_example_shows_neither_the_item_nor_its_neighbour():
    text = f"either {MAIL} or {CARD}"
    assert {masked(text, found) for found in find(text)} == {"either [EMAIL_1] or [CARD_1]"}


def test_what_one_turn_tells_is_hidden_in_the_others_too():
    """A password has no format: it was found where it was called one, and could be read in every other turn."""
    said = [
        "my password is hunter2!x and api_key = 9f8a7b6c5d4e3f2a1b0c9d8e",
        "Is it hunter2!x, or hunter2!xy?",
        "hunter2!x! Call me on 020 7946 0958.",
        "Noted: 9f8a7b6c5d4e3f2a1b0c9d8e",
    ]
    guard = Guard()
    roles = ("user", "assistant", "user", "assistant")
    turns = [*map(Message, roles, said), Message("user", "Thanks")]
    left = guard.conversation(Prompt.make(turns, "s", tags=("hunter2!x",)), ("so 9f8a7b6c5d4e3f2a1b0c9d8e it is",))
    text = "\n".join([*(m.content for m in left.prompt.messages), *left.prompt.tags, *left.texts])
    assert text.replace("hunter2!xy", "").count("hunter2!x") == 0 and "9f8a7b6c5d4e3f2a1b0c9d8e" not in text
    assert "or hunter2!xy?" in text, "another word"
    assert text.count("[KEY_1]") == 4 and text.count("[KEY_2]") == 3
    assert guard.tally()["key"] == {"redact": 7}
    raw = json.dumps(said)
    assert "hunter2!x," not in guard.raw(raw) and "9f8a" not in guard.raw(raw)
    whole = "\n".join(said)
    assert "hunter2!x " not in masked(whole, find(whole)[0], 200) and "9f8a" not in masked(whole, find(whole)[0], 200)


def test_a_short_item_and_what_is_kept_are_not_looked_for_elsewhere():
    turns = [Message("user", "my password is rain5. My name is Ada Lovelace"), Message("assistant", "rain5?")]
    clean = Guard().prompt(Prompt.make([*turns, Message("user", "yes, Ada Lovelace")], "s")).prompt
    assert [m.content for m in clean.messages[1:]] == ["rain5?", "yes, Ada Lovelace"]


def test_many_items_take_no_time_that_grows_with_their_square():
    text = " ".join(f"u{i}@acme{i % 9}.com or u{i}" for i in range(8_000))
    start = time.process_time()
    assert "@" not in redacted(text)
    assert time.process_time() - start < 3.0
