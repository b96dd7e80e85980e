"""A plan as people read it: a table by stage, and what it rests on; or prediction beside fact."""

from collections.abc import Sequence

from cai.plan.lines import Line, Plan, total

HEADER = ("stage", "asks", "prompt tokens", "computed", "generated", "trained", "steps", "rows", "MB", "time")
COMPARED = ("stage", "asks", "fact", "", "tokens", "fact", "", "computed", "fact", "", "rows", "fact", "time", "fact")


def plan_text(plan: Plan) -> str:
    lines = [_cells(line) for line in (*plan.lines, plan.total())]
    said = [f"  {text}" for text in plan.assumptions]
    return "\n".join([f"plan of {plan.run_id}", "", *_columns(HEADER, lines), "", "It rests on", *said])


def comparison_text(plan: Plan, facts: Sequence[Line]) -> str:
    """Stage by stage; of stages that are not finished there is no fact, and they are not in the total."""
    made = {line.stage: line for line in facts}
    planned = [line for line in plan.lines if line.stage in made]
    missing = [line.stage for line in plan.lines if line.stage not in made]
    unplanned = [line for line in facts if line.stage not in {line.stage for line in plan.lines}]
    pairs = [(line, made[line.stage]) for line in planned] + [(Line(line.stage), line) for line in unplanned]
    pairs.append((total([a for a, _ in pairs]), total([b for _, b in pairs])))
    rows = [_compared(before, after) for before, after in pairs]
    left = [f"no fact yet: {', '.join(missing)}"] if missing else []
    said = [f"  {text}" for text in plan.assumptions]
    title = f"plan of {plan.run_id}, and what became of it"
    return "\n".join([title, "", *_columns(COMPARED, rows), *left, "", "The plan rested on", *said])


def tokens_of(line: Line) -> float:
    """All that went in and came out: of prompts, whole, and replies; where a stage trains, what it trains on."""
    return line.n_prompt_tokens + line.n_tokens + line.n_trained_tokens


def error(planned: float, fact: float) -> float | None:
    """How far a plan was off, as a share of the fact; None where there is no fact to be off from."""
    return planned / fact - 1 if fact else None


def seconds_text(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 1:
        return "0 s" if seconds == 0 else "<1 s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {left:02} s" if minutes else f"{left} s"


def _cells(line: Line) -> tuple[str, ...]:
    counts = (
        line.n_asks,
        line.n_prompt_tokens,
        line.n_computed_tokens,
        line.n_tokens,
        line.n_trained_tokens,
        line.n_steps,
        line.n_rows,
    )
    return (line.stage, *map(_count, counts), f"{line.n_bytes / 1e6:,.1f}", seconds_text(line.seconds))


def _compared(before: Line, after: Line) -> tuple[str, ...]:
    both = (
        (before.n_asks, after.n_asks),
        (tokens_of(before), tokens_of(after)),
        (before.n_computed_tokens, after.n_computed_tokens),
    )
    cells = [cell for a, b in both for cell in (_count(a), _count(b), _off(a, b))]
    rows = (_count(before.n_rows), _count(after.n_rows))
    return (before.stage, *cells, *rows, seconds_text(before.seconds), seconds_text(after.seconds))


def _off(planned: float, fact: float) -> str:
    share = error(planned, fact)
    return "" if share is None else f"{share:+.1%}"


def _count(value: float) -> str:
    return f"{round(value):,}" if value else "-"


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in (header, *rows)
    ]
