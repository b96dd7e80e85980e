"""What a deploy does with what people have changed on the server since the last one.

The rule: files say what exists; people say what is switched on. A value that both have changed is the file's.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cai.records import digest


class Switch(NamedTuple):
    """Whether a schedule or an automation is on. `is_kept`: people have set it so, and only they change it again."""

    on: bool
    is_kept: bool = False

    def written(self) -> str:
        return f"{'on' if self.on else 'off'}{' by people' if self.is_kept else ''}"

    @staticmethod
    def read(text: str) -> "Switch":
        return Switch(text.startswith("on"), text.endswith("by people"))


def decide(wanted: bool, live: bool | None, last: Switch | None) -> Switch:
    """Whether it is to be on: as the file wants it, unless people have switched it since, or some time before.

    `live` is None where it is not there yet, `last` where no deploy of ours has made it.
    """
    if live is None:
        return Switch(wanted)
    if last is None or live != last.on:
        return Switch(live, is_kept=live != wanted)
    return last if last.is_kept else Switch(wanted)


def brief(value: Any) -> str:
    """Enough of a digest to see that a value has changed."""
    return digest("value", value)[:10]


class Merged(NamedTuple):
    values: dict[str, Any]
    kept: dict[str, Any]
    """Those among them that people have set in the UI."""


def merge(
    file: Mapping[str, Any], live: Mapping[str, Any] | None, last: Mapping[str, str] | None, default: Mapping[str, Any]
) -> Merged:
    """The file's values, but for those that people have changed since `last`, the digests of the file's then, and that
    the file has not. What people set to its default, where the file has no such name, says nothing (the UI does that).
    """
    if live is None or last is None:
        return Merged(dict(file), {})
    kept = {
        name: live[name]
        for name in live
        if (last.get(name) != brief(live[name]))
        and (last.get(name) == (brief(file[name]) if name in file else None))
        and (name in file or (name in default and default[name] != live[name]))
    }
    return Merged({**file, **kept}, kept)
