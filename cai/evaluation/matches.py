"""Two models' responses to the same prompts, and how often the judge prefers those of the first, in both orders."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from cai.asks import OnProgress
from cai.config import FeedbackConfig, PreferencesConfig
from cai.constitution import Constitution
from cai.engines.base import Engine
from cai.feedback import Labelling, ResponsePair, label
from cai.intervals import WinRate
from cai.metrics.length_controlled import Match, length_controlled
from cai.preferences import derive_sides
from cai.records import Comparison, Ledger, PreferencePair, Prompt, Reject, Response


class Matches(NamedTuple):
    """Two models' responses to the same prompts. `n_unmatched` responses of either have no counterpart."""

    pairs: list[ResponsePair]
    identical: list[str]
    """Prompts whose two responses say the same: ties, and nothing to ask a judge."""
    n_unmatched: int


def match(prompts: Iterable[Prompt], first: Sequence[Response], second: Sequence[Response]) -> Matches:
    """The two models' responses side by side: same prompt, same index."""
    others = {(response.prompt_id, response.index): response for response in second}
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    made = Matches([], [], 0)
    for response in first:
        other = others.get((response.prompt_id, response.index))
        if other is None or response.prompt_id not in by_id:
            continue
        if other.text == response.text:
            made.identical.append(response.prompt_id)
        else:
            made.pairs.append(ResponsePair.of(by_id[response.prompt_id], response, other))
    n_matched = len(made.pairs) + len(made.identical)
    return made._replace(n_unmatched=len(first) + len(second) - 2 * n_matched)


class Judged(NamedTuple):
    win_rate: WinRate
    matches: list[Match]


def win_rate(matches: Matches, first: Collection[str], outcomes: Iterable[PreferencePair | Reject]) -> Judged:
    """Win rate of the model whose response ids are `first`, as it is and at equal length in characters.

    `outcomes` is what `preferences.derive_sides` made of the matched pairs: both orders averaged, ties within the band.
    """
    ids = frozenset(first)
    played = [Match(prompt_id, 0.5, 0.0, 0.0) for prompt_id in matches.identical]
    n_ties = len(played)
    for outcome in outcomes:
        if isinstance(outcome, Reject):
            continue  # counted below, as the pairs that brought no outcome
        is_chosen = outcome.chosen_id in ids
        own, other = (outcome.chosen, outcome.rejected) if is_chosen else (outcome.rejected, outcome.chosen)
        win = 0.5 if outcome.is_tie else float(is_chosen)
        played.append(Match(outcome.prompt_id, win, float(len(own)), float(len(other))))
        n_ties += outcome.is_tie
    n_unscored = len(matches.pairs) + len(matches.identical) - len(played)
    found = length_controlled(played)
    return Judged(WinRate(found.raw, n_ties, n_unscored, matches.n_unmatched, found.rate), played)


async def judge_matches(
    prompts: Sequence[Prompt],
    first: Sequence[Response],
    second: Sequence[Response],
    *,
    constitution: Constitution,
    engine: Engine,
    ledger: Ledger,
    feedback: FeedbackConfig,
    preferences: PreferencesConfig,
    seed: int,
    max_concurrency: int = 256,
    progress: OnProgress | None = None,
) -> Judged:
    """Have the engine's model judge `first` against `second` under the constitution, in both orders."""
    matches = match(prompts, first, second)
    await label(
        matches.pairs,
        constitution=constitution,
        engine=engine,
        ledger=ledger,
        config=feedback,
        seed=seed,
        max_concurrency=max_concurrency,
        progress=progress,
    )
    labelling = Labelling(constitution, feedback, seed=seed, judge_digest=engine.model_digest)
    asked = [ledger.find(Comparison, ask.comparison_id) for pair in matches.pairs for ask in labelling.asks(pair)]
    outcomes = derive_sides(matches.pairs, [row for row in asked if row], labelling=labelling, config=preferences)
    return win_rate(matches, [response.response_id for response in first], outcomes)
