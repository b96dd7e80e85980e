"""Other formats and other contexts than `benchmarks/privacy_items.py` has, written when the detectors were done."""

import random
import string

from benchmarks.privacy_items import _FIRST, _LAST, Planted, card_number, drawn, grouped, luhn_digit
from cai.privacy import Kind

_HOSTS = (
    "web.de libero.it orange.fr icloud.com zoho.eu fastmail.fm naver.com qq.com hospital.nhs.uk cs.ox.ac.uk".split()
)


def emails(rng: random.Random) -> Planted:
    first, last, host = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_HOSTS)
    n = rng.randint(100, 9999)
    forms = {
        "umlaut": f"j\u00f6rg.{last}@{host}",
        "quoted": f'"{first} {last}"@{host}'.replace(" ", "."),
        "international domain": f"{first}@m\u00fcller-{last}.de",
        "punycode": f"{first}@xn--mller-kva.de",
        "four levels": f"{first}.{last}@mx1.eu.{host}",
        "in angles": f"{first.title()} {last.title()} <{first[0]}{last}@{host}>",
        "year": f"{last}{n}@{host}",
        "single letter": f"{first[0]}@{host}",
        "said": f"{first} at {last} dot com",
        "said in capitals": f"{first}.{last} AT {host.replace('.', ' DOT ')}",
        "braces": f"{first}{{at}}{last}{{dot}}org",
        "spaces": f"{first}.{last} @ gmail.com",
        "percent-encoded": f"{first}.{last}%40{host}",
        "HTML entity": f"{first}{n}&#64;{host}",
        "then a sentence": f"{first}@{last}.com.Thanks",
    }
    form = rng.choice(list(forms))
    return Planted("email", form, forms[form])


_PHONES = {
    "SE": ("{070}-999 99 99", False),
    "NO": ("+47 {412} 99 999", False),
    "DK words": ("{20} 99 99 99", True),
    "FI": ("{040} 8999999", False),
    "PT": ("+351 {912} 999 999", False),
    "TR": ("{0532} 899 99 99", False),
    "ZA": ("{082} 899 9999", False),
    "MX words": ("{55} 8999 9999", True),
    "AR": ("+54 {9 11} 8999-9999", False),
    "NG": ("{0803} 899 9999", False),
    "SG": ("+65 {9}999 9999", False),
    "HK words": ("{9}899 9999", True),
    "UA": ("+380 {67} 899 99 99", False),
    "GR": ("+30 {694} 999 9999", False),
    "IL": ("{054}-899-9999", False),
    "CH": ("{079} 899 99 99", False),
    "AT": ("{0664} 8999999", False),
    "BE": ("{0470} 99 99 99", False),
    "AE": ("{050} 899 9999", True),
    "PK": ("{0300}-8999999", False),
    "ID": ("{0812}-8999-9999", False),
    "PH": ("{0917} 899 9999", False),
    "US extension": ("({212}) 8{5}8-9999 {ext. }99", False),
    "US wide hyphens": ("{646} - 8{5}8 - 9999", False),
    "US slash": ("{312}/8{4}8-9999", False),
    "US toll-free": ("1 ({800}) 8{3}8 9999", False),
    "US from abroad": ("{001 415} 8{5}8 9999", False),
    "US spaces": ("{503} 8{4}8 9999", False),
    "US underscores of a form": ("8{1}8-8{4}9-9999", True),
    "UK landline": ("{01632} {960}999", False),
    "UK 0117": ("({0117}) {496} 9999", False),
    "DE brackets": ("({089}) 8999999", False),
    "DE zero in brackets": ("+49 ({0}){151} 89999999", False),
    "tel URI": ("{tel:+1-617-}8{5}8-9999", False),
    "IE": ("+353 {87} 899 9999", False),
    "NZ": ("{021} 899 999", True),
    "VN": ("+84 {912} 999 999", False),
    "CO": ("+57 {310} 899 9999", False),
    "SA": ("+966 {50} 899 9999", False),
    "TW": ("{0912}-999-999", False),
}  # fmt: skip


def phones(rng: random.Random) -> Planted:
    form = rng.choice(list(_PHONES))
    template, needs_words = _PHONES[form]
    return Planted("phone", form, drawn(template, rng), needs_words)


