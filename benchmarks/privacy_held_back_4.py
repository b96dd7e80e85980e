"""A fourth held-back set for `benchmarks/privacy.py`: forms in the proportions in which people are expected to paste
them to an assistant, the everyday way most often. The weights are judgement, not a count: no corpus stands behind them.
Written without a look at the detectors or the earlier held-back sets.

A table is form -> weight, the form a template: «…» is the secret (all of it, without the marks), `⟨a|b⟩` one of these,
`⟨x*32⟩` 32 characters of an alphabet, `⟨first⟩` a word of `_WORDS` or what `_MADE` makes. A phone has its language in
front, `#` is any digit and `%` one from 2 to 9. Sources: the providers' documentation of their tokens, ITU-T E.164 and
national numbering plans, the SWIFT IBAN registry, ISO/IEC 7812, the Social Security Administration's rules.
"""

import base64
import ipaddress
import random
import re
import string
import zlib
from collections.abc import Callable, Mapping

from stdnum import iban, luhn

from benchmarks.privacy_items import Planted, grouped
from cai.privacy import Kind

_ALPHABETS = {
    "9": string.digits, "x": string.hexdigits[:16], "w": string.ascii_letters + string.digits,
    "L": string.ascii_letters, "l": string.ascii_lowercase + string.digits,
    "u": string.ascii_letters + string.digits + "-_", "b": string.ascii_letters + string.digits + "+/",
    "A": string.ascii_uppercase + "234567", "D": string.ascii_uppercase + string.digits,
    "p": string.ascii_letters + string.digits + "!*-_+",
}  # fmt: skip
_WORDS = {
    "first": "aisha ben carla daniel emma felix grace hugo ines jonas karen liam mia noah olga paul ravi sara tom yuki",
    "last": "adams becker costa diaz evans fischer gupta hughes ito jones kim lopez meyer nunez ortiz patel ruiz weber",
    "free": "gmail.com gmail.com gmail.com gmail.com gmail.com yahoo.com hotmail.com outlook.com icloud.com gmx.de "
    "web.de yahoo.co.in live.co.uk orange.fr qq.com 163.com libero.it uol.com.br aol.com proton.me",
    "firm": "northwind-trading.com bluefinlogistics.com hartmann-bau.de oakridgeschools.org lumenlabs.io brightpath.co "
    "medicalpartners.net greenfield.co.uk atelier-roux.fr tecnosur.es alpinesoft.ch harbourview.com.au zenkai.co.jp",
    "uni": "stanford.edu cs.umich.edu student.kuleuven.be stud.tu-dresden.de ox.ac.uk mail.utoronto.ca iitb.ac.in",
    "word": "Summer Dragon Welcome Liverpool Sunshine Monkey Charlie Pass Berlin Admin Coffee Winter Tiger Falcon",
    "US": "202 206 212 214 303 305 312 404 415 469 503 512 602 617 646 702 713 718 818 917 416 604",
    "user": "root admin postgres app_user ubuntu deploy wordpress svc_report dbadmin",
    "host": "localhost db 10.0.3.12 db.internal mysql-prod.internal cluster0.ab1cd.mongodb.net app-db.eu.example.net",
}  # fmt: skip


def _password(rng: random.Random) -> str:
    """Half as people choose them, half as managers make them; never a placeholder."""
    human = "⟨word⟩⟨9*2⟩!|⟨word⟩20⟨9*2⟩|⟨word⟩@⟨9*3⟩|⟨word⟩⟨word⟩⟨9*2⟩|⟨first⟩⟨9*4⟩".split("|")
    return filled(rng.choice(human) if rng.random() < 0.5 else f"⟨w*1⟩⟨p*{rng.randint(8, 18)}⟩⟨w*1⟩", rng)


def _public_ip(rng: random.Random) -> str:
    while True:
        address = ipaddress.IPv4Address(rng.randrange(11 << 24, 223 << 24))
        if address.is_global and address.packed[3] not in (0, 255):
            return str(address)


def _public_ip6(rng: random.Random) -> str:
    """Half an interface's own eight groups, half with zeros in the middle, written as RFC 5952 says."""
    head = filled("⟨2001:4860|2600:1700|2a02:8108|2a01:4f8|2409:4072|2003:e1⟩:⟨x*3⟩⟨1|2|f⟩:⟨x*4⟩", rng)
    tail = filled("::⟨1|2|5|1f⟩" if rng.random() < 0.5 else ":⟨x*4⟩:⟨x*4⟩:⟨x*4⟩:⟨x*4⟩", rng)
    return str(ipaddress.IPv6Address(head + tail))


