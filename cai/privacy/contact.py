"""E-mail addresses, phone numbers, and names where the words before them say that they are names."""

import re
from collections.abc import Iterator

import phonenumbers

from cai.privacy.context import says
from cai.privacy.items import Found
from cai.privacy.numbers import Run

_LOCAL = r"[\w.%+'\-]"
_MAILBOX = re.compile(r"[\w.%+'\-!#$&/=~]+")
"""What RFC 5322 lets a mailbox be made of, as far as people do; what belongs to the text around it is cut off again."""
_LONGEST_MAILBOX = 256
_VALUE = re.compile(r"(?<![^=])[^/=]*(?:/[^/=]+=[^/=]+)?\Z")
_DOMAIN = (
    r"(?:(?:[\w\-]+\.)+(?:xn--[a-zA-Z0-9\-]{2,59}|(?!(?:png|jpe?g|gif|svg|webp|bmp|ico|css|js|json|html?|php|pdf|txt)\b)"
    r"[^\W\d_]{2,24})(?![\w(])|\[(?:[0-9]{1,3}\.){3}[0-9]{1,3}\])"
)
"""No ending of a file's name is one of a host."""
_AT_HOST = re.compile(rf"@{_DOMAIN}")
_ENCODED = re.compile(rf"(?<![\w.+'\-])[\w.+'\-]++(?:%40|&#0*64;|&#x0*40;|&commat;|\\u0040){_DOMAIN}", re.IGNORECASE)
_BOUNCED = re.compile(rf"(?<!{_LOCAL})[\w.%'\-]++\+[\w.+\-]++=[\w.+\-]++@{_DOMAIN}")
"""A sender that says in itself to whom the mail went: `bounce+ada=acme.org@lists.org`."""
_QUOTED = re.compile(rf'"[^"\n@]{{1,64}}"@{_DOMAIN}')
_DOT_WORD = r"(?:dot|punkt|point|punto|ponto|kropka|точка)"
SPELT_DOT = rf" ?[\[({{<] ?(?:dot|\.) ?[\])}}>] ?| {_DOT_WORD} "
_DOT = rf"(?:\.|{SPELT_DOT})"
_SPELT_OUT = re.compile(
    rf"(?<!{_LOCAL})(?P<local>{_LOCAL}++(?:(?: dot | ?[\[({{<]dot[\])}}>] ?)[\w\-]++){{0,4}}+)"
    r"(?P<at> ?[\[({<] ?(?:at|@|ät|arroba|arr?obase) ?[\])}>] ?| (?:at|arroba|arr?obase|chiocciola|małpa|собака) "
    rf"| @ ?| ?@ |@(?=[\w\-]+ {_DOT_WORD} ))"
    rf"(?P<domain>[\w\-]++(?:{_DOT}[\w\-]++){{0,5}}{_DOT}(?P<top>[^\W\d_]{{2,24}}))(?![\w\-(@]|\.\w)",
    re.IGNORECASE,
)
_UNDERSCORED = re.compile(
    r"(?<![\w.+\-])(?P<local>(?:[^\W_]|[.+\-])++(?:_(?!at_)(?:[^\W_]|[.+\-])++){0,4})_at_"
    r"(?P<domain>(?:[^\W_]|-)++(?:_dot_(?:[^\W_]|-)++){0,4}_dot_(?P<top>[^\W\d_]{2,24}))(?![\w\-])",
    re.IGNORECASE | re.ASCII,
)
_TOPS = frozenset(
    "com org net edu gov info biz io co uk de fr es nl eu ru ch ca au jp cn br pl se dk fi cz gr hu pt ie nz za mx ar "
    "tr kr sg hk il ae ro ua fm tv app dev online xyz".split()
)
"""Those that are no words: "look at the dot in the middle" is no address."""
_NAMED_TOPS = frozenset("it in be at us me no cloud club email site shop store tech berlin paris london tokyo".split())
_NO_LOCAL = frozenset(
    "look looks looked looking be is are was were am been me us him her it them you this that there here these those "
    "up out back over right left work works worked working stay stop meet meeting met visit buy bought sell sold shop "
    "order ordered book found find find check available page site people everyone someone anyone good bad all not or "
    "and but hosted listed live posted read see seen arrive start end aim get got go went sign".split()
)
_NO_HOST = frozenset("the a an my your our this that".split())
"""Nor is "look at the dot com boom", though it ends like one."""