def cards(rng: random.Random) -> Planted:
    form = rng.choice(("UnionPay 19", "Visa 19", "Mir", "Discover 65", "Maestro", "JCB", "dots", "two spaces", "Amex"))
    prefix, length = {
        "UnionPay 19": ("622", 19), "Visa 19": ("4", 19), "Mir": ("2201", 16), "Discover 65": ("65", 16),
        "Maestro": ("6759", 16), "JCB": ("3566", 16), "Amex": ("34", 15),
    }.get(form, ("53", 16))  # fmt: skip
    number = card_number(prefix, length, rng)
    assert luhn_digit(number[:-1]) == number[-1]
    gap = {"dots": ".", "two spaces": "  "}.get(form, rng.choice((" ", "", "-")))
    return Planted("card", f"{form} {gap!r}", grouped(number, (4, 4, 4, 4) if len(number) != 15 else (4, 6, 5), gap))


_BBANS = {
    "DK": "9" * 14, "FI": "9" * 14, "IE": "AAAA" + "9" * 14, "GR": "9" * 23, "HU": "9" * 24, "CZ": "9" * 20,
    "RO": "AAAA9999999999999999", "LU": "9" * 16, "LT": "9" * 16, "HR": "9" * 17, "KW": "AAAA" + "9" * 22,
    "QA": "AAAA" + "9" * 21, "IL": "9" * 19, "EG": "9" * 25, "PK": "AAAA" + "9" * 16, "UA": "9" * 25,
    "BG": "AAAA" + "9" * 14,
}  # fmt: skip


def ibans(rng: random.Random) -> Planted:
    country = rng.choice(list(_BBANS))
    bban = drawn(_BBANS[country], rng)
    check = 98 - int("".join(str(int(c, 36)) for c in f"{bban}{country}00")) % 97
    iban = f"{country}{check:02d}{bban}"
    shape = rng.choice(("hyphens", "spaced", "tight", "first two apart"))
    gap = {"hyphens": "-", "spaced": " "}.get(shape, "")
    shown = f"{iban[:2]} {iban[2:]}" if shape == "first two apart" else grouped(iban, (4,) * 8, gap)
    return Planted("iban", f"{country} {shape}", shown)


_KEYS = {
    "GitHub OAuth": "{gho_}" + "w" * 36,
    "GitHub app": "{ghs_}" + "w" * 36,
    "Slack user": "{xoxp-}999999999999-999999999999-999999999999-" + "x" * 32,
    "Slack app": "{xapp-1-A}" + "A" * 10 + "-9999999999999-" + "x" * 64,
    "Slack hook": "{https://hooks.slack.com/services/T}AAAAAAAA/{B}AAAAAAAA/" + "w" * 24,
    "Stripe restricted": "{rk_live_}" + "w" * 24,
    "Stripe hook": "{whsec_}" + "w" * 32,
    "Google client": "{GOCSPX-}" + "w" * 28,
    "Google OAuth": "{ya29.}" + "w" * 60,
    "AWS temporary": "{ASIA}" + "A" * 16,
    "Square": "{sq0atp-}" + "w" * 22,
    "PyPI": "{pypi-AgEIcHlwaS5vcmc}" + "w" * 70,
    "Docker": "{dckr_pat_}" + "w" * 27,
    "GitLab runner": "{glrt-}" + "w" * 20,
    "Vault": "{hvs.}" + "w" * 90,
    "New Relic": "{NRAK-}" + "A" * 27,
    "Postman": "{PMAK-}" + "x" * 24 + "-" + "x" * 34,
    "Linear": "{lin_api_}" + "w" * 40,
    "Azure storage": "{AccountName=prod;AccountKey=}" + "w" * 86 + "==",
    "Mailgun": "{key-}" + "x" * 32,
    "Twilio": "{SK}" + "x" * 32,
    "Discord": "{MTA}" + "w" * 21 + ".{Gx}" + "w" * 4 + "." + "w" * 38,
    "Databricks": "{dapi}" + "x" * 32,
    "Groq": "{gsk_}" + "w" * 52,
    "Cloudflare by name": "{CLOUDFLARE_API_TOKEN=}" + "w" * 40,
    "Django": "{SECRET_KEY = '}" + "w" * 50 + "'",
    "header": "{X-Api-Key: }" + "w" * 32,
    "basic": "{Authorization: Basic }" + "w" * 30 + "==",
    "query": "{https://api.host.io/v1?access_token=}" + "w" * 32,
    "Mongo": "{mongodb+srv://root:}" + "w" * 14 + "{@cluster0.mongodb.net}",
    "connection": "{Server=db;User Id=sa;Password=}" + "w" * 9 + "9{;}",
    "said password": "{my password is }" + "a" * 7 + "99",
    "curl": "{curl -u admin:}" + "w" * 16 + "{ https://host.io}",
    "YAML": "{  db_password: }" + "w" * 12 + "9",
}
_SHOWN = {  # how many characters before and after the secret are no secret
    "Slack hook": (8, 0),
    "Azure storage": (28, 0), "Cloudflare by name": (21, 0), "Django": (14, 1), "header": (11, 0), "basic": (21, 0),
    "query": (36, 0), "Mongo": (19, 21), "connection": (30, 1), "said password": (15, 0),
    "curl": (14, 16), "YAML": (15, 0),
}  # fmt: skip


