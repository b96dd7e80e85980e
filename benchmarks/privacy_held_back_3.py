"""A third held-back set, for `benchmarks/privacy.py --held-back 3`: formats and contexts from public knowledge of how
people and companies write these things, put down without a look at the detectors, their tests or the other sets.

Templates are read as `benchmarks/privacy_tables_3.py` says. All numbers are drawn and all check digits are right, save
national ones inside an IBAN, which ISO 13616 does not know. Look-alikes are in `benchmarks/privacy_look_alikes_3.py`.
"""

import base64
import ipaddress
import json
import random
import string
import zlib

from benchmarks.privacy_items import Planted, card_number, grouped
from benchmarks.privacy_look_alikes_3 import look_alike
from benchmarks.privacy_tables_3 import BBANS, PHONES, TOKENS, made
from cai.privacy import Kind

__all__ = ["ANYWHERE", "CONTEXTS", "MAKERS", "look_alike", "secret_of"]


def _planted(kind: Kind, form: str, text: str, needs_words: bool = False) -> Planted:
    if "«" not in text:
        return Planted(kind, form, text, needs_words)
    before, rest = text.split("«")
    secret, after = rest.split("»")
    return Planted(kind, form, before + secret + after, needs_words, (len(before), len(after)))


def secret_of(planted: Planted) -> tuple[int, int]:
    before, after = planted.shown
    return before, len(planted.item) - after


_FIRST = (
    "aisha bjorn camille dmitri esra felipe greta hiroshi ines jonas katya lucia mateo ngozi olga pawel ravi".split()
)
_LAST = (
    "almeida bauer castro dubois eriksen fischer gupta horvat ito jovanovic kaya lindqvist mbeki nowak ozturk".split()
)
_HOSTS = (
    "gmail.com hotmail.co.uk gmx.net web.de icloud.com yandex.ru orange.fr libero.it wp.pl seznam.cz naver.com "
    "uol.com.br students.cs.uni-bremen.de mail.tohoku.ac.jp northwind.dev brightlabs.io kiwi-tours.co.nz atelier.paris "
    "hey.xyz"
).split()


def emails(rng: random.Random) -> Planted:
    f, l, h = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_HOSTS)  # noqa: E741
    name, top = h.rsplit(".", 1)
    n, dots = rng.randint(70, 99), h.replace(".", " dot ")
    forms = {
        "initial": f"{f[0]}.{l}@{h}",
        "year": f"{l}19{n}@{h}",
        "one letter": f"{f[0]}@{h}",
        "digits only": made("<z><d8>@qq.com", rng),
        "tag with hyphens": f"{f}.{l}+news-letter_{n}@{h}",
        "edges": f"_{f}-@{h}",
        "new top": f"{f}@{l}.{rng.choice(('technology', 'museum', 'cloud', 'email', 'berlin', 'international'))}",
        "shouted": f"{f}.{l}@{h}".upper(),
        "deep host": f"{f}{n}@mx1.eu.corp.{l}-group.com",
        "relay": made("<a10>@privaterelay.appleid.com", rng),
        "odd atoms": rng.choice((f"{f}&{l}@{h}", f"{f}/dept=hr@{h}", f"{f}!{l[0]}@{h}", f"#{f}~{n}@{h}")),
        "quoted": f'"{f} {l}"@{h}',
        "address literal": f"{f}@[{rng.randint(11, 99)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{n}]",
        "angles": f"{f.title()} {l.title()} <«{f}.{l}@{h}»>",
        "mailto": f"mailto:«{f}{n}@{h}»?subject=Hello%20there",
        "umlaut host": f"{f}@{rng.choice(('bücher.de', 'müller-bau.com', 'café-lyon.fr', 'señal.es'))}",
        "Cyrillic": f"{rng.choice(('анна', 'иван.петров', 'почта'))}@{rng.choice(('пример.рф', 'компания.рф'))}",
        "accents": f"{rng.choice(('josé.garcía', 'bjørn', 'zoë', 'łukasz'))}@{h}",
        "punycode": f"{f}.{l}@xn--mller-kva{n}.de",
        "percent": f"{f}.{l}%40{h}",
        "entity": f"{f}{n}&#64;{h}",
        "wide at": f"{f}.{l}＠{h}",
        "spaces round at": f"{f}.{l} @ {h}",
        "(at) (dot)": f"{f}.{l} (at) {h.replace('.', ' (dot) ')}",
        "[@] [.]": f"{f}{n}[@]{h.replace('.', '[.]')}",
        "(@)": f"{f}.{l}(@){h}",
        "words": f"{f} dot {l} at {dots}",
        "shouted words": f"{f}.{l} AT {h.replace('.', ' DOT ')}",
        "at, true dots": f"{f}{n} [at] {h}",
        "underscores": f"{f}_at_{h.replace('.', '_dot_')}",
        "braces": f"{f}.{l}{{at}}{h.replace('.', '{dot}')}",
        "angle at": f"{f}{n} <at> {h.replace('.', ' <dot> ')}",
        "German": f"{f}.{l} (ät) {name} punkt {top}",
        "French": f"{f} arobase {h.replace('.', ' point ')}",
        "Spanish": f"{f}{n} arroba {h.replace('.', ' punto ')}",
        "true at, dot word": f"{f}@{h.replace('.', ' dot ')}",
    }
    form = rng.choice(list(forms))
    return _planted("email", form, forms[form])


