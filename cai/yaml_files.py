"""YAML that a person wrote: UTF-8, no key given twice, and on which line each setting stands."""

import difflib
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cai.errors import ConfigError


class Document(NamedTuple):
    """What a file says, and the nodes it was read from; both None where the file is empty."""

    body: Any
    root: Node | None

    def line(self, path: Sequence[str | int]) -> int | None:
        """Where the setting at `path` stands, or what is nearest around it; None in an empty file.

        Of a path of pydantic's, the tags of unions stand in no file and are passed over.
        """
        node, line = self.root, None if self.root is None else line_of(self.root)
        for part in path:
            if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = line_of(node)
            elif isinstance(node, MappingNode):
                for key, value in node.value:
                    if isinstance(key, ScalarNode) and key.value == str(part):
                        node, line = value, line_of(key)
        return line


class _Loader(yaml.SafeLoader):
    """A key that is given twice is an error, where YAML takes the last one."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.value != "<<":
                if key.value in seen:
                    said = f"the key {key.value!r} is given twice, first on line {seen[key.value]}; drop one"
                    raise yaml.MarkedYAMLError("", None, said, key.start_mark)
                seen[key.value] = line_of(key)
        return super().construct_mapping(node, deep)


def read_document(path: Path) -> Document:
    """Read a file of settings.

    Raises:
        ConfigError: it is not UTF-8, is no YAML, or gives a key twice; says where.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        said = f"is not UTF-8 (line {line}, byte 0x{raw[error.start]:02x}); save the file as UTF-8"
        raise ConfigError(f"{path} {said}") from error
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            return Document(None if root is None else loader.construct_document(root), root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{path} cannot be read: {said}{f' (line {mark.line + 1})' if mark else ''}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error


def near(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name."""
    known = list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


def line_of(node: Node) -> int:
    line: int = node.start_mark.line
    return line + 1
