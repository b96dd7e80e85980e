"""Which prompts are held out, by the hash of the prompt alone: no other row can move one. Pure.

Whatever has n prompts, a tag for one, has the share `eval_share` of them held out within 1.96 √(s (1 − s) / n), 19
times in 20: a hash knows no tags, and a split that filled quotas by tag would move prompts whenever rows are added.
"""

import math
from typing import Literal

from cai.records import digest

Split = Literal["train", "eval"]


def split_of(prompt_id: str, eval_share: float) -> Split:
    """A larger share holds out the same prompts and more."""
    return "eval" if int(digest("split", prompt_id)[:13], 16) < eval_share * 16**13 else "train"


def split_error(eval_share: float, n: int) -> float:
    """How far the realised share of `n` prompts may be from the stated one, 19 times in 20."""
    return 1.96 * math.sqrt(eval_share * (1 - eval_share) / n)