def _forms(line: str) -> tuple[str, list[str], list[str]]:
    country, forms = line.split(": ", 1)
    told, _, bare = forms.partition("?")
    return country, told.split("|"), bare.split("|") if bare else []


_COUNTRIES = [_forms(line) for line in PHONES.strip().splitlines()]


def phones(rng: random.Random) -> Planted:
    country, told, bare = rng.choice(_COUNTRIES)
    template = rng.choice(told + bare)
    return _planted("phone", f"{country} {template}", made(template, rng), template in bare)


# Card: issuer ranges as the schemes publish them; the flag says that few know the range, so that words must tell.
_CARDS = {
    "Visa": ("4", (16,), False), "Visa old": ("4", (13,), True), "Visa long": ("4", (19,), False),
    "Mastercard": ("5<z>", (16,), False), "Mastercard 2": ("2<n>4", (16,), False), "Amex 34": ("34", (15,), False),
    "Amex 37": ("37", (15,), False), "Discover": ("6011", (16,), False), "Discover 64": ("644", (16,), False),
    "Discover 65": ("65", (16,), False), "Diners 36": ("36", (14,), False), "Diners 30": ("301", (14,), False),
    "Diners 38": ("38", (14,), False), "JCB": ("35<n>5", (16,), False), "UnionPay": ("62", (16, 17, 18, 19), False),
    "Maestro": ("6759", (12, 13, 16, 18, 19), True), "Maestro 50": ("5018", (16,), True), "Mir": ("2202", (16,), False),
    "RuPay": ("6521", (16,), False), "RuPay 81": ("8173", (16,), True), "Elo": ("636368", (16,), True),
    "Hipercard": ("606282", (16,), True), "Troy": ("9792", (16,), True), "Verve": ("506<d3>", (16, 19), True),
    "Dankort": ("5019", (16,), True), "Meeza": ("5078", (16,), True), "Uzcard": ("8600", (16,), True),
}  # fmt: skip
_PREFIXES = {"Mastercard": ("51", "52", "53", "54", "55"), "Mastercard 2": ("2221", "2345", "2589", "2719"),
             "JCB": ("3528", "3545", "3577", "3589")}  # fmt: skip
_GAPS = {
    "bare": "", "spaces": " ", "hyphens": "-", "dots": ".", "two spaces": "  ", "no-break": "\u00a0", "tab": "\t",
    "en dash": "–", "spaced hyphens": " - ", "thin space": "\u2009", "underscores": "_", "middle dot": "·",
}  # fmt: skip


def cards(rng: random.Random) -> Planted:
    brand = rng.choice(list(_CARDS))
    prefix, lengths, needs_words = _CARDS[brand]
    length = rng.choice(lengths)
    number = card_number(rng.choice(_PREFIXES.get(brand, (made(prefix, rng),))), length, rng)
    gap = rng.choice(list(_GAPS))
    sizes = {14: [(4, 6, 4), (4, 4, 4, 2)], 15: [(4, 6, 5), (4, 4, 4, 3)], 16: [(4, 4, 4, 4), (4, 4, 4, 4), (8, 8)],
             19: [(4, 4, 4, 4, 3), (6, 13)], 13: [(4, 3, 3, 3), (4, 4, 5)]}.get(length, [(4, 4, 4, 4, 4)])  # fmt: skip
    size = rng.choice(sizes)
    return Planted("card", f"{brand} {length}, {gap} {size}", grouped(number, size, _GAPS[gap]), needs_words)


