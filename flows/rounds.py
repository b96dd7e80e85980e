"""How the steps, files and models of a round are called: those of the first as they are, of later ones with `-rN`."""

import re


def at_round(name: str, round: int) -> str:
    """`rl` of round 1 is `rl-r1`; of round 0, `rl`. What is counted goes behind it: `candidates-r1-0`."""
    return name if round == 0 else f"{name}-r{round}"


def round_of(name: str) -> int:
    """The round of a step, file or model by its name."""
    found = re.search(r"-r(\d+)(-\d+)?$", name)
    return int(found[1]) if found else 0


def member_name(name: str, member: int) -> str:
    """A model of an ensemble: the first has the plain name, the others `-1`, `-2`, …"""
    return name if member == 0 else f"{name}-{member}"


def job_seed(seed: int, round: int, member: int = 0) -> int:
    """The seed of a training job: the profile's, another for each round, and the next ones for an ensemble's members.

    Samples need none of this: the model that they are drawn from is in their ids, and their ids seed them.
    """
    return seed + 1000 * round + member
