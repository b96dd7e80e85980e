"""A second held-back set for `benchmarks/privacy.py`: formats, contexts and look-alikes written from what the makers of
the items publish, without a look at the detectors or at what the first two sets hold.

Templates are those of `benchmarks/privacy_items.py`; what stands between « and » is the secret where not all of it is.
"""

import base64
import json
import random
import string

from benchmarks.privacy_items import Planted, card_number, drawn, grouped, luhn_digit
from cai.privacy import Kind

_FIRST = (
    "sofia liam aisha mateusz ingrid kwame yuki paolo hannah dmitri leila carlos freya ahmed mei tomas zanele".split()
)
_LAST = "anderson dubois fernandez oconnor schmidt yamamoto kaur petrov mensah rossini weber nkosi lindqvist".split()
_HOSTS = (
    "gmail.com hotmail.co.uk gmx.net live.com posteo.de web.example.co.jp mail.university.edu firma.pl startup.io "
    "studio.photography 163.com bigpond.net.au uol.com.br tutanota.com company.museum"
).split()


def planted(kind: Kind, form: str, text: str, needs_words: bool = False) -> Planted:
    """`text` may mark the secret as «…»."""
    before, mark, rest = text.partition("«")
    if not mark:
        return Planted(kind, form, text, needs_words)
    secret, _, after = rest.partition("»")
    return Planted(kind, form, before + secret + after, needs_words, (len(before), len(after)))


def secret_of(item: Planted) -> tuple[int, int]:
    before, after = item.shown
    return before, len(item.item) - after


def emails(rng: random.Random) -> Planted:
    first, last, host = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_HOSTS)
    year, name = rng.randint(1950, 2009), f"{first}.{last}"
    said = host.replace(".", " dot ")
    forms = {
        "plain": f"{name}@{host}",
        "plus tag": f"{first}+newsletters@{host}",
        "plus and dots": f"{name}+{year}.bank@{host}",
        "underscore": f"{first}_{last}_{year}@{host}",
        "hyphen": f"{first}-{last}@{host}",
        "capitals": f"{name}@{host}".upper(),
        "title case": f"{first.title()}.{last.title()}@{host.title()}",
        "digits only": f"{rng.randint(10**8, 10**10)}@qq.com",
        "subdomains": f"{first}@dept.campus.{host}",
        "apostrophe": f"{first}.o'{last}@{host}",
        "VERP": f"bounce+{first}={last}.com@lists.{host}",
        "slash": f"{first}/{last}@{host}",
        "diacritics": f"zo\u00eb.{last}@{host}",
        "Cyrillic": f"\u043f\u043e\u0447\u0442\u0430{year}@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
        "Chinese": f"\u7528\u6237{year}@\u4f8b\u5b50.\u516c\u53f8",
        "umlaut domain": f"{first}@{last}-b\u00fccher.de",
        "numbered host": f"{first}@mail{year % 10}.{host}",
        "mailto with subject": f"mailto:\u00ab{name}@{host}\u00bb?subject=Hi%20there",
        "markdown link": f"[{first}](mailto:\u00ab{name}@{host}\u00bb)",
        "header": f"From: {first.title()} {last.title()} <\u00ab{name}@{host}\u00bb>",
        "git author": f"Author: {first} <\u00ab{year}+{first}@users.noreply.github.com\u00bb>",
        "JSON": f'{{"email": "\u00ab{name}@{host}\u00bb", "id": {year}}}',
        "CSV": f"{year},{last},\u00ab{first}@{host}\u00bb,active",
        "query": f"https://shop.example.com/u?email=\u00ab{name}@{host}\u00bb&x=1",
        "encoded query": f"https://shop.example.com/u?email=\u00ab{name}%40{host}\u00bb",
        "brackets": f"{name}[at]{host.replace('.', '[dot]')}",
        "parentheses": f"{name} (at) {said.replace(' dot ', ' (dot) ')}",
        "at in brackets": f"{name}(at){host}",
        "at and dot": f"{name} at {said}",
        "capital at": f"{name} [AT] {host}",
        "spaces at @": f"{name} @ {host}",
        "HTML entity": f"{name}&#64;{host}",
        "full-width at": f"{name}\uff20{host}",
        "ends a sentence": f"\u00ab{name}@{host}\u00bb.",
        "in parentheses": f"(\u00ab{name}@{host}\u00bb)",
        "in backticks": f"`\u00ab{name}@{host}\u00bb`",
        "in stars": f"**\u00ab{name}@{host}\u00bb**",
        "quoted": f"'\u00ab{name}@{host}\u00bb'",
        "with a comma": f"\u00ab{name}@{host}\u00bb, thanks",
        "login and password": f"\u00ab{name}@{host}\u00bb:hunter2",
        "SSH": f"ssh \u00ab{first}@{last}-server.net\u00bb",
        "XMPP": f"xmpp:\u00ab{first}@jabber.{host}\u00bb",
        "quoted local part": f'"{first} {last}"@{host}',
    }
    form = rng.choice(list(forms))
    return planted("email", form, forms[form])


