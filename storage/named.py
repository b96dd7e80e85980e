"""The named queries of `storage/queries/`: `NAME.sql` opens with a `-- what it answers` line."""

from pathlib import Path

from cai.errors import DataError

FOLDER = Path(__file__).parent / "queries"


def names() -> dict[str, str]:
    """What each named query answers, by name."""
    files = sorted(FOLDER.glob("*.sql"))
    return {f.stem: f.read_text(encoding="utf-8").partition("\n")[0].removeprefix("-- ") for f in files}


def resolve(query: str) -> str:
    """The SQL of a named query, or `query` itself where it is SQL.

    Raises:
        DataError: a single word that names no query.
    """
    word = query.strip()
    if word.isidentifier():
        if word not in (known := names()):
            raise DataError(f"no query is named {word!r}; there are {', '.join(known)} (`cai sql --list`), or give SQL")
        return (FOLDER / f"{word}.sql").read_text(encoding="utf-8")
    return query
