"""Strict loading of a constitution: each rule of the format, each error with its line and its fix.

`load_constitution` raises the first error of a file; `parse` returns all of them (that is what `lint` prints).
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from yaml.nodes import MappingNode, Node, ScalarNode

from cai.constitution.model import (
    STAGES,
    Constitution,
    CritiqueRevisionExample,
    Examples,
    Feedback,
    KnownPair,
    PreferenceExample,
    Principle,
    Stage,
)
from cai.constitution.nodes import Problem, Reader, compose, read_text
from cai.errors import ConstitutionError
from cai.records import Message, Role
from cai.templates import DEFAULTS, TemplateName, check
from cai.yaml_files import line_of, near

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Which texts a stage asks the model with.
REQUESTS: dict[Stage, tuple[str, ...]] = {"critique": ("critique", "revision"), "preference": ("preference",)}
_ROLES = ("system", "user", "assistant")
_EXAMPLE = ("messages", "response", "critique_request", "critique", "revision_request", "revision")
_KNOWN_PAIR = ("principle", "prompt", "better", "worse")
_PREFERENCE_EXAMPLE = ("messages", "response_a", "response_b", "preference", "answer")


class Parsed(NamedTuple):
    """`constitution` is None where `problems` is not empty; `lines` says where each principle starts."""

    constitution: Constitution | None
    problems: tuple[Problem, ...]
    lines: dict[str, int]


def load_constitution(path: Path) -> Constitution:
    """Read a constitution, strictly.

    Raises:
        ConstitutionError: the first thing wrong with the file, with its line and what to do.
    """
    parsed = parse(path)
    if parsed.constitution is None:
        first = parsed.problems[0]
        more = len(parsed.problems) - 1
        rest = f" [and {more} more: cai constitution lint {path}]" if more else ""
        raise ConstitutionError(first.message + rest, file=str(path), line=first.line)
    return parsed.constitution


def parse(path: Path) -> Parsed:
    """The constitution in a file, or every error in it by line."""
    text = read_text(path)
    if isinstance(text, Problem):
        return Parsed(None, (text,), {})
    return parse_text(text)


def parse_text(text: str) -> Parsed:
    root = compose(text)
    if isinstance(root, Problem):
        return Parsed(None, (root,), {})
    reader, lines = Reader(), dict[str, int]()
    constitution = _constitution(reader, root, lines)
    problems = sorted(reader.problems, key=lambda p: p.line or 0)
    return Parsed(None if problems else constitution, tuple(problems), lines)


def _constitution(reader: Reader, root: Node, lines: dict[str, int]) -> Constitution:
    keys = reader.mapping(
        root, "the file", ("name", "principles"), ("description", "examples", "templates", "feedback", "self_test")
    )
    nodes = reader.items(keys.get("principles"), "principles")
    if "principles" in keys and not nodes:
        reader.error(keys["principles"], "principles: there is none; write at least one")
    read = [_principle(reader, node, position, lines) for position, node in enumerate(nodes, 1)]
    principles = tuple(p for p in read if p is not None)
    return Constitution(
        name=reader.text(keys.get("name"), "name") or "",
        description=reader.text(keys.get("description"), "description") or "",
        principles=principles,
        examples=_examples(reader, keys.get("examples")),
        templates=_templates(reader, keys.get("templates")),
        feedback=_feedback(reader, keys.get("feedback")),
        self_test=_self_test(reader, keys.get("self_test"), principles),
    )


def _principle(reader: Reader, node: Node, position: int, lines: dict[str, int]) -> Principle | None:
    where = _called(node, position)
    optional = ("title", "weight", "tags", "stages", "critique", "revision", "preference")
    keys = reader.mapping(node, where, ("id",), optional)
    if not isinstance(node, MappingNode):
        return None
    id = reader.text(keys.get("id"), f"{where}: id")
    if id is not None:
        _check_id(reader, keys["id"], where, id, lines)
    tags = [reader.text(tag, f"{where}: tags") for tag in reader.items(keys.get("tags"), f"{where}: tags")]
    for tag, tag_node in zip(tags, reader.items(keys.get("tags"), where), strict=True):
        if tag is not None and not ID.fullmatch(tag):
            reader.error(tag_node, f"{where}: the tag {tag!r} must be lower-case letters, digits and hyphens")
    texts = {
        name: reader.text(keys.get(name), f"{where}: {name}") or "" for name in ("critique", "revision", "preference")
    }
    stages = _stages(reader, node, keys, where)
    weight = _weight(reader, keys.get("weight"), where)
    if id is None:
        return None
    title = reader.text(keys.get("title"), f"{where}: title") or id
    known_tags = tuple(dict.fromkeys(tag for tag in tags if tag is not None))
    return Principle(id=id, title=title, weight=weight, tags=known_tags, stages=stages, **texts)


def _called(node: Node, position: int) -> str:
    """How messages name a principle: by its id where it has one."""
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.value == "id" and isinstance(value, ScalarNode):
            return f"principle {value.value!r}"
    return f"principle {position}"


def _check_id(reader: Reader, node: Node, where: str, id: str, lines: dict[str, int]) -> None:
    if not ID.fullmatch(id):
        reader.error(node, f"{where}: the id must be 1 to 64 lower-case letters, digits and hyphens, got {id!r}")
    elif id in lines:
        reader.error(node, f"{where}: the id is already used on line {lines[id]}; each principle needs its own")
    else:
        lines[id] = line_of(node)


def _weight(reader: Reader, node: Node | None, where: str) -> float:
    weight = reader.number(node, f"{where}: weight")
    if node is None or weight is None:
        return 1.0
    if not (0 < weight <= 1e6 and weight >= 1e-6 and math.isfinite(weight)):
        reader.error(node, f"{where}: the weight must be between 0.000001 and 1000000, got {weight:g}")
        return 1.0
    return weight


def _stages(reader: Reader, node: Node, keys: dict[str, Node], where: str) -> tuple[Stage, ...]:
    """The stages named, or both; each must have its requests."""
    names: list[str] = list(STAGES)
    if "stages" in keys:
        items = reader.items(keys["stages"], f"{where}: stages")
        found = [reader.choice(item, f"{where}: stages", STAGES) for item in items]
        names = list(dict.fromkeys(name for name in found if name is not None))
        if not items:
            reader.error(keys["stages"], f"{where}: stages names none; write [critique, preference] or one of them")
    stages = cast(tuple[Stage, ...], tuple(names))
    for stage in stages:
        for request in REQUESTS[stage]:
            if request not in keys:
                reader.error(
                    keys.get("id", node),
                    f"{where}: the stage {stage!r} needs a {request!r} request; add one, or set `stages` to leave "
                    f"{stage} out",
                )
    return stages


def _templates(reader: Reader, node: Node | None) -> dict[TemplateName, str]:
    if node is None:
        return {}
    found: dict[TemplateName, str] = {}
    for name, value in reader.mapping(node, "templates", optional=tuple(DEFAULTS)).items():
        text = reader.text(value, f"templates: {name}", strip=False)
        if text is None:
            continue
        known = cast(TemplateName, name)
        try:
            check(known, text)
        except ConstitutionError as error:
            reader.error(value, str(error))
        else:
            found[known] = text
    return found


def _feedback(reader: Reader, node: Node | None) -> Feedback:
    if node is None:
        return Feedback()
    keys = reader.mapping(node, "feedback", optional=("principles", "clamp"))
    asked = keys.get("principles")
    principles: int | None = None
    is_all = isinstance(asked, ScalarNode) and asked.value == "all"
    if asked is not None and not is_all:
        number = reader.number(asked, "feedback: principles")
        if number is not None and (number < 1 or number != int(number)):
            reader.error(asked, f"feedback: principles must be `all` or a whole number from 1, got {number:g}")
        elif number is not None:
            principles = int(number)
    return Feedback("all" if is_all else principles, _clamp(reader, keys.get("clamp")))


def _clamp(reader: Reader, node: Node | None) -> tuple[float, float] | None:
    if node is None:
        return None
    bounds = [reader.number(item, "feedback: clamp") for item in reader.items(node, "feedback: clamp")]
    if len(bounds) == 2 and bounds[0] is not None and bounds[1] is not None and 0 <= bounds[0] < bounds[1] <= 1:
        return bounds[0], bounds[1]
    if None not in bounds:
        reader.error(node, f"feedback: clamp must be [low, high] with 0 <= low < high <= 1, got {bounds}")
    return None


def _examples(reader: Reader, node: Node | None) -> Examples:
    if node is None:
        return Examples()
    keys = reader.mapping(node, "examples", optional=("critique_revision", "preference"))
    revised = reader.items(keys.get("critique_revision"), "examples.critique_revision")
    compared = reader.items(keys.get("preference"), "examples.preference")
    return Examples(
        tuple(_revised(reader, each, f"critique_revision example {i}") for i, each in enumerate(revised, 1)),
        tuple(_compared(reader, each, f"preference example {i}") for i, each in enumerate(compared, 1)),
    )


def _revised(reader: Reader, node: Node, where: str) -> CritiqueRevisionExample:
    keys = reader.mapping(node, where, _EXAMPLE)
    texts = {name: reader.text(keys.get(name), f"{where}: {name}") or "" for name in _EXAMPLE[1:]}
    return CritiqueRevisionExample(messages=_messages(reader, keys.get("messages"), where), **texts)


def _compared(reader: Reader, node: Node, where: str) -> PreferenceExample:
    keys = reader.mapping(node, where, _PREFERENCE_EXAMPLE)
    texts = {name: reader.text(keys.get(name), f"{where}: {name}") or "" for name in _PREFERENCE_EXAMPLE[1:4]}
    answer = reader.choice(keys.get("answer"), f"{where}: answer", ("A", "B"))
    messages = _messages(reader, keys.get("messages"), where)
    return PreferenceExample(messages=messages, answer="B" if answer == "B" else "A", **texts)


def _self_test(reader: Reader, node: Node | None, principles: Sequence[Principle]) -> tuple[KnownPair, ...]:
    ids = [p.id for p in principles if "preference" in p.stages]
    found = []
    for position, item in enumerate(reader.items(node, "self_test"), 1):
        where = f"self_test pair {position}"
        keys = reader.mapping(item, where, _KNOWN_PAIR)
        pair = KnownPair(**{name: reader.text(keys.get(name), f"{where}: {name}") or "" for name in _KNOWN_PAIR})
        if pair.principle and pair.principle not in ids:
            said = f"no principle of the stage preference has the id {pair.principle!r}"
            reader.error(keys["principle"], f"{where}: {said}; {near(pair.principle, ids)}")
        if pair.better and pair.better == pair.worse:
            reader.error(item, f"{where}: better and worse are the same text; one must be better beyond doubt")
        found.append(pair)
    return tuple(found)


def _messages(reader: Reader, node: Node | None, where: str) -> tuple[Message, ...]:
    """A conversation up to the assistant's turn: it ends with the user."""
    messages = []
    for item in reader.items(node, f"{where}: messages"):
        keys = reader.mapping(item, f"{where}: messages", ("role", "content"))
        role = reader.choice(keys.get("role"), f"{where}: role", _ROLES)
        content = reader.text(keys.get("content"), f"{where}: content")
        messages.append(Message(cast(Role, role or "user"), content or ""))
    if node is not None and (not messages or messages[-1].role != "user"):
        reader.error(node, f"{where}: messages must end with the user's turn; the response has a key of its own")
    return tuple(messages)
