"""What the home has of the prompts of an import, and what it learns from them. A dry run asks it the same, and has what
it would have written in memory.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from cai.records import Prompt, Record, Reject
from storage.store import Store

_STATED = ("licence", "origin", "kind")
_LEARNT = (*_STATED, "expected")


class Home(Protocol):
    """Where prompts go."""

    def add(self, rows: Sequence[Record]) -> int:
        """Write what is not there, and say how many of the prompts were new."""
        ...

    def known(self, prompts: Collection[Prompt]) -> dict[str, Prompt]:
        """These prompts as they are stored, by id; those that are not are left out."""
        ...

    def learn(self, prompts: Collection[Prompt]) -> None:
        """Write these in place of what is stored."""
        ...


class StoredHome:
    """A home that is written to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, rows: Sequence[Record]) -> int:
        return self._store.append(rows, index=False).get("prompts", 0)

    def known(self, prompts: Collection[Prompt]) -> dict[str, Prompt]:
        return self._store.find_all(Prompt, [prompt.prompt_id for prompt in prompts])

    def learn(self, prompts: Collection[Prompt]) -> None:
        self._store.upsert(list(prompts))


class DryHome:
    """A home that is only read. `has_answers`: known answers come in, and are in memory, by the prompt."""

    def __init__(self, store: Store, has_answers: bool) -> None:
        self._store, self._has_answers = store, has_answers
        self._answers: dict[str, str | None] = {}

    def add(self, rows: Sequence[Record]) -> int:
        prompts = [row for row in rows if isinstance(row, Prompt)]
        stored = StoredHome(self._store).known(prompts) if prompts else {}
        self.learn([prompt for prompt in prompts if prompt.prompt_id not in stored])
        return len(prompts) - len(stored)

    def known(self, prompts: Collection[Prompt]) -> dict[str, Prompt]:
        found = StoredHome(self._store).known(prompts)
        for prompt in prompts:
            if (key := prompt.prompt_id) in self._answers:
                found[key] = replace(found.get(key, prompt), expected=self._answers[key])
        return found

    def learn(self, prompts: Collection[Prompt]) -> None:
        if self._has_answers:
            self._answers |= {prompt.prompt_id: prompt.expected for prompt in prompts}


class Compared(NamedTuple):
    """Prompts beside those that the home has."""

    prompts: list[Prompt]
    """As the home has them from now on."""
    rejects: list[Reject]
    learnt: dict[str, Prompt]
    """Of all these, those that now say more than what is stored."""
    otherwise: Counter[str]
    """How often the home states another licence, origin or kind."""


def compared(prompts: Iterable[Prompt], known: dict[str, Prompt]) -> Compared:
    """The home knows one answer to a prompt and never measures with one that it has to train on. What it does not know
    or state yet it learns; what it states stays.
    """
    done = Compared([], [], {}, Counter())
    for prompt in prompts:
        first = known.get(prompt.prompt_id, prompt)
        if first is prompt:
            done.prompts.append(prompt)
        elif (refused := _refused(prompt, first)) is not None:
            done.rejects.append(refused)
        else:
            more = {name: value for name in _LEARNT if (value := getattr(prompt, name)) and not getattr(first, name)}
            if more:
                done.learnt[prompt.prompt_id] = replace(first, **more)
            done.prompts.append(done.learnt.get(prompt.prompt_id, first))
            done.otherwise.update(name for name in _STATED if _differs(getattr(prompt, name), getattr(first, name)))
    return done


def _refused(prompt: Prompt, first: Prompt) -> Reject | None:
    if prompt.split == "eval" and first.split == "train":
        reason = "stored_to_train"
        detail = "the home has this prompt to train on; use another one, or another --home"
    elif prompt.expected is not None and first.expected not in (None, prompt.expected):
        reason = "conflicting_expected"
        detail = f"{prompt.source} expects {prompt.expected!r}, and an earlier import {first.expected!r}: correct one "
        detail += "of them, or use another --home"
    else:
        return None
    parents = (prompt.prompt_id, str(prompt.expected))
    return Reject.make("import", reason, prompt_id=prompt.prompt_id, parents=parents, detail=detail)


def _differs(stated: str, known: str) -> bool:
    return bool(stated and known) and stated != known
