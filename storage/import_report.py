"""What an import brought in and what it left out, counted row by row; bounded, whatever the rows say. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

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
    n_chars: int = 0
    n_contaminations: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    held_out: Counter[str] = field(default_factory=Counter)
    """Prompts of split eval, by tag."""
    splits: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    turns: Counter[str] = field(default_factory=Counter)

    @property
    def n_rejected(self) -> int:
        return self.rejects.total()

    def count(
        self, n_rows: int, prompts: Iterable[Prompt], rejects: Iterable[Reject], repeats: Iterable[Contamination]
    ) -> None:
        """One batch of `n_rows` rows: what was kept of them, and what was not."""
        self.n_rows += n_rows
        for prompt in prompts:
            self._count(prompt)
        self.rejects.update(row.reason for row in rejects)
        self.n_contaminations += sum(1 for _ in repeats)
        self.n_other = self.n_rows - self.n_prompts - self.n_rejected

    def _count(self, prompt: Prompt) -> None:
        self.n_prompts += 1
        self.n_chars += sum(len(message.content) for message in prompt.messages)
        self.splits[prompt.split] += 1
        self.kinds[prompt.kind] += 1
        _add(self.licences, prompt.licence)
        for tag in set(prompt.tags):
            name = _add(self.tags, tag)
            self.held_out[name] += prompt.split == "eval"
        self.turns[str(min(MAX_TURNS, sum(m.role == "user" for m in prompt.messages)))] += 1

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}

    @staticmethod
    def from_json(body: dict[str, Any]) -> "ImportReport":
        read: dict[str, Any] = {key: Counter(v) if isinstance(v, dict) else v for key, v in body.items()}
        return ImportReport(**read)


def _add(counter: Counter[str], name: str) -> str:
    known = name if name in counter or len(counter) < MAX_TAGS else OTHER_TAGS
    counter[known] += 1
    return known