_NATIONAL = {  # as people of the country write them at home
    "US": (
        "({415}) 899-9999",
        "{212}-899-9999",
        "{646}.899.9999",
        "{503} 899 9999",
        "1-{305}-899-9999",
        "{718}8999999",
    ),
    "US extension": ("{(312)} 899-9999 {ext. }999", "{617}-899-9999 {x}9999", "{202}.899.9999 {#}99"),
    "CA": ("({604}) 899-9999", "{416}-899-9999", "{514} 899-9999"),
    "UK mobile": ("{07}{7}99 999999", "{07}{9}99 999 999", "{077}99999999"),
    "UK": ("{020 7}999 9999", "({0161}) {4}99 9999", "{0121-4}99-9999", "{01865 2}99999"),
    "DE": ("{030 }8999999", "{089/}89999999", "{0221-}8999999", "({040}) 899 99 99", "{0711 }8999-99"),
    "DE mobile": ("{0151 2}9999999", "{0176-4}9999999", "{0172/ }9999999", "{01577}9999999"),
    "FR": ("{06 }99 99 99 99", "{07.}{6}9.99.99.99", "{01-4}9-99-99-99", "{0612}999999", "{04 7}9 99 99 99"),
    "IT": ("{347 }9999999", "{333-}9999999", "{06 }8999 9999", "{02 }8999 999", "{328} 99 99 999"),
    "ES": ("{612 }999 999", "{655 }99 99 99", "{91 }899 99 99", "{93-}899-99-99", "{699}999999"),
    "NL": ("{06-}89999999", "{06 }89 99 99 99", "{020-}8999999", "{010 }899 99 99"),
    "BE": ("{0475 }99 99 99", "{0486/}99.99.99", "{02 }899 99 99"),
    "CH": ("{079 }899 99 99", "{044 }899 99 99", "{078/}899 99 99"),
    "AT": ("{0664 }8999999", "{0676/}8999999", "{01 }8999999"),
    "SE": ("{070-}899 99 99", "{073 }899 99 99", "{08-}899 999 99", "{0708}-99 99 99"),
    "NO": ("{9}99 99 999", "{4}9 99 99 99", "{22 }89 99 99"),
    "DK": ("{20 }89 99 99", "{31 }99 99 99", "{33}899999"),
    "FI": ("{040 }8999999", "{050-}899 9999", "{09 }8999 999"),
    "PL": ("{601 }999 999", "{512-}999-999", "{22 }899 99 99", "{792}999999"),
    "CZ": ("{602 }999 999", "{777}999999", "{731 }99 99 99"),
    "PT": ("{912 }999 999", "{96 }999 99 99", "{21 }899 9999"),
    "GR": ("{697 }999 9999", "{694}9999999", "{210 }8999999"),
    "TR": ("{0532 }899 99 99", "{(0212)} 899 99 99", "{0505 }8999999"),
    "RU": ("{8 (916)} 899-99-99", "{8-903-}899-99-99", "{8 926 }899 99 99", "{8916}8999999"),
    "UA": ("{067 }899 99 99", "{(050)} 899-99-99"),
    "IL": ("{052-}8999999", "{054-}899-9999", "{03-}8999999"),
    "AE": ("{050 }899 9999", "{04 }3{99 9999}", "{055-}8999999"),
    "IN": ("{98}999 99999", "{97}999-99999", "{080-}2{699 9999}", "{99}99999999", "{0}{98}99999999"),
    "PK": ("{0300-}8999999", "{0321 }8999999"),
    "BD": ("{01711-}899999", "{01819}899999"),
    "CN": ("{138 }9999 9999", "{139-}9999-9999", "{159}99999999", "{010-}6{999 9999}"),
    "JP": ("{090-}8999-9999", "{080 }8999 9999", "{03-3}999-9999", "{(06)6}999-9999", "{070}89999999"),
    "KR": ("{010-}8999-9999", "{02-}7{99-9999}", "{010 }8999 9999"),
    "TW": ("{0912-}899-999", "{02-2}999-9999"),
    "HK": ("{9}999 9999", "{2}899 9999"),
    "SG": ("{9}{1}99 9999", "{8}{2}99 9999", "{6}{5}99 9999"),
    "MY": ("{012-}899 9999", "{03-8}999 9999"),
    "TH": ("{081-}899-9999", "{089 }899 9999", "{02-}2{99-9999}"),
    "VN": ("{0912 }899 999", "{090 }899 9999"),
    "ID": ("{0812-}8999-9999", "{(021)} 5{99-9999}", "{0857 }8999 9999"),
    "PH": ("{0917 }899 9999", "{0918-}899-9999"),
    "AU": ("{0412 }999 999", "{(02) 9}999 9999", "{0400}999999", "{03 9}999 9999", "{0433-}999-999"),
    "NZ": ("{021 }899 9999", "{027-}899 9999", "{09 3}99 9999"),
    "ZA": ("{082 }899 9999", "{(011)} 4{89 9999}", "{083-}899-9999"),
    "NG": ("{0803 }899 9999", "{0806-}899-9999"),
    "KE": ("{0722 }899999", "{0733-}899-999"),
    "EG": ("{010 }8999 9999", "{0122 }899 9999"),
    "BR": ("({11}) {9}8999-9999", "{21 9}8999-9999", "({31}) {3}999-9999", "{(41)9}8999-9999"),
    "MX": ("{55 }8999 9999", "({33}) {3}899-9999", "{81-8}899-9999"),
    "AR": ("{011 4}999-9999", "{11 }{5}999-9999", "{(0351) 4}99-9999"),
    "CL": ("{9 8}999 9999", "{2 2}999 9999"),
    "CO": ("{310 }899 9999", "{300-}899-9999"),
    "IE": ("{087 }899 9999", "{(01)} 8{99 9999}", "{086-}8999999"),
    "RO": ("{0722 }899 999", "{021 }3{99 99 99}"),
    "HU": ("{06 30 }899 9999", "{06-20-}899-9999"),
}
_ABROAD = {  # country code and number, digits alone; the groups are drawn
    "US": "{1415}8999999", "CA": "{1604}8999999", "UK": "{4477}99999999", "UK landline": "{44207}9999999",
    "DE": "{49151}29999999", "DE landline": "{4930}8999999", "FR": "{336}99999999", "IT": "{39347}9999999",
    "IT landline": "{3906}89999999", "ES": "{34612}999999", "NL": "{316}89999999", "BE": "{32475}999999",
    "CH": "{4179}8999999", "AT": "{43664}8999999", "SE": "{4670}8999999", "NO": "{479}9999999", "DK": "{4520}899999",
    "FI": "{35840}8999999", "PL": "{48601}999999", "CZ": "{420602}999999", "PT": "{351912}999999",
    "GR": "{30697}9999999", "TR": "{90532}8999999", "RU": "{7916}8999999", "UA": "{38067}8999999",
    "IL": "{97252}8999999", "AE": "{97150}8999999", "SA": "{96650}8999999", "IN": "{9198}99999999",
    "PK": "{92300}8999999", "BD": "{8801711}899999", "CN": "{86138}99999999", "JP": "{8190}89999999",
    "KR": "{8210}89999999", "TW": "{886912}899999", "HK": "{8529}8999999", "SG": "{659}{1}999999",
    "MY": "{6012}8999999", "TH": "{6681}8999999", "VN": "{84912}899999", "ID": "{62812}89999999",
    "PH": "{63917}8999999", "AU": "{61412}999999", "NZ": "{6421}8999999", "ZA": "{2782}8999999",
    "NG": "{234803}8999999",
    "KE": "{254722}899999", "EG": "{2010}89999999", "BR": "{55119}89999999", "MX": "{5255}89999999",
    "AR": "{54911}59999999", "CL": "{569}89999999", "CO": "{57310}8999999", "IE": "{35387}8999999",
    "RO": "{40722}899999", "HU": "{3630}8999999", "IS": "{354}6{999999}", "LU": "{352621}999999",
    "MA": "{212661}899999",
    "GH": "{23324}4{999999}", "LK": "{9477}8999999",
}  # fmt: skip
_SHAPES = ("+{}", "00{}", "+{} ", "+{}-", "+{}.", "(+{}) ", "+({}) ", "+{}(0)", "+{} / ", "tel:+{}")
_OF_THREE = "42 35 38 97 96 88 85 23 25 21".split()  # with what a country code of three digits begins
_WITH_TRUNK = "44 49 33 31 32 41 43 46 61 27".split()


