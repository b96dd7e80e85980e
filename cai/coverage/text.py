"""`PromptStats` as plain text and as JSON."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from cai.coverage.stats import SET, Count, PromptStats
from cai.intervals import Rate

N_ROWS = 12
"""Of each table, at most; the JSON has all."""
NOT_MEASURED = "not measured: no response to these prompts could be read as good or bad"
NOT_FIRED = "not measured: no chain and no label is about these prompts"


def to_text(stats: PromptStats) -> str:
    return "\n".join(_lines(stats)) + "\n"


def _lines(stats: PromptStats) -> Iterator[str]:
    yield f"{stats.n:,} prompts"
    if stats.unread:
        yield unread_said(stats)
    for name, counts in stats.facets.items():
        yield from _table(f"by {name}", counts)
    yield from _table("by length in words", stats.lengths)
    yield f"\n{words_said(stats)}"
    yield repeats_said(stats)
    yield distinct_said(stats)
    yield from _table("topics, named by their words", [topic.counted for topic in stats.topics])
    yield "\nprinciples" + ("" if stats.principles else f": {NOT_FIRED}")
    for fired in stats.principles[:N_ROWS]:
        parts = [f"changed {percent(fired.changed)} of {fired.changed.n:,} responses"] if fired.changed.n else []
        parts += [f"leaned in {percent(fired.leaned)} of {fired.leaned.n:,} comparisons"] if fired.leaned.n else []
        yield f"  {fired.principle_id:<32} {', '.join(parts)}"
    yield f"\n{mastery_said(stats)}"


def _table(title: str, counts: Sequence[Count]) -> Iterator[str]:
    yield f"\n{title}"
    for count in counts[:N_ROWS]:
        well = "" if count.well is None else f"   answered well {percent(count.well)}"
        yield f"  {plain(count.name):<44} {count.n:>9,} {100 * count.share:6.1f} %{well}"
    if len(counts) > N_ROWS:
        yield f"  and {len(counts) - N_ROWS} more"


def words_said(stats: PromptStats) -> str:
    if not stats.words:
        return "no words"
    least, *cuts, most = (f"{value:,.0f}" for value in stats.words)
    return f"words of the user: {least} to {most}, quartiles {', '.join(cuts[:3])}, ninth decile {cuts[3]}"


def unread_said(stats: PromptStats) -> str:
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in stats.unread.items())
    return f"rows that are no prompts: {sum(stats.unread.values()):,} ({reasons})"


def repeats_said(stats: PromptStats) -> str:
    kinds = {"same_words": "of the same words", "moved_words": "of words moved", "near": "near in their words"}
    parts = [f"{stats.repeats.get(kind, 0):,} {said}" for kind, said in kinds.items()]  # type: ignore[call-overload]
    exact = "merged at import" if stats.n_exact is None else f"{stats.n_exact:,}"
    return f"exact duplicates: {exact}; near duplicates: {sum(stats.repeats.values()):,} ({', '.join(parts)})"


def distinct_said(stats: PromptStats) -> str:
    said = ", ".join(f"{n}: {value.value:.3f}" for n, value in stats.distinct.items() if not math.isnan(value.value))
    return f"distinct n-grams of words among {min(SET, stats.n)} prompts: {said or 'none'}"


def mastery_said(stats: PromptStats) -> str:
    if stats.readings is None or not stats.readings.of:
        unread = stats.readings.unread if stats.readings else {}
        why = "; ".join(f"{n:,} responses unread: {reason}" for reason, n in unread.items())
        return f"difficulty: {NOT_MEASURED}{f' ({why})' if why else ''}"
    never, sometimes, always = stats.mastered
    mean = stats.readings.mean()
    return (
        f"difficulty: answered well {percent(mean)} of the time, by prompt; of {mean.n:,} prompts {never:,} never, "
        f"{sometimes:,} sometimes, {always:,} always" + (f"; {stats.policy}" if stats.policy else "")
    )


def percent(rate: Rate) -> str:
    return "–" if math.isnan(rate.value) else f"{100 * rate.value:.1f} %"


def plain(text: str, limit: int = 44) -> str:
    """One line, no control characters: names come from files."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def to_json(stats: PromptStats) -> dict[str, Any]:
    """Numbers that nothing was measured for are null."""
    return {
        "n": stats.n,
        **{name: [_count(count) for count in counts] for name, counts in stats.facets.items()},
        "words": list(stats.words),
        "lengths": [_count(count) for count in stats.lengths],
        "n_exact": stats.n_exact,
        "unread": dict(stats.unread),
        "near_duplicates": dict(stats.repeats),
        "distinct": {str(n): _rate(value) for n, value in stats.distinct.items()},
        "topics": [
            _count(topic.counted)
            | {"by_tag": dict(zip((c.name for c in stats.facets["tag"]), topic.by_tag, strict=True))}
            for topic in stats.topics
        ],
        "principles": [
            {"principle_id": f.principle_id, "changed": _rate(f.changed), "leaned": _rate(f.leaned)}
            for f in stats.principles
        ],
        "difficulty": None
        if stats.readings is None
        else {
            "well": _rate(stats.readings.mean()),
            **dict(zip(("n_never", "n_sometimes", "n_always"), stats.mastered, strict=True)),
            "unread": stats.readings.unread,
            "policy": stats.policy,
        },
    }


def _count(count: Count) -> dict[str, Any]:
    return {
        "name": count.name,
        "n": count.n,
        "share": count.share,
        "well": None if count.well is None else _rate(count.well),
    }


def _rate(rate: Rate) -> dict[str, Any]:
    value = None if math.isnan(rate.value) else rate.value
    return {"value": value, "low": rate.low, "high": rate.high, "n": rate.n}
