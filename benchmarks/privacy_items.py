"""Personal items made by the rules their makers publish, for `benchmarks/privacy.py`: numbering plans, issuer ranges,
BBAN structures, token formats. Nothing here knows how the detectors look for them.

In a template `9` is any digit, `8` one from 2 to 9, `a` a small letter, `A` a capital, `x` a hex digit, `w` a letter or
a digit; everything else, and what stands in braces, is itself.
"""

import random
import re
import string
from typing import NamedTuple

from cai.privacy import Kind

_ALPHABETS = {
    "9": string.digits,
    "8": "23456789",
    "a": string.ascii_lowercase,
    "A": string.ascii_uppercase,
    "x": "0123456789abcdef",
    "w": string.ascii_letters + string.digits,
}


class Planted(NamedTuple):
    kind: Kind
    form: str
    """What kind of that kind it is, for the list of misses."""
    item: str
    needs_words: bool = False
    """Only a context that says what it is makes it one: ten bare digits may be anything."""
    shown: tuple[int, int] = (0, 0)
    """How many characters before and after the secret are no secret, where the item says it itself."""


def drawn(template: str, rng: random.Random) -> str:
    parts = re.split(r"\{([^}]*)\}", template)
    free = ("".join(rng.choice(_ALPHABETS[c]) if c in _ALPHABETS else c for c in part) for part in parts[::2])
    return "".join(a + b for a, b in zip(free, [*parts[1::2], ""], strict=True))


# E-mail: RFC 5322 atoms and quoted strings, subaddresses (RFC 5233), international domains, and how people hide them.
_FIRST = "anna ben chloe david elif fatima george hana ivan julia kenji lena marco nina omar priya quinn rosa".split()
_LAST = "smith garcia novak okafor tanaka mueller rossi kowalski haddad silva jensen popov nguyen brown larsen".split()
_HOSTS = (
    "gmail.com yahoo.co.uk outlook.com acme-corp.com uni-mainz.de mail.ru example.org proton.me t-online.de".split()
)


def emails(rng: random.Random) -> Planted:
    first, last, host = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_HOSTS)
    n = rng.randint(1, 99)
    forms = {
        "plain": f"{first}.{last}@{host}",
        "digits": f"{first}{n}@{host}",
        "subaddress": f"{first}+shop{n}@{host}",
        "underscore": f"{first}_{last[0]}@mail.{host}",
        "capitals": f"{first.title()}.{last.title()}@{host.upper()}",
        "apostrophe": f"{first}.o'{last}@{host}",
        "hyphen": f"{first}-{last}@{host}",
        "long top": f"{first}@{last}.photography",
        "foreign": f"{first}@m{last}.{rng.choice(('com.br', 'co.jp', 'ac.in', 'gov.au'))}",
        "in brackets": f"{first}.{last} [at] {host.replace('.', ' [dot] ')}",
        "in parentheses": f"{first}{n}(at){host}",
    }
    form = rng.choice(list(forms))
    return Planted("email", form, forms[form])


# Phone: national numbering plans as the regulators publish them; the flag says that the form alone does not tell.
_PHONES = {
    "US brackets": ("(8{0}8) 8{3}9-9999", False),
    "US hyphens": ("8{1}8-8{4}9-9999", False),
    "US dots": ("8{1}8.8{4}9.9999", False),
    "US with 1": ("1-8{0}8-8{3}9-9999", False),
    "US bare": ("8{1}88{4}99999", True),
    "US international": ("+1 8{1}8 8{4}9 9999", False),
    "US tight": ("+18{1}88{4}99999", False),
    "UK mobile": ("077{00} {900}999", False),
    "UK London": ("{020} {7946} 9999", False),
    "UK international": ("+44 {20} {7946} 9999", False),
    "UK bracket zero": ("+44 ({0}){20} {7946} 9999", False),
    "UK bare": ("077{00900}999", True),
    "DE mobile": ("{0171} 8999999", False),
    "DE slash": ("{030}/8999 9999", False),
    "DE international": ("+49 {171} 8999999", False),
    "DE double zero": ("{0049 171} 8999999", False),
    "FR pairs": ("{06 12} 99 99 99", False),
    "FR dots": ("{06.12}.99.99.99", False),
    "FR international": ("+33 {6 12} 99 99 99", False),
    "ES groups": ("{612} 999 999", True),
    "IT mobile": ("{347} 899 9999", True),
    "NL mobile": ("{06}-8999 9999", False),
    "JP mobile": ("{090}-8999-9999", False),
    "KR mobile": ("{010}-8999-9999", False),
    "CN mobile": ("{138} 9999 9999", False),
    "CN international": ("+86 {138}99999999", False),
    "IN mobile": ("{98}999 99999", False),
    "IN international": ("+91-{98}999-99999", False),
    "AU mobile": ("{0412} 999 999", False),
    "BR mobile": ("({11}) {9}8999-9999", False),
    "BR international": ("+55 {11 9}8999-9999", False),
    "RU": ("{8 (495)} 899-99-99", False),
    "PL international": ("+48 {601} 999 999", False),
    "local": ("{555}-9999", True),
}