_NATIONAL = {
    "DE": (4, 8), "FR": (4, 5, 5, 11), "GB": (4, 4, 6), "ES": (4, 4, 4, 2), "IT": (4, 1, 5, 5), "BE": (4, 3, 7),
    "NL": (4, 4), "AT": (4, 5), "PL": (4, 8), "CH": (4, 5), "SE": (4, 3), "PT": (4, 4, 4, 11), "HU": (4, 8, 8),
    "CZ": (4, 4, 6), "NO": (4, 4, 2), "FI": (4, 6), "DK": (4, 4), "TR": (4, 5, 1), "IE": (4, 4, 6),
}  # fmt: skip


def _iban(country: str, rng: random.Random) -> str:
    bban = made(BBANS[country], rng)
    rest = int("".join(str(int(c, 36)) for c in bban + country + "00")) % 97
    return f"{country}{98 - rest:02}{bban}"


def ibans(rng: random.Random) -> Planted:
    country = rng.choice(list(BBANS) + list(_NATIONAL))
    iban = _iban(country, rng)
    fours = (4,) * 9
    forms = {
        "bare": iban,
        "small": iban.lower(),
        "small in fours": grouped(iban.lower(), fours, " "),
        "check apart": f"{iban[:2]} {iban[2:4]} {grouped(iban[4:], fours, ' ')}",
        "mixed case": iban[:2].title() + iban[2:].lower(),
        "check apart, rest whole": f"{iban[:4]} {iban[4:]}",
        "IBAN before": f"IBAN{rng.choice((' ', ': ', ':', '-'))}«{rng.choice((iban, grouped(iban, fours, ' ')))}»",
    } | {name: grouped(iban, fours, gap) for name, gap in _GAPS.items() if name != "bare"}
    if country in _NATIONAL:
        split = _NATIONAL[country]
        forms |= {f"national, {name}": grouped(iban, split, _GAPS[name]) for name in ("spaces", "hyphens", "dots")}
    if country == "GB":
        forms["sort code"] = f"{iban[:4]} {iban[4:8]} {iban[8:10]}-{iban[10:12]}-{iban[12:14]} {iban[14:]}"
    form = rng.choice(list(forms))
    return _planted("iban", f"{country} {form}", forms[form])


_TEMPLATES = [each for line in TOKENS.strip().splitlines() for each in line.split("|")]
_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def _with_crc(prefix: str, rng: random.Random) -> str:
    """30 letters or digits and six of base 62 that check them, as GitHub describes its tokens."""
    body = made("<w30>", rng)
    check, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        check, place = divmod(check, 62)
        digits = _LETTERS[place] + digits
    return prefix + body + digits


def _jwt(rng: random.Random) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, {"sub": made("<x12>", rng), "exp": rng.randint(10**9, 2 * 10**9)})
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, made("<b86>", rng)])


def _pem(rng: random.Random) -> str:
    name = rng.choice(("RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED ")) + "PRIVATE KEY-----"
    body = base64.b64encode(rng.randbytes(240)).decode()
    return f"-----BEGIN {name}\n«{grouped(body, (64,) * 5, chr(10))}»\n-----END {name}"


def keys(rng: random.Random) -> Planted:
    def coded(n: int) -> str:
        return base64.b64encode(rng.randbytes(n)).decode()

    made_up = {
        "crc": _with_crc(rng.choice(("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_")), rng),
        "JWT": _jwt(rng),
        "PEM": _pem(rng),
        "Azure storage": f"DefaultEndpointsProtocol=https;AccountName=northwind;AccountKey=«{coded(64)}»;",
        "WireGuard": f"PrivateKey = «{coded(32)}»",
        "Laravel": f"APP_KEY=base64:«{coded(32)}»",
    }
    if rng.random() < 0.1:
        form = rng.choice(list(made_up))
        return _planted("key", form, made_up[form])
    template = rng.choice(_TEMPLATES)
    return _planted("key", template, made(template, rng))


def _v4(rng: random.Random) -> ipaddress.IPv4Address:
    while not (address := ipaddress.IPv4Address(rng.randint(1 << 24, 223 << 24))).is_global:
        pass
    return address