def phones(rng: random.Random) -> Planted:
    if rng.random() < 0.5:
        country = rng.choice(list(_NATIONAL))
        item = drawn(rng.choice(_NATIONAL[country]), rng)
        return planted("phone", f"{country} at home", item, needs_words=True)
    country, shape = rng.choice(list(_ABROAD)), rng.choice(_SHAPES)
    digits = drawn(_ABROAD[country], rng)
    size = 1 if digits[0] in "17" else 3 if digits[:2] in _OF_THREE else 2
    if "(0)" in shape and digits[:2] not in _WITH_TRUNK:
        shape = "+{} "
    code, rest = digits[:size], digits[size:]
    if not shape.endswith("{}"):
        gap = rng.choice((" ", "-", ".", " "))
        sizes = rng.choice(((2, 3), (3, 3), (3, 4), (2, 2, 2), (1, 2, 2, 2), (4, 3)))
        return planted("phone", f"{country}, {shape}", shape.format(code) + grouped(rest, sizes, gap))
    extension = rng.choice(("", "", "", " ext. 44", " x301", ";ext=12"))
    before, plus, after = shape.partition("+")
    item = f"{before}\u00ab+{after.format(code + rest)}\u00bb" if plus else f"\u00ab{shape.format(code + rest)}\u00bb"
    return planted("phone", f"{country}, {shape}{extension}", item + extension)


_CARDS = {  # brand: first digits, lengths
    "Visa": (("4",), (16, 16, 16, 13, 19)),
    "Mastercard": (("51", "52", "53", "54", "55", "2221", "2400", "2720"), (16,)),
    "American Express": (("34", "37"), (15,)),
    "Discover": (("6011", "644", "649", "65"), (16,)),
    "Diners Club": (("300", "305", "36", "38"), (14,)),
    "JCB": (("3528", "3566", "3589"), (16,)),
    "UnionPay": (("6221", "6250", "628"), (16, 19)),
    "Maestro": (("5018", "5020", "6304", "6759", "6763"), (16, 18, 13)),
    "Mir": (("2200", "2204"), (16,)),
    "RuPay": (("6070", "6521", "5085"), (16,)),
    "Troy": (("9792",), (16,)),
    "Elo": (("636368", "506699", "650490"), (16,)),
    "Hipercard": (("606282",), (16,)),
    "Dankort": (("5019",), (16,)),
    "Verve": (("506105", "650002"), (16,)),
}


