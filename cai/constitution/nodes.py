"""YAML as nodes with line numbers, guarded: no tags, few aliases, shallow, small. Builds only text and numbers.

`Reader` walks the nodes by schema and notes every problem with its line instead of stopping at the first.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cai.yaml_files import line_of, near

MAX_BYTES = 1_000_000
MAX_DEPTH = 12
MAX_ALIASES = 20

_STR, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_KIND = {"int": "a number", "float": "a number", "bool": "true or false", "null": "nothing", "timestamp": "a date"}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Problem(NamedTuple):
    """Something wrong with a file. `line` is 1-based, None where no line is to blame."""

    line: int | None
    level: Literal["error", "warning"]
    message: str


class _Unreadable(Exception):
    """Stops the parse; the file cannot be read any further."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line, "error", message)


class _Loader(yaml.SafeLoader):
    """Composes nodes and refuses, before it descends, what no constitution needs."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0
        self.n_aliases = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line: int = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            self.n_aliases += 1
            if self.n_aliases > MAX_ALIASES:
                raise _Unreadable(line, f"more than {MAX_ALIASES} aliases (*name); write the text out")
        elif event.tag not in (None, "!"):
            raise _Unreadable(line, f"the YAML tag {event.tag!r} is not allowed; write plain text or a number")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Unreadable(line, f"nested more than {MAX_DEPTH} levels deep; no field of a constitution is")
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_text(path: Path) -> str | Problem:
    """The file's text, or why it cannot be had."""
    if not path.is_file():
        return Problem(None, "error", "no such file; `ls constitution` shows the ones that are shipped")
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        return Problem(None, "error", f"larger than {MAX_BYTES:,} bytes; a constitution is a short text, split it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Problem(line, "error", f"not UTF-8 (byte 0x{raw[error.start]:02x}); save the file as UTF-8")


def compose(text: str) -> Node | Problem:
    """The root node, or why there is none."""
    try:
        return _compose(text)
    except _Unreadable as error:
        return error.problem
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return Problem(line, "error", f"the character {chr(error.character)!r} is not allowed in YAML; remove it")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        return Problem(mark.line + 1 if mark else None, "error", f"not YAML: {said}; check indentation and quotes")


def _compose(text: str) -> Node | Problem:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF" that names no character
        raise _Unreadable(loader.line + 1, f"not YAML: {error}; check the escapes") from error
    return node if node is not None else Problem(None, "error", "the file is empty; expected `name` and `principles`")


class Reader:
    """Walks nodes and collects problems. A value that has one is None."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def error(self, at: Node | int, message: str) -> None:
        self.problems.append(Problem(at if isinstance(at, int) else line_of(at), "error", message))

    def mapping(
        self, node: Node, where: str, required: Sequence[str] = (), optional: Sequence[str] = ()
    ) -> dict[str, Node]:
        """The values by key, unknown and repeated keys left out; {} where `node` is no mapping."""
        if not isinstance(node, MappingNode):
            self.error(node, f"{where}: expected `key: value` lines, got {_seen(node)}")
            return {}
        known = (*required, *optional)
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else None
            if name is None or name not in known:
                shown = _seen(key) if name is None else repr(name)
                self.error(key, f"{where}: unknown key {shown}; {near(name or '', known)}")
            elif name in found:
                self.error(key, f"{where}: the key {name!r} is given twice; drop one")
            else:
                found[name] = value
        for name in required:
            if name not in found and not any(_names(key, name) for key, _ in node.value):
                self.error(node, f"{where}: the key {name!r} is missing; add `{name}: ...`")
        return found

    def items(self, node: Node | None, where: str) -> list[Node]:
        if node is None:
            return []
        if not isinstance(node, SequenceNode):
            self.error(node, f"{where}: expected a list, got {_seen(node)}; write `- ` before each entry")
            return []
        return list(node.value)

    def text(self, node: Node | None, where: str, *, strip: bool = True) -> str | None:
        """Text that says something. Space around it is taken off, so that `|`, `>` and `>-` mean the same."""
        if node is None:
            return None
        if not isinstance(node, ScalarNode) or node.tag != _STR:
            fix = "; put it in quotes" if isinstance(node, ScalarNode) and node.tag != _NULL else "; write a text"
            self.error(node, f"{where}: expected text, got {_seen(node)}{fix}")
            return None
        if not node.value.strip():
            self.error(node, f"{where}: the text is empty; write one or drop the key")
            return None
        if bad := _CONTROL.search(node.value):
            self.error(node, f"{where}: the text holds the control character {bad.group()!r}; remove it")
            return None
        value: str = node.value
        return value.strip() if strip else value

    def number(self, node: Node | None, where: str) -> float | None:
        if node is None:
            return None
        if not isinstance(node, ScalarNode) or not _NUMBER.fullmatch(node.value) or node.style is not None:
            self.error(node, f"{where}: expected a number such as 1.5, got {_seen(node)}")
            return None
        return float(node.value)

    def choice(self, node: Node | None, where: str, known: Sequence[str]) -> str | None:
        name = self.text(node, where)
        if node is None or name is None or name in known:
            return name
        self.error(node, f"{where}: unknown value {name!r}; {near(name, known)}")
        return None


def _names(key: Node, name: str) -> bool:
    return isinstance(key, ScalarNode) and key.value == name


def _seen(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "`key: value` lines"
    if isinstance(node, SequenceNode):
        return "a list"
    kind = _KIND.get(node.tag.rsplit(":", 1)[-1], "text")
    return kind if kind == "nothing" else f"{kind} ({node.value[:60]!r})"
