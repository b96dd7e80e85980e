"""Personal items in prompts: found by published formats and checksums, and redacted, rejected or kept by the profile.

No models and no dictionaries of names: what has no format is not found. `python -m benchmarks.privacy` measures it.
"""

from cai.privacy.find import find
from cai.privacy.guard import REASON, Guard, Guarded, Tally, added, in_words, masked, redacted, refusal
from cai.privacy.items import KINDS, NAMES, Found, Kind
from cai.privacy.nested import Part, find_each, find_in_forms, is_json, leaves, parts_of

__all__ = [
    "KINDS",
    "NAMES",
    "REASON",
    "Found",
    "Guard",
    "Guarded",
    "Kind",
    "Part",
    "Tally",
    "added",
    "find",
    "find_each",
    "find_in_forms",
    "in_words",
    "is_json",
    "leaves",
    "masked",
    "parts_of",
    "redacted",
    "refusal",
]