def addresses(rng: random.Random) -> Planted:
    v4 = str(_v4(rng))
    start = made(rng.choice(("2a02:8<x2>", "2607:f8b0", "2001:41d0", "240e:3<x2>", "2804:14c")), rng)
    middle = rng.choice(("", "<x4>:<x4>:"))
    v6 = ipaddress.IPv6Address(made(f"{start}:{middle}:<x4>:1<x3>", rng))
    slaac = made(f"{start}:1<x3>:<x4>:1<x3>:<x2>ff:fe<x2>:<x4>", rng)
    forms = {
        "v4": v4, "v4 port": f"«{v4}»:{rng.randint(1024, 65535)}", "v4 CIDR": f"«{v4}»/{rng.randint(24, 32)}",
        "v4 URL": f"http://{v4}:8080/index.php?id=3", "v4 brackets": f"[{v4}]", "v4 login": f"root@{v4}",
        "v4 defanged": v4.replace(".", "[.]"), "v4 last defanged": "[.]".join(v4.rsplit(".", 1)),
        "v4 (.)": v4.replace(".", "(.)"), "v4 padded": ".".join(f"{int(part):03}" for part in v4.split(".")),
        "v4 dot words": v4.replace(".", " dot "), "v4 range": f"{v4}-{v4.rsplit('.', 1)[0]}.255",
        "v4 slashes": f"\\\\{v4}\\share", "v4 reverse": ".".join(reversed(v4.split("."))) + ".in-addr.arpa",
        "v6": str(v6), "v6 whole": v6.exploded, "v6 capitals": str(v6).upper(), "v6 /64": f"«{v6}»/64",
        "v6 SLAAC": slaac, "v6 port": f"[«{v6}»]:443", "v6 URL": f"https://[{v6}]/status",
        "v6 mapped": f"::ffff:{v4}", "v6 mapped brackets": f"[«::ffff:{v4}»]:51234", "v6 NAT64": f"64:ff9b::{v4}",
        "v6 6to4": made("2002:<x4>:1<x3>::1", rng), "v6 tail": f"{start}::",
    }  # fmt: skip
    form = rng.choice(list(forms))
    text = forms[form]
    if form in ("v4 URL", "v4 login", "v4 slashes", "v4 reverse"):
        quad = text.removesuffix(".in-addr.arpa") if form == "v4 reverse" else v4
        text = text.replace(quad, f"«{quad}»")
    if form == "v6 URL":
        text = text.replace(str(v6), f"«{v6}»")
    return _planted("ip", form, text)


_SSN_FORMS = {
    "hyphens": "-", "spaces": " ", "dots": ".", "bare": "", "en dash": "–", "no-break hyphen": "\u2011",
    "no-break": "\u00a0", "spaced hyphens": " - ", "underscores": "_", "slashes": "/", "em dash": "—", "minus": "−",
    "two spaces": "  ", "middle dot": "·", "thin space": "\u2009", "figure dash": "\u2012", "tab": "\t",
}  # fmt: skip
_SELF_TELLING = {"hyphens", "en dash", "no-break hyphen", "figure dash", "spaced hyphens", "minus"}


def ssns(rng: random.Random) -> Planted:
    area = rng.choice([n for n in range(1, 900) if n not in (666, 78, 219)])
    parts = (f"{area:03}", f"{rng.randint(1, 99):02}", f"{rng.randint(1, 9999):04}")
    form = rng.choice([*_SSN_FORMS, "threes", "SSN before", "JSON", "last apart"])
    shapes = {
        "threes": grouped("".join(parts), (3, 3), rng.choice((" ", "-"))),
        "SSN before": f"SSN{rng.choice((':', '#', '# ', '=', ' '))}«{rng.choice(('-', ' ', '')).join(parts)}»",
        "JSON": f'"ssn": "«{"".join(parts)}»"',
        "last apart": f"{parts[0]}{parts[1]}-{parts[2]}",
    }
    text = shapes[form] if form in shapes else _SSN_FORMS[form].join(parts)
    return _planted("ssn", form, text, form not in _SELF_TELLING | {"SSN before", "JSON"})


MAKERS = {"email": emails, "phone": phones, "card": cards, "iban": ibans, "key": keys, "ip": addresses, "ssn": ssns}

