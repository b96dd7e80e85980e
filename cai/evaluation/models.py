"""Any models on any prompts: their responses, what is read in them, and which the judge prefers."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from cai.asks import OnProgress
from cai.candidates import sample_responses
from cai.config import Profile
from cai.constitution import Constitution
from cai.engines.base import Engine
from cai.engines.slot import EngineSlot
from cai.evaluation.matches import judge_matches
from cai.evaluation.outcomes import measure
from cai.evaluation.sets import open_prompts
from cai.evaluation.smallworld import Rates
from cai.intervals import WinRate, WinRates
from cai.metrics.elo import Game, elo
from cai.records import EvaluationItem, Ledger, Prompt, Response


class Measured(NamedTuple):
    """`rates` are by model, of the oracle and by rules; see `cai/evaluation/outcomes.py`. `elo` is by model, and empty
    where there are not three of them: of two the win rate says as much. `items` say what the prompts were.
    """

    answers: dict[str, list[Response]]
    rates: dict[str, Rates]
    win_rates: WinRates
    elo: Rates
    items: tuple[EvaluationItem, ...] = ()

    def metrics(self) -> dict[str, Rates]:
        """Of every model: its rates, `elo`, and against each earlier one `win_rate/OTHER`, and
        `length_controlled_win_rate/OTHER` where lengths allow to say.
        """
        found = {name: dict(self.rates.get(name, {})) for name in self.answers}
        for (model, other), won in self.win_rates.items():
            found[model][f"win_rate/{other}"] = won.rate
            if won.length_controlled.n:
                found[model][f"length_controlled_win_rate/{other}"] = won.length_controlled
        for model, rating in self.elo.items():
            found[model]["elo"] = rating
        return found


class Setup(NamedTuple):
    """What models are evaluated with: the ledger keeps what they and the judge say."""

    profile: Profile
    constitution: Constitution
    engines: EngineSlot
    ledger: Ledger
    progress: OnProgress | None = None

    async def judge(self) -> Engine:
        """The engine with the profile's feedback model."""
        return await self.engines.get(self.profile.judge, self.profile.judge.model)


async def evaluate_models(
    models: Mapping[str, Path | str],
    prompts: Sequence[Prompt],
    setup: Setup,
    items: Sequence[EvaluationItem] = (),
) -> Measured:
    """Sample every model, read the responses, and have the feedback model compare those in the model's own words.

    Responses and comparisons go to the ledger; what is there is not asked for again. `items` say what the prompts are.
    """
    answers = await answer_all(models, prompts, setup)
    rates = {name: measure(prompts, items, responses) for name, responses in answers.items()} if prompts else {}
    win_rates, ratings = await compare_models(open_prompts(prompts, items), answers, setup)
    return Measured(answers, rates, win_rates, ratings, tuple(items))


async def answer_all(
    models: Mapping[str, Path | str], prompts: Sequence[Prompt], setup: Setup
) -> dict[str, list[Response]]:
    """One response of every model to every prompt, by model."""
    profile, answers = setup.profile, {}
    for name, model in models.items():
        answers[name] = await sample_responses(
            prompts,
            engine=await setup.engines.get(profile.engine, model),
            ledger=setup.ledger,
            sampling=profile.evaluation.response.sampling(),
            k=1,
            seed=profile.seed,
            stage="eval",
            max_concurrency=profile.engine.max_concurrency,
            progress=setup.progress,
        )
    return answers


class Compared(NamedTuple):
    win_rates: dict[tuple[str, str], WinRate]
    elo: Rates


async def compare_models(
    prompts: Sequence[Prompt], answers: Mapping[str, Sequence[Response]], setup: Setup
) -> Compared:
    """Every model against every earlier one, on the first `win_rate_prompts` prompts."""
    profile = setup.profile
    few = prompts[: profile.evaluation.win_rate_prompts]
    if not few or len(answers) < 2:
        return Compared({}, {})
    judge = await setup.judge()
    chosen = {prompt.prompt_id for prompt in few}
    among = {name: [r for r in responses if r.prompt_id in chosen] for name, responses in answers.items()}
    judged = {
        (model, other): await judge_matches(
            few,
            among[model],
            among[other],
            constitution=setup.constitution,
            engine=judge,
            ledger=setup.ledger,
            feedback=profile.feedback,
            preferences=profile.preferences,
            seed=profile.seed,
            max_concurrency=profile.judge.max_concurrency,
            progress=setup.progress,
        )
        for other, model in combinations(among, 2)
    }
    games = [Game(m.prompt_id, *models, m.win) for models, found in judged.items() for m in found.matches]
    met = {name for game in games for name in (game.first, game.second)}
    ratings = elo(games, seed=profile.seed) if len(met) > 2 and len(met) == len(among) else {}
    return Compared({models: found.win_rate for models, found in judged.items()}, ratings)
