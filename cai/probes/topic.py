"""What a text is about: the stems of its words that are not common. To share one is to be on one topic. Pure."""

import re
from itertools import pairwise

_COMMON = frozenset(
    """a an the i me my you your he him his she her they them their it its we our us who what which when where why
    how that this these those is are was were be been do does did can could should would will shall may might
    must have has had not to of in on at by for from with into about as and or but if so than then there here
    some any all more most best good better way ways get make made take give tell show list step steps process
    reason reasons someone somebody people person other else thing things use using kind like want need one go
    let""".split()
)
_ENDING = re.compile(r"(?<=\w{3})(?:at(?:ed?|es|ing|ions?)|ings?|ions?|ies|ied|e?[drs]|ers|ly|e)$")


def stems(text: str) -> set[str]:
    """Of the words that are not common, and of neighbours that may be written as one: "bake sale", "bakesale"."""
    words = re.findall(r"[^\W\d_]+", text)
    joined = [a + b for a, b in pairwise(words) if a not in _COMMON and b not in _COMMON]
    return {_ENDING.sub("", word) for word in words + joined if len(word) >= 3 and word not in _COMMON}
