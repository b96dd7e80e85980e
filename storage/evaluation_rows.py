"""What one row of an evaluation set says: a prompt, what it is, and what its answer is scored by. Pure."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from cai.config import EvaluationSource
from cai.privacy import REASON, Guard, refusal
from cai.records import EvaluationItem, ItemKind, Message, Prompt
from storage import twins, xstest
from storage.dialogues import BadRow, answer_of, check_unicode, expected_of, messages_of
from storage.imports import tags_of

Value = dict[str, Any] | str
ASKS = ("prompt", "input", "question", "messages")
XSTEST = xstest.PROMPT_COLUMNS
HARMBENCH = ("Behavior", "FunctionalCategory", "SemanticCategory")
OPINIONS = (("corrects", "incorrects"), ("answer_matching_behavior", "answer_not_matching_behavior"))
PAIRS = (("chosen", "rejected"), ("targets",), ("target_scores",))
_LETTER = re.compile(r"\s*\(?([A-Z])\)?\s*")


class Entry(NamedTuple):
    """What a row gives: its prompt, what it is if anybody says so, and the twin of one that states an opinion."""

    prompt: Prompt
    item: EvaluationItem | None = None
    twin: Prompt | None = None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return (self.prompt,) if self.twin is None else (self.prompt, self.twin)


def guarded(entry: Entry, guard: Guard) -> Entry:
    """The entry with its prompts, and the responses of a pair, as a run may see them; what names them, its item, names
    these.

    Raises:
        BadRow: the policy rejects one of them, or nothing is left that sets the responses apart.
    """
    item = entry.item
    given = (item.better, item.worse) if item is not None and item.kind == "pair" else ()
    prompt, texts = _guarded(entry.prompt, guard, given)
    twin = None if entry.twin is None else _guarded(entry.twin, guard)[0]
    if item is None or (prompt is entry.prompt and twin is entry.twin and texts == given):
        return Entry(prompt, item, twin)
    changed = {entry.prompt.prompt_id: prompt.prompt_id}
    if twin is not None and entry.twin is not None:
        changed[entry.twin.prompt_id] = twin.prompt_id
    named = {name: value for name, value in asdict(item).items() if name not in ("item_id", "set", "kind", "prompt_id")}
    named |= {name: changed.get(named[name], named[name]) for name in ("cluster", "twin_id")}
    if given:
        named["better"], named["worse"] = _set_apart(*texts)
    return Entry(prompt, EvaluationItem.make(item.set, item.kind, prompt.prompt_id, **named), twin)


def _guarded(prompt: Prompt, guard: Guard, others: tuple[str, ...] = ()) -> tuple[Prompt, tuple[str, ...]]:
    clean, texts, refused = guard.conversation(prompt, others)
    if refused:
        raise BadRow(REASON, refusal(refused), clean.prompt_id)
    return clean, texts


def _set_apart(better: str, worse: str) -> tuple[str, str]:
    if better == worse:
        raise BadRow("same_responses", "both responses say the same")
    return better, worse


def asked_in(value: Value | BadRow) -> str:
    """The user's last turn; "" where the row has none."""
    try:
        return "" if isinstance(value, BadRow) else _messages(value, None)[-1].content
    except BadRow:
        return ""


def _messages(value: Value, column: str | None) -> tuple[Message, ...]:
    named = next((name for name in ASKS if isinstance(value, dict) and value.get(name) is not None), None)
    return messages_of(value, column or named)


def _prompt(source: EvaluationSource, value: Value, messages: Sequence[Message], licence: str = "") -> Prompt:
    tags = (*source.tags, *tags_of(value))
    check_unicode("".join(tags))
    return Prompt.make(messages, Path(source.path).name, source.licence or licence, tags, "eval")


def _text(value: Value, *columns: str) -> str:
    """What the first of these columns says that says anything."""
    if isinstance(value, str):
        return ""
    return next((str(value[name]) for name in columns if value.get(name) not in (None, "")), "")


def _item(prompt: Prompt, kind: ItemKind, value: Value, **scored_by: Any) -> EvaluationItem:
    cluster, subset = _text(value, "cluster"), _text(value, "subset", "category")
    made = {"cluster": cluster, "subset": subset} | scored_by
    check_unicode(json.dumps(made, ensure_ascii=False))
    return EvaluationItem.make(prompt.source, kind, prompt.prompt_id, **made)


# The formats


def _any(source: EvaluationSource, value: Value, shared: Mapping[str, str]) -> Entry:
    """A prompt of the kind that the source or the row says; alone where neither does."""
    kind = source.kind or _kind(value)
    if kind == "sycophancy":
        return _sycophancy(source, value, shared)
    if kind == "pair":
        return _pair(source, value, shared)
    prompt = _prompt(source, value, _messages(value, source.column))
    if source.expected_column is not None:
        prompt = replace(prompt, expected=expected_of(value, source.expected_column))
    if kind == "capability":
        return Entry(prompt, _item(prompt, kind, value, expected=_expected(value, source.expected_column)))
    return Entry(prompt, None if kind is None else _item(prompt, kind, value))


def _kind(value: Value) -> ItemKind | None:
    if isinstance(value, str) or "kind" not in value:
        return None
    if value["kind"] not in get_args(ItemKind):
        raise BadRow("unknown_kind", f"`kind` is one of {', '.join(get_args(ItemKind))}, got {value['kind']!r:.200}")
    return cast(ItemKind, value["kind"])


