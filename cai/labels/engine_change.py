"""What another engine, version, precision or model makes of comparisons that are stored: flips, drift, kappa. Pure: it
compares rows, and says nothing of who is right.

    cai labels compare RUN_ID --engine transformers --dtype bfloat16
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.config import PreferencesConfig
from cai.engines.base import Choice, Engine, Generation
from cai.engines.options import NEVER
from cai.errors import EngineError
from cai.feedback import Labelling, ResponsePair
from cai.intervals import Rate, bootstrap_mean, rate
from cai.labels.kappa import cohens_kappa
from cai.records import Comparison, Message, Prompt, Response, Sampling, digest
from cai.verdict import Unscored, soft_verdict

ROUNDING = 1e-12


class EngineChange(NamedTuple):
    """Ask by ask, over `n_asks` that both judges have answered; intervals are 95 %, whole prompts resampled.

    `flip_rate`: the other response is preferred; into a tie and out of one is no flip, and lowers `kappa`.
    `drift`, `shift`: mean change and mean absolute change of the log-probability (nats) of the response that was
    preferred before. `p_shift`: mean absolute change of P(a better).
    `n_missing` asks of the slice one of the two has not answered; `n_unscored` were answered, and one cannot be read.
    """

    judge_digest: str
    other_digest: str
    n_pairs: int
    n_asks: int
    n_missing: int
    n_unscored: int
    flip_rate: Rate
    drift: Rate
    shift: Rate
    p_shift: Rate
    kappa: Rate


def slice_of(
    comparisons: Iterable[Comparison],
    prompts: Mapping[str, Prompt],
    responses: Mapping[str, Response],
    n: int,
) -> list[ResponsePair]:
    """`n` of the pairs that were compared, by hash: the same ones whenever it is asked, and of more the first."""
    found = {(c.response_a, c.response_b): c.prompt_id for c in comparisons}
    known = [key for key in found if found[key] in prompts and set(key) <= responses.keys()]
    chosen = sorted(known, key=lambda key: digest("slice", *key))[:n]
    return [ResponsePair.of(prompts[found[a, b]], responses[a], responses[b]) for a, b in chosen]


class Renamed:
    """An engine with the judge's own weights, under another name: a row's id holds the weights and not what ran them,
    so its answers would be taken for the judge's.
    """

    def __init__(self, engine: Engine, *setting: str) -> None:
        self._engine = engine
        self.model_digest = digest("setting", engine.model_digest, setting)

    @property
    def context_length(self) -> int:
        return self._engine.context_length

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Generation:
        return await self._engine.complete(messages, sampling, seed)

    async def choose(self, messages: Sequence[Message], options: Sequence[str]) -> Choice:
        return await self._engine.choose(messages, options)

    async def load(self, model: Path | str) -> None:
        raise EngineError(f"an engine that is compared keeps its weights; open another one for {model}")

    async def close(self) -> None:
        await self._engine.close()


def compare(
    pairs: Sequence[ResponsePair],
    before: Iterable[Comparison],
    after: Iterable[Comparison],
    judge: Labelling,
    other: Labelling,
    *,
    config: PreferencesConfig,
    seed: int = 0,
) -> EngineChange:
    """Two judges' answers to the same asks: what `judge` said before, and what `other` says after. An ask within
    `config.tie_band` of one half is a tie, for rounding alone turns those round.
    """
    was, now = ({row.comparison_id: row for row in rows} for rows in (before, after))
    both: list[tuple[Comparison, Comparison]] = []
    n_missing = 0
    for pair in pairs:
        for ask, again in zip(judge.asks(pair), other.asks(pair), strict=True):
            rows = was.get(ask.comparison_id), now.get(again.comparison_id)
            if rows[0] is None or rows[1] is None:
                n_missing += 1
            else:
                both.append((rows[0], rows[1]))
    read = [(x, y, *_p(x, y, config.max_mass_outside)) for x, y in both]
    scored = [(x, y, p, q) for x, y, p, q in read if not isinstance(p, Unscored) and not isinstance(q, Unscored)]
    prompts = [x.prompt_id for x, *_ in scored]
    sides = [(_side(p, config.tie_band), _side(q, config.tie_band)) for *_, p, q in scored]
    moved = [_logp(y, side) - _logp(x, side) for (x, y, *_), (side, _) in zip(scored, sides, strict=True)]
    return EngineChange(
        judge.judge_digest,
        other.judge_digest,
        len(pairs),
        len(scored),
        n_missing,
        len(both) - len(scored),
        rate([{one, two} == {"a", "b"} for one, two in sides], prompts),
        bootstrap_mean(moved, prompts, seed=seed),
        bootstrap_mean([abs(each) for each in moved], prompts, seed=seed),
        bootstrap_mean([abs(q - p) for *_, p, q in scored], prompts, seed=seed),
        cohens_kappa([one for one, _ in sides], [two for _, two in sides], prompts, seed=seed),
    )


def _p(one: Comparison, other: Comparison, max_mass_outside: float) -> tuple[float | Unscored, float | Unscored]:
    p, q = (soft_verdict(row, max_mass_outside=max_mass_outside) for row in (one, other))
    return p, q


def _side(p: float, band: float) -> str:
    return "tie" if abs(p - 0.5) <= band + ROUNDING else "a" if p > 0.5 else "b"


def _logp(row: Comparison, side: str) -> float:
    """Of the response on that side; of a tie, the mean of both. A probability of 0 counts as `NEVER`."""
    a, b = max(row.logp_a, NEVER), max(row.logp_b, NEVER)
    return {"a": a, "b": b, "tie": (a + b) / 2}[side]


def to_json(change: EngineChange, *, max_flip_rate: float) -> dict[str, Any]:
    """Every figure with its interval; what could not be measured is null."""
    body: dict[str, Any] = {}
    for name, value in change._asdict().items():
        body[name] = _rate_to_json(value) if isinstance(value, Rate) else value
    return body | {"max_flip_rate": max_flip_rate, "passed": passed(change, max_flip_rate)}


def passed(change: EngineChange, max_flip_rate: float) -> bool:
    """No ask in common is no pass."""
    return change.n_asks > 0 and change.flip_rate.value <= max_flip_rate


def to_text(change: EngineChange, *, max_flip_rate: float) -> str:
    """A line a figure."""
    figures = (
        ("flip rate", change.flip_rate, "the other response is preferred"),
        ("kappa", change.kappa, "agreement beyond chance"),
        ("drift", change.drift, "nats, log-probability of what was preferred"),
        ("shift", change.shift, "nats, the same without sign"),
        ("P shift", change.p_shift, "mean |change of P(better)|"),
    )
    lines = [
        f"judge     {change.judge_digest}",
        f"other     {change.other_digest}",
        f"pairs     {change.n_pairs:,}",
        f"asks      {change.n_asks:,} answered by both; {change.n_missing:,} missing, {change.n_unscored:,} unscored",
        "",
        *(f"{name:<10}{r.value:>9.4f}  [{r.low:.4f}, {r.high:.4f}]  {what}" for name, r, what in figures),
        "",
        f"{'passed' if passed(change, max_flip_rate) else 'FAILED'}: at most {max_flip_rate:g} of asks may flip",
    ]
    return "\n".join(lines)


def _rate_to_json(found: Rate) -> dict[str, float | int | None]:
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {name: value if math.isfinite(value) else None for name, value in ends.items()} | {"n": found.n}
