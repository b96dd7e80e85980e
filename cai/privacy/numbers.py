"""Numbers that a checksum or a registry of lengths vouches for: payment cards, IBANs, US social security numbers, IPs.

Card ranges are ISO/IEC 7812 issuer prefixes as the schemes publish them; IBAN lengths and structures are those of the
SWIFT registry, by way of python-stdnum.
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from string import ascii_uppercase
from typing import NamedTuple

from stdnum import iban, luhn, numdb
from stdnum.us import ssn

from cai.privacy.context import UNSPACED, is_card_behind, says
from cai.privacy.items import Found

_RUN = re.compile(r"[0-9](?:[^A-Za-z0-9]{0,3}[0-9]){6,}+")
_BEFORE, _AFTER = 4, 24
"""What may belong to a number besides its digits: `+ (` before them, an extension after."""


class Run(NamedTuple):
    """Digits with little between them, at least seven. A number of the run starts before `end`."""

    start: int
    end: int
    n_digits: int

    def matches(self, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
        for match in pattern.finditer(text, self.start, self.end + _AFTER):
            if match.start() < self.end:
                yield match


def runs(text: str) -> list[Run]:
    """Where numbers may be, so that the rest of a text is not read for each kind of them."""
    found: list[Run] = []
    for match in _RUN.finditer(text):
        start = max(found[-1].end if found else 0, match.start() - _BEFORE)
        found.append(Run(start, match.end(), sum(map(str.isdecimal, match[0]))))
    return found


_SEP = r"(?:[ .\-/_\t]{1,2}| [\-/.] )"
_CARD = re.compile(
    rf"(?<![0-9])(?<![0-9][.,])(?=(?P<long>[0-9]{{4}}(?:{_SEP}[0-9]{{4}}){{3}}{_SEP}[0-9]{{1,3}}|[0-9]{{4}}(?:{_SEP}[0-9]{{4}}){{2}}{_SEP}[0-9]{{1,4}}|"
    rf"[0-9]{{4}}(?:{_SEP}[0-9]{{4}}){{2}}(?![0-9]|{_SEP}[0-9])|"
    rf"[0-9]{{4}}{_SEP}[0-9]{{6}}{_SEP}[0-9]{{4,5}}|[0-9]{{4}}(?:{_SEP}[0-9]{{3}}){{3}}|"
    rf"[0-9]{{4}}{_SEP}[0-9]{{4}}{_SEP}[0-9]{{5}}|[0-9]{{8}}{_SEP}[0-9]{{8}}|[0-9]{{6}}{_SEP}[0-9]{{13}}|"
    r"[0-9]{12,19})(?![0-9]))"
)
_CARD_AS_FOUR = re.compile(rf"[0-9]{{4}}(?:{_SEP}[0-9]{{4}}){{3}}")
_ISSUERS = re.compile(
    r"(?:4(?:.{12}|.{15}|.{18})"  # Visa
    r"|5[1-5].{14}|2(?:22[1-9]|2[3-9].|[3-6]..|7[01].|720).{12}"  # Mastercard
    r"|3[47].{13}"  # American Express
    r"|(?:6011|64[4-9].|65..).{12,15}"  # Discover
    r"|3(?:0[0-5]|[689].).{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8].).{12,15}"  # JCB
    r"|(?:62|81).{14,17}"  # UnionPay
    r"|220[0-4].{12,15}"  # Mir
    r"|(?:60|82|508.).{12,14}"  # RuPay
    r"|(?:506[0-9]|507[0-9]|509[0-9]|6363|6277).{12,15}"  # Elo, Verve
    r"|(?:9792|5019|8600|9860).{12}"  # Troy, Dankort, Uzcard, Humo
    r"|(?:5018|5020|5038|5[67]..|58[09].|63[0-9]{2}|67[0-9]{2}).{8,15})"  # Maestro
)
_SURE_LENGTHS = frozenset({14, 15, 16, 17, 18, 19})
"""Of fewer digits there are too many article numbers: those need a word beside them that says it is a card."""


def cards(text: str, run: Run) -> Iterator[Found]:
    end = 0
    for match in run.matches(_CARD, text):
        if match.start() < end:
            continue
        shown = match["long"]
        shorter = _CARD_AS_FOUR.match(shown)
        for each in (shown, shorter[0] if shorter else shown):
            digits = re.sub(r"[^0-9]", "", each)
            if len(set(digits)) > 1 and luhn.is_valid(digits):
                end_of = match.start() + len(each)
                meant = says(text, match.start(), end_of)
                is_alone = each != digits and run.n_digits == len(digits)
                in_table = "\t" in each and "\t" in text[match.start() - 1 : match.start()] + text[end_of : end_of + 1]
                is_sure = len(digits) in _SURE_LENGTHS and (meant != "counter" or is_alone) and not in_table
                is_said = meant == "card" or (meant == "" and is_card_behind(text, end_of))
                if is_said or (is_sure and _ISSUERS.fullmatch(digits)):
                    end = end_of
                    yield Found("card", match.start(), end, digits)
                    break


_IBAN = re.compile(r"(?=[A-Za-z]{2}[ \-._\t]?[0-9]{2})(?:(?<![A-Za-z0-9])|(?<=iban)|(?<=IBAN))[A-Za-z]{2}")
_REGISTRY = numdb.get("iban")


def _accounts() -> dict[str, str]:
    """How accounts of each country are written: what digits (n), letters (a) or either (c) follow its check digits."""
    letters = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}
    patterns = {}
    for country in map("".join, product(ascii_uppercase, repeat=2)):
        structure = re.findall(r"([0-9]+)!([nac])", _REGISTRY.info(country)[0][1].get("bban", ""))
        parts = [rf"(?:(?:[ \-._\t]{{0,2}}| - ){letters[kind]}){{{n}}}" for n, kind in structure]
        if parts:
            patterns[country] = rf"{country}[ \-._\t]?[0-9]{{2}}{''.join(parts)}"
    return patterns


_ACCOUNTS = _accounts()
ACCOUNTS = "|".join(_ACCOUNTS.values())
"""What has the structure of an account of any country, letters in capitals."""


@cache
def _account(country: str) -> re.Pattern[str] | None:
    pattern = _ACCOUNTS.get(country.upper())
    return None if pattern is None else re.compile(pattern, re.IGNORECASE | re.ASCII)


_GOES_ON = re.compile(rf"[^\W_{UNSPACED}]")


def ibans(text: str) -> Iterator[Found]:
    """The structure first: of words with two letters and two digits at their start, few go on like an account."""
    for start in _IBAN.finditer(text):
        account = _account(start[0])
        match = account and account.match(text, start.start())
        if match is None or _GOES_ON.match(text, match.end()):
            continue
        number = re.sub(r"[^A-Z0-9]", "", match[0].upper())
        if iban.is_valid(number, check_country=False):
            yield Found("iban", *match.span(), number)


_SSN = re.compile(
    r"(?<![A-Za-z0-9])(?<![0-9][-.,/])"
    r"(?:[0-9]{3}( - |[- ./_\t]?|  )[0-9]{2}\1[0-9]{4}|[0-9]{3}([- ])[0-9]{3}\2[0-9]{3}|[0-9]{5}[- ][0-9]{4})"
    r"(?![A-Za-z0-9]|[-.,/][0-9])"
)


def ssns(text: str, run: Run) -> Iterator[Found]:
    """Written with hyphens, or any other way after the words; never the numbers that were not given out."""
    for match in run.matches(_SSN, text):
        digits = re.sub(r"[^0-9]", "", match[0])
        meant = says(text, *match.span())
        is_usual = match[1] is not None and match[1].strip() == "-"
        if meant == "ssn" or (is_usual and meant in ("", "phone", "card") and ssn.is_valid(digits)):
            yield Found("ssn", *match.span(), digits)


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_POINT = r"(?:\.|\[\.\]|\(\.\)|\[dot\]| dot )"
"""A dot, or one in brackets or in words, so that nobody follows the address by mistake."""
_QUAD = rf"(?:(?:{_OCTET}{_POINT}){{3}}{_OCTET}(?!\w)|(?:[0-9]{{3}}\.){{3}}[0-9]{{3}})"
"""All octets may be filled up with noughts."""
_IPV4 = re.compile(rf"(?<![\w.+\-]){_QUAD}(?:-(?P<last>{_QUAD}))?(?![\w\-]|\.[0-9])", re.ASCII)
_TAIL_OF = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,6}\Z", re.ASCII)
"""What stands before a v4 address in a v6 one, mapped or translated."""
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,6}|:)?(?![\w:])", re.ASCII
)
_VERSIONED = re.compile(r"(?:version|release|build|firmware|driver|section|chapter|oid|v)[ .:]{0,2}\Z", re.IGNORECASE)
_UNICAST = ipaddress.ip_network("2000::/3")


def addresses(text: str) -> Iterator[Found]:
    """Public addresses: those of a private network, of this machine and of documentation are nobody's."""
    for match in (*_IPV4.finditer(text), *_IPV6.finditer(text)):
        versioned = _VERSIONED.search(text, max(0, match.start() - 12), match.start())
        shown = re.sub(_POINT, ".", match[0]).split("-")
        if text.startswith(".in-addr.arpa", match.end()):
            shown = [".".join(reversed(shown[0].split(".")))]
        addresses = [address for each in shown if (address := _public(each))]
        if versioned or not addresses:
            continue
        tail_of = _TAIL_OF.search(text, max(0, match.start() - 30), match.start()) if "." in match[0] else None
        is_tail = tail_of is not None and _parsed(tail_of[0] + shown[0]) is not None
        start = tail_of.start() if tail_of is not None and is_tail else match.start()
        yield Found("ip", start, match.end(), addresses[0].compressed)


def _parsed(shown: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(shown)
    except ValueError:
        return None


def _public(shown: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """No network's own, `120.0.0.0`, which is how browsers write their versions."""
    address = _parsed(re.sub(r"\b0+(?=[0-9]+\.|[0-9]+\Z)", "", shown) if "." in shown else shown)
    if address is None or not address.is_global or shown.endswith(".0.0.0"):
        return None
    return address if address.version == 4 or address in _UNICAST else None