CONTEXTS: dict[Kind, tuple[str, ...]] = {
    "email": (
        "you can reach my sister under {}, she does the bookings", "Bitte schickt die Unterlagen an {} bis Freitag.",
        "From: {}\nTo: undisclosed", "user_email={}&plan=pro", "Écrivez-moi à {} si ça vous intéresse",
        "contact → {}", "Ticket 4412: customer ({}) can't log in", "мой адрес {}, пишите", "我的邮箱是{}",
        "| Greta | {} | admin |", 'logger.info("sent reset mail to {}")', "cc {} on everything please",
        "mi correo es {} gracias!!", "email:{}",
    ),
    "phone": (
        "call me on {} after six", "Meine Handynummer ist {}", "mon téléphone c'est le {}, appelez-moi",
        "mi móvil es {} :)", "il mio cellulare è {}", "meu whatsapp é {}", "Мой телефон: {}", "手机号：{}",
        "電話番号は{}です", "제 전화번호는 {} 입니다", "Telefonum {}", "mijn telefoonnummer is {}",
        "mitt mobilnummer är {}", "Tel. {} | Fax on request", "mob: {}", '{"name": "Ravi", "mobile": "{}"}',
        "can you text my mum at {} and say i'm late", "Phone number: {}\nBest time: mornings",
        "ring {} and ask for Olga", "numer telefonu {}", "contact_phone={}", "Phone;{};home",
        "SMS to {} failed: timeout", "my cell is {} hmu", "WhatsApp {}", "telefon: {}, este 7 után",
        "nomor hp saya {}", "số điện thoại của tôi là {}",
    ),
    "card": (
        "charge it to {} exp 04/29 cvc 123", "Kartennummer {} gültig bis 11/28", "{}|09|27|418 my credit card",
        "card_number={}&amount=12.50", "numéro de carte bancaire : {}", "mi tarjeta es {} y caduca en mayo",
        '{"pan": "{}", "card_exp": "0528"}', "номер карты {}", "here's my debit card {}, don't share it",
        "payment declined for card {} (code 51)", "银行卡号：{}", "Can I pay by credit card? It's {}.", "cc#: {}",
        "numero della carta {}", "CARD NO {} HOLDER G LINDQVIST", "kart numaram {}",
    ),
    "iban": (
        "Please wire the rent to {}.", "Bankverbindung: {}, Betreff Miete", "mon compte : {}", "account_iban={}",
        "<IBAN>{}</IBAN>", "Il mio conto è {} presso la banca", "refund goes to {} (Jonas Fischer)",
        "Bank account | {} | EUR", "konto: {}", "számlaszám {}", "IBAN numaram {}",
        "the invoice says pay to {} by Monday", "cuenta {} a nombre de Lucia",
    ),
    "key": (
        "it fails with 401, I use {} as in the docs", "here is what's in my .env:\n{}\nwhat is wrong?",
        "log: request sent {} -> 200", "Can you check this config?\n\n{}\n", "# do not commit\n{}",
        "i pasted {} in the chat by accident", "step 3: {}", "in der Konfiguration steht {} und es geht nicht",
        "we rotated {} yesterday", "Why does this line break: {}",
    ),
    "ip": (
        '{} - - [12/Mar/2025:10:01:22 +0000] "GET / HTTP/1.1" 200',
        "Failed password for root from {} port 50122 ssh2", "X-Forwarded-For: {}", "my ip is {}, can you see me?",
        "blocked {} after 5 tries", "Meine IP-Adresse ist {}.", "client={} status=403", "ping {} times out",
        "peer {} connected", "src_ip,{},dst", "el servidor {} no responde", "Received: from mail ({})",
        "traceroute to {}, 30 hops max",
    ),
    "ssn": (
        "my social security number is {}", "SSN {} on the W-2 form", "Social Security #: {}",
        "applicant ssn={} dob=04/12/1988", "SSN: {}\nState: OH", "they asked for my social, it's {}",
        "mi número de seguro social es {}", "the tax form wants the SSN ({})", "Employee SSN | {} |",
        "soc sec no. {}", "SS# {} for the background check", "taxpayer's social security no {}, filing jointly",
    ),
}  # fmt: skip
ANYWHERE = (
    "Please forget {} again.", "ok so: {}\nthx", "- {}", "> {}", "`{}`", "**{}**", "<td>{}</td>", '"{}",',
    "17;{};ok", "{} <- this one", "Does this look valid to you? {}", "Könnten Sie {} bitte prüfen?",
    "请看一下 {} 谢谢", "把{}发给他", "what's {}?", "({})", "Is it '{}'?", "old: n/a, new: {}",
    "Translate to French: he wrote {} on the door.", "{}…", "note to self — {}", "1) {} 2) nothing",
)  # fmt: skip
