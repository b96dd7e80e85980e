"""Which detectors a text has to be shown to: those whose sign it has. Most texts have none.

A sign is what no item of its kind is without, so asking only these detectors finds what asking all of them would. Bytes
are sorted into classes and searched for runs, which takes a tenth of the time of patterns; a pattern is tried only
where the bytes say that it may fit.
"""

import re
import string
from collections.abc import Sequence
from typing import Literal

from cai.privacy import contact, keys, numbers

Detector = Literal["key", "email", "ip", "iban", "number", "name"]
DETECTORS: tuple[Detector, ...] = ("key", "email", "ip", "iban", "number", "name")

_LETTERS, _DIGITS, _SPACE = string.ascii_letters.encode(), string.digits.encode(), string.whitespace.encode()
_PLAIN = _LETTERS + _DIGITS + _SPACE + b".,?!'"
_AS_TOKENS = bytes(0x20 if code in _SPACE + b"\"'`<>[](){},;" else 0x61 for code in range(256))
_AS_SHAPE = bytes(0x30 if code in _DIGITS else 0x61 if code in _LETTERS else 0x20 for code in range(256))
_NO_SHAPE = bytes(set(range(256)) - {*_LETTERS, *_DIGITS})
_TOKEN, _SEVEN, _NINE, _TWELVE = b"a" * keys.SHORTEST, b"0" * 7, b"0" * 9, b"0" * 12

_PASSWORD = re.compile(
    r"login\s\S{1,64}\spassword\s|--pass|sshpass|(?:pass(?:word|wd|phrase|code|wort|e)?|pwd|pw|contrase[n\u00f1]a)"
    r"[\"'`\])]{0,2}(?:\s?[:=>]|\s(?:is|was|to|ist|es)\s)"
)
_PASSWORD_ABROAD = re.compile(rf"(?:{keys.PASSWORD_ABROAD})[\"'`\])]{{0,2}}\s?[:=>]")
_POINT = r"(?:\.|[\[(](?:\.|dot)[\])]| dot )"
_IPV4 = re.compile(rf"[0-9]{_POINT}[0-9]{{1,3}}{_POINT}[0-9]{{1,3}}{_POINT}[0-9]")
_IPV6 = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IN_BRACKETS = re.compile(r"[\[({<] ?(?:at|ät|arroba|arr?obase) ?[\])}>]")
_NUMBER = re.compile(rb" 0(?: {0,3}0){6}")
_AS_ACCOUNT = bytes(
    0x30 if code in _DIGITS else ord(chr(code).lower()) if code in _LETTERS else 0x20 for code in range(256)
)
"""Letters stay, small, digits are 0 and all else is a space."""
_NEXT = {
    "nnn": "(?: {0,3}0){3}",
    "nn": "(?: {0,3}0){2}",
    "an": " {0,3}[a-z](?: {0,3}0){4}",
    "aan": "(?: {0,3}[a-z]){2}(?: {0,3}0){4}",
    "aaaa": "(?: {0,3}[a-z]){4}",
    "ccccn": "(?: {0,3}[a-z0]){4}(?: {0,3}0){4}",
    "": "",
}
"""What accounts have after their country and two digits, by how that begins in the registry."""


def _any_account() -> re.Pattern[bytes]:
    """The beginnings of the accounts of all countries, each behind a space."""
    countries: dict[str, list[str]] = {}
    for code in numbers.CODES:
        begins = next(begins for begins in _NEXT if numbers.structure(code).startswith(begins))
        countries.setdefault(begins, []).append(code.lower())
    parts = [rf"(?:{_by_letter(codes)}) ?00{_NEXT[begins]}" for begins, codes in countries.items()]
    return re.compile(rf" (?=.. ?00)(?:{'|'.join(parts)})".encode())


def _by_letter(codes: Sequence[str]) -> str:
    """`a[de]|b[e]` for ad, ae and be: a pattern tries one letter after the other."""
    firsts = dict.fromkeys(code[0] for code in codes)
    return "|".join(f"{first}[{''.join(code[1] for code in codes if code[0] == first)}]" for first in firsts)


_ACCOUNT = _any_account()


def signs(text: str) -> list[Detector]:
    """Of a text as `fold` gives it, or of several with line ends between them."""
    low, body = text.lower(), text.encode("ascii", "replace")
    special = body.translate(None, _PLAIN)
    found: list[Detector] = []
    if _TOKEN in body.translate(_AS_TOKENS) or _says_password(low, special) or (special and _has_login(low, special)):
        found.append("key")
    has_dot = "dot" in low
    if _is_spelt_out(low, has_dot) or (special and _has_at(low, special)):
        found.append("email")
    digits = body.translate(_AS_SHAPE, _NO_SHAPE)
    if b"0" in digits and _has_address(text, digits, has_dot):
        found.append("ip")
    if b"aa00" in digits and ("iban" in low or _has_account(text, body)):
        found.append("iban")
    if _SEVEN in digits and _has_number(text, body, digits):
        found.append("number")
    if _has_name(text, low):
        found.append("name")
    return found


def _says_password(low: str, special: bytes) -> bool:
    if "identified by '" in low:
        return True
    if ("pass" in low or "pw" in low or "contrase" in low) and _PASSWORD.search(low) is not None:
        return True
    if not special or not (b":" in special or b"=" in special):
        return False
    return (not low.isascii() or any(word in low for word in keys.ABROAD)) and _PASSWORD_ABROAD.search(low) is not None


def _has_login(low: str, special: bytes) -> bool:
    """Secrets of less than `keys.SHORTEST` characters without the word for it, and blocks."""
    if b"-" in special and (
        "-u " in low or "-u=" in low or "--user" in low or "-----begin" in low or "private-lines:" in low
    ):
        return True
    return b"@" in special and "://" in low


def _is_spelt_out(low: str, has_dot: bool) -> bool:
    if " at " in low and (has_dot or "punkt" in low or " punto " in low):
        return True
    if ("roba" in low or "chiocciola" in low) and ("arroba " in low or "robase " in low or "chiocciola " in low):
        return True
    return not low.isascii() and (" małpa " in low or " собака " in low)


def _has_at(low: str, special: bytes) -> bool:
    return (
        b"@" in special
        or (b"_" in special and "_at_" in low)
        or (b"%" in special and "%40" in low)
        or (b"&" in special and ("&#" in low or "&commat;" in low))
        or (b"\\" in special and "\\u0040" in low)
        or _IN_BRACKETS.search(low) is not None
    )


def _has_address(text: str, digits: bytes, has_dot: bool) -> bool:
    if (has_dot or (b"0000" in digits and text.count(".") > 2)) and _IPV4.search(text):
        return True
    return text.count(":") > 1 and _IPV6.search(text) is not None


def _has_account(text: str, body: bytes) -> bool:
    for match in _ACCOUNT.finditer(b" " + body.translate(_AS_ACCOUNT)):
        if numbers.account_at(text, match.start()):
            return True
    return False


def _has_number(text: str, body: bytes, digits: bytes) -> bool:
    """A card may follow a letter; other numbers do not, and those of less than nine digits have few forms."""
    if _TWELVE in digits:
        return True
    shape = b" " + body.translate(_AS_SHAPE)
    return _NUMBER.search(shape) is not None and (_NINE in digits or contact.HAS_SHORT.search(text) is not None)


def _has_name(text: str, low: str) -> bool:
    titled = text != low and ("Mr" in text or "Ms" in text or "Miss" in text or "Dr" in text or "Prof" in text)
    return (
        titled
        or ("name" in low and ("name is " in low or "name's " in low))
        or "m called " in low
        or "signed," in low
        or "sincerely," in low
    )
