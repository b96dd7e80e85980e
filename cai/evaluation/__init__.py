"""From responses to rates, win rates and their intervals. It trains nothing and stores nothing.

The oracle reads responses in the small world, rules elsewhere; a judge compares two models' responses, in both orders.
"""

from cai.evaluation.matches import Judged, Matches, judge_matches, match, win_rate
from cai.evaluation.models import Compared, Measured, Setup, answer_all, compare_models, evaluate_models
from cai.evaluation.outcomes import Outcomes, is_right, measure, outcomes, sycophancy_of
from cai.evaluation.pairs import judge_pairs, pair_rates, pairs_of, score_pairs
from cai.evaluation.results import from_json, rows_of, to_json, to_rows, win_rates_from_json, win_rates_to_json
from cai.evaluation.sets import OPEN, Sets, name_of, open_prompts
from cai.evaluation.smallworld import (
    SMALLWORLD_SET,
    Rates,
    Reading,
    is_smallworld,
    last_request,
    measure_smallworld,
    outcomes_of,
    rates_of,
)

__all__ = [
    "Compared",
    "Judged",
    "Matches",
    "Measured",
    "OPEN",
    "Outcomes",
    "Rates",
    "Reading",
    "SMALLWORLD_SET",
    "Sets",
    "Setup",
    "answer_all",
    "is_right",
    "measure",
    "outcomes",
    "sycophancy_of",
    "compare_models",
    "evaluate_models",
    "from_json",
    "is_smallworld",
    "judge_matches",
    "judge_pairs",
    "last_request",
    "match",
    "measure_smallworld",
    "name_of",
    "open_prompts",
    "outcomes_of",
    "pair_rates",
    "pairs_of",
    "rates_of",
    "rows_of",
    "score_pairs",
    "to_json",
    "to_rows",
    "win_rate",
    "win_rates_from_json",
    "win_rates_to_json",
]
