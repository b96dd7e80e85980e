"""P(the first response is better) → which of the two is chosen, with what soft label, and whether it is a tie. Pure."""

from typing import NamedTuple

from cai.records import Response

ROUNDING = 1e-12  # (1 + 0 + ...) / n misses 0.5 by less


class Chosen(NamedTuple):
    chosen: Response
    rejected: Response
    soft_label: float
    """P(chosen is better): never below 0.5."""
    is_tie: bool


def choose(a: Response, b: Response, p_a: float, tie_band: float) -> Chosen:
    """Where neither is better, `a`, which is a tie."""
    chosen, rejected = (a, b) if p_a >= 0.5 - ROUNDING else (b, a)
    return Chosen(chosen, rejected, 0.5 + abs(p_a - 0.5), abs(p_a - 0.5) <= tie_band + ROUNDING)
