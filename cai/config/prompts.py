"""Where prompts come from."""

from collections.abc import Sequence

from cai.config.base import Config, Positive


class PromptSource(Config):
    """Where prompts come from: `smallworld`, or a file (JSONL, JSONL.gz, CSV, Parquet, one prompt a line)."""

    path: str
    limit: Positive | None = None
    """The first so many prompts; `smallworld` needs it."""
    tags: tuple[str, ...] = ()
    licence: str = ""
    column: str | None = None
    """CSV and Parquet: the column of the prompt; None picks `prompt`, `Behavior` or `messages`."""
    expected_column: str | None = None
    """The column of the known answer that a verifier checks against; a row whose value is null has none."""
    answer_column: str | None = None
    """Helpful data that is answered already: the column of the answer, such as `completion`, or `chosen` of HH."""


def replace_sources(
    sources: Sequence[PromptSource], paths: Sequence[str], limit: int | None
) -> tuple[PromptSource, ...]:
    """The sources, or `paths` in place of them; a `limit` goes before the sources' own."""
    chosen = tuple(PromptSource(path=path) for path in paths) or tuple(sources)
    return chosen if limit is None else tuple(source.model_copy(update={"limit": limit}) for source in chosen)
