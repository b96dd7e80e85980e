"""The constitution: load, draw, lint, diff, import. It asks no model and reads no table.

Alone: `cai constitution lint constitution/harmlessness.yaml`.
"""

from cai.constitution.draw import draw, draw_many, moved_share, principles_for_pair
from cai.constitution.load import load_constitution
from cai.constitution.model import (
    Constitution,
    CritiqueRevisionExample,
    Examples,
    Feedback,
    KnownPair,
    PreferenceExample,
    Principle,
    Stage,
)

__all__ = [
    "Constitution",
    "CritiqueRevisionExample",
    "Examples",
    "Feedback",
    "KnownPair",
    "PreferenceExample",
    "Principle",
    "Stage",
    "draw",
    "draw_many",
    "load_constitution",
    "moved_share",
    "principles_for_pair",
]