def _ssn(rng: random.Random, gap: str = "-") -> str:
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return f"{area:03d}{gap}{rng.randint(1, 99):02d}{gap}{rng.randint(1, 9999):04d}"


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _jwt(rng: random.Random) -> str:
    payload = f'{{"sub":"{rng.randrange(10**9)}","name":"{filled("⟨First⟩", rng)}","iat":17{rng.randrange(10**8):08}}}'
    return f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{_base64(payload)}.{filled('⟨u*43⟩', rng)}"


def _checked(rng: random.Random) -> str:
    """30 characters and their CRC-32 in base 62, as GitHub describes its tokens."""
    token = filled("⟨w*30⟩", rng)
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    return token + "".join(digits[zlib.crc32(token.encode()) // 62**place % 62] for place in reversed(range(6)))


_MADE: dict[str, Callable[[random.Random], str]] = {
    "pw": _password, "ip": _public_ip, "ip6": _public_ip6, "ssn": _ssn,
    "ssn spaced": lambda rng: _ssn(rng, " "), "ssn bare": lambda rng: _ssn(rng, ""),
    "First": lambda rng: filled("⟨first⟩", rng).title(), "Last": lambda rng: filled("⟨last⟩", rng).title(),
    "ip defanged": lambda rng: _public_ip(rng).replace(".", "[.]"), "jwt": _jwt, "checked": _checked,
    "discord id": lambda rng: _base64(filled("1⟨9*17⟩", rng)), "octet": lambda rng: str(rng.randint(1, 254)),
}  # fmt: skip


def filled(template: str, rng: random.Random) -> str:
    def one(match: re.Match[str]) -> str:
        name = match[1]
        if name in _MADE:
            return _MADE[name](rng)
        if repeated := re.fullmatch(r"(.)\*(\d+)", name):
            return "".join(rng.choice(_ALPHABETS[repeated[1]]) for _ in range(int(repeated[2])))
        return rng.choice(_WORDS[name].split() if name in _WORDS else name.split("|"))

    return re.sub(r"⟨([^⟩]*)⟩", one, template)


def _form(table: Mapping[str, float], rng: random.Random) -> str:
    return rng.choices(list(table), list(table.values()))[0]


_EMAILS = {
    "⟨first⟩.⟨last⟩@⟨free⟩": 34, "⟨first⟩⟨last⟩⟨9*2⟩@⟨free⟩": 28, "⟨first⟩.⟨last⟩@⟨firm⟩": 24, "⟨first⟩@⟨firm⟩": 8,
    "⟨a|d|j|m|s⟩⟨last⟩@⟨firm⟩": 12, "⟨first⟩.⟨last⟩@⟨uni⟩": 7, "⟨first⟩_⟨last⟩⟨9*1⟩@⟨free⟩": 6, "⟨9*9⟩@qq.com": 3,
    "⟨First⟩.⟨Last⟩@⟨firm⟩": 4, "⟨first⟩.⟨last⟩+⟨news|bank|test|amazon⟩@gmail.com": 4, "⟨first⟩⟨9*1⟩@⟨free⟩": 3,
    "⟨first⟩-⟨last⟩@⟨free⟩": 2, "⟨l*10⟩@privaterelay.appleid.com": 1, "me@⟨first⟩⟨last⟩.⟨dev|me|studio|app⟩": 2,
    "GET /unsubscribe?email=«⟨first⟩.⟨last⟩%40⟨firm⟩»&list=4": 1, "⟨first⟩⟨last⟩ at gmail dot com": 1,
    "⟨first⟩.⟨last⟩ ⟨[at]|(at)⟩ gmail ⟨[dot]|(dot)⟩ com": 2, "info@⟨müller|bäckerei-schön⟩-⟨last⟩.de": 0.5,
}  # fmt: skip
_EMAIL_SAID = (
    "my email is {}", "Contact: {}", "From: ⟨First⟩ ⟨Last⟩ <{}>\nTo: support\nSubject: refund still missing",
    "Hi, this is ⟨First⟩. You can reach me at {} or by post.", "please send the invoice to {}, thanks", "我的邮箱是{}",
    "name,email,plan\n⟨First⟩ ⟨Last⟩,{},pro", '{"user": "⟨first⟩", "email": "{}", "active": true}', "Mon mail : {}.",
    "Kind regards,\n⟨First⟩ ⟨Last⟩\nSales Manager\n{}", "Meine Adresse ist {}, bitte antworten Sie bald.",
    "[write to me](mailto:{})", "| ⟨First⟩ | {} | 2024-03-11 |", "login failed for user {} (attempt 3)",
)  # fmt: skip
_PHONES = {
    "en ⟨US⟩-%%#-####": 17, "en (⟨US⟩) %%#-####": 15, "en ⟨US⟩%%#####": 9, "en +1 (⟨US⟩) %%#-####": 6, "en %%#-####": 2,
    "en +1⟨US⟩%%#####": 6, "en +1 ⟨US⟩ %%# ####": 4, "en +1-⟨US⟩-%%#-####": 4, "en ⟨US⟩ %%# ####": 5,
    "en ⟨US⟩.%%#.####": 4, "en 1-⟨US⟩-%%#-####": 3, "en (⟨US⟩)%%#-####": 4, "en ⟨US⟩/%%#-####": 0.5,
    "en 07⟨4|5|8|9⟩## ######": 6, "en 07⟨4|5|8|9⟩########": 5, "en 07⟨4|5|8|9⟩## ### ###": 2, "en 020 7%## ####": 2,
    "en +44 7⟨4|5|8|9⟩## ######": 4, "en +447⟨4|5|8|9⟩########": 3, "en +44 (0)7⟨4|5|8|9⟩## ######": 1,
    "en 0161 4## ####": 1, "en +91 9⟨8|7|9⟩### #####": 5, "en 9⟨8|7|9⟩########": 5, "en +919⟨8|7|9⟩########": 3,
    "en +91-9⟨8|7|9⟩########": 2, "en 04⟨0|1|2|3⟩# ### ###": 3, "en +61 4⟨0|1|2|3⟩# ### ###": 2, "en 0803#######": 1,
    "en (02) 9⟨2|3|5⟩## ####": 0.7, "en 0300 %######": 1, "en 0917 %## ####": 1.2, "en 082 %## ####": 0.7,
    "en 0722 ######": 0.5, "en 9⟨1|2|6⟩## ####": 0.5, "en 087 %## ####": 0.4, "en +971 50 %## ####": 0.7,
    "en 010########": 0.6, "en +41 79 %## ## ##": 0.5, "en +46 70 %## ## ##": 0.5, "en +966 50 %## ####": 0.5,
    "de 0⟨151|160|170|171|176⟩ %#######": 2.5, "de 0⟨151|176⟩/%#######": 1, "de 0176%#######": 1.5,
    "de +49176%#######": 1, "de +49 ⟨151|160|176⟩ %#######": 2, "de 030 ⟨4|6|8⟩#######": 1, "de 089/⟨3|4|5⟩######": 0.6,
    "de +49 (0) 30 4#######": 0.7, "de 0664 %######": 0.5, "de +49 (0)221 ⟨4|9⟩######": 0.5, "fr 06 ⟨1|6⟩# ## ## ##": 3,
    "fr +33 6 ⟨1|6⟩# ## ## ##": 2, "fr 06.⟨1|6⟩#.##.##.##": 1, "fr 01 4# ## ## ##": 0.7, "es 6⟨1|2|3|5⟩# ### ###": 2,
    "es 6⟨1|2|3|5⟩#######": 1.2, "es 6⟨1|2|3⟩# ## ## ##": 1, "es +34 6⟨1|2|3|5⟩# ### ###": 1.5, "es 55 %### ####": 1.5,
    "es +52 55 %### ####": 1.2, "es +54 9 11 %### ####": 0.7, "es ⟨310|315⟩ ### ####": 0.8, "es +56 9 %### ####": 0.5,
    "pt (11) 9⟨6|7|8⟩###-####": 3, "pt +55 11 9⟨6|7|8⟩###-####": 2, "pt 119⟨6|7|8⟩#######": 1.2, "ja 03-3%##-####": 0.6,
    "pt 91⟨2|3|6⟩ ### ###": 0.6, "it 3⟨33|47|28⟩ %######": 1.5, "it +39 3⟨33|47⟩ %## ####": 1, "ja 090-%###-####": 2.2,
    "it 3⟨33|47⟩%######": 0.8, "zh 13⟨6|8|9⟩########": 4, "zh 13⟨6|8|9⟩ #### ####": 1, "ja 080%#######": 0.7,
    "zh +86 13⟨6|8|9⟩ #### ####": 1.5, "ru +7 91⟨0|5|6⟩ %##-##-##": 1.6, "ru 8 (91⟨0|5|6⟩) %##-##-##": 1,
    "ru 891⟨0|5|6⟩%######": 1, "tr 0532 %## ## ##": 1, "tr +90 532 %## ## ##": 0.7, "nl 06-⟨1|2|4⟩#######": 0.8,
    "nl 06 ⟨1|2|4⟩### ####": 0.7, "nl +31 6 ⟨1|2⟩#######": 0.7, "pl 51⟨2|5⟩ ### ###": 0.9, "ko 010-%###-####": 1.2,
    "pl +48 51⟨2|5⟩ ### ###": 0.8, "id 0812-%###-####": 1.2, "id +62 812-%###-####": 0.6, "vi 091% ### ###": 0.9,
    "fr 06⟨1|6⟩#######": 2,
}  # fmt: skip
_PHONE_SAID = {
    "en": (
        "My number is {}", "call me at {} after 6pm", "Phone: {}", "Name: ⟨First⟩ ⟨Last⟩\nTel: {}\nCity: Springfield",
        "you can text {} any time", "I keep getting calls from {}. Is that a scam?", "whatsapp me on {}", "cell: {}",
        '{"name": "⟨First⟩", "phone": "{}"}', "name,phone,city\n⟨First⟩ ⟨Last⟩,{},Leeds", "Mobile {} | ⟨first⟩.com",
        "If it is urgent, ring ⟨First⟩ on {} please.", "| name | phone |\n| ⟨First⟩ | {} |",
    ),
    "de": ("Meine Nummer ist {}.", "Tel.: {}", "Rufen Sie mich bitte unter {} zurück", "Handy {}, ab 17 Uhr"),
    "fr": ("Mon numéro : {}", "Vous pouvez me joindre au {} le matin.", "Tél. {}", "appelle-moi au {}"),
    "es": ("Mi teléfono es {}", "llámame al {} por la tarde", "Tel: {}", "mi número de WhatsApp es {}"),
    "pt": ("Meu telefone é {}", "me chama no WhatsApp {}", "Telefone: {}", "Contato: {} (falar com ⟨First⟩)"),
    "it": ("Il mio numero è {}", "Chiamami al {} dopo le 18", "Cell. {}"), "zh": ("我的手机号是{}", "电话：{}"),
    "tr": ("Telefonum {}", "Tel: {} arayın lütfen"), "ja": ("電話番号は{}です", "携帯：{}", "TEL {}"),
    "ru": ("Мой телефон {}", "звоните {} после шести", "Тел.: {}"), "nl": ("Mijn nummer is {}", "Bel me op {} aub"),
    "pl": ("Mój numer telefonu to {}", "tel. {}"), "ko": ("제 전화번호는 {}입니다", "연락처: {}"),
    "id": ("Nomor HP saya {}", "hubungi saya di {}"), "vi": ("Số điện thoại của tôi là {}", "gọi cho tôi: {}"),
}  # fmt: skip

_CARDS = {  # the number's leading digits, its length, and the groups it is written in
    "4 16 4444": 34, "4 16 ": 26, "5⟨1|2|3|4|5⟩ 16 4444": 18, "5⟨1|2|3|4|5⟩ 16 ": 12, "3⟨4|7⟩ 15 465": 5, "65 16 ": 2,
    "3⟨4|7⟩ 15 ": 5, "4 16 4-4-4-4": 9, "5⟨2|3|4⟩ 16 4-4-4-4": 4, "222⟨3|5|7⟩ 16 4444": 2, "6011 16 4444": 2,
    "3530 16 4444": 1.5, "36 14 464": 1, "62 16 4444": 1.5, "6222 19 4444": 1, "6759 16 4444": 0.7, "4 16 4.4.4.4": 0.4,
}  # fmt: skip
_CARD_SAID = (
    "my card number is {}", "Card: {} Exp: 09/27 CVV: 482", "{}, exp 04/28, name ⟨First⟩ ⟨Last⟩", "信用卡号：{}",
    "charge it to {} please", "I was billed twice on card {} last Tuesday.", "mi tarjeta es {} y vence en 08/26",
    '{"card_number": "{}", "exp_month": 11, "exp_year": 2027}', "name,card,expiry\n⟨First⟩ ⟨Last⟩,{},11/26",
    "Meine Kreditkarte {} wurde gesperrt, was tun?", "payment declined for {} (insufficient funds)",
    "is {} a real card?", "Credit card no: {}\nZIP: 60614", "INSERT INTO payments VALUES ('⟨First⟩', '{}', 49.90);",
)  # fmt: skip
_BBANS = {
    "DE⟨9*18⟩": 24, "GB⟨NWBK|BARC|LOYD|MIDL|HBUK⟩⟨9*14⟩": 12, "FR⟨30004|20041|10278⟩⟨9*16⟩": 12, "PL⟨9*24⟩": 5,
    "ES⟨2100|0049|0182⟩⟨9*16⟩": 10, "NL⟨INGB|ABNA|RABO⟩0⟨9*9⟩": 10, "IT⟨K|X|S⟩05428⟨9*17⟩": 8, "BE⟨9*12⟩": 4,
    "AT⟨9*16⟩": 4, "CH00⟨762|230⟩⟨9*12⟩": 4, "PT⟨9*21⟩": 3, "IE⟨AIBK|BOFI⟩⟨9*14⟩": 3, "SE⟨9*20⟩": 2, "AE033⟨9*16⟩": 3,
    "TR000⟨61|62⟩0⟨9*16⟩": 3, "SA80⟨9*18⟩": 1.5, "DK⟨9*14⟩": 1.5, "NO⟨9*11⟩": 1.5, "FI⟨9*14⟩": 1.5, "CZ⟨9*20⟩": 1,
    "GR⟨9*23⟩": 1, "ROBTRL⟨D*16⟩": 1, "HU⟨9*24⟩": 0.7, "UA⟨9*25⟩": 0.7, "LT⟨9*16⟩": 0.7,
}  # fmt: skip
_IBAN_WRITTEN = {" ": 56, "": 38, "lower": 2, "-": 1.5, "lower ": 1}
_IBAN_SAID = (
    "IBAN: {}", "my IBAN is {}", "Please transfer 350 EUR to {}, thanks", "Bank: First Bank\nIBAN {}\nBIC COBADEFFXXX",
    "Meine IBAN lautet {}.", "Überweisung an {} (⟨First⟩ ⟨Last⟩)", "Voici mon IBAN : {}", "El IBAN es {}",
    "payee,iban,amount\n⟨First⟩ ⟨Last⟩,{},120.00", '{"iban": "{}", "currency": "EUR"}', "il mio IBAN è {}, grazie",
    "Invoice 2024-118\nDue in 14 days\nAccount: {}", "the refund never reached {}", "Mijn rekening is {}.",
)  # fmt: skip
_PEM = "«-----BEGIN {0}-----\n{1}⟨b*54⟩\n⟨b*64⟩\n⟨b*64⟩\n⟨b*64⟩\n⟨b*43⟩=\n-----END {0}-----»"
_KEYS = {
    "⟨DB_PASSWORD|POSTGRES_PASSWORD|MYSQL_ROOT_PASSWORD|SMTP_PASSWORD|REDIS_PASSWORD⟩=«⟨pw⟩»": 11, 'pwd = "«⟨pw⟩»"': 2,
    "  username: ⟨user⟩\n  password: «⟨pw⟩»\n  port: 5432": 6, "spring.datasource.password=«⟨pw⟩»": 2,
    "define('DB_PASSWORD', '«⟨pw⟩»');": 1.5, '{"user": "⟨user⟩", "password": "«⟨pw⟩»", "ssl": true}': 5,
    "conn = connect(host='⟨host⟩', user='⟨user⟩', password='«⟨pw⟩»')": 5, "sshpass -p '«⟨pw⟩»' ssh ⟨user⟩@⟨host⟩": 0.7,
    "⟨Passwort:|mi contraseña es|mot de passe :|senha:|пароль:|密码：⟩ «⟨pw⟩»": 1.5, "redis://:«⟨w*16⟩»@db": 1,
    "Server=⟨host⟩;Database=shop;User Id=sa;Password=«⟨pw⟩»;Encrypt=true": 2.5, "<password>«⟨pw⟩»</password>": 0.7,
    "mysql -h ⟨host⟩ -u root -p«⟨w*12⟩» shop < dump.sql": 1, "curl -u ⟨user⟩:«⟨w*14⟩» https://⟨firm⟩/api/v2/items": 1,
    "sk-⟨w*20⟩T3BlbkFJ⟨w*20⟩": 4, "⟨postgresql|postgres|mysql⟩://⟨user⟩:«⟨w*14⟩»@⟨host⟩:5432/shop": 8,
    "machine ⟨firm⟩ login ⟨user⟩ password «⟨w*12⟩»": 0.4, "sk-⟨x*32⟩": 2, "AKIA⟨A*16⟩": 6, "AIza⟨u*35⟩": 6,
    "mongodb+srv://⟨user⟩:«⟨w*16⟩»@cluster0.ab1cd.mongodb.net/test": 3, "sk-proj-⟨u*74⟩T3BlbkFJ⟨u*74⟩": 9,
    "git clone https://⟨first⟩:«⟨w*20⟩»@git.⟨firm⟩/app.git": 0.7, "sk-ant-api03-⟨u*93⟩AA": 3, "GOCSPX-⟨u*28⟩": 1.5,
    "ya29.a0⟨u*160⟩": 0.6, "ASIA⟨A*16⟩": 0.7, "ghp_⟨checked⟩": 6, "glpat-⟨u*20⟩": 2, "hf_⟨L*34⟩": 4,
    "⟨aws_secret_access_key = |AWS_SECRET_ACCESS_KEY=⟩«⟨b*40⟩»": 6, "github_pat_⟨w*22⟩_⟨w*59⟩": 2, "gsk_⟨w*52⟩": 1,
    "⟨gho|ghs⟩_⟨checked⟩": 0.7, "xox⟨b|p⟩-⟨9*12⟩-⟨9*13⟩-⟨w*24⟩": 2.5, "⟨sk|rk⟩_⟨live|test⟩_51⟨w*97⟩": 4,
    "https://hooks.slack.com/services/«T⟨D*10⟩/B⟨D*10⟩/⟨w*24⟩»": 1.2, "sk_⟨live|test⟩_⟨w*24⟩": 1.5,
    "whsec_⟨w*32⟩": 0.8, "sk-or-v1-⟨x*64⟩": 1, "xai-⟨w*80⟩": 0.5, "pplx-⟨w*48⟩": 0.5, "r8_⟨w*37⟩": 0.6,
    "SG.⟨u*22⟩.⟨u*43⟩": 1.5, "npm_⟨checked⟩": 0.8, "key-⟨x*32⟩": 0.6, "⟨6|7⟩⟨9*9⟩:AA⟨u*33⟩": 4,
    "shpat_⟨x*32⟩": 0.8, "⟨discord id⟩.G⟨u*5⟩.⟨u*38⟩": 1.5, "TWILIO_AUTH_TOKEN=«⟨x*32⟩»": 1.5, "ntn_⟨w*46⟩": 0.6,
    "https://discord.com/api/webhooks/⟨9*19⟩/«⟨u*68⟩»": 0.8, "dckr_pat_⟨u*27⟩": 0.4, "dop_v1_⟨x*64⟩": 0.6,
    "sbp_⟨x*40⟩": 0.5, "pat⟨w*14⟩.⟨x*64⟩": 0.5, "lin_api_⟨w*40⟩": 0.3, "hvs.⟨u*95⟩": 0.3, "EAAA⟨u*60⟩": 0.3,
    "PMAK-⟨x*24⟩-⟨x*34⟩": 0.3, "glsa_⟨w*32⟩_⟨x*8⟩": 0.3, "NRAK-⟨D*27⟩": 0.3, "CLOUDFLARE_API_TOKEN=«⟨u*40⟩»": 0.8,
    "HEROKU_API_KEY=«⟨x*8⟩-⟨x*4⟩-4⟨x*3⟩-a⟨x*3⟩-⟨x*12⟩»": 0.5, "DD_API_KEY: «⟨x*32⟩»": 0.6, "x-api-key: «⟨w*32⟩»": 2,
    "-H 'Authorization: Bearer «⟨w*40⟩»'": 2.5, "https://api.⟨firm⟩/v1/now?⟨api_key|apikey|key⟩=«⟨x*32⟩»&q=paris": 2,
    "⟨API_KEY=|api_key: |apiKey = |WEATHER_API_KEY=⟩«⟨x*32⟩»": 6, "SECRET_KEY = 'django-insecure-«⟨l*24⟩⟨p*25⟩a»'": 1,
    "⟨SECRET_KEY=|JWT_SECRET=|client_secret: |APP_SECRET=⟩«⟨w*40⟩»": 4, "username: ⟨user⟩ password: «⟨pw⟩»": 2,
    "⟨my password is|the wifi password is|Password:⟩ «⟨pw⟩»": 5, "⟨jwt⟩": 5, "Authorization: Bearer «⟨jwt⟩»": 3,
    "AccountName=shop;AccountKey=«⟨b*86⟩==»": 1.5, _PEM.format("RSA PRIVATE KEY", "MIIEowIBAA"): 2,
    _PEM.format("PRIVATE KEY", "MIIEvgIBAD"): 1.5, _PEM.format("OPENSSH PRIVATE KEY", "b3BlbnNzaC"): 2,
}  # fmt: skip
_ASSIGNED = ("TOKEN={}", 'api_key = "{}"', "API_KEY={}", 'Client(token="{}")', "token: {}", "{}", "my key is {}")
_IPS = {
    "⟨ip⟩": 68, "⟨ip6⟩": 12, "⟨ip defanged⟩": 2, "http://«⟨ip⟩»:8080/admin": 5, "upstream «⟨ip⟩»:443 timed out": 3,
    "listening, peer=«⟨ip⟩»:49822": 2, "allow from «⟨ip⟩»/32": 2, "iptables -A INPUT -s «⟨ip⟩» -j DROP": 2,
}  # fmt: skip
_IP_SAID = (
    "my public IP is {}", '{} - - [12/Mar/2024:08:14:55 +0000] "GET /login HTTP/1.1" 200 512', "Who owns {}?",
    "ssh ubuntu@{}", "sshd[2211]: Failed password for root from {} port 51122 ssh2", "X-Forwarded-For: {}",
    "ping {} times out since Monday", "I was banned, my address is {}", '{"ip": "{}", "country": "US"}',
    "user_id,ip,at\n88,{},2024-05-02", "client {} connected", "{} logged in as ⟨first⟩", "Meine IP-Adresse ist {}",
)  # fmt: skip
_SSNS = {"⟨ssn⟩": 72, "⟨ssn bare⟩": 15, "⟨ssn spaced⟩": 9}
_SSN_SAID = (
    "my ssn is {}", "SSN: {}", "Social Security Number: {}", "Name: ⟨First⟩ ⟨Last⟩\nDOB: 04/12/1981\nSSN: {}",
    "my social is {}", "name,dob,ssn\n⟨First⟩ ⟨Last⟩,1979-08-30,{}", '{"name": "⟨First⟩", "ssn": "{}"}',
    "Form W-2, box a: employee's SSN {}", "They asked for my social security number and I told them {}",
    "| ⟨First⟩ ⟨Last⟩ | {} | (SSN) |", "mi número de seguro social es {}",
)  # fmt: skip


def _said(kind: Kind, form: str, item: str, sentences: tuple[str, ...], rng: random.Random) -> Planted:
    """`item` in a sentence, all of it the secret, or as it is where it marks its secret itself."""
    if "«" not in item:
        before, after = rng.choice(sentences).split("{}")
        item = f"{filled(before, rng)}«{item}»{filled(after, rng)}"
    before, secret, after = re.split("[«»]", item)
    return Planted(kind, form, before + secret + after, needs_words=True, shown=(len(before), len(after)))


def secret_of(planted: Planted) -> tuple[int, int]:
    return planted.shown[0], len(planted.item) - planted.shown[1]


def _maker(kind: Kind, forms: Mapping[str, float], sentences: tuple[str, ...]) -> Callable[[random.Random], Planted]:
    def one(rng: random.Random) -> Planted:
        form = _form(forms, rng)
        return _said(kind, form, filled(form, rng), sentences, rng)

    return one


def _phone(rng: random.Random) -> Planted:
    form = _form(_PHONES, rng)
    language, template = form.split(" ", 1)
    number = re.sub("[#%]", lambda m: rng.choice(string.digits[2 * (m[0] == "%") :]), filled(template, rng))
    return _said("phone", form, number, _PHONE_SAID[language], rng)


def _card(rng: random.Random) -> Planted:
    form = _form(_CARDS, rng)
    prefix, length, groups = filled(form, rng).split(" ")
    digits = prefix + "".join(rng.choice(string.digits) for _ in range(int(length) - 1 - len(prefix)))
    digits += luhn.calc_check_digit(digits)
    sizes, gap = tuple(int(c) for c in groups if c.isdigit()), next((c for c in groups if c in "-."), " ")
    return _said("card", form, grouped(digits, sizes, gap), _CARD_SAID, rng)


def _iban(rng: random.Random) -> Planted:
    """Check digits of ISO 7064; a country's own ones where `stdnum` knows them, and the French key."""
    form, gap, number = _form(_BBANS, rng), _form(_IBAN_WRITTEN, rng), ""
    while not iban.is_valid(number):
        number = filled(form, rng)
        if form.startswith("FR"):
            number += f"{97 - (89 * int(number[2:7]) + 15 * int(number[7:12]) + 3 * int(number[12:])) % 97:02d}"
        number = number[:2] + iban.calc_check_digits(f"{number[:2]}00{number[2:]}") + number[2:]
    written = grouped(number.lower() if "lower" in gap else number, (4,) * 8, gap.removeprefix("lower"))
    return _said("iban", f"{form} {gap!r}", written, _IBAN_SAID, rng)


MAKERS: dict[Kind, Callable[[random.Random], Planted]] = {
    "phone": _phone, "card": _card, "iban": _iban,
    "email": _maker("email", _EMAILS, _EMAIL_SAID), "key": _maker("key", _KEYS, _ASSIGNED),
    "ip": _maker("ip", _IPS, _IP_SAID), "ssn": _maker("ssn", _SSNS, _SSN_SAID),
}  # fmt: skip
_TEXT: tuple[str, ...] = (
    "{}", "{}", "{}", "Rewrite this more politely:\n\n{}", "Translate into English:\n{}", "Fix the grammar please. {}",
    "{}\n\nSummarise this in one sentence.", "Reply to this message:\n---\n{}\n---", "Can I send this? {}",
)  # fmt: skip
_CODE: tuple[str, ...] = (
    "{}", "{}", "why does this not work?\n{}", "```\n{}\n```", "I get a 401 with this:\n\n{}\n\nWhat is wrong?",
    "explain this line by line\n```\n{}\n```\nthanks", "Write a script that uses this:\n{}",
)  # fmt: skip
CONTEXTS: dict[Kind, tuple[str, ...]] = {kind: _CODE if kind in ("key", "ip") else _TEXT for kind in MAKERS}
ANYWHERE: tuple[str, ...] = ()
_LOOK_ALIKES = (
    "Order #⟨9*9⟩ has not arrived.", "tracking number 1Z⟨D*16⟩", "USPS 9400 1⟨9*3⟩ ⟨9*4⟩ ⟨9*4⟩ ⟨9*4⟩ ⟨9*2⟩",
    "ISBN 978-3-16-⟨9*6⟩-⟨9*1⟩", "created at 17⟨9*8⟩, updated at 17⟨9*11⟩", "git revert ⟨x*40⟩", "sha256:⟨x*64⟩",
    "2024-0⟨1|3|5⟩-1⟨9*1⟩T0⟨9*1⟩:15:⟨1|3|5⟩⟨9*1⟩.⟨9*6⟩Z INFO worker ⟨9*4⟩ done", "ticket JIRA-⟨9*5⟩ is still open",
    "request 5⟨x*7⟩-⟨x*4⟩-4⟨x*3⟩-9⟨x*3⟩-⟨x*12⟩ failed", "Chrome/1⟨9*2⟩.0.⟨9*4⟩.⟨9*2⟩ Safari/537.36",
    "upgrade from version ⟨octet⟩.⟨octet⟩.⟨octet⟩ to ⟨octet⟩.0.0", "192.168.⟨octet⟩.⟨octet⟩ is my printer",
    "ping 10.⟨octet⟩.⟨octet⟩.⟨octet⟩", "bind to 127.0.0.1:⟨9*4⟩", "the docs use 203.0.113.⟨octet⟩", "color: #⟨x*6⟩;",
    "netmask 255.255.⟨255|240|0⟩.0", "solve ⟨9*3⟩-⟨9*2⟩-⟨9*4⟩x=0", "What is ⟨9*5⟩ × ⟨9*4⟩?", "card ending in ⟨9*4⟩",
    "52.⟨9*6⟩, 13.⟨9*6⟩ on the map", "It costs 1,⟨9*3⟩,⟨9*3⟩.⟨9*2⟩ dollars", "**** **** **** ⟨9*4⟩", "ZIP 6⟨9*4⟩-⟨9*4⟩",
    "MAC ⟨x*2⟩:⟨x*2⟩:⟨x*2⟩:⟨x*2⟩:⟨x*2⟩:⟨x*2⟩", "API_KEY=<your-api-key>", "password = os.environ['DB_PASSWORD']",
    "password: ********", "DB_PASSWORD=${DB_PASSWORD}", "my password must have ⟨octet⟩ characters",
    "How do I reset my password?", "follow @⟨first⟩_⟨last⟩ on Twitter", "EAN 40⟨9*11⟩", "EIN 8⟨9*1⟩-⟨9*7⟩",
    "doi:10.1⟨9*3⟩/j.cell.20⟨9*2⟩.0⟨9*1⟩.0⟨9*2⟩", "part no. ⟨D*4⟩-⟨9*4⟩-⟨D*3⟩", "USt-IdNr. DE⟨9*9⟩", "flight LH ⟨9*4⟩",
)  # fmt: skip


def look_alike(rng: random.Random) -> str:
    return filled(rng.choice(_LOOK_ALIKES), rng)
