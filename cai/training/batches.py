"""Which rows make which batch, as a pure function of the epoch: a resumed run needs no state to go on."""

import math
import random
from collections.abc import Sequence

BUCKET = 16
"""Batches sorted by length together: wide enough to save padding, narrow enough to keep the order random."""


def batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers of each batch of one epoch: every row once, rows of like length together, batches in random order."""
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    width = batch_size * BUCKET
    made = []
    for start in range(0, len(order), width):
        bucket = sorted(order[start : start + width], key=lambda i: lengths[i])
        made += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    rng.shuffle(made)
    return made


def n_steps(n_rows: int, batch_size: int, epochs: float) -> int:
    """Optimiser steps of a run; the last epoch may be a part of one. At least one."""
    return max(1, math.ceil(epochs * math.ceil(n_rows / batch_size)))


def prompt_order(n_prompts: int, per_step: int, steps: int, seed: int) -> list[int]:
    """Prompts for RL, in the order they are used: every prompt once, shuffled, then all again in another order.

    No step has a prompt twice, unless there are fewer prompts than a step takes.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < per_step * steps:
        chunk = list(range(n_prompts))
        random.Random(f"prompts/{seed}/{epoch}").shuffle(chunk)
        started = set(order[len(order) - len(order) % per_step :])  # what the step in hand has already
        order += sorted(chunk, key=lambda i: i in started)
        epoch += 1
    return order[: per_step * steps]