def keys(rng: random.Random) -> Planted:
    form = rng.choice([*_KEYS, "OpenSSH", "PGP", "PEM cut off"])
    lines = ["".join(rng.choice(string.ascii_letters + string.digits + "+/") for _ in range(70)) for _ in range(5)]
    body = "\n".join(lines)
    blocks = {
        "OpenSSH": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----",
        "PGP": f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{body}\n=a1Bz\n-----END PGP PRIVATE KEY BLOCK-----",
        "PEM cut off": f"-----BEGIN EC PRIVATE KEY-----\n{body}",
    }
    return Planted("key", form, blocks.get(form) or drawn(_KEYS[form], rng))


def secret_of(planted: Planted) -> tuple[int, int]:
    """The part of an item that must not be left, as a span of it."""
    if planted.form == "tel URI":
        return 4, len(planted.item)
    before, after = _SHOWN.get(planted.form, (0, 0)) if planted.kind == "key" else (0, 0)
    if planted.form == "in angles":
        before, after = planted.item.index("<") + 1, 1
    if planted.form == "then a sentence":
        after = len(".Thanks")
    if planted.form in ("port", "CIDR"):  # neither is anybody's
        after = len(planted.item) - planted.item.index(":" if planted.form == "port" else "/")
    return before, len(planted.item) - after


def addresses(rng: random.Random) -> Planted:
    a, b, c = (rng.randint(1, 254) for _ in range(3))
    forms = {
        "port": f"81.{a}.{b}.{c}:8080", "plain": f"142.{a}.{b}.{c}", "CIDR": f"188.{a}.{b}.{c}/24",
        "IPv6 whole": drawn("{2001:16b8:}xxxx:xxxx:xxxx:xxxx:xxxx:xxxx", rng),
        "IPv6 brackets": drawn("[{2a01:}xxxx:xxxx::xxxx]", rng),
    }  # fmt: skip
    form = rng.choice(list(forms))
    return Planted("ip", form, forms[form])


def ssns(rng: random.Random) -> Planted:
    form, gap = rng.choice((("spaces", " "), ("bare", ""), ("hyphens", "-"), ("en dashes", "\u2013")))
    area = rng.choice([n for n in range(1, 900) if n != 666])
    item = f"{area:03d}{gap}{rng.randint(1, 99):02d}{gap}{rng.randint(1, 9999):04d}"
    return Planted("ssn", form, item, needs_words=form in ("spaces", "bare"))


MAKERS = {"email": emails, "phone": phones, "card": cards, "iban": ibans, "key": keys, "ip": addresses, "ssn": ssns}

CONTEXTS: dict[Kind, tuple[str, ...]] = {
    "email": ("cc: {}, thanks", "Who owns {}?", "log in as {}\nand then", "spam {} until he quits"),
    "phone": (
        "you can reach him at {}", "Mobile: {}", "ring {} after six", "I got a text from {}", "my new cell is {}!",
        "Please call {}.", "Telephone number {} belongs to whom?", "fax {}",
    ),
    "card": ("she typed {} into the form", "CC: {}, name on the card: A B", "debit card {}", "charge it to {} please"),
    "iban": ("wire it to {}", "(IBAN {})", "beneficiary: {}, bank: X", "my bank account is {}."),
    "key": ("config:\n{}\n", "is this safe to publish? {}", "someone posted {} online", "{}\nreturns 401"),
    "ip": ("whois {}", "banned {} for a week", "ssh to {}", "connection from {} refused"),
    "ssn": ("social security number {}", "SSN {}", "What can be done with an SSN such as {}?", "(ssn: {})"),
}  # fmt: skip
ANYWHERE = ("- {}", "note to self {}", "What does {} mean?", "'{}'", "a; {}; b")