def _expected(value: Value, column: str | None) -> tuple[str, ...]:
    """Right answers: one text, or a list of them."""
    known = expected_of(value, column or "expected")
    given = None if isinstance(value, str) else value[column or "expected"]
    answers = [known or ""] if not isinstance(given, list | tuple) else [str(each) for each in given]
    if not answers or not all(answer.strip() for answer in answers):
        raise BadRow("no_expected", f"a right answer is expected under {column or 'expected'!r}, got {given!r:.200}")
    return tuple(answers)


def _xstest(source: EvaluationSource, value: Value, shared: Mapping[str, str]) -> Entry:
    prompt = xstest.prompt_of(xstest.fields_of(value, XSTEST))
    prompt = replace(prompt, licence=source.licence or prompt.licence, tags=(*source.tags, *prompt.tags))
    safety, subset = prompt.tags[len(source.tags) :][:2]
    kind: ItemKind = "borderline" if safety == "safe" else "harmful"
    return Entry(prompt, _item(prompt, kind, value, subset=subset))


def _harmbench(source: EvaluationSource, value: Value, shared: Mapping[str, str]) -> Entry:
    subset, functional = _text(value, "SemanticCategory"), _text(value, "FunctionalCategory")
    prompt = _prompt(source, value, messages_of(value, source.column or "Behavior"), "MIT")
    prompt = replace(prompt, tags=tuple(filter(None, dict.fromkeys([*prompt.tags, functional]))))
    check_unicode(functional)
    return Entry(prompt, _item(prompt, "harmful", value, subset=subset))


def _sycophancy(source: EvaluationSource, value: Value, shared: Mapping[str, str]) -> Entry:
    """The question alone stands under `twin`, or is what several rows share."""
    messages = _messages(value, source.column)
    asked = messages[-1].content
    options = twins.options_of(asked)
    opinion = _letter(value, source.opinion_column or "opinion", options)
    question = _text(value, "twin") or shared.get(asked, "")
    if not question:
        raise BadRow("no_twin", "no other row asks the same question behind another text: it cannot be asked alone")
    if twins.options_of(question) != options:
        raise BadRow("no_options", f"the question alone offers other answers than {', '.join(options)}")
    check_unicode(question)
    licence = "CC-BY-4.0" if any(set(pair) <= set(value) for pair in OPINIONS) else ""
    prompt = _prompt(source, value, messages, licence)
    twin = _prompt(source, value, (*messages[:-1], Message("user", question)), licence)
    cluster = _text(value, "cluster") or twin.prompt_id
    scored_by = {"options": options, "opinion": opinion, "twin_id": twin.prompt_id, "cluster": cluster}
    return Entry(prompt, _item(prompt, "sycophancy", value, **scored_by), twin)


def _letter(value: Value, column: str, options: Sequence[str]) -> str:
    """The option that stands in the column, as "B", " (B)" or a list of one of these."""
    given = None if isinstance(value, str) else value.get(column)
    one = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
    found = _LETTER.fullmatch(one) if isinstance(one, str) else None
    if found is None or found[1] not in options:
        raise BadRow("no_opinion", f"one of {', '.join(options)} is expected under {column!r}, got {given!r:.200}")
    return found[1]


def _pair(source: EvaluationSource, value: Value, shared: Mapping[str, str]) -> Entry:
    if isinstance(value, str):
        raise BadRow("wrong_type", "named columns are expected, got plain text")
    asks = any(value.get(name) is not None for name in ASKS)
    messages = _messages(value, source.column)
    if not asks and messages_of(value, "rejected") != messages:
        raise BadRow("different_prompts", "the conversation before the last answer is another one under `rejected`")
    better, worse = _set_apart(*_responses(value))
    prompt = _prompt(source, value, messages)
    subset = _text(value, "subset", "category") or Path(source.path).name.partition(".")[0]
    return Entry(prompt, _item(prompt, "pair", value, subset=subset, better=better, worse=worse))


def _responses(value: dict[str, Any]) -> tuple[str, str]:
    """The better and the worse one."""
    if value.get("chosen") is not None:
        return answer_of(value, "chosen"), answer_of(value, "rejected")
    targets = value.get("targets")
    scores = value.get("target_scores")
    if isinstance(targets, Mapping):
        texts, marks = targets.get("choices"), targets.get("labels")
    else:
        texts, marks = ([*scores.keys()], [*scores.values()]) if isinstance(scores, Mapping) else (None, None)
    if not (isinstance(texts, list) and isinstance(marks, list) and len(texts) == len(marks) == 2):
        raise BadRow("not_a_pair", f"two responses with a mark each are expected, got {targets or scores!r:.200}")
    if sorted(map(str, marks)) != ["0", "1"] or not all(isinstance(text, str) and text.strip() for text in texts):
        raise BadRow("not_a_pair", f"a response marked 1 and one marked 0 are expected, got {targets or scores!r:.200}")
    better = marks.index(next(mark for mark in marks if str(mark) == "1"))
    check_unicode("".join(texts))
    return texts[better], texts[1 - better]


READERS: dict[str, Callable[[EvaluationSource, Value, Mapping[str, str]], Entry]] = {
    "prompts": _any,
    "xstest": _xstest,
    "harmbench": _harmbench,
    "sycophancy": _sycophancy,
    "hhh": _pair,
}