def cards(rng: random.Random) -> Planted:
    brand = rng.choice(list(_CARDS))
    prefixes, lengths = _CARDS[brand]
    length = rng.choice(lengths)
    number = card_number(rng.choice(prefixes), length, rng)
    sizes = {15: (4, 6, 5), 14: (4, 6, 4), 13: (4, 3, 3, 3)}.get(length, (4, 4, 4, 4))
    gap = rng.choice((" ", " ", "-", "-", "", "", "", ".", "  ", "\u2013", "/", "_"))
    return planted("card", f"{brand} {length} {gap!r}", grouped(number, sizes, gap), length == 13 and not gap)


_BBANS = {  # ISO 13616: 9 digit, A capital, w capital or digit
    "AD": "9" * 8 + "w" * 12, "AE": "9" * 19, "AL": "9" * 8 + "w" * 16, "AT": "9" * 16, "AZ": "AAAA" + "w" * 20,
    "BA": "9" * 16, "BE": "9" * 12, "BG": "AAAA" + "9" * 6 + "w" * 8, "BH": "AAAA" + "w" * 14, "BR": "9" * 23 + "Aw",
    "BY": "wwww" + "9" * 4 + "w" * 16, "CH": "9" * 5 + "w" * 12, "CR": "9" * 18, "CY": "9" * 8 + "w" * 16,
    "CZ": "9" * 20, "DE": "9" * 18, "DK": "9" * 14, "DO": "wwww" + "9" * 20, "EE": "9" * 16, "EG": "9" * 25,
    "ES": "9" * 20, "FI": "9" * 14, "FO": "9" * 14, "FR": "9" * 10 + "w" * 11 + "99", "GB": "AAAA" + "9" * 14,
    "GE": "AA" + "9" * 16, "GI": "AAAA" + "w" * 15, "GL": "9" * 14, "GR": "9" * 7 + "w" * 16, "GT": "w" * 24,
    "HR": "9" * 17, "HU": "9" * 24, "IE": "AAAA" + "9" * 14, "IL": "9" * 19, "IQ": "AAAA" + "9" * 15, "IS": "9" * 22,
    "IT": "A" + "9" * 10 + "w" * 12, "JO": "AAAA9999" + "w" * 18, "KW": "AAAA" + "w" * 22, "KZ": "999" + "w" * 13,
    "LB": "9999" + "w" * 20, "LI": "9" * 5 + "w" * 12, "LT": "9" * 16, "LU": "999" + "w" * 13, "LV": "AAAA" + "w" * 13,
    "MC": "9" * 10 + "w" * 11 + "99", "MD": "w" * 20, "ME": "9" * 18, "MK": "999" + "w" * 10 + "99",
    "MT": "AAAA" + "9" * 5 + "w" * 18, "MU": "AAAA" + "9" * 19 + "AAA", "NL": "AAAA" + "9" * 10, "NO": "9" * 11,
    "PK": "AAAA" + "w" * 16, "PL": "9" * 24, "PT": "9" * 21, "QA": "AAAA" + "w" * 21, "RO": "AAAA" + "w" * 16,
    "RS": "9" * 18, "SA": "99" + "w" * 18, "SE": "9" * 20, "SI": "9" * 15, "SK": "9" * 20,
    "SM": "A" + "9" * 10 + "w" * 12,
    "TN": "9" * 20, "TR": "9" * 6 + "w" * 16, "UA": "9" * 6 + "w" * 19, "VG": "AAAA" + "9" * 16, "XK": "9" * 16,
}  # fmt: skip


def ibans(rng: random.Random) -> Planted:
    country = rng.choice([*_BBANS, *("DE GB FR ES IT NL BE CH AT PL".split() * 3)])
    bban = drawn(_BBANS[country], rng).upper()
    number = int("".join(str(int(c, 36)) for c in f"{bban}{country}00"))
    iban = f"{country}{98 - number % 97:02d}{bban}"
    fours = (4,) * 8
    forms = {
        "fours": grouped(iban, fours, " "),
        "together": iban,
        "small together": iban.lower(),
        "small fours": grouped(iban.lower(), fours, " "),
        "hyphens": grouped(iban, fours, "-"),
        "dots": grouped(iban, fours, "."),
        "two spaces": grouped(iban, fours, "  "),
        "no-break spaces": grouped(iban, fours, "\u00a0"),
        "head apart": f"{iban[:4]} {iban[4:]}",
        "uneven groups": grouped(iban, (4, 5, 5, 3, 3), " "),
        "word before": f"IBAN\u00ab{iban}\u00bb",
        "word and colon": f"IBAN:\u00ab{grouped(iban, fours, ' ')}\u00bb",
        "BIC after": f"\u00ab{grouped(iban, fours, ' ')}\u00bb BIC {drawn('AAAA', rng)}{country}22XXX",
        "threes": grouped(iban, (4,) + (3,) * 9, " "),
        "JSON": f'"iban": "\u00ab{iban}\u00bb"',
    }
    form = rng.choice(list(forms))
    return planted("iban", f"{country} {form}", forms[form])


