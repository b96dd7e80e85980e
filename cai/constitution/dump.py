"""A constitution as YAML text that loads back as the same constitution."""

from dataclasses import asdict
from typing import Any

import yaml

from cai.constitution.load import parse_text
from cai.constitution.model import STAGES, Constitution, Principle
from cai.errors import DataError


def to_yaml(constitution: Constitution) -> str:
    """The file that `load_constitution` reads back; what has its default is left out.

    Raises:
        DataError: it would not load as the same constitution; names the first thing wrong.
    """
    body = _less_empty(
        {
            "name": constitution.name,
            "description": constitution.description,
            "principles": [_principle(p) for p in constitution.principles],
            "examples": _less_empty(_plain(asdict(constitution.examples))),
            "templates": dict(constitution.templates),
            "feedback": _less_empty(_plain(asdict(constitution.feedback))),
            "self_test": [asdict(pair) for pair in constitution.self_test],
        }
    )
    text = yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=112)
    parsed = parse_text(text)
    read = parsed.constitution
    if read is None or (read.digest(), read.self_test) != (constitution.digest(), constitution.self_test):
        why = parsed.problems[0].message if parsed.problems else "a text changes when it is written as YAML"
        raise DataError(f"constitution {constitution.name!r} cannot be written as a valid file: {why}")
    return text


def _principle(principle: Principle) -> dict[str, Any]:
    entry = _less_empty(_plain(asdict(principle)))
    defaults = {"title": principle.id, "weight": 1.0, "stages": list(STAGES)}
    return {key: value for key, value in entry.items() if key not in defaults or value != defaults[key]}


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _less_empty(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value not in (None, "", [], {})}


class _Dumper(yaml.SafeDumper):
    """Indented lists, texts of several lines as blocks, and never an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
