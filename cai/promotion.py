"""What must hold before a model is put to use: a channel, whole bytes, and its gate's PASS or a named person's word.

Pure but for reading the model's folder; `storage.registry.promote` asks all of it and writes the promotion.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from cai import gate
from cai.errors import ConfigError, DataError
from cai.models import content_digest, read_meta
from cai.records import GateVerdict, Model, Override
from cai.registry import SHORT, Registry


@dataclass(frozen=True, slots=True)
class Overriding:
    """Who wants a model in use that its gate did not pass, and why.

    Raises:
        ConfigError: one of them is empty.
    """

    person: str
    reason: str

    def __post_init__(self) -> None:
        if not (self.person.strip() and self.reason.strip()):
            raise ConfigError(
                "to override a gate takes a person's name and their reason, both kept with the promotion; got "
                f"{self.person!r} and {self.reason!r}"
            )


def objection(registry: Registry, model: Model, channel: str) -> str:
    """Why no PASS stands behind the model in this channel, and what to do; "" where one does.

    Nor is one asked of a model that was promoted there before: going back must be possible at once.
    """
    if registry.was_promoted(model, channel):
        return ""
    said = registry.verdict(model, channel)
    if said is None:
        why = (
            "no gate has judged it; give the profile of its run a `gate` of this channel, and the run measures it "
            "(docs/evaluation.md)"
        )
    elif said.verdict != "PASS":
        why = f"run {said.run_id}: {explained(said)}"
    elif against := out_of_date(registry, said):
        why = (
            f"NOT ENOUGH: its PASS was {against}; delete runs/{said.run_id}/steps/evaluate.json and start the run "
            "again to have it measured beside that one"
        )
    else:
        return ""
    return f"model {model.model_digest[:SHORT]} ({model.name}) has no PASS for {channel}: {why}"


def out_of_date(registry: Registry, said: GateVerdict) -> str:
    """Where a verdict rests on changes from a model that is no longer the one in use: from which, and what is; else "".

    Of a model that was in use itself nothing is: it is what came between.
    """
    last = registry.promoted(said.channel)
    own = (said.model_digest, said.channel)
    if last is None or said.baseline_digest == last.model_digest:
        return ""
    if any((p.model_digest, p.channel) == own for p in registry.promotions):
        return ""
    if not any(finding.condition.is_relative for finding in gate.from_json(json.loads(said.findings)).findings):
        return ""
    return (
        f"measured beside {registry.label(said.baseline_digest)}, and {registry.label(last.model_digest)} is in use "
        f"since {last.promoted_at}"
    )


def explained(said: GateVerdict) -> str:
    """A verdict with the conditions behind it and, where it is open, how many prompts would decide."""
    reasons = "; ".join(map(str, gate.from_json(json.loads(said.findings)).reasons))
    needed = ""
    if said.verdict == "NOT ENOUGH DATA":
        needed = "; how many prompts would decide is not known"
        if said.n_needed is not None:
            some = f"some {said.n_needed:,} prompts in `evaluation.prompts`"
            needed = f"; {some} would decide, if the estimates stay as they are"
    return f"{said.verdict}: {reasons}{needed}" if reasons else f"{said.verdict}{needed}"


def verdict_line(registry: Registry, said: GateVerdict) -> str:
    """A verdict in full, on one line."""
    beside = f" beside {registry.label(said.baseline_digest)}" if said.baseline_digest else ""
    against = out_of_date(registry, said)
    late = f"; it no longer counts: {against}" if against else ""
    return f"{said.channel}: {explained(said)} (run {said.run_id}, {said.judged_at}{beside}){late}"


def override_line(by: Override) -> str:
    return f"{by.verdict or 'no verdict'}, by {by.person} at {by.overridden_at}: {by.reason}"


def check_channel(name: str) -> str:
    """Raises `ConfigError` unless a channel may be called so."""
    if not re.fullmatch(r"[a-z][a-z0-9_.-]{0,63}", name):
        raise ConfigError(f"channel {name!r}: expected lower-case letters, digits, `_`, `.`, `-`, a letter first")
    return name


def check_whole(model: Model) -> None:
    """Whether the model's directory is there, finished, and holds the bytes that its record names.

    Raises:
        DataError: it is not.
    """
    path = Path(model.path)
    meta = read_meta(path)
    if meta is None:
        problem = "is not finished: it has no meta.json" if path.is_dir() else "is gone"
        raise DataError(f"model {model.model_digest[:SHORT]} cannot be promoted: {path} {problem}; train it again")
    found = content_digest(path)
    if not found == meta.get("model_digest") == model.model_digest:
        raise DataError(
            f"model {model.model_digest[:SHORT]} cannot be promoted: {path} holds other bytes now (content "
            f"{found[:SHORT]}, meta.json says {str(meta.get('model_digest'))[:SHORT]}); restore it or train it again"
        )