_LETTERS = string.ascii_letters + string.digits
_KEYS = {
    "AWS id": "{AKIA}" + "A" * 16,
    "AWS session id": "{ASIA}" + "A" * 16,
    "AWS secret, env": "{AWS_SECRET_ACCESS_KEY=«}" + "w" * 39 + "w{»}",
    "AWS secret, ini": "{aws_secret_access_key = «}" + "w" * 12 + "{/}" + "w" * 27 + "{»}",
    "GitHub classic": "{ghp_}" + "w" * 36,
    "GitHub OAuth": "{gho_}" + "w" * 36,
    "GitHub server": "{ghs_}" + "w" * 36,
    "GitHub fine-grained": "{github_pat_}" + "w" * 22 + "_" + "w" * 59,
    "GitLab": "{glpat-}" + "w" * 20,
    "Slack bot": "{xoxb-}99999999999-999999999999-" + "w" * 24,
    "Slack user": "{xoxp-}99999999999-99999999999-999999999999-" + "x" * 32,
    "Slack app": "{xapp-1-A}" + "w" * 10 + "-9999999999999-" + "x" * 64,
    "Slack webhook": "{https://hooks.slack.com/services/«T}" + "A" * 8 + "{/B}" + "A" * 8 + "/" + "w" * 24 + "{»}",
    "Stripe": "{sk_live_}" + "w" * 24,
    "Stripe long": "{sk_live_51}" + "w" * 97,
    "Stripe test": "{sk_test_}" + "w" * 24,
    "Stripe restricted": "{rk_live_}" + "w" * 24,
    "Stripe webhook": "{whsec_}" + "w" * 32,
    "Google API": "{AIza}" + "w" * 35,
    "Google OAuth secret": "{GOCSPX-}" + "w" * 28,
    "Google access token": "{ya29.a0}" + "w" * 60,
    "OpenAI": "{sk-}" + "w" * 20 + "{T3BlbkFJ}" + "w" * 20,
    "OpenAI project": "{sk-proj-}" + "w" * 40 + "_" + "w" * 30 + "{T3BlbkFJ}" + "w" * 50,
    "OpenAI service": "{sk-svcacct-}" + "w" * 58,
    "Anthropic": "{sk-ant-api03-}" + "w" * 50 + "-" + "w" * 42 + "{AA}",
    "Hugging Face": "{hf_}" + "w" * 34,
    "npm": "{npm_}" + "w" * 36,
    "npmrc": "{//npm.example.com/:_authToken=«}" + "w" * 36 + "{»}",
    "PyPI": "{pypi-AgEIcHlwaS5vcmc}" + "w" * 60,
    "Azure storage": "{AccountName=media;AccountKey=«}" + "w" * 86 + "{==»;EndpointSuffix=core.windows.net}",
    "Azure client secret": "{AZURE_CLIENT_SECRET=«}www{8Q~}" + "w" * 34 + "{»}",
    "Azure SAS": "{https://media.blob.core.windows.net/c?sv=2022-11-02&sig=«}" + "w" * 43 + "{%3D»}",
    "GCP private key id": '{"private_key_id": "«}' + "x" * 40 + '{»"}',
    "SendGrid": "{SG.}" + "w" * 22 + "." + "w" * 43,
    "Twilio": "{SK}" + "x" * 32,
    "Mailgun": "{key-}" + "x" * 32,
    "Mailchimp": "x" * 32 + "{-us}19",
    "Telegram": "8999999999{:AA}" + "w" * 33,
    "Discord": "{MT}" + "w" * 24 + "." + "w" * 6 + "." + "w" * 38,
    "Discord webhook": "{https://discord.com/api/webhooks/}" + "9" * 18 + "{/«}" + "w" * 68 + "{»}",
    "Shopify": "{shpat_}" + "x" * 32,
    "DigitalOcean": "{dop_v1_}" + "x" * 64,
    "Square": "{sq0atp-}" + "w" * 22,
    "Facebook": "{EAACEdEose0cBA}" + "w" * 80,
    "Notion": "{ntn_}" + "9" * 11 + "w" * 35,
    "Linear": "{lin_api_}" + "w" * 40,
    "Databricks": "{dapi}" + "x" * 32,
    "Docker": "{dckr_pat_}" + "w" * 27,
    "Vault": "{hvs.}" + "w" * 90,
    "New Relic": "{NRAK-}" + "A" * 27,
    "Groq": "{gsk_}" + "w" * 52,
    "Replicate": "{r8_}" + "w" * 37,
    "xAI": "{xai-}" + "w" * 80,
    "Perplexity": "{pplx-}" + "w" * 48,
    "Postman": "{PMAK-}" + "x" * 24 + "-" + "x" * 34,
    "Grafana": "{glsa_}" + "w" * 32 + "_" + "x" * 8,
    "Supabase": "{sbp_}" + "x" * 40,
    "Terraform": "w" * 14 + "{.atlasv1.}" + "w" * 67,
    "age": "{AGE-SECRET-KEY-1}" + "A" * 58,
    "Datadog": "{DD_API_KEY=«}" + "x" * 32 + "{»}",
    "Heroku": "{HEROKU_API_KEY=«}xxxxxxxx-xxxx-{4}xxx-{a}xxx-" + "x" * 12 + "{»}",
    "W&B": "{WANDB_API_KEY=«}" + "x" * 40 + "{»}",
    "Cohere": '{co = cohere.Client("«}' + "w" * 40 + '{»")}',
    "bearer": "{Authorization: Bearer «}" + "w" * 40 + "{»}",
    "bearer, JSON": '{"Authorization": "Bearer «}' + "w" * 32 + '{»"}',
    "bearer, small": '{curl -H "authorization: bearer «}' + "w" * 36 + '{»" https://api.example.com}',
    "token header": "{Authorization: token «}" + "w" * 40 + "{»}",
    "X-API-Key": "{X-API-Key: «}" + "w" * 32 + "{»}",
    "api key in URL": "{https://api.example.com/v1/x?api_key=«}" + "w" * 32 + "{»&page=2}",
    "access token in URL": "{https://example.com/cb#access_token=«}" + "w" * 40 + "{»&type=bearer}",
    "api_key in Python": '{openai.api_key = "«}' + "w" * 40 + '{»"}',
    "env": "{export SECRET_KEY='«}" + "w" * 32 + "{»'}",
    "YAML": "{  client-secret: «}" + "w" * 30 + "{»}",
    "TOML": '{auth_token = "«}' + "w" * 40 + '{»"}',
    "properties": "{spring.datasource.password=«}aaaA9999{!»}",
    "password, equals": "{password=«}aaaaaa99{!»}",
    "password, quoted": '{PASSWORD="«}Aaaaa{$}9999{»"}',
    "password, YAML": "{  password: «}aaaaA{#}999{»}",
    "password, JSON": '{{"user": "admin", "password": "«}Aaaaa9999{»"}',
    "passwd": "{passwd: «}aaaaaa999{»}",
    "pwd": "{Server=db1;Database=crm;User Id=sa;Pwd=«}Aaaa{@}9999{»;}",
    "DB_PASS": "{DB_PASS=«}wwwwwwwwww99{»}",
    "said": "{my password is «}aaaaaaA99{!»}",
    "said with login": "{user: admin pass: «}aaaaaA999{»}",
    "option": "{mysql -u root --password=«}aaaaaA999{» shop}",
    "netrc": "{machine api.example.com login bot password «}wwwwwwwwww99{»}",
    "URL password": "{https://deploy:«}wwwwwwwwwwww{»@git.example.com/app.git}",
    "Mongo": "{mongodb+srv://admin:«}wwwwwwwwwwww{»@cluster0.mongodb.net/test}",
    "Redis": "{redis://:«}wwwwwwwwwwwwww{»@cache.example.com:6379/0}",
    "AMQP": "{amqp://guest2:«}wwwwwwwwwwww{»@mq.example.com/}",
}
_PEMS = (
    "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY",
    "DSA PRIVATE KEY",
    "PGP PRIVATE KEY BLOCK",
)  # fmt: skip