def emails(text: str) -> Iterator[Found]:
    """Addresses as they are written, and as they are spelt out: `name [at] host [dot] com`."""
    for match in _BOUNCED.finditer(text):
        yield _mail(text, *match.span())
    yield from _plain(text)
    for pattern in (_QUOTED, _ENCODED):
        for match in pattern.finditer(text):
            yield _mail(text, match.start() + len(match[0]) - len(match[0].lstrip("'.-+%")), match.end())
    said, place = _SPELT_OUT.search(text), 0
    while said is not None:
        place = said.start("domain")  # of "me at jo at acme dot org" the second is one
        if _is_address(said):
            place = said.end()
            yield _spelt(said)
        said = _SPELT_OUT.search(text, place)
    if "_at_" in text.lower():
        yield from (_spelt(match) for match in _UNDERSCORED.finditer(text) if _is_joined(match["top"].lower()))


def _plain(text: str) -> Iterator[Found]:
    end = 0
    for match in _AT_HOST.finditer(text):
        mailbox = _MAILBOX.match(text[max(end, match.start() - _LONGEST_MAILBOX) : match.start()][::-1])
        if mailbox is not None:
            start = match.start() - len(_own(mailbox[0][::-1]))
            is_remote = text.startswith("git@", start) and text[match.end() : match.end() + 1] == ":"
            if start < match.start() and not is_remote:
                yield _mail(text, start, match.end())
        end = match.end()


def _own(mailbox: str) -> str:
    """Without the path of a URL and the name of a setting; `customer/department=shipping` is a mailbox (RFC 3696)."""
    if "//" in mailbox or mailbox[0] == "/":
        mailbox = mailbox[mailbox.rfind("/") + 1 :]
    value = _VALUE.search(mailbox)
    own = mailbox[mailbox.rfind("=") + 1 :] if value is None else value[0]
    return own.lstrip("'.-+%!#$&/=~")


def _mail(text: str, start: int, end: int) -> Found:
    return Found("email", start, end, text[start:end].lower())


def _spelt(match: re.Match[str]) -> Found:
    written = f"{match['local']}@{match['domain']}".lower()
    return Found("email", *match.span(), re.sub(rf" ?[\[({{<]? ?(?:{_DOT_WORD}|\.) ?[\])}}>]? ?|_dot_", ".", written))


def _is_address(match: re.Match[str]) -> bool:
    """Of what may be one spelt out: brackets about the at say so, or the words do."""
    at, top, domain = match["at"].strip(), match["top"].lower(), match["domain"].lower()
    if at[:1] in tuple("[({<") or at.lower() not in ("at", "@"):
        return True
    local = match["local"].lower()
    looks_local = re.search(r"[0-9._]| dot ", local) is not None
    if "." in domain and " " not in domain:
        return looks_local and at == "@" and _is_joined(top)
    is_talk = local in _NO_LOCAL or domain.split()[0] in _NO_HOST
    if "dot" not in domain:
        return top in _TOPS and not is_talk
    return looks_local or ((top in _TOPS or match["at"] == "@") and not is_talk)


def _is_joined(top: str) -> bool:
    """Where nobody talks, words may end a host: programs have `f_at_g` and `a.b @ c.d`, but seldom such an end."""
    return top in _TOPS or top in _NAMED_TOPS


