"""Chains as the page carries them: blocks of gzipped JSON, and one index of the names they share. Pure.

A block is rows of `[turns, response, steps, tags, labels, scores, soft labels, whether it changed, id]`; a turn is
`[role, text]`, a step `[principle, critique, revision]` with 0 for a revision that changed nothing. Roles, principles,
tags and labels are numbers: places in the index. A text is a string, or `[beginning, characters of the whole]` where it
was clipped; only a chain with such a text has its id, the beginning of its response's. `coding.py` makes text of a
block that means nothing to HTML, so no text can leave it.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from cai.report.clipping import SHORTEST, clip, is_clipped, largest, texts_of
from cai.report.coding import encode
from cai.report.data import Chain

T = TypeVar("T")
BLOCK = 1_000_000
"""Characters of JSON a block: small enough to be unpacked between two frames, large enough to compress well."""
_LEVEL = 6
_TAG = 80
"""Bytes of the element around a block, and more."""
_TRIED = 1_000
"""Chains that are packed first to learn how long their texts may be, or how many fit."""
_ID = 12
"""Characters of an id that tell it from a million others."""
SURROGATES = re.compile(r"[\ud800-\udfff]")
WHOLE = (
    'cai sql "SELECT p.messages, r.text AS response, v.round, v.principle_id, v.critique, v.text AS revision'
    " FROM responses r JOIN prompts p USING (prompt_id) LEFT JOIN revisions v USING (response_id)"
    " WHERE starts_with(r.response_id, 'ID') ORDER BY v.round\" --format json"
)
"""The command that shows the whole of a chain; `ID` stands for what its row has."""


class Packed(NamedTuple):
    names: dict[str, Any]
    """The index. `roles`, `principles`, `tags`, `labels`: `[name, how many chains have it]`, of labels as the last one;
    `n`: how many chains; `limit`: characters after which their texts were clipped, or null; `n_clipped`: how many
    chains have such a text; `whole`: the command that shows it.
    """
    blocks: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes that the blocks add to a page."""
        return sum(len(block.encode()) + _TAG for block in self.blocks)


def pack(chains: Sequence[Chain], max_bytes: int) -> Packed:
    """All chains in `max_bytes` of blocks, the longest texts clipped where they would not fit; or, where that is not
    enough, as many as fit, evenly spread over all.
    """
    limit = _limit(chains, max_bytes)
    while limit is None or limit > SHORTEST:
        packed = _packed(chains, limit)
        if packed.size <= max_bytes:
            return packed
        longest = max((len(text) for chain in chains for text in texts_of(chain)), default=0)
        limit = max(SHORTEST, int((limit or longest) * min(0.98, 0.99 * max_bytes / packed.size)))
    return _fewer(chains, max_bytes)


def _limit(chains: Sequence[Chain], max_bytes: int) -> int | None:
    """After how many characters texts are clipped, judged by the size of a few chains; None where nothing needs be."""
    few = spread(chains, _TRIED)
    room = 0.99 * max_bytes * len(few) / max(1, len(chains))
    if _packed(few).size <= room:
        return None
    longest = max((len(text) for chain in few for text in texts_of(chain)), default=SHORTEST)
    return largest(lambda limit: _packed(few, limit).size <= room, SHORTEST, max(SHORTEST, longest))


def _fewer(chains: Sequence[Chain], max_bytes: int) -> Packed:
    """As many chains as fit with their texts as short as can be."""
    few = spread(chains, _TRIED)
    n = min(len(chains), int(0.99 * len(few) * max(0, max_bytes) / max(1, _packed(few, SHORTEST).size)))
    while (packed := _packed(spread(chains, n), SHORTEST)).size > max_bytes and n > 0:
        n = max(0, min(n - 1, int(0.99 * n * max_bytes / packed.size)))
    return packed


def spread(items: Sequence[T], n: int) -> list[T]:
    """At most `n` of them, evenly over the whole."""
    return [items[i * len(items) // n] for i in range(n)] if len(items) > n else list(items)


Names = list[tuple[str, int]]
"""Names in alphabetical order, each with how many chains have it; its place is its number."""


def index_of(chains: Sequence[Chain], limit: int | None = None) -> dict[str, Any]:
    """The index of a page with these chains."""
    return {
        "n": len(chains),
        "limit": limit,
        "n_clipped": sum(is_clipped(chain, limit) for chain in chains),
        "whole": WHOLE,
        "roles": _names(Counter(role for chain in chains for role in {turn.role for turn in chain.prompt})),
        "principles": _names(Counter(p for chain in chains for p in {step.principle_id for step in chain.steps})),
        "tags": _names(Counter(tag for chain in chains for tag in set(chain.tags))),
        "labels": _names(_last_labels(chains)),
    }


def _names(counted: Counter[str]) -> Names:
    return sorted(counted.items())


class _Places(NamedTuple):
    roles: dict[str, int]
    principles: dict[str, int]
    tags: dict[str, int]
    labels: dict[str, int]


def _packed(chains: Sequence[Chain], limit: int | None = None) -> Packed:
    index = index_of(chains, limit)
    places = _Places(*({name: place for place, (name, _) in enumerate(index[key])} for key in _Places._fields))
    return Packed(index, tuple(map(_block, _grouped(_row(chain, places, limit) for chain in chains))))


def _row(chain: Chain, places: _Places, limit: int | None) -> list[Any]:
    steps, text = [], chain.response
    for step in chain.steps:
        revision = 0 if step.revision == text else clip(step.revision, limit)
        steps.append([places.principles[step.principle_id], clip(step.critique, limit), revision])
        text = step.revision
    return [
        [[places.roles[turn.role], clip(turn.content, limit)] for turn in chain.prompt],
        clip(chain.response, limit),
        steps,
        [places.tags[tag] for tag in chain.tags],
        [places.labels[label] for label in chain.labels],
        [None if score is None else round(score, 4) for score in chain.scores],
        [round(soft, 3) for soft in chain.soft_labels],
        int(text != chain.response),
        chain.response_id[:_ID] if is_clipped(chain, limit) else "",
    ]


def _last_labels(chains: Sequence[Chain]) -> Counter[str]:
    """Every label, with the number of chains that end with it; 0 where only an earlier text has it."""
    counted = Counter({label: 0 for chain in chains for label in chain.labels})
    counted.update(chain.labels[-1] for chain in chains if chain.labels)
    return counted


def _grouped(rows: Iterable[list[Any]]) -> Iterator[str]:
    """JSON arrays of rows, each of about `BLOCK` characters."""
    held: list[str] = []
    n = 0
    for row in rows:
        held.append(json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
        n += len(held[-1])
        if n >= BLOCK:
            yield f"[{','.join(held)}]"
            held, n = [], 0
    if held:
        yield f"[{','.join(held)}]"


def _block(text: str) -> str:
    """The same text gives the same bytes: no time is stored."""
    return encode(gzip.compress(SURROGATES.sub("\ufffd", text).encode(), _LEVEL, mtime=0))
