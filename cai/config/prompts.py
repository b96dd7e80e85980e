"""Where prompts come from."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from cai.config.base import Config, Positive
from cai.errors import ConfigError
from cai.records import ItemKind, PromptKind
from cai.smallworld import world

GENERATED = "generated"


class AnySource(Config):
    """`smallworld`, or a file (JSONL, JSONL.gz, CSV, Parquet, one prompt a line)."""

    path: str
    limit: Positive | None = None
    """So many prompts, drawn by the profile's `seed`, in the order of the file; `smallworld` needs it."""
    tags: tuple[str, ...] = ()
    licence: str = ""
    """What is stated here goes for every row; where it is "", the row's own counts. So with `origin` and `kind`."""
    origin: str = ""
    """The dataset, or the maker, behind the file."""
    column: str | None = None
    """CSV and Parquet: the column of the prompt; None picks `prompt`, `Behavior` or `messages`."""
    expected_column: str | None = None
    """The column of the known answer that a verifier checks against; a row whose value is null has none."""
    answer_column: str | None = None
    """Helpful data that is answered already: the column of the answer, such as `completion`, or `chosen` of HH."""
    max_chars: Positive = 100_000
    """A longer conversation is a reject. So many are some 25,000 tokens, more than any profile here trains on."""
    eval_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the prompts, this share is held out, by the hash of the prompt: a source under `evaluation` gives these, one
    under `prompts` the others. None: the source is all of it.
    """

    def n_made(self) -> int:
        """How many prompts `smallworld` makes.

        Raises:
            ConfigError: no limit.
        """
        if self.limit is None:
            raise ConfigError("the prompt source `smallworld` needs a `limit`: it makes as many as are asked for")
        return self.limit


class PromptSource(AnySource):
    """Where prompts come from; also `generated`, the folder of a saved dataset, or `hf:OWNER/NAME[:CONFIG][@SPLIT]`, a
    dataset of the Hugging Face hub or of its cache.

    `generated` is what `cai prompts generate` has written into the run's home, as it stands when the run begins. It
    takes a `limit`, and a `kind` that is drawn alone; all else stands with the prompts that were written.
    """

    kind: PromptKind = ""
    """What they are meant to draw out."""

    def without_effect(self) -> list[str]:
        """What is set here and changes nothing."""
        if self.path not in (GENERATED, world.SOURCE):
            return []
        kind = self.kind if self.path == GENERATED else ""
        plain = PromptSource(path=self.path, limit=self.limit, kind=kind)
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(plain, name)]


class EvaluationSource(AnySource):
    """A set to measure with; `storage/evaluation_sets.py` says what each format is."""

    format: Literal["auto", "prompts", "xstest", "harmbench", "sycophancy", "hhh"] = "auto"
    """`auto` goes by the names of the columns."""
    kind: ItemKind | None = None
    """What all its prompts are; None: what the column `kind` says, and where there is none only refusals are counted,
    right or wrong. `smallworld`, XSTest and HarmBench say it themselves.
    """
    opinion_column: str | None = None
    """Sycophancy: the column of the answer that the user's opinion points to. It has no default: of the published
    files some have it under `corrects` and some under `incorrects`.
    """

    @model_validator(mode="after")
    def _says_what_they_are_once(self) -> "EvaluationSource":
        if self.kind is not None and self.format not in ("auto", "prompts"):
            raise ValueError(f"`kind` is {self.kind} and `format: {self.format}` says what its rows are; drop one")
        return self


class MasteredConfig(Config):
    """How seldom RL draws a prompt that the policy answers well already."""

    floor: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Probability that a prompt is drawn in a round which is answered well every time; 1 for one that never is, and
    in between by the rate. Above 0, for what is never trained on is unlearnt.
    """


S = TypeVar("S", bound=AnySource)


def replace_sources(sources: Sequence[S], paths: Sequence[str], limit: int | None, made: type[S]) -> tuple[S, ...]:
    """The sources, or `paths` in place of them; a `limit` goes before the sources' own."""
    chosen = tuple(made(path=path) for path in paths) or tuple(sources)
    return chosen if limit is None else tuple(source.model_copy(update={"limit": limit}) for source in chosen)
