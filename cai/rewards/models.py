"""Reward models as a source of reward: one, or an ensemble combined with a penalty for disagreement."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from cai.rewards.base import RewardInput
from cai.training.scoring import RewardModel
from cai.verdict import Unscored


class RewardModels:
    """One model's raw score; of several, mean − `conservatism` · standard deviation of their scores, each less its own
    `mean_score`. Labels fix only differences of scores: without that an offset between two models, which says nothing,
    would pass for disagreement. A model that does not know its own (it is older, or another's) keeps its offset.
    """

    def __init__(self, models: Sequence[RewardModel], conservatism: float) -> None:
        self._models = tuple(models)
        self._conservatism = conservatism
        self._offsets = tuple(model.mean_score for model in models) if len(models) > 1 else (0.0,)

    @staticmethod
    def load(paths: Sequence[Path], conservatism: float = 0.0) -> "RewardModels":
        return RewardModels([RewardModel.load(path) for path in paths], conservatism)

    def score(self, inputs: Sequence[RewardInput]) -> list[float | Unscored]:
        conversations = [each.conversation for each in inputs]
        columns = [model.score(conversations) for model in self._models]
        return [self._combine(scores) for scores in zip(*columns, strict=True)]

    def close(self) -> None:
        return None

    def _combine(self, scores: Sequence[float]) -> float:
        centred = [score - offset for score, offset in zip(scores, self._offsets, strict=True)]
        return statistics.fmean(centred) - self._conservatism * statistics.pstdev(centred)
