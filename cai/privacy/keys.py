"""Keys and tokens: those with a prefix that their maker has published, and whatever is given as a secret.

The prefixes are those that issuers document so that leaked keys can be found.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

from cai.privacy.items import Found

SHORTEST = 16
"""Characters of a token, and of a secret that is no password."""
_FORMATS = (
    r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|AROA)[A-Z0-9]{16}(?![A-Z0-9])",  # AWS
    r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{36,255}",
    r"gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|oas|imt)-[A-Za-z0-9_\-.]{20,300}",
    r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9\-]{10,250}|xapp-[0-9]-[A-Za-z0-9\-]{20,250}",  # Slack
    r"[srp]k_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9+/=]{24,100}",  # Stripe
    r"AIza[A-Za-z0-9_\-]{35}|ya29\.[A-Za-z0-9_\-]{20,500}",  # Google
    r"GOCSPX-[A-Za-z0-9_\-]{28}|1//0[A-Za-z0-9_\-]{40,200}",
    r"sk-(?:[a-z]{2,10}[0-9]{0,2}-){0,3}[A-Za-z0-9_\-]{20,250}",  # OpenAI, Anthropic, OpenRouter and others
    r"hf_[A-Za-z0-9]{30,50}|gsk_[A-Za-z0-9]{40,60}|xai-[A-Za-z0-9]{60,100}|pplx-[A-Za-z0-9]{40,60}|r8_[A-Za-z0-9]{37}",
    r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{50,250}|rubygems_[a-f0-9]{48}|dckr_(?:pat|oat)_[A-Za-z0-9_\-]{20,60}",
    r"do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}|hv[sbr]\.[A-Za-z0-9_\-]{24,300}|[A-Za-z0-9]{14}\.atlasv1\.[\w\-=]{60,70}",
    r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16,64}|key-[a-f0-9]{32}|[a-f0-9]{32}-us[0-9]{1,2}|SK[a-f0-9]{32}",
    r"sq0[a-z]{3}-[A-Za-z0-9_\-]{22,43}|EAAA[A-Za-z0-9_\-]{56,64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
    r"[0-9]{8,10}:AA[A-Za-z0-9_\-]{32,35}|[MNO][A-Za-z0-9_\-]{23,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,45}",
    r"lin_api_[A-Za-z0-9]{32,60}|ntn_[A-Za-z0-9]{40,60}|ATATT3[A-Za-z0-9_\-=]{100,250}|ATCTT3[A-Za-z0-9_\-=]{100,250}",
    r"NRAK-[A-Z0-9]{27}|sntry[su]_[A-Za-z0-9+/=_\-]{40,300}|PMAK-[a-f0-9]{24}-[a-f0-9]{34}|gl(?:sa|c)_[A-Za-z0-9+/=_]{32,300}",
    r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_\-.]{32,64}|sb[ps]_[a-f0-9]{40}|sb_secret_[\w\-]{20,60}|sl\.[A-Za-z0-9_\-]{130,160}",
    r"EAA[A-Za-z0-9]{80,400}|secret_[A-Za-z0-9]{43}|AGE-SECRET-KEY-1[A-Z0-9]{58}|AC[a-f0-9]{32}|figd_[\w\-]{40}",
    r"nf[pcoub]_[A-Za-z0-9]{36,40}|nvapi-[\w\-]{60,70}|pul-[a-f0-9]{40}|ph[xs]_[A-Za-z0-9]{40,60}|rdme_[a-z0-9]{70}",
    r"tskey-[a-z]{3,9}-[A-Za-z0-9]{10,20}-[A-Za-z0-9]{20,40}|tvly-(?:[a-z]{3,4}-)?[A-Za-z0-9]{20,40}|bkua_[a-f0-9]{40}",
    r"EZ[AT]K[A-Za-z0-9]{54}|CFPAT-[\w\-]{43}|ATBB[A-Za-z0-9]{32}|ops_eyJ[\w\-]{60,2000}|duffel_(?:live|test)_[\w\-]{43}",
    r"dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}|FLWSECK(?:_TEST)?-[a-z0-9]{32}-X|HRKU-AA[\w\-]{58}|LTAI[A-Za-z0-9]{16,22}",
    r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}|x(?:keys|smtps)ib-[a-f0-9]{64}-[A-Za-z0-9]{16}|sq[apu]_[a-f0-9]{40}",
    r"(?:[a-z]{2,12}_)?(?:live|test|prod)_[a-f0-9]{32,64}|sk_[a-f0-9]{40,64}|CLOJARS_[a-z0-9]{60}|cio[A-Za-z0-9]{32}",
    r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_\-.]{40,60}|tfp_[\w\-]{40,64}|rnd_[A-Za-z0-9]{28}",
    r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}",  # Airtable
    r"[0-9]/[0-9]{13,17}(?:/[0-9]{13,17})?:[a-f0-9]{32}",  # Asana
    r"eyJ[A-Za-z0-9_\-]{8,4000}\.eyJ[A-Za-z0-9_\-]{4,8000}(?:\.[A-Za-z0-9_\-]{0,4000})?",  # a JSON Web Token, RFC 7519
)
_KNOWN = re.compile(rf"(?:{'|'.join(_FORMATS)})")
_PREFIXED = re.compile(
    r"(?!sha|md5|blake)[A-Za-z][A-Za-z0-9]{1,11}[_\-](?:[A-Za-z0-9]{2,12}[_\-]){0,2}"
    r"(?P<body>[A-Za-z0-9]{32,128})(?![A-Za-z0-9+/=])"
)
"""As most issuers make theirs: a name, and a body of letters of both cases and digits, longer than an id."""
_SHORTEST_PREFIXED = 34
_TOKEN = re.compile(r"(?<![A-Za-z0-9_\-])[A-Za-z0-9][A-Za-z0-9_\-.:+/=]{15,}+")
_WITHIN = re.compile(r"[:=/.]")
_HOOK = re.compile(
    r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{20,120}|discord(?:app)?\.com/api/webhooks/[0-9]{1,20}/[\w\-]{30,120}"
)
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(r"(?:\s|\\[nr]|[A-Za-z0-9+/=:,\-]{16,200}+(?=\s|\\|\Z)){0,200}+")
_LONGEST_PEM = 20_000
_HEADER = re.compile(
    r"\b(?:bearer|basic|token|ssws)[ :=]{1,3}(?P<value>[A-Za-z0-9_\-.~+/]{16,4000}={0,2})", re.IGNORECASE
)
_URL = re.compile(r"(?<=://)[^\s/@:'\"<>]{0,64}:(?P<value>[^\s/@'\"<>]{3,128})(?=@)")
_OPTION = re.compile(r"(?<=\s)(?:-u|--user)[ =]['\"]?[^\s:'\"]{1,64}:(?P<value>[^\s'\"]{3,128})")
LINK = r"[\"'`\])]{0,2}(?:\s?(?:=>|:=|==|[:=])\s?|>|\s(?:is|was|to|ist|es)(?:\s?:)?\s)"
"""What stands between the word for a secret and the secret."""
_VALUE = rf"{LINK}[\"'`(<\[]{{0,2}}(?P<value>[^\s\"'`<>\[\](){{}},;]{{6,500}})"
_USUAL = r"pass(?:word|wd|phrase|code|wort|e)?|pwd|contrase[nñ]a"
_ABROAD = r"senha|wachtwoord|parola|has[lł]o|l[oö]senord|[sş]ifre|пароль|密码|密碼|パスワード|비밀번호"
PASSWORD = rf"{_USUAL}|pw|{_ABROAD}"
"""The words for a secret that may be short."""
_SAID = re.compile(
    rf"(?=[spctaem])(?P<name>sig(?==)|{_USUAL}|secret|token|"
    r"(?:api|app|access|private|secret|account|shared|auth|encryption|signing|master|client|subscription)[_\- ]?"
    rf"(?:access[_\- ]?)?(?:key|secret|token)s?(?:[_\- ]id)?){_VALUE}",
    re.IGNORECASE,
)
ABROAD = ("senha", "wachtwoord", "parola", "haslo", "losenord", "sifre")
"""Those that an ASCII text may have."""
_SAID_ABROAD = re.compile(rf"(?P<name>(?<![A-Za-z0-9])pw|{_ABROAD}){_VALUE}", re.IGNORECASE)
_VARIABLE = re.compile(
    r"(?<![A-Za-z0-9])(?!PUBLIC)[A-Z][A-Z0-9]{1,20}_KEY=['\"]?(?P<value>[^\s\"'`<>\[\](){},;]{16,500})"
)
_FLAG = re.compile(
    r"(?:(?<=\s)--(?:password|passwd|pass|passphrase)|\bsshpass\s-p)[\s=]?['\"]?(?P<value>[^\s'\"]{3,128})"
)
_SQL = re.compile(r"\bidentified by '(?P<value>[^\s']{3,128})'", re.IGNORECASE)
_NETRC = re.compile(r"\blogin\s\S{1,64}\spassword\s(?P<value>\S{3,128})", re.IGNORECASE)
_PUTTY = re.compile(r"Private-Lines: [0-9]{1,3}\s(?P<value>(?:[A-Za-z0-9+/=]{1,64}\s){0,200}[A-Za-z0-9+/=]{1,64})")
_SIGNED = {
    "hook": _HOOK,
    "://": _URL,
    "-u": _OPTION,
    "pass": _FLAG,
    "identified": _SQL,
    "login": _NETRC,
    "private-lines": _PUTTY,
}
"""What each needs in the text, so that most are not tried."""
_QUOTED = re.compile(r"(?<=[(\[=:, ])(?P<mark>[\"'])(?P<value>[A-Za-z0-9_\-]{32,128})(?P=mark)")
"""A string of a program: one of mixed letters and digits so long is a key far more often than anything else."""
_PASSWORD = re.compile(r"pass|pwd|contrase", re.IGNORECASE)
_ENOUGH = 3.0
"""Bits a character: random hex has 3.5 or more from 20 characters on, words and dotted names less."""


def keys(text: str) -> Iterator[Found]:
    yield from _pems(text)
    low = text.lower()
    for sign, pattern in _SIGNED.items():
        for match in pattern.finditer(text) if sign in low else ():
            yield _found(match, "value" if "value" in pattern.groupindex else 0)
    for token in _TOKEN.finditer(text):
        yield from _known(text, token.start(), token.end())
    for match in _HEADER.finditer(text):
        if _is_random(match["value"]):
            yield _found(match, "value")
    for match in _QUOTED.finditer(text):
        if _is_mixed(match["value"]):
            yield _found(match, "value")
    for match in _SAID.finditer(text):
        is_password = _PASSWORD.search(match["name"]) is not None
        yield from _given(match, is_password)
    if not text.isascii() or "pw" in low or any(word in low for word in ABROAD):
        for match in _SAID_ABROAD.finditer(text):
            yield from _given(match, is_password=True)
    for match in _VARIABLE.finditer(text) if "_KEY=" in text else ():
        yield from _given(match, is_password=False)


def _given(match: re.Match[str], is_password: bool) -> Iterator[Found]:
    value = match["value"].rstrip("." if is_password else ".!?:")
    if _is_password(value) if is_password else _is_random(value):
        yield Found("key", match.start("value"), match.start("value") + len(value), value)


def _found(match: re.Match[str], group: str | int) -> Found:
    return Found("key", *match.span(group), match[group])


def _known(text: str, start: int, end: int) -> Iterator[Found]:
    """Keys in one run of characters that keys are made of: at its start, or after what divides names from values."""
    place = start
    while place < end:
        match = _KNOWN.match(text, place, end)
        if match is None and end - place > _SHORTEST_PREFIXED:
            like = _PREFIXED.match(text, place, end)
            match = like if like is not None and _is_mixed(like["body"]) else None
        if match is not None and len(set(match[0])) >= 8:
            yield Found("key", *match.span(), match[0])
            place = match.end()
        divider = _WITHIN.search(text, place, end)
        if divider is None:
            return
        place = divider.end()


def _pems(text: str) -> Iterator[Found]:
    """To the end of the block, or as far as it looks like one where it was cut off."""
    last, close = 0, _PEM_END.search(text)
    for match in _PEM.finditer(text):
        if match.start() < last:
            continue
        if close is not None and close.start() < match.end():
            close = _PEM_END.search(text, match.end())
        if close is not None and close.end() - match.start() < _LONGEST_PEM:
            last = close.end()
        else:
            body = _PEM_BODY.match(text, match.end())
            last = match.end() if body is None else len(text[: body.end()].rstrip())
        yield Found("key", match.start(), last, text[match.start() : last])


def _is_random(value: str) -> bool:
    """16 characters or more, with digits among letters, that a language would not have in such numbers."""
    return (
        len(value) >= 16
        and any(c.isdigit() for c in value)
        and any(c.isalpha() for c in value)
        and bits(value) >= _ENOUGH
    )


def _is_mixed(value: str) -> bool:
    return any(map(str.isupper, value)) and any(map(str.islower, value)) and _is_random(value) and bits(value) >= 4.0


def _is_password(value: str) -> bool:
    letters = any(c.isalpha() for c in value)
    return (
        letters
        and (any(c.isdigit() for c in value) or any(c in "!@#$%^&*" for c in value[1:-1]))
        and len(set(value)) > 3
    )


def bits(value: str) -> float:
    """Shannon entropy of the characters, bits each."""
    n = len(value)
    return -sum(count / n * math.log2(count / n) for count in Counter(value).values())
