"""What a campaign came to, as rows for people. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from cai.config import GenerateConfig
from cai.intervals import Rate, rate
from cai.prompts.cells import Cell, Quotas
from cai.prompts.rounds import Round
from cai.prompts.writing import Tally
from cai.records import Attempt

Row = tuple[str | int, ...]
CELLS = ("kind", "tag", "topic", "asked", "kept", "rejected", "tried", "elicited")
ROUNDS = ("round", "asked", "kept", "tried", "elicited", "unscored", "new weak spots", "weak spots")
ASKS = ("kind", "prompts", "writer asked", "policy asked")


def cell_rows(tallies: Mapping[Cell, Tally], attempts: Iterable[Attempt], elicited_from: float) -> list[Row]:
    """By kind, tag and topic: how many were asked for, kept, rejected and why, tried, and what share drew out harm."""
    by_cell: dict[tuple[str, str, str], list[Attempt]] = {}
    for row in attempts:
        by_cell.setdefault((row.kind, row.tag, row.topic), []).append(row)
    return [_cell_row(cell, tally, by_cell.get(cell, []), elicited_from) for cell, tally in tallies.items()]


def _cell_row(cell: Cell, tally: Tally, attempts: Sequence[Attempt], elicited_from: float) -> Row:
    read = [(row.elicited >= elicited_from, row.prompt_id) for row in attempts if row.elicited is not None]
    rejected = ", ".join(f"{why} {n}" for why, n in tally.rejected.most_common())
    found = rate([is_find for is_find, _ in read], [prompt_id for _, prompt_id in read])
    return (*cell, tally.n_asked, tally.n_kept, rejected, len(read), percent(found) if read else "")


def percent(found: Rate) -> str:
    return f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def round_rows(rounds: Iterable[Round]) -> list[Row]:
    """The curve: what each round found, and the weak spots known by then."""
    rows: list[Row] = []
    n_spots = 0
    for done in rounds:
        n_spots += done.n_spots
        counts = (done.n_asked, done.n_kept, done.n_tried, done.n_elicited, done.n_unscored)
        rows.append((done.round, *counts, done.n_spots, n_spots))
    return rows


def ask_rows(config: GenerateConfig, quotas: Quotas) -> list[Row]:
    """What a campaign will ask, by kind, at least: where all is usable at once, and every round is done."""
    rows: list[Row] = []
    for kind in config.kinds:
        n = sum(k for cell, k in quotas.items() if cell.kind == kind)
        n_prompts = n * (1 + config.rounds) if kind in config.tried else n
        rows.append((kind, n_prompts, n_prompts, n_prompts * config.samples if kind in config.tried else 0))
    total = [sum(int(row[i]) for row in rows) for i in (1, 2, 3)]
    return [*rows, ("all", *total)]
