"""Texts that resemble personal items and have none, for `benchmarks/privacy_held_back_3.py`: each says what it is, or
breaks the rule of the item it looks like (check digit, area, octet).
"""

import random

from benchmarks.privacy_items import luhn_digit
from benchmarks.privacy_tables_3 import made

_TEXTS = """
Your order 11<d1>-<d7>-<d7> has shipped.
Tracking number 1Z<U6>03<d8>, expected Thursday.
USPS tracking 94<d2> <d4> <d4> <d4> <d4> <d2>: out for delivery
Invoice INV-202<d1>-00<d5> over 1,2<d2>,<d3>.<d2> EUR is due.
Rechnung Nr. 20<d2>-<d5> vom 0<z>.11.2024
The population rose from 1<d1>,<d3>,<d3> to 1<d1>,<d3>,<d3>.
It costs $<z>,<d3>.99 or about €<z> <d3>,50.
pi is 3.14159265358979, e is 2.71828182845904
timestamp=17<d8> level=info msg="started"
epoch ms 17<d11> is in the year 2024
2024-0<z>-1<d1>T1<d1>:2<d1>:3<d1>.<d6>Z INFO boot
from 12-0<z>-2023 to 1<d1>-10-2024
CVE-202<d1>-<d5> is fixed in 4.<d1>.<d2>.<d1>-rc1
Upgrade to version 2.<d2>.<d1>.<d2> of the driver, please.
Windows build 10.0.19045.<z><d3>
Chrome/1<d1>9.0.6<d3>.<d3> Safari/537.36
Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1<d2>.0.0.0 Safari/537.36
See section 4.2.<z>.<d1> of the standard.
OID 1.3.6.1.4.1.<d4>.<d2>.<d1>
the limit is 256.<d2>.<d2>.<d2>, an octet cannot be that large
MAC 3c:<x2>:<x2>:<x2>:<x2>:<x2> joined the bridge
std::vector<int> v; a::b::c(<d2>);
timecode 01:<d1>2:3<d1>:1<d1>, cut there
commit <x40> (HEAD -> main)
git show <x7>..<x7> -- src/
sha256:<x64> sums match
FROM alpine@sha256:<x64>
md5 of the file: <x32>
"integrity": "sha512-<b86>=="
SHA256:<b43> is the fingerprint of the host key
request_id=<x8>-<x4>-4<x3>-a<x3>-<x12>
The element's id is <x8>-<x4>-1<x3>-9<x3>-<x12>.
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI<w43>
-----BEGIN CERTIFICATE-----\\nMIID<w60>\\n-----END CERTIFICATE-----
<img src="data:image/png;base64,iVBORw0KGgo<w60>">
ETag: "<x32>"
api_key = os.environ["SERVICE_API_KEY"]
password: ${DB_PASSWORD}
token = get_token(session, refresh=True)
password: ********
Set OPENAI_API_KEY=<your key here> first.
secret_key: changeme is what the docs print; replace it
def login(user: str, password: str) -> Token: ...
A password must have at least <z> characters and one digit.
The token limit is <d1>096 and the key length 256 bits.
My password manager asks for the master password each time, is that normal?
Where do I find the API key in the settings?
export TOKEN=$(cat /run/secrets/token)
arn:aws:iam::<d12>:role/deployer
git@git.northwind.dev:infra/charts.git
greta@laptop:~/src$ make
logo@2x.png and icon@3x.png are missing
import "@angular/core@1<d1>.2.<d1>"
@property and @dataclass(frozen=True) are decorators
follow @kiwi_tours_<d2> on the app
meet me @ the cafe at 5 dot something
x@y is a matrix product in Python
We stayed at home dot and dash included.
ISBN 978-<d1>-<d2>-<d6>-<d1> is out of print
ISSN <d4>-<d3>X
DOI 10.1<d3>/s<d5>-0<d2>-<d5>-<d1>
CAS number 7732-18-5 is water
NDC 0<d3>-<d4>-0<d1> on the box
EIN 4<d1>-<d7> belongs to the company
VAT DE<d9>, Amtsgericht Bremen HRB <d5>
BIC DEUTDEFF5<d2>
U.S. Patent No. 7,<d3>,<d3>
550 U.S. <d3> (2007), 42 U.S.C. § 1983
case no. 1:2<d1>-cv-0<d4>
ZIP <d5>-<d4>
coordinates 48.<d6>, 2.<d6>
GPS: -33.<d5> 151.<d5>
The pump is 120 x <d2> x 45 mm, part 44<d2>-<d2>-B.
SKU 00-<d4>-<d4>-A is out of stock
pp. <z><d2>-<z><d2>, vol. <d2>(<z>), 19<d2>-20<d2>
scores: 21-1<d1>, 19-21, 15-1<d1>
lotto: <z> 1<d1> 2<d1> 3<d1> 4<d1> 49
call 112 or 911 in an emergency
dial *#06# to see it
Route 20<d1>, gate B<d2>, flight LH<d4>, seat <d2>C
locker <d4> <d4>, shelf <d2>
serial number: <U4>-<U4>-<U4>-<U4>
batch 000-<d2>-<d4> was recalled
form 666-<d2>-<d4> is not a number that was ever given out
card ending in <d4>, expires 0<z>/27
**** **** **** <d4> was charged
IBAN DE** **** **** **** **<d2> <d2>
phone: ***-***-<d4>
[EMAIL], [PHONE] and [CARD] are placeholders
Der Tank fasst 12 345 678 Liter.
la référence du dossier : <d4>/<d4>/B
заказ № <d4>-<d4> готов
订单号 2024<d10> 已发货
注文番号 <d3>-<d7>-<d7> を確認
Bitrate 128 000, 44 100 Hz, 1 411 200 bit/s
7 <d3> 000 000 000 people live here
1+1=2, 2+2=4, <d3>-<d3>=<d2>
0x7fff<x8> is the address, 0xdeadbeef the mark
checksum 0x<x8> at offset 0x<x4>
#<x6>; background: #<x6>
/var/log/app-2024<d4>-<d6>.log.gz
build #<d5> took 00:1<d1>:<d1>4
<d2>°<d2>'<d2>"N
4d 6f 7a <x2> <x2> <x2> 00 00
K<d2>.<d1>, M54.<d1> and J45.<d2>9 are ICD codes
Luke 12:3<d1>-4<d1>; Psalm 119:10<d1>
1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4
meter reading <d5>,<d1> on 0<z>/0<z>/24
UPC 0 <d5> <d5> <d1>
AS<d5> announces too many prefixes
RFC 5322 and ISO 8601-1:2019, DIN 5008
"""
_TEMPLATES = [text.replace("\\n", "\n") for text in _TEXTS.strip().splitlines()]


def _no_card(rng: random.Random) -> str:
    """An issuer's prefix and a wrong check digit."""
    digits = made(rng.choice(("4<d14>", "51<d13>", "6011<d11>")), rng)
    wrong = (int(luhn_digit(digits)) + rng.randint(1, 9)) % 10
    return f"batch id {digits}{wrong}"


def _no_iban(rng: random.Random) -> str:
    bban = made("<d18>", rng)
    rest = int(bban + "131400") % 97
    return f"DE{(98 - rest + rng.randint(1, 60)) % 97:02}{bban} is mistyped, the check digits are wrong"


def look_alike(rng: random.Random) -> str:
    place = rng.randrange(len(_TEMPLATES) + 4)
    if place < len(_TEMPLATES):
        return made(_TEMPLATES[place], rng)
    return _no_card(rng) if place % 2 else _no_iban(rng)
