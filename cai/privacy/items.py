"""What is looked for, and where it was found."""

from typing import Literal, NamedTuple, get_args

Kind = Literal["email", "phone", "card", "iban", "key", "ip", "ssn", "name"]
KINDS: tuple[Kind, ...] = get_args(Kind)
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


class Found(NamedTuple):
    """One item: `text[start:end]`. Two of one kind are the same item where `same` is, however they are written."""

    kind: Kind
    start: int
    end: int
    same: str
