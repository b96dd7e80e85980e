"""The salt that annotators' ids are hashed with: made once for a home, readable by its owner alone, never logged.

With the salt, a guessed id can be checked; without it, the same person gets another hash. Keep it as you keep a key.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cai.errors import ConfigError

FILE = "annotators.salt"
_MIN_CHARS = 16


def annotator_hash(salt: bytes, source: str, annotator: str) -> str:
    """32 hex digits of HMAC-SHA-256, "" for nobody. One id in two sources is two people: ids mean something in one."""
    if not annotator:
        return ""
    return hmac.new(salt, f"{source}\0{annotator}".encode(), hashlib.sha256).hexdigest()[:32]


def salt_of_env(name: str, environ: Mapping[str, str]) -> bytes:
    """The salt that an environment variable holds.

    Raises:
        ConfigError: it is not set, or short enough to guess.
    """
    value = environ.get(name, "")
    if len(value) < _MIN_CHARS:
        raise ConfigError(f"{name} holds {len(value)} characters, expected a salt of at least {_MIN_CHARS}; set it")
    return value.encode()


def read_salt(home: Path) -> bytes | None:
    """The salt of a home, None where it has none yet.

    Raises:
        ConfigError: others may read it, or it is cut short.
    """
    path = home / FILE
    if not path.is_file():
        return None
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others, who could then guess annotators' ids: chmod 600 {path}")
    salt = path.read_bytes()
    if len(salt) < _MIN_CHARS:
        raise ConfigError(f"{path} holds {len(salt)} bytes, expected at least {_MIN_CHARS}; restore it from a backup")
    return salt


def make_salt(home: Path) -> bytes:
    """The salt of a home, made where it has none. Whole from its first moment, and never replaced."""
    if (salt := read_salt(home)) is not None:
        return salt
    home.mkdir(parents=True, exist_ok=True)
    unfinished = home / f".{FILE}.{os.getpid()}.tmp"
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, secrets.token_hex(32).encode())
        os.fsync(handle)
        os.link(unfinished, home / FILE)
    except FileExistsError:  # another process made it in the same moment
        pass
    finally:
        os.close(handle)
        unfinished.unlink(missing_ok=True)
    made = read_salt(home)
    assert made is not None, "linked just now, or by another"
    return made
