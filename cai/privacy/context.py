"""What the words beside a number say it is: the nearest one decides."""

import re

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
"""Scripts that put no space between words, or none behind a noun: Thai to Khmer, and the East Asian ones."""
_BEFORE, _AFTER = 48, 32
_PHONE = (
    r"phones?|phone ?numbers?|tel|telephone|mobile|mob|cell|cellphone|call|calling|called|calls|text|texting|sms|"
    r"whatsapp|signal|telegram|viber|fax|ring|dial|reach|contact|hotline|landline|pager|ph|handy|telefon\w{0,12}|"
    r"telefoon\w{0,8}|tel[eé]fono|t[eé]l[eé]phone|t[eé]l|m[oó]vil|celular|cellulare|telem[oó]vel|portable|numero|n[uú]mero|"
    r"rufnummer|handynummer|mobil|mobil(?:nummer|telefon\w{0,6}|n[ií])|mobiel|matkapuhelin|puhelin|kom[oó]rka|gsm|"
    r"natel|cep tel\w{0,6}|nomor(?: hp)?|no hp|điện thoại|τηλέφωνο|κινητό|тел|моб|мобильный|телефон\w{0,4}|"
    r"טלפון|هاتف|جوال|फ़ोन|फोन|मोबाइल|"
    r"my number|her number|his number|their number|number to call"
)
_CARD = (
    r"cards?|visa|mastercard|amex|american express|discover|credit|debit|pan|cvv|cvc|expir\w*|exp|cc|kreditkarte|"
    r"kartennummer|karten?|kart|kart[ayę]|kartu|tarjeta|carte|carta|cart[aã]o|карт[аыу]|карте"
)
_SSN = r"ssn|ss ?(?:#|no|number)|soc(?:ial)? sec|social|social security|itin|tax id|taxpayer"
_COUNTER = (
    r"orders?|invoice|tracking|ticket|case|ref|reference|isbn|issn|account|serial|ids?|uuid|version|sku|parts?|model|"
    r"policy|claim|booking|confirmation|reservation|flight|parcel|shipment|barcode|ean|upc|patent|doi|timestamp|build|"
    r"port|lot|batch|item|product|article|row|page|pages|population|budget|cost|price|costs|worth|salary|sum|times|"
    r"fedex|ups|usps|dhl|lottery|lotto|bingo|imei|plus|equals|multiply|divided?|digits|primes?|factor|bestellung|rechnung|"
    r"zip|zip code|postal|postcode|plz|ndc|duns|vat"
)
_WORDS = re.compile(
    rf"(?<![^\W_{UNSPACED}])(?:(?P<phone>{_PHONE})|(?P<card>{_CARD})|(?P<ssn>{_SSN})|(?P<counter>{_COUNTER}))"
    rf"(?![^\W_{UNSPACED}])|(?P<phone_unspaced>电话|手机|電話|手機|携帯|전화|핸드폰|휴대폰|โทร)|(?P<card_unspaced>卡号|银行卡|信用卡|"
    r"卡號|カード|카드)",
    re.IGNORECASE,
)
_IS_MY = re.compile(
    r"\W{0,3}(?:is|was|='s)?\W{0,2}(?:(?:my|our|his|her|their|the|a|an)\W)?(?:new |old |work |home |private |own )?"
    r"(?P<phone>phone|mobile|cell|number to call|number\b(?! of)|telephone|fax|landline|whatsapp)",
    re.IGNORECASE,
)


_EXPIRES = re.compile(
    r"(?<![^\W_])(?:exp|expiry|expires|cvv2?|cvc2?|valid thru|credit card|debit card|gültig bis|caduca|scadenza|vence)"
    r"(?![^\W_])",
    re.IGNORECASE,
)


def is_card_behind(text: str, end: int) -> bool:
    """Whether what follows belongs to a card: its date, its code, or the word."""
    return _EXPIRES.search(text, end, min(len(text), end + _AFTER)) is not None


def says(text: str, start: int, end: int) -> str:
    """`phone`, `card`, `ssn`, `counter` (an order, a version, a sum), or "" where nothing near the span says."""
    last = None
    for last in _WORDS.finditer(text, max(0, start - _BEFORE), start):  # noqa: B007
        pass
    if last is not None and last.lastgroup is not None:
        return last.lastgroup.removesuffix("_unspaced")
    return "phone" if _IS_MY.match(text, end, min(len(text), end + _AFTER)) else ""
