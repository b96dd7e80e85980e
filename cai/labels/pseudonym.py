"""Names of people → pseudonyms: a keyed hash, with a salt that stays in the home. No name is stored or logged.

Two homes with salts of their own give one person two pseudonyms; whoever has no salt cannot try names out.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cai.errors import DataError

SALT_FILE = "annotators.salt"
N_BYTES = 32


def pseudonym(name: str, salt: bytes) -> str:
    """32 hex digits of HMAC-SHA-256. Space around the name does not count, and "" stays "": nobody was named."""
    name = name.strip()
    return hmac.new(salt, name.encode(), hashlib.sha256).hexdigest()[:32] if name else ""


def load_salt(home: Path) -> bytes:
    """The salt of a home, made once and readable by its owner alone; of two processes that make it, one wins.

    Raises:
        DataError: the file is not a salt. A new one would make new people of the annotators that are stored.
    """
    path = home / SALT_FILE
    if not path.is_file():
        _create(path)
    salt = path.read_bytes()
    if len(salt) != N_BYTES:
        raise DataError(f"expected {N_BYTES} bytes of salt in {path}, got {len(salt)}; restore it from a backup")
    return salt


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(N_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # whole or not at all, and never over one that is there
        except FileExistsError:
            return
    finally:
        temporary.unlink()
