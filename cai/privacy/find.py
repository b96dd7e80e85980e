"""Personal items in a text: the detectors asked in turn, each where the text has its sign."""

from bisect import bisect
from collections.abc import Collection, Iterator

from cai.privacy import contact, keys, numbers
from cai.privacy.fold import fold
from cai.privacy.items import KINDS, Found, Kind
from cai.privacy.signs import DETECTORS, Detector, signs


def is_bare(text: str) -> bool:
    """Whether `find` need not be asked, of a text or of several with line ends between them: nothing in it is a sign of
    an item.
    """
    return not signs(text if text.isascii() else fold(text).text)


def find(text: str, kinds: Collection[Kind] = KINDS, *, ask_all: bool = False) -> list[Found]:
    """The items of `kinds` in the order of the text; none overlaps another. Time is linear in the length of the text.

    Where two kinds read the same characters, the surer one counts: a key, then an address, then what has a checksum.
    With `ask_all` every detector is asked, whatever the signs: the same items, more slowly.
    """
    folded = fold(text)
    asked = DETECTORS if ask_all else signs(folded.text)
    taken: list[Found] = []
    for found in _all(folded.text, kinds, asked):
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


def _all(text: str, kinds: Collection[Kind], asked: Collection[Detector]) -> Iterator[Found]:
    if "key" in kinds and "key" in asked:
        yield from keys.keys(text)
    if "email" in kinds and "email" in asked:
        yield from contact.emails(text)
    if "ip" in kinds and "ip" in asked:
        yield from numbers.addresses(text)
    if "iban" in kinds and "iban" in asked:
        yield from numbers.ibans(text)
    if "number" in asked:
        yield from (found for run in numbers.runs(text) for found in _numbers(text, run, kinds))
    if "name" in kinds and "name" in asked:
        yield from contact.names(text)


def _numbers(text: str, run: numbers.Run, kinds: Collection[Kind]) -> Iterator[Found]:
    if "card" in kinds and run.n_digits >= 12:
        yield from numbers.cards(text, run)
    if "ssn" in kinds and run.n_digits >= 9:
        yield from numbers.ssns(text, run)
    if "phone" in kinds:
        yield from contact.phones(text, run)