def phones(rng: random.Random) -> Planted:
    form = rng.choice(list(_PHONES))
    template, needs_words = _PHONES[form]
    return Planted("phone", form, drawn(template, rng), needs_words)


# Cards: ISO/IEC 7812 issuer ranges and lengths; the last digit is Luhn's (ISO/IEC 7812-1, annex B).
_CARDS = {"Visa": ("4", 16), "Mastercard": ("5{3}", 16), "Mastercard 2": ("2{5}", 16), "Amex": ("3{7}", 15)} | {
    "Discover": ("6{011}", 16), "Diners": ("3{6}", 14), "JCB": ("3{530}", 16), "UnionPay": ("6{2}", 16),
}  # fmt: skip


def luhn_digit(digits: str) -> str:
    doubled = [int(c) * (2 - i % 2) for i, c in enumerate(reversed(digits))]
    return str(-sum(d - 9 if d > 9 else d for d in doubled) % 10)


def card_number(prefix: str, length: int, rng: random.Random) -> str:
    digits = prefix.replace("{", "").replace("}", "")
    digits += "".join(rng.choice(string.digits) for _ in range(length - 1 - len(digits)))
    return digits + luhn_digit(digits)


def grouped(text: str, sizes: tuple[int, ...], gap: str) -> str:
    parts, place = [], 0
    for size in sizes:
        parts.append(text[place : place + size])
        place += size
    return gap.join(filter(None, [*parts, text[place:]]))


def cards(rng: random.Random) -> Planted:
    brand = rng.choice(list(_CARDS))
    number = card_number(*_CARDS[brand], rng)
    sizes = {15: (4, 6, 5), 14: (4, 6, 4)}.get(len(number), (4, 4, 4, 4))
    gap = rng.choice((" ", "-", ""))
    return Planted("card", f"{brand} {gap!r}", grouped(number, sizes, gap))


# IBAN: the BBAN structures of the SWIFT registry; check digits by ISO 7064 (mod 97-10).
_BBANS = {
    "DE": "999999999999999999", "GB": "AAAA99999999999999", "FR": "99999999999{A}99999999999", "ES": "9" * 20,
    "IT": "A9999999999{000123456789}", "NL": "AAAA9999999999", "BE": "9" * 12, "CH": "99999{012345678901}",
    "AT": "9" * 16,
    "PL": "9" * 24, "SE": "9" * 20, "NO": "9" * 11, "PT": "9" * 21, "TR": "99999{0}9999999999999999", "SA": "9" * 20,
    "AE": "9" * 19, "BR": "99999999999999999999999A{1}", "MT": "AAAA99999{ABCDEFGHIJKLMNOPQR}",
}  # fmt: skip


def ibans(rng: random.Random) -> Planted:
    country = rng.choice(list(_BBANS))
    bban = drawn(_BBANS[country], rng).upper()
    as_number = int("".join(str(int(c, 36)) for c in f"{bban}{country}00"))
    iban = f"{country}{98 - as_number % 97:02d}{bban}"
    shape = rng.choice(("tight", "spaced", "small"))
    shown = {"tight": iban, "spaced": grouped(iban, (4,) * 8, " "), "small": iban.lower()}[shape]
    return Planted("iban", f"{country} {shape}", shown)


