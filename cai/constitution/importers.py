"""Published JSON constitutions to ours. Both shapes are told apart by their keys; what fits neither is an error.

1. `{"constitutions": [{"critic", "revision"}...], "system_chat": [[six chat turns]...]}`
2. `{"NAME": {"prompt": ["CritiqueRequest: ..."], "edit_request": "RevisionRequest: ..."}...}`, and for comparisons a
   list of questions that end in "Options:".
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cai.constitution.model import Constitution, CritiqueRevisionExample, Examples, Principle, Stage
from cai.constitution.nodes import MAX_BYTES
from cai.errors import DataError
from cai.records import Message, digest

# The order of a worked chat in shape 1: the prompt, then what we call these.
_TURNS = ("response", "critique_request", "critique", "revision_request", "revision")
# Words of four letters or more that tell no principle from another.
_COMMON = re.compile(
    "(ahead|also|anything|argument|assistant|been|best|carefully|conversation|could|discuss|does|following|from|"
    "have|human|identify|into|look|makes|might|please|point|preceding|read|response|responses|revised?|rewrite|said|"
    "should|specific|strongest|take|than|that|their|them|then|there|these|think|this|ways|what|which|whether|with|"
    "would|your)"
)


def import_json(paths: Sequence[Path], name: str) -> Constitution:
    """One constitution from one or more JSON files (critiques and comparisons are published apart).

    Ids are the published names or, where there are none, words of the text and a digest of it: the same text has the
    same id wherever it stands in the list. A text that is published twice becomes one principle of twice the weight.

    Raises:
        DataError: a file is in neither shape, or an entry of it lacks what its shape promises; names the entry.
    """
    principles: list[Principle] = []
    examples: list[CritiqueRevisionExample] = []
    for path in paths:
        body = _read(path)
        if isinstance(body, dict) and "constitutions" in body:
            principles += _shape_1(body, path)
            examples += _chats(body.get("system_chat", []), path)
        elif isinstance(body, dict):
            principles += _named(body, path)
        elif isinstance(body, list):
            principles += [_comparison(text, f"{path}, entry {i}") for i, text in enumerate(body, 1)]
        else:
            raise _neither(path, type(body).__name__)
    sources = ", ".join(path.name for path in paths)
    return Constitution(name, f"Imported from {sources}.", _merged(principles), Examples(tuple(examples)))


def _read(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES:,} bytes; expected a JSON constitution")
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON in UTF-8: {error}") from error


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is given twice")
        found[key] = value
    return found


def _neither(where: Path | str, came: str) -> DataError:
    return DataError(
        f"{where} is in neither published shape: expected `constitutions` with `critic` and `revision`, entries with "
        f"`prompt` and `edit_request`, or a list of questions ending in 'Options:'; got {came}"
    )


def _shape_1(body: dict[str, Any], path: Path) -> list[Principle]:
    if not isinstance(body["constitutions"], list):
        raise _neither(path, "`constitutions` that is no list")
    found = []
    for i, entry in enumerate(body["constitutions"], 1):
        where = f"{path}, constitutions {i}"
        critique, revision = _text(entry, "critic", where), _text(entry, "revision", where)
        found.append(_principle(_slug(critique, revision), "critique", critique, revision))
    return found


def _chats(chats: object, path: Path) -> list[CritiqueRevisionExample]:
    """Each chat is the conversation up to the user's turn, then five turns: response, critique and revision."""
    if not isinstance(chats, list):
        raise DataError(f"{path}: expected `system_chat` to be a list of chats, got {type(chats).__name__}")
    found = []
    for i, chat in enumerate(chats, 1):
        where = f"{path}, system_chat {i}"
        if not isinstance(chat, list) or len(chat) < 6:
            raise DataError(f"{where}: expected at least 6 turns: prompt, {', '.join(_TURNS)}")
        turns = [(_text(turn, "role", where), _text(turn, "content", where)) for turn in chat]
        expected = ["user", "assistant", "user", "assistant", "user", "assistant"]
        if [role for role, _ in turns[-6:]] != expected or any(role not in expected for role, _ in turns):
            raise DataError(f"{where}: expected user and assistant in turn, got {[role for role, _ in turns]}")
        messages = tuple(Message("user" if role == "user" else "assistant", said) for role, said in turns[:-5])
        worked = dict(zip(_TURNS, (said for _, said in turns[-5:]), strict=True))
        found.append(CritiqueRevisionExample(messages, **worked))
    return found


def _named(body: dict[str, Any], path: Path) -> list[Principle]:
    found = []
    for name, entry in body.items():
        where = f"{path}, entry {name!r}"
        if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), list) or not entry["prompt"]:
            raise _neither(where, "no list `prompt`")
        revision = _unwrap(_text(entry, "edit_request", where), "RevisionRequest:", "Revision:")
        id = _as_id(name)
        for i, prompt in enumerate(entry["prompt"], 1):
            if not isinstance(prompt, str) or not prompt.strip():
                raise DataError(f"{where}: expected texts in `prompt`, got {prompt!r}")
            critique = _unwrap(prompt, "CritiqueRequest:", "Critique:")
            principle = _principle(id if i == 1 else f"{id[:60]}-{i}", "critique", critique, revision)
            # Several wordings of one principle share its weight.
            found.append(replace(principle, weight=1 / len(entry["prompt"])))
    return found


def _comparison(text: object, where: str) -> Principle:
    if not isinstance(text, str) or not text.rstrip().endswith("Options:"):
        raise _neither(where, repr(text)[:80])
    question = _unwrap(text, "", "Options:")
    if not question:
        raise DataError(f"{where}: there is no question before 'Options:'")
    return _principle(_slug(question), "preference", question)


def _principle(id: str, stage: Stage, first: str, revision: str = "") -> Principle:
    critique, preference = (first, "") if stage == "critique" else ("", first)
    return Principle(id, id, 1.0, (), (stage,), critique, revision, preference)


def _merged(principles: Iterable[Principle]) -> tuple[Principle, ...]:
    found: dict[str, Principle] = {}
    for principle in principles:
        known = found.get(principle.id)
        if known is None:
            found[principle.id] = principle
        elif replace(known, weight=1.0) == replace(principle, weight=1.0):
            found[principle.id] = replace(known, weight=known.weight + principle.weight)
        else:
            raise DataError(f"two different principles are named {principle.id!r}; rename one of them")
    return tuple(found.values())


def _text(entry: object, key: str, where: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: expected a text under {key!r}, got {value!r}")
    return value.strip()


def _unwrap(text: str, start: str, end: str) -> str:
    return text.strip().removeprefix(start).removesuffix(end).strip()


def _slug(*texts: str) -> str:
    words = [w for w in re.findall(r"[a-z]{4,}", texts[0].casefold()) if not _COMMON.fullmatch(w)]
    short = "-".join(dict.fromkeys(words[:4]))[:50].strip("-")
    return f"{short or 'principle'}-{digest('import', *texts)[:6]}"


def _as_id(name: str) -> str:
    id = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:64].rstrip("-")
    return id or f"principle-{digest('import', name)[:6]}"