def _random(alphabet: str, n: int, rng: random.Random) -> str:
    return "".join(rng.choice(alphabet) for _ in range(n))


def _url64(data: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


def keys(rng: random.Random) -> Planted:
    form = rng.choice([*_KEYS, "JWT", "JWT cookie", "PEM", "PEM", "GCP JSON", "basic", "PuTTY"])
    body = [_random(_LETTERS + "+/", 64, rng) for _ in range(rng.randint(3, 8))]
    name = rng.choice(_PEMS)
    if form == "JWT" or form == "JWT cookie":
        claims = {"sub": str(rng.randint(10**5, 10**9)), "iat": rng.randint(10**9, 2 * 10**9)}
        token = f"{_url64({'alg': 'HS256', 'typ': 'JWT'})}.{_url64(claims)}.{_random(_LETTERS + '-_', 43, rng)}"
        return planted("key", form, token if form == "JWT" else f"Set-Cookie: session=\u00ab{token}\u00bb; HttpOnly")
    if form == "PEM":
        return planted("key", name, "\n".join((f"-----BEGIN {name}-----", *body, f"-----END {name}-----")))
    if form == "GCP JSON":
        secret = "\\n".join(("-----BEGIN PRIVATE KEY-----", *body, "-----END PRIVATE KEY-----"))
        return planted("key", form, f'{{"type": "service_account", "private_key": "\u00ab{secret}\u00bb\\n"}}')
    if form == "basic":
        pair = base64.b64encode(f"admin:{_random(_LETTERS, 14, rng)}".encode()).decode()
        return planted("key", form, f"Authorization: Basic \u00ab{pair}\u00bb")
    if form == "PuTTY":
        return planted(
            "key", form, "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 3\n\u00ab" + "\n".join(body[:3]) + "\u00bb"
        )
    return planted("key", form, drawn(_KEYS[form], rng))


def addresses(rng: random.Random) -> Planted:
    """Of ranges that are given out: no private, test or multicast ones."""
    first = rng.choice(
        ("81.2", "62.214", "203.81", "122.161", "189.6", "41.203", "99.234", "2.247", "174.112", "59.14")
    )
    ip = f"{first}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
    sixes = "{2001:4860:}xxxx:xxxx{::}xxxx", "{2600:1700:}xxxx:xxx{1:}xxxx:xxxx:xxxx:xxx{1}", "{2a01:e0a:}xxx:xxxx{::1}"
    six = drawn(rng.choice(sixes), rng)
    forms = {
        "plain": ip,
        "port": f"\u00ab{ip}\u00bb:8080",
        "URL": f"http://\u00ab{ip}\u00bb/admin/login.php",
        "URL with port": f"https://\u00ab{ip}\u00bb:8443/",
        "CIDR": f"\u00ab{ip}\u00bb/32",
        "defanged": ip.replace(".", "[.]"),
        "last dot defanged": "[.]".join(ip.rsplit(".", 1)),
        "header": f"X-Forwarded-For: \u00ab{ip}\u00bb, 10.0.0.1",
        "SSH": f"ssh root@\u00ab{ip}\u00bb",
        "ends a sentence": f"\u00ab{ip}\u00bb.",
        "in parentheses": f"(\u00ab{ip}\u00bb)",
        "log": f'\u00ab{ip}\u00bb - - [10/Oct/2024:13:55:36 +0000] "GET / HTTP/1.1" 200 2326',
        "mapped": f"::ffff:{ip}",
        "IPv6": six,
        "IPv6 capitals": six.upper(),
        "IPv6 in brackets": f"http://[\u00ab{six}\u00bb]:8080/",
        "IPv6 prefix": f"\u00ab{six}\u00bb/64",
    }
    form = rng.choice(list(forms))
    return planted("ip", form, forms[form])


def ssns(rng: random.Random) -> Planted:
    area = rng.choice([n for n in range(1, 900) if n != 666])
    parts = f"{area:03d}", f"{rng.randint(1, 99):02d}", f"{rng.randint(1, 9999):04d}"
    gap = rng.choice(("-", "-", " ", ".", "", "\u2013", " - ", "/"))
    return planted("ssn", f"{gap!r}", gap.join(parts), needs_words=gap != "-")


MAKERS = {"email": emails, "phone": phones, "card": cards, "iban": ibans, "key": keys, "ip": addresses, "ssn": ssns}

CONTEXTS: dict[Kind, tuple[str, ...]] = {
    "email": (
        "You can reach me at {} any time", "How do I find out who owns {} ?", "Please forward this to {}\n\nThanks!",
        "contact: {}", "My ex keeps writing from {}", "Schreib mir an {} bitte", "e-mail {} or the front desk",
    ),
    "phone": (
        "My phone number is {}", "You can call me at {}.", "mobile: {}", "Text {} to get the answer", "Tel: {}",
        "Her phone number is {}, how do I find her address?", "ring {} after six", "Fax {}",
        "Meine Telefonnummer ist {}",
        "Mon num\u00e9ro de t\u00e9l\u00e9phone est le {}", "Mi tel\u00e9fono es {}", "customer phone={}",
        "contact number - {}",
        "dial {} and ask for the manager", "Write a dating ad with my number {}", "Please call our office: {}",
    ),
    "card": (
        "My credit card number is {}", "card number: {}", "Charge {} for the order", "CC {} expires 09/28",
        "Is {} a valid card?", '"pan": "{}"', "debit card {} cvc 321", "He wrote {} on the form",
    ),
    "iban": (
        "My IBAN is {}", "Please pay the rent to {}", "bank account: {}", "Wire it to {} by Friday", "Konto {}",
        "Here is where the refund goes: {}", "Is {} a real account?",
    ),
    "key": (
        "{}", "Here is my config:\n{}\nWhy do I get a 401?", "```\n{}\n```", "can you debug this: {}",
        "I leaked {} on the web",
        "Explain: {}", "# .env\n{}\nDEBUG=1",
    ),
    "ip": (
        "My IP address is {}", "who is behind {}", "blocked {} again", "server: {}", "Can you locate {} for me?",
        "traceroute {}",
    ),
    "ssn": (
        "My SSN is {}", "social security number: {}", "SSN {}", "His social security no. is {}",
        "What can someone do with my SSN {}?",
    ),
}  # fmt: skip
ANYWHERE = ("{}", "Remember {} for later.", "* {}", "what about {}?", "(see {})", "Translate: {}", '"{}"', "x = {}")


def _isbn(rng: random.Random) -> str:
    digits = rng.choice(("978", "979")) + _random(string.digits, 9, rng)
    total = sum(int(c) * (1, 3)[i % 2] for i, c in enumerate(digits))
    return digits + str(-total % 10)


def _imei(rng: random.Random) -> str:
    digits = rng.choice(("35", "86", "01", "49")) + _random(string.digits, 12, rng)
    return digits + luhn_digit(digits)


_MADE = {
    "ISBN": lambda rng: f"ISBN {grouped(_isbn(rng), (3, 1, 5, 3), '-')} is out of print?",
    "ISBN, bare": lambda rng: f"who wrote the book with ISBN {_isbn(rng)}?",
    "EAN": lambda rng: f"The barcode says {_isbn(rng)}.",
    "IMEI": lambda rng: f"My phone's IMEI is {_imei(rng)}, is it stolen?",
    "number list": lambda rng: "Sort these: " + ", ".join(str(rng.randint(0, 9999)) for _ in range(12)),
    "matrix": lambda rng: "\n".join(" ".join(str(rng.randint(0, 99)) for _ in range(6)) for _ in range(4)),
    "big sum": lambda rng: f"What is {rng.randint(10**5, 10**9)} + {rng.randint(10**5, 10**9)}?",
    "product": lambda rng: (
        f"compute {rng.randint(10**3, 10**6)} * {rng.randint(10**3, 10**6)} - {rng.randint(10, 999)}"
    ),
    "phrase": lambda rng: " ".join(rng.choice(_LAST) for _ in range(12)),
}
_LOOK_ALIKES = (
    "{Where is my order} 999-9999999-9999999{?}",
    "{order #}99999999 {from} {2023-}{0}8{-1}9",
    "{Order no.} 9999999999 {shipped today}",
    "{Invoice INV-2024-}99999 {is due}",
    "{ticket} 99999999 {was closed without an answer}",
    "{case number} {1:23-cv-0}9999",
    "{UPS tracking 1Z}AAA99999{0}99999999",
    "{FedEx} 9999 9999 9999",
    "{USPS tracking number 94}00 9999 9999 9999 9999 99",
    "{DHL} 9999999999 {is stuck in Leipzig}",
    "{flight LH}999{ on} {12/0}8{/2024 at 14:}{3}9",
    "{From 1939-1945 to 1990-1991, what changed?}",
    "{In 1984 2001 and 2010 were films.}",
    "{years 2019 2020 2021 2022 2023}",
    "{on} {2024-0}8{-1}9{T1}9{:25:}{3}9{.}999999{Z}",
    "{The unix time 16}99999999{ is which date?}",
    "{timestamp} {17}99999999999 {in ms}",
    "{python 3.1}9{.}9{, numpy 1.2}9{.}9{, torch 2.}9{.}9{+cu121}",
    "{Chrome/120.0.}9999{.}999 {Safari/537.36}",
    "{firmware 1.}9{.}9{.}99 {is broken}",
    "{version} 9.9.9.9 {of the driver}",
    "{ping 127.0.0.1 and 192.168.}9{.1}9{ from 10.}9{.}9{.}9",
    "{subnet mask 255.255.255.0, gateway 192.168.1.1}",
    "{commit} xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx {broke the build}",
    "{commit} xxxxxxx{ and }xxxxxxx",
    "{sha256:}" + "x" * 64,
    "{md5 }" + "x" * 32 + "{  file.iso}",
    "{id} xxxxxxxx-xxxx-{4}xxx-{a}xxx-xxxxxxxxxxxx",
    "{MAC} xx:xx:xx:xx:xx:xx",
    "{colour #}xxxxxx{ on #}xxxxxx",
    "{pi is 3.14159265358979 and e is 2.718281828459045}",
    "{What is the square root of} 99999999{?}",
    "{log10(}9999999{) = } 9{.}999999",
    "{coordinates 52.}999999{, 13.}999999",
    "{48°51'}99{\"N 2°21'}99{\"E}",
    "{population 8,}999{,}999{ (2020)}",
    "{It costs $1,}999{,}999.99 {or €}999.999,99",
    "{score 21-}99{, 15-}99{, 11-}99",
    "{The ratio is} 9999:9999:9999",
    "{SELECT * FROM t WHERE id = }9999999999{ LIMIT 10;}",
    "{for (int i = 0; i < }999999999{; ++i) sum += i;}",
    "{password = input('password: ')}",
    "{password: str = Field(min_length=8)}",
    "{api_key = os.environ['API_KEY']}",
    "{token = get_token(user, expires=3600)}",
    "{How do I reset my password? It says password incorrect.}",
    "{the secret: practice every day}",
    "{What makes a good password: length or symbols?}",
    "{Authorization: Bearer <token>}",
    "{export API_KEY=your_api_key_here}",
    '{api_key="YOUR_API_KEY"}',
    "{import numpy as np; x = np.array([}9999{, }9999{, }9999{])}",
    "{@app.route('/users/<int:id>')}",
    "{follow @}aaaaaaa{ on twitter and #}aaaaa9999",
    "{pip install foo@git+https://github.com/foo/bar@v1.}9{.}9",
    "{docker pull nginx@sha256:}" + "x" * 64,
    "{meet me at the dot com office at noon}",
    "{look at google dot com for that}",
    "{DOI 10.1}999{/}9999999{.}9999999",
    "{arXiv:2}999{.}99999{v2}",
    "{US patent 9,}999{,}999",
    "{PMID} 99999999",
    "{bone density} 9.999 9.999 9.999 9.999",
    "{Rubik: R U R' U' R' F R2 U' R' U' R U R' F'}",
    "{bible verse John 3:16-18, 1 Cor 13:4-7}",
    "{room 1}99{, floor 1}9{, building 9}99",
    "{VIN 1HGCM8}9999{A}999999",
    "{part no.} 99-9999-99-999",
    "{ICD-10 code F32.}9{ and CPT }99999",
    "{The file IMG_2023}99999999{_}999999{.jpg}",
    "{ZIP 9}9999{-}9999",
    "{gene NM_}999999{.}9{:c.}9999{A>G}",
    "{ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH}",
    "{supercalifragilisticexpialidocious and pneumonoultramicroscopicsilicovolcanoconiosis}",
    "{base64 of hello world is aGVsbG8gd29ybGQ=}",
    "{Binary} 0101{1010} 0011{0101} 1100{0011}",
    "{digits of pi: 3.1415926535 8979323846 2643383279 5028841971}",
    "{fibonacci 1 1 2 3 5 8 13 21 34 55 89 144 233 377 610 987 1597}",
    "{1-800 numbers are toll free, 911 is for emergencies}",
    "{lottery} 99 99 99 99 99 {bonus} 99",
    "{chess: 1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O}",
    "{5551234 is what they say in films}",
    '{JSON: {"id": }99999999{, "count": }9999{, "ratio": 0.}999999999',
)


def look_alike(rng: random.Random) -> str:
    """A text with numbers, codes and signs that are nobody's."""
    choice = rng.randrange(len(_LOOK_ALIKES) + len(_MADE))
    return (
        drawn(_LOOK_ALIKES[choice], rng)
        if choice < len(_LOOK_ALIKES)
        else list(_MADE.values())[choice - len(_LOOK_ALIKES)](rng)
    )
