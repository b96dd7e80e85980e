"""What is looked for, and where it was found."""

import re
from typing import NamedTuple

from cai.config.privacy import KINDS, Kind

__all__ = ["KINDS", "NAMES", "PLACEHOLDER", "Found", "Kind"]

NAMES: dict[Kind, str] = {
    "email": "e-mail addresses",
    "phone": "phone numbers",
    "card": "payment cards",
    "iban": "bank accounts (IBAN)",
    "key": "keys and tokens",
    "ip": "IP addresses",
    "ssn": "US social security numbers",
    "name": "names",
}

PLACEHOLDER = re.compile(rf"\[({'|'.join(kind.upper() for kind in KINDS)})_[0-9]+\]")
"""What stands in the place of an item. The number says which of its dialogue it is, and nothing outside of it."""


class Found(NamedTuple):
    """One item: `text[start:end]`. Two of one kind are the same item where `same` is, however they are written."""

    kind: Kind
    start: int
    end: int
    same: str
