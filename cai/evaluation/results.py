"""What was measured, as rows of the table `evaluations` and as JSON. Pure."""

import math
from collections.abc import Mapping, Sequence

from cai.evaluation.smallworld import Rates
from cai.intervals import Rate, WinRate, WinRates
from cai.records import Evaluation, Response, digest

JUDGED = (
    "win_rate",
    "length_controlled_win_rate",
    "elo",
    "harmfulness",
    "harmfulness_mass_outside",
    "harmful_by_judge_rate",
)
"""Metrics by a judge, by their name before any `/`."""


def to_rows(
    results: Mapping[str, Rates], responses: Mapping[str, Sequence[Response]], *, set: str, judged_in: str = ""
) -> list[Evaluation]:
    """One `Evaluation` a metric and model; its id covers the model, the set, the metric and the responses measured, and
    where a judge said it, the run that it was `judged_in`: by whom, and beside which other models.

    What was not measured (`n` 0) makes no row: a table has no place for a rate of nothing.
    """
    rows = []
    for model, metrics in results.items():
        measured = sorted(response.response_id for response in responses[model])
        model_digest = responses[model][0].model_digest if measured else ""
        judged = {name: found for name, found in metrics.items() if name.partition("/")[0] in JUDGED}
        own = {name: found for name, found in metrics.items() if name not in judged}
        rows += rows_of(model, model_digest, own, set=set, measured=measured)
        rows += rows_of(model, model_digest, judged, set=set, measured=[*measured, judged_in])
    return rows


def rows_of(
    model: str, model_digest: str, metrics: Mapping[str, Rate], *, set: str, measured: Sequence[str]
) -> list[Evaluation]:
    """`to_rows` of one model; `measured` are the ids of what was measured."""
    return [
        Evaluation(
            digest("evaluation", model_digest, set, metric, list(measured)),
            model,
            model_digest,
            set,
            metric,
            *(found.value, found.low, found.high, found.n),
        )
        for metric, found in metrics.items()
        if found.n
    ]


def to_json(results: Mapping[str, Rates]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """`{model: {metric: {"value", "low", "high", "n"}}}`; the value of what was not measured (`n` 0) is null."""
    return {
        model: {metric: _rate_to_json(found) for metric, found in metrics.items()} for model, metrics in results.items()
    }


def from_json(data: Mapping[str, Mapping[str, Mapping[str, float | int | None]]]) -> dict[str, Rates]:
    """What `to_json` wrote, as rates again."""
    return {model: {metric: _rate_from(found) for metric, found in metrics.items()} for model, metrics in data.items()}


def win_rates_to_json(win_rates: WinRates) -> dict[str, dict[str, float | int | None]]:
    """`{"model/other": {"value", "low", "high", "n", "n_ties", "n_unscored", "n_unmatched", "length_controlled/value",
    …}}`.
    """
    return {
        f"{model}/{other}": _rate_to_json(won.rate)
        | {name: getattr(won, name) for name in _COUNTS}
        | {_CONTROLLED + name: value for name, value in _rate_to_json(won.length_controlled).items()}
        for (model, other), won in win_rates.items()
    }


def win_rates_from_json(data: Mapping[str, Mapping[str, float | int | None]]) -> dict[tuple[str, str], WinRate]:
    """What `win_rates_to_json` wrote, as win rates again."""
    win_rates = {}
    for key, found in data.items():
        model, _, other = key.partition("/")
        controlled = {name.removeprefix(_CONTROLLED): v for name, v in found.items() if name.startswith(_CONTROLLED)}
        n_ties, n_unscored, n_unmatched = (int(found.get(name) or 0) for name in _COUNTS)
        won = WinRate(_rate_from(found), n_ties, n_unscored, n_unmatched)
        win_rates[model, other] = won._replace(length_controlled=_rate_from(controlled)) if controlled else won
    return win_rates


_COUNTS = ("n_ties", "n_unscored", "n_unmatched")
_CONTROLLED = "length_controlled/"


def _rate_to_json(found: Rate) -> dict[str, float | int | None]:
    value = None if math.isnan(found.value) else found.value
    return {"value": value, "low": found.low, "high": found.high, "n": found.n}


def _rate_from(found: Mapping[str, float | int | None]) -> Rate:
    value, low, high, n = (found[key] for key in ("value", "low", "high", "n"))
    assert low is not None and high is not None and n is not None, "only a value can be null"
    return Rate(math.nan if value is None else value, low, high, int(n))
