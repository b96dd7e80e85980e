"""What an import brought in and what it left out, counted row by row; bounded, whatever the rows say. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any

from cai.privacy import Tally
from cai.records import Contamination, Prompt, Reject

MAX_TAGS = 1_000
"""The first so many different tags are counted by name, the others together."""
OTHER_TAGS = "(other tags)"
MAX_TURNS = 20
"""The user's turns in a dialogue; more of them count as so many."""


@dataclass
class ImportReport:
    """`n_rows` = `n_prompts` + `n_rejected` + `n_other`: rows of the other side of a split are neither."""

    n_rows: int = 0
    n_prompts: int = 0
    n_other: int = 0
    n_contaminations: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    held_out: Counter[str] = field(default_factory=Counter)
    """Prompts of split eval, by tag."""
    splits: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    turns: Counter[str] = field(default_factory=Counter)
    otherwise: Counter[str] = field(default_factory=Counter)
    """Prompts of which the home states another licence, origin or kind, which stays: by what it is."""
    personal: Tally = field(default_factory=dict)
    """Personal items in all rows that were read, and what became of them."""

    @property
    def n_rejected(self) -> int:
        return self.rejects.total()

    def count(
        self, n_rows: int, prompts: Sequence[Prompt], rejects: Sequence[Reject], repeats: Sequence[Contamination]
    ) -> None:
        """One batch of `n_rows` rows: what was kept of them, and what was not."""
        self.n_rows += n_rows
        self.n_prompts += len(prompts)
        self.splits.update([prompt.split for prompt in prompts])
        self.kinds.update([prompt.kind for prompt in prompts])
        for licence, n in Counter([prompt.licence for prompt in prompts]).items():
            _add(self.licences, licence, n)
        turns = Counter([len([m for m in prompt.messages if m.role == "user"]) for prompt in prompts])
        for n_turns, n in turns.items():
            self.turns[str(min(MAX_TURNS, n_turns))] += n
        for tag, n in _by_tag(prompts).items():
            _add(self.tags, tag, n)
        for tag, n in _by_tag([prompt for prompt in prompts if prompt.split == "eval"]).items():
            self.held_out[tag if tag in self.tags else OTHER_TAGS] += n
        self.rejects.update(row.reason for row in rejects)
        self.n_contaminations += len(repeats)
        self.n_other = self.n_rows - self.n_prompts - self.n_rejected

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}

    @staticmethod
    def from_json(body: dict[str, Any]) -> "ImportReport":
        counted = {f.name for f in fields(ImportReport) if f.default_factory is Counter}
        read: dict[str, Any] = {name: Counter(value) if name in counted else value for name, value in body.items()}
        return ImportReport(**read)


def _by_tag(prompts: Sequence[Prompt]) -> Counter[str]:
    """A tag that a prompt has twice counts once."""
    return Counter(chain.from_iterable(map(dict.fromkeys, [prompt.tags for prompt in prompts])))


def _add(counter: Counter[str], name: str, n: int) -> None:
    counter[name if name in counter or len(counter) < MAX_TAGS else OTHER_TAGS] += n
