"""What the words beside a number say it is: the nearest one decides."""

import re

_BEFORE, _AFTER = 48, 32
_PHONE = (
    r"phones?|tel|telephone|mobile|mob|cell|cellphone|call|calling|called|calls|text|texting|sms|whatsapp|signal|"
    r"telegram|viber|fax|ring|dial|reach|contact|hotline|landline|pager|ph|handy|telefon|telefono|tel[eé]fono|"
    r"t[eé]l[eé]phone|t[eé]l|m[oó]vil|celular|portable|numero|n[uú]mero|rufnummer|telefonnummer|handynummer|mobil|"
    r"my number|her number|"
    r"his number|their number|number to call|电话|手机|電話|携帯|전화|телефон"
)
_CARD = (
    r"cards?|visa|mastercard|amex|american express|discover|credit|debit|pan|cvv|cvc|expir\w*|exp|kreditkarte|tarjeta|"
    r"carte"
)
_SSN = r"ssn|social|social security|itin|tax id|taxpayer"
_COUNTER = (
    r"orders?|invoice|tracking|ticket|case|ref|reference|isbn|issn|account|serial|ids?|uuid|version|sku|parts?|model|"
    r"policy|claim|booking|confirmation|reservation|flight|parcel|shipment|barcode|ean|upc|patent|doi|timestamp|build|"
    r"port|lot|batch|item|product|article|row|page|pages|population|budget|cost|price|costs|worth|salary|sum|times|"
    r"fedex|ups|usps|dhl|lottery|lotto|bingo|imei|plus|equals|multiply|divided?|digits|primes?|factor|bestellung|rechnung"
)
_WORDS = re.compile(
    rf"(?<![^\W_])(?:(?P<phone>{_PHONE})|(?P<card>{_CARD})|(?P<ssn>{_SSN})|(?P<counter>{_COUNTER}))(?![^\W_])",
    re.IGNORECASE,
)
_IS_MY = re.compile(
    r"\W{0,3}(?:is|was|='s)?\W{0,2}(?:(?:my|our|his|her|their|the|a|an)\W)?(?:new |old |work |home |private |own )?"
    r"(?P<phone>phone|mobile|cell|number to call|number\b(?! of)|telephone|fax|landline|whatsapp)",
    re.IGNORECASE,
)


def says(text: str, start: int, end: int) -> str:
    """`phone`, `card`, `ssn`, `counter` (an order, a version, a sum), or "" where nothing near the span says."""
    last = None
    for last in _WORDS.finditer(text, max(0, start - _BEFORE), start):  # noqa: B007
        pass
    if last is not None and last.lastgroup is not None:
        return last.lastgroup
    return "phone" if _IS_MY.match(text, end, min(len(text), end + _AFTER)) else ""
