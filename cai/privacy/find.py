"""Personal items in a text, the detectors asked in turn, each after a cheap question: most texts have none."""

from bisect import bisect
from collections.abc import Collection, Iterator, Sequence

from cai.privacy import contact, keys, numbers
from cai.privacy.fold import fold
from cai.privacy.items import KINDS, Found, Kind

_LETTERS, _DIGITS, _SPACE = b"abcdefghijklmnopqrstuvwxyz", b"0123456789", b" \t\n\r\v\f"
_PLAIN = _LETTERS + _DIGITS + _SPACE + b".,?!'" + bytes(range(128, 256))
_SIGNS = (*keys.SAID, *contact.SIGNS_OF_EMAIL, *contact.SIGNS_OF_NAME)
_WORDS = tuple(sign for sign in _SIGNS if not sign.encode().translate(None, _PLAIN))
_NO_DIGITS = bytes(set(range(256)) - {*_LETTERS, *_DIGITS})
_AS_DIGITS = bytes(0x30 if code in _DIGITS else 0x61 for code in range(256))
_AS_WORDS = bytes(0x20 if code in _SPACE else 0x61 for code in range(256))
_WORD, _SEVEN, _NINE = b"a" * keys.SHORTEST, b"0" * 7, b"0" * 9


def is_bare(text: str) -> bool:
    """Whether `find` need not be asked, of a text or of several with line ends between them: nothing in it is a sign of
    an item. Bytes are sorted into kinds, which takes a tenth of the time of patterns.
    """
    plain = fold(text).text
    low = plain.lower()
    body = low.encode("utf-8", "replace")
    digits = body.translate(_AS_DIGITS, _NO_DIGITS)
    return not (
        _has(low, _SIGNS if body.translate(None, _PLAIN) else _WORDS)
        or _WORD in body.translate(_AS_WORDS)
        or (_SEVEN in digits and (_NINE in digits or contact.HAS_SHORT.search(plain)))
        or numbers.HAS_ACCOUNT.search(low)
        or _has_address(plain)
    )


def find(text: str, kinds: Collection[Kind] = KINDS) -> list[Found]:
    """The items of `kinds` in the order of the text; none overlaps another. Time is linear in the length of the text.

    Where two kinds read the same characters, the surer one counts: a key, then an address, then what has a checksum.
    """
    folded = fold(text)
    taken: list[Found] = []
    for found in _all(folded.text, kinds):
        place = bisect(taken, found.start, key=_start)
        if (not place or taken[place - 1].end <= found.start) and (
            place == len(taken) or found.end <= taken[place].start
        ):
            taken.insert(place, found)
    if folded.places is None:
        return taken
    spans = [folded.span(found.start, found.end) for found in taken]
    return [found._replace(start=start, end=end) for found, (start, end) in zip(taken, spans, strict=True)]


def _start(found: Found) -> int:
    return found.start


def _all(text: str, kinds: Collection[Kind]) -> Iterator[Found]:
    low = text.lower()
    if "key" in kinds and (_has(low, keys.SAID) or _is_long(low)):
        yield from keys.keys(text)
    if "email" in kinds and _has(low, contact.SIGNS_OF_EMAIL):
        yield from contact.emails(text)
    if "ip" in kinds and _has_address(text):
        yield from numbers.addresses(text)
    runs = numbers.runs(text)
    if "iban" in kinds and (runs or numbers.HAS_ACCOUNT.search(low)):
        yield from numbers.ibans(text)
    yield from (found for run in runs for found in _numbers(text, run, kinds))
    if "name" in kinds and _has(low, contact.SIGNS_OF_NAME):
        yield from contact.names(text)


def _has(text: str, signs: Sequence[str]) -> bool:
    return any(map(text.__contains__, signs))


def _is_long(text: str) -> bool:
    return max(map(len, text.split()), default=0) >= keys.SHORTEST


def _has_address(text: str) -> bool:
    return (text.count(".") > 2 or text.count(":") > 1) and numbers.HAS_ADDRESS.search(text) is not None


def _numbers(text: str, run: numbers.Run, kinds: Collection[Kind]) -> Iterator[Found]:
    if "card" in kinds and run.n_digits >= 12:
        yield from numbers.cards(text, run)
    if "ssn" in kinds and run.n_digits >= 9:
        yield from numbers.ssns(text, run)
    if "phone" in kinds:
        yield from contact.phones(text, run)
