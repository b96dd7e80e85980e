"""Which code made something: the package's version, a digest of its sources, and the commit where it is a checkout."""

import subprocess
from pathlib import Path

from cai import __version__
from cai.records import digest

PACKAGE = Path(__file__).parent


def code_version() -> dict[str, str]:
    """`version`, `digest` (equal sources, equal digest, installed or not) and `commit` ("" outside a checkout)."""
    sources = {p.relative_to(PACKAGE).as_posix(): p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py")}
    return {"version": __version__, "digest": digest("source", sources), "commit": commit(PACKAGE.parent)}


def commit(checkout: Path) -> str:
    """The commit that `checkout` stands at, with `-dirty` where tracked files differ from it; "" where git knows none.

    A package installed inside somebody's own repository is not that repository's code, so only the root counts.
    """
    if not (checkout / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git, or a disk that does not answer: the digest says enough
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
