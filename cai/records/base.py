"""What every row is made with: an id is the digest of everything that decides the row."""

import hashlib
import json
from typing import Any

_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(*parts: Any) -> str:
    """32 hex digits of SHA-256 over the canonical JSON of `parts`: equal parts, equal digest, on any machine."""
    return hashlib.sha256(_CANONICAL.encode(parts).encode()).hexdigest()[:32]


def seed_from(row_id: str, run_seed: int = 0) -> int:
    """A 31-bit sampling seed that depends on the row alone, so the order of arrival cannot matter."""
    return int(digest("seed", row_id, run_seed)[:8], 16) >> 1
