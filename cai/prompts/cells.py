"""What prompts are to be written: how many of each kind, tag and topic. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cai.config import GenerateConfig
from cai.config.generate import WrittenKind
from cai.constitution import Constitution
from cai.errors import ConfigError


class Cell(NamedTuple):
    kind: WrittenKind
    tag: str
    topic: str


Quotas = Counter[Cell]


def quotas_of(config: GenerateConfig, constitution: Constitution) -> Quotas:
    """Prompts wanted by cell, in the order of kinds, tags and topics; cells of which none is wanted are left out.

    Raises:
        ConfigError: the constitution has no such tag, or none at all; an exception fits nothing; or every quota is 0.
    """
    if strays := [tag for tag in config.tags if tag not in constitution.tags]:
        raise ConfigError(
            f"`generate.tags` names {strays[0]!r}, which no principle of {constitution.name!r} bears; its tags are "
            f"{', '.join(constitution.tags) or 'none'}"
        )
    tags, topics = config.tags or constitution.tags, config.topics or ("",)
    cells = [Cell(kind, tag, topic) for kind in config.kinds for tag in tags for topic in topics]
    if unfit := [quota for quota in config.quotas if not any(quota.fits(*cell) for cell in cells)]:
        named = ", ".join(f"{name}: {value}" for name, value in unfit[0].model_dump(exclude_none=True).items())
        there = "; ".join(
            f"{name} {', '.join(found) or 'none'}"
            for name, found in (("kinds", config.kinds), ("tags", tags), ("topics", config.topics))
        )
        raise ConfigError(
            f"`generate.quotas` has {{{named}}}, which fits nothing that is written ({there}); correct it"
        )
    quotas = Quotas({cell: n for cell in cells if (n := config.quota_of(*cell)) > 0})
    if not quotas:
        raise ConfigError(f"nothing to write: {len(tags)} tags in {constitution.name!r}, and every quota of them is 0")
    return quotas


def spread(n: int, cells: Sequence[Cell], weights: Sequence[int]) -> Quotas:
    """`n` prompts over cells in proportion to their weights, by largest remainder; ties go to the first."""
    total = sum(weights)
    exact = [n * weight / total for weight in weights]
    given = [int(share) for share in exact]
    order = sorted(range(len(cells)), key=lambda i: (given[i] - exact[i], i))
    for i in order[: n - sum(given)]:
        given[i] += 1
    return Quotas({cell: k for cell, k in zip(cells, given, strict=True) if k})


def meaning_of(tag: str, constitution: Constitution) -> str:
    """What a tag is about, in the words of the principles that bear it."""
    return "; ".join(p.title for p in constitution.principles if tag in p.tags)