_NOT_BEFORE = r"(?<![A-Za-z0-9_$£€#/])(?<![0-9][-.,:])(?<![A-Za-z]-)"
_NOT_AFTER = r"(?![A-Za-z0-9_%€£]|[-.,:/][0-9])"
_GAP = r"[ .\-/()]{0,3}"
_PLUS = r"\(?\+\(?|(?<![0-9] )(?<![0-9)])\(?\+ \(?"
"""With a space behind it a plus after a number adds to that."""
_ABROAD = re.compile(
    rf"(?<![A-Za-z0-9_+])(?:{_PLUS}|\(?(?:00|011)[ \-.]?(?=[1-9])\(?)[0-9](?:{_GAP}[0-9]){{6,15}}(?![A-Za-z0-9_])"
)
_FAMILIAR = re.compile(
    _NOT_BEFORE + r"(?:"
    r"(?P<us>(?:1[ .\-]{1,2})?(?:\([2-9][0-9]{2}\)[ .\-]{0,2}|[2-9][0-9]{2}[.\-/ ]{1,3})"
    r"[2-9][0-9]{2}[.\- ]{1,3}[0-9]{4})"
    r"|(?P<br>(?:\([1-9][0-9]\) ?|[1-9][0-9] )9? ?[0-9]{4}-[0-9]{4})"
    r"|(?P<cn>1[3-9][0-9][ \-][0-9]{4}[ \-][0-9]{4})"
    r"|(?P<ru>8[ \-]?\(?[3-9][0-9]{2}\)?[ \-]?[0-9]{3}[ \-][0-9]{2}[ \-][0-9]{2})"
    r"|(?P<tr>0 ?\(?[2-5][0-9]{2}\)? ?[0-9]{3} [0-9]{2} ?[0-9]{2})"
    r"|(?P<area>\([1-9][0-9]{1,2}\) ?[0-9]{2,4}(?:[ \-][0-9]{2,4}){1,3})"
    r"|(?P<in>[6-9][0-9]{4}[ \-][0-9]{5})"
    rf")(?P<ext>,? ?(?:x|ext\.?|extension|#) ?[0-9]{{1,6}})?{_NOT_AFTER}",
    re.IGNORECASE,
)
_BRACKETED_REGIONS = ("PL", "MX", "AR", "CO", "PE", "IN")
"""Where an area in brackets has no 0 before it."""
_TRUNK = re.compile(rf"{_NOT_BEFORE}(?<![0-9] )\(?0[1-9](?:{_GAP}[0-9]){{7,10}}{_NOT_AFTER}(?! [0-9])")
_TRUNK_REGIONS = "GB DE FR IT AU NL JP KR IN CH AT SE BE ZA IE NZ TR FI ID MY VN TH EG NG PK IL BR AR".split()
_ANY = re.compile(rf"{_NOT_BEFORE}\(?[0-9](?:{_GAP}[0-9]){{6,13}}{_NOT_AFTER}")
_DATED = re.compile(
    r"\(?(?:(?:19|20)[0-9]{2}[-./ ]?[01][0-9][-./ ]?[0-3][0-9](?:[ .\-]+[0-9]{2,6})?"
    r"|[0-3]?[0-9][-./ ][0-3]?[0-9][-./ ](?:19|20)[0-9]{2}|(?:19|20)[0-9]{2} ?[-/ ] ?(?:19|20)[0-9]{2})"
)
_NUMBERS_BEFORE = re.compile(r"(?:[0-9]{1,4},? ){2}\Z")
_SHAPES = (
    r"(?:[2-9][0-9]{2}[ .\-]?[0-9]{4}|[0-9]{4}[ .\-]?[0-9]{4}|[0-9]{2}(?:[ .\-][0-9]{2}){3}"
    r"|[0-9]{3}[ .\-][0-9]{2}[ .\-][0-9]{3})"
)
_LOCAL_SHAPE = re.compile(_SHAPES)
HAS_SHORT = re.compile(rf"[+]|(?<![0-9]){_SHAPES}(?![0-9])")
"""What a number of less than nine digits has."""


