"""What is legal but unwise in a constitution: warnings with lines. Errors come from `load.parse`."""

import re
from itertools import combinations
from pathlib import Path

from cai.constitution.load import REQUESTS, parse
from cai.constitution.model import STAGES, Constitution, Principle
from cai.constitution.nodes import Problem

DOMINATES = 0.5
LONG_CHARACTERS = 800
NEAR_DUPLICATE = 0.8
FEW_KNOWN_PAIRS = 6  # below, a guess at all of them succeeds in 3 % of tries or more
_TEXTS = ("critique", "revision", "preference")


def lint(path: Path) -> tuple[Problem, ...]:
    """Every error of a file or, where it has none, every warning; by line."""
    parsed = parse(path)
    if parsed.constitution is None:
        return parsed.problems
    return tuple(sorted(warnings(parsed.constitution, parsed.lines), key=lambda problem: problem.line or 0))


def warnings(constitution: Constitution, lines: dict[str, int]) -> list[Problem]:
    """The warnings of a loaded constitution; `lines` says where each principle starts."""
    found = []
    for principle in constitution.principles:
        found += [Problem(lines.get(principle.id), "warning", said) for said in _principle(principle)]
    for at, said in (*_weights(constitution), *_near_duplicates(constitution)):
        found.append(Problem(lines.get(at), "warning", said))
    whole = (*_coverage(constitution), *_examples(constitution), *_self_test(constitution))
    return found + [Problem(None, "warning", said) for said in whole]


def _principle(principle: Principle) -> list[str]:
    where, said = f"principle {principle.id!r}", []
    if not principle.tags:
        said.append(f"{where} has no tag; reports and `--without` cannot single it out")
    needed = {name for stage in principle.stages for name in REQUESTS[stage]}
    for name, text in _texts(principle):
        if name not in needed:
            said.append(f"{where}: {name} is never asked, since `stages` leaves it out")
        if len(text) > LONG_CHARACTERS:
            said.append(f"{where}: {name} has {len(text)} characters; above {LONG_CHARACTERS} small models lose track")
        if text[-1] not in ".?!:)\"'”’…。？！":
            said.append(f"{where}: {name} does not end in punctuation; is it cut off?")
        if re.search(r"\{\{|\{%", text):
            said.append(f"{where}: {name} holds template braces, which are shown as they are, not filled")
    return said


def _texts(principle: Principle) -> list[tuple[str, str]]:
    texts = {"critique": principle.critique, "revision": principle.revision, "preference": principle.preference}
    return [(name, text) for name, text in texts.items() if text]


def _weights(constitution: Constitution) -> list[tuple[str, str]]:
    said = []
    for stage in STAGES:
        principles = constitution.for_stage(stage)
        total = sum(p.weight for p in principles)
        if len(principles) > 1:
            said += [
                (p.id, f"principle {p.id!r} takes {p.weight / total:.0%} of the {stage} draws; lower its weight")
                for p in principles
                if p.weight > DOMINATES * total
            ]
    return said


def _near_duplicates(constitution: Constitution) -> list[tuple[str, str]]:
    """Pairs of principles that say almost the same: the same words, at least four of five."""
    said = []
    for name in _TEXTS:
        texts = [
            (p.id, frozenset(re.findall(r"\w+", text.casefold())))
            for p in constitution.principles
            for field, text in _texts(p)
            if field == name
        ]
        for (first, a), (second, b) in combinations(texts, 2):
            if a and b and len(a & b) >= NEAR_DUPLICATE * len(a | b):
                said.append((second, f"principle {second!r}: {name} says almost the same as that of {first!r}"))
    return said


def _coverage(constitution: Constitution) -> list[str]:
    said = [f"no principle has the stage {stage!r}" for stage in STAGES if not constitution.for_stage(stage)]
    tagged = {stage: {tag for p in constitution.for_stage(stage) for tag in p.tags} for stage in STAGES}
    if all(constitution.for_stage(stage) for stage in STAGES):
        said += [
            f"the tag {tag!r} has critique principles but no preference principle: labels will not reward it"
            for tag in sorted(tagged["critique"] - tagged["preference"])
        ]
    return said


def _examples(constitution: Constitution) -> list[str]:
    said, examples = [], constitution.examples
    if constitution.for_stage("critique") and not examples.critique_revision:
        said.append("no critique_revision examples: models without chat training confuse critique and revision")
    if constitution.for_stage("preference") and not examples.preference:
        said.append("no preference examples: a judge that has seen none leans to one letter")
    n_a = sum(example.answer == "A" for example in examples.preference)
    n_b = len(examples.preference) - n_a
    if abs(n_a - n_b) > 1:
        said.append(f"preference examples answer A {n_a} times and B {n_b} times; balance them")
    return said


def _self_test(constitution: Constitution) -> list[str]:
    n = len(constitution.self_test)
    if n == 0 or n >= FEW_KNOWN_PAIRS:
        return []
    return [f"self_test has {n} pairs: a judge that guesses passes too often; write {FEW_KNOWN_PAIRS} or more"]