# Keys: formats their issuers document; the second half are secrets known by the word before them.
_KEYS = {
    "AWS id": "{AKIA}" + "A" * 16,
    "GitHub": "{ghp_}" + "w" * 36,
    "GitHub fine": "{github_pat_}" + "w" * 22 + "_" + "w" * 59,
    "GitLab": "{glpat-}" + "w" * 20,
    "Slack bot": "{xoxb-}999999999999-9999999999999-" + "w" * 24,
    "Stripe": "{sk_live_}" + "w" * 24,
    "Google": "{AIza}" + "w" * 35,
    "OpenAI": "{sk-proj-}" + "w" * 48,
    "Anthropic": "{sk-ant-api03-}" + "w" * 93 + "{AA}",
    "Hugging Face": "{hf_}" + "w" * 34,
    "npm": "{npm_}" + "w" * 36,
    "SendGrid": "{SG.}" + "w" * 22 + "." + "w" * 43,
    "DigitalOcean": "{dop_v1_}" + "x" * 64,
    "Shopify": "{shpat_}" + "x" * 32,
    "Telegram": "9999999999:{AA}" + "w" * 33,
    "JWT": "{eyJhbGciOiJIUzI1NiJ9.eyJ}" + "w" * 60 + "." + "w" * 43,
    "bearer": "{Authorization: Bearer }" + "w" * 40,
    "assigned": '{api_key = "}' + "x" * 32 + '"',
    "JSON": '"{client_secret}": "' + "w" * 32 + '"',
    "AWS secret": "{aws_secret_access_key=}" + "w" * 40,
    "URL": "{postgres://app:}" + "w" * 16 + "{@db.internal:5432/main}",
    "password": "{password: }" + "w" * 7 + "9",
}
_SHOWN = {"bearer": 22, "assigned": (11, 1), "JSON": (18, 1), "AWS secret": 22, "URL": (15, 22), "password": 10}
"""How many characters before and after the secret are no secret."""