def phones(text: str, run: Run) -> Iterator[Found]:
    """International numbers; national ones that have the form of a country; any other where a word says it is one."""
    yield from _abroad(text, run)
    for match in run.matches(_FAMILIAR, text) if run.n_digits >= 9 else ():
        kind, shown = match.lastgroup if match["ext"] is None else "us", match[0]
        by_spaces = kind in ("us", "in", "ru", "tr") and not set("-.()/") & set(shown)
        if by_spaces and _is_in_list(text, *match.span()):
            continue
        regions = _BRACKETED_REGIONS if kind == "area" else ((kind or "us").upper(),)
        has_to_be = by_spaces or kind in ("area", "tr")
        if says(text, *match.span()) == "counter" or (has_to_be and not any(_is_valid(shown, r) for r in regions)):
            continue
        yield Found("phone", *match.span(), _digits(shown.split("x")[0])[-10:])
    for match in run.matches(_TRUNK, text) if run.n_digits >= 9 else ():
        meant = says(text, *match.span())
        grouped = not match[0].isdigit()
        if meant == "phone" or (grouped and meant != "counter" and any(_is_valid(match[0], r) for r in _TRUNK_REGIONS)):
            yield Found("phone", *match.span(), _digits(match[0])[-10:])
    for match in run.matches(_ANY, text):
        if _is_long(match[0]) and not _DATED.fullmatch(match[0]) and says(text, *match.span()) == "phone":
            yield Found("phone", *match.span(), _digits(match[0])[-10:])


def _abroad(text: str, run: Run) -> Iterator[Found]:
    """Cut back group by group while a number beside the phone's was taken for its end."""
    for match in run.matches(_ABROAD, text):
        if "+" not in match[0] and says(text, *match.span()) == "counter":
            continue
        number = re.sub(r"\A[( ]*(?:\+|00|011)", "+", match[0])
        n_cut = len(match[0]) - len(number)
        ends = [len(number), *(m.start() for m in reversed(list(re.finditer(r"[^0-9+(]+", number))))]
        fit = next((end for end in ends if len(_digits(number[:end])) >= 7 and _is_valid(number[:end], None)), None)
        if fit is None and _is_prefixed(match[0]):
            fit = len(number)
        if fit is None and "+" in match[0] and 8 <= len(_digits(number)) <= 15 and number[1:].lstrip(" (")[0] != "0":
            fit = len(number)
        if fit is not None:
            yield Found("phone", match.start(), match.start() + n_cut + fit, _digits(number[:fit])[-10:])


def _is_in_list(text: str, start: int, end: int) -> bool:
    """Numbers stand on both sides, or several before: `233 377 610 987 1597`."""
    return _NUMBERS_BEFORE.search(text, max(0, start - 24), start) is not None and says(text, start, end) != "phone"


def _is_valid(shown: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(shown, region))
    except phonenumbers.NumberParseException:
        return False


def _is_prefixed(shown: str) -> bool:
    """`0044 7700 900555`: a country's code by itself behind 00, and as many digits as it has."""
    code = re.match(r"[( ]*00([1-9][0-9]{0,2})[ \-]", shown)
    if code is None:
        return False
    try:
        number = phonenumbers.parse(re.sub(r"\A[( ]*00", "+", shown), None)
    except phonenumbers.NumberParseException:
        return False
    reason = phonenumbers.is_possible_number_with_reason(number)
    return str(number.country_code) == code[1] and reason == phonenumbers.ValidationResult.IS_POSSIBLE


def _is_long(shown: str) -> bool:
    n = len(_digits(shown))
    return n >= 9 or (n in (7, 8) and _LOCAL_SHAPE.fullmatch(shown.lstrip("(")) is not None)


def _digits(shown: str) -> str:
    return re.sub(r"[^0-9]", "", shown)


_WORD = r"[A-ZÀ-ÖØ-ÞŁŚŻČŠŽ][^\W\d_]+(?:['\-][^\W\d_]+)*"
_NAMED = re.compile(
    r"(?:(?i:\bmy (?:full |first |last |real )?name(?: is|'s) |\b(?:i am|i'm) called |\b(?:signed|sincerely),\s+)"
    rf"|\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor)\.? )(?P<name>{_WORD}(?: {_WORD}){{0,2}})"
)


def names(text: str) -> Iterator[Found]:
    """After a title, or after somebody says that it is a name. A name in passing is not found."""
    for match in _NAMED.finditer(text):
        yield Found("name", *match.span("name"), match["name"].lower())