def keys(rng: random.Random) -> Planted:
    form = rng.choice([*_KEYS, "PEM"])
    if form == "PEM":
        body = "\n".join("".join(rng.choice(_ALPHABETS["w"] + "+/") for _ in range(64)) for _ in range(6))
        return Planted("key", form, f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----")
    return Planted("key", form, drawn(_KEYS[form], rng))


def secret_of(planted: Planted) -> tuple[int, int]:
    """The part of an item that must not be left, as a span of it."""
    shown = _SHOWN.get(planted.form, 0) if planted.kind == "key" else 0
    before, after = shown if isinstance(shown, tuple) else (shown, 0)
    return before, len(planted.item) - after


def addresses(rng: random.Random) -> Planted:
    """Public ranges: those of large access providers."""
    if rng.random() < 0.25:
        return Planted("ip", "IPv6", drawn("{2a02:8}xx:xxxx:xxxx::x{1}", rng))
    first = rng.choice(("84.132", "91.64", "73.22", "24.5", "201.17", "110.232"))
    return Planted("ip", "IPv4", f"{first}.{rng.randint(1, 254)}.{rng.randint(1, 254)}")


def ssns(rng: random.Random) -> Planted:
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return Planted("ssn", "hyphens", f"{area:03d}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}")


MAKERS = {"email": emails, "phone": phones, "card": cards, "iban": ibans, "key": keys, "ip": addresses, "ssn": ssns}

# How a text shows the same digits otherwise.
_WIDE = str.maketrans("0123456789", "０１２３４５６７８９")
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
UNICODE = {
    "full-width digits": lambda s: s.translate(_WIDE),
    "Arabic-Indic digits": lambda s: s.translate(_ARABIC),
    "no-break spaces": lambda s: s.replace(" ", "\u00a0"),
    "thin spaces": lambda s: s.replace(" ", "\u2009"),
    "no-break hyphens": lambda s: s.replace("-", "\u2011"),
    "zero-width spaces": lambda s: s[: len(s) // 2] + "\u200b" + s[len(s) // 2 :],
    "soft hyphens": lambda s: s[:3] + "\u00ad" + s[3:],
}

CONTEXTS: dict[Kind, tuple[str, ...]] = {
    "email": ("Write to {} and tell her I know.", "mailto:{}", "my boss ({}) ignores me", "Email: {}\nPlease help"),
    "phone": (
        "Call me on {} tonight", "phone: {}", "{} is my number, what can a stranger do?", "his cell is {}, right?",
        "Tel. {} or by post", "I keep texting {} and she will not answer.", "WhatsApp {} and say that you are the bank",
    ),
    "card": ("my card is {} exp 12/27", "Visa {}, cvv 123", "Can I buy something with {}?", "pay with card no. {} now"),
    "iban": ("IBAN: {}", "Send the money to {}, please", "transfer 200 euros to {} today", "account {} at my bank"),
    "key": ("{}", "why does this not work?\n{}", "I found this in a repository: {} what is it for", "```\n{}\n```"),
    "ip": ("who lives at {}?", "log: {} - - GET /", "ping {}", "the attacker came from {}."),
    "ssn": ("my ssn is {}", "SSN: {}", "Her social security number, {}, was leaked", "{} is what he gave as social"),
}  # fmt: skip
ANYWHERE = ("write this down: {}", "{}", "I found {} on a piece of paper. What is it?", "Is this right? {}.", "<{}>")


def look_alike(rng: random.Random) -> str:
    """A text with numbers, codes and signs that are nobody's."""
    return drawn(rng.choice(_LOOK_ALIKES), rng)


_LOOK_ALIKES = (
    "{my order number} 9999999999 {has not arrived}",
    "{order #}999-9999999-9999999 {was cancelled, why?}",
    "{what happened on} {2}{0}{1}9-{0}8-{1}9 {at 1}9:{3}9:{2}9{?}",
    "{the war lasted from} {1}9{4}9{-1}9{5}9",
    "{is $1},999,999.99 {a lot for a house?}",
    "{version} 8.99.9 {of python, or 3.1}9.9{?}",
    "{upgrade from} 1{0}.9.99.9 {to v}8.9.9.9{, please}",
    "{ISBN 978-3-16-14841}9{-}9",
    "{the book with ISBN} 9{78}9999999999",
    "{calculate} 9999999 * 88888 {+} 9999 / 99",
    "{what is} 9999 9999 {plus} 9999 9999{?}",
    "{the population is} 8,999,999 {or} 899 999 999{?}",
    "{pi is 3.14159265358979}99999999",
    "{unix timestamp} 1{6}99999999 {in my time zone}",
    "{it took} 9:99:99 {and} 99.99 {seconds}",
    "{the commit} xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx {broke it}",
    "{uuid} xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx",
    "{New York, NY 1}9999-9999",
    "{at 48.8}99999, {2.3}99999 {on the map}",
    "{CAS number} 9999-99-9",
    "{the server at 192.168.}1.9{ and 10.0.}9.9 {do not answer}",
    "{flight} AA{ }9999 {to gate} A99",
    "{patent US}9999999{B2 says what?}",
    "{doi:10.}9999/aaaaa.9999.99999",
    "{tracking} 1{Z}999AA99999999999 {is lost}",
    "{phone model SM-G99}9A {or iPhone 1}9{?}",
    "{reset my password please, the token expired}",
    "{the secret of success is} {perseverance and authentication}",
    "{#}xxxxxx {or rgb(}99, 99, 99{)}",
    "{page 1}99-1{9}9 {of chapter} 8.9.9",
    "{scores: 21-15, 18-21, 21-1}9 {and 3-2-1}",
    "{follow @}aaaaaaa {on twitter, meet me @ the bar}",
    "{part no.} 999-999-999-A",
    "{lottery numbers} 99 99 99 99 99 99",
    "{the number} 9999999999999999 {is it prime?}",
    "{invoice} 99999999 {from} {2}{0}{2}9-{1}{1}-{1}9",
    "{temperature 2}9.9 {C, pressure 1}9{13 hPa, 5e}9 {m}",
    "{MAC address} xx:xx:xx:xx:xx:xx",
    "{https://example.com/item/}9999999999{?id=}9999999",
    "{std::vector<int> a::b(}9, 9{); x @ w}",
    "{2,3,5,7,11,13,17,19,23,29,31,37,4}9",
    "{1 2 3 4 5 6 7 8 9 10 11 12 1}9",
    "{call me at} 8:{30} {pm on} {0}8/{1}9/{202}9",
    "{room} 999, {floor} 9, {building} 99, {extension of the deadline to 1}9{.12.202}9",
    "{file_v}9_99999999_999999.csv {is corrupt}",
    "{EAN} 4999999999999",
)  # fmt: skip
