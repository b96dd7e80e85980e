"""Reward models as a source of reward: one, or an ensemble combined with a penalty for disagreement."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from cai.rewards.base import RewardInput
from cai.training.scoring import RewardModel
from cai.verdict import Unscored


class RewardModels:
    """mean − `conservatism` · standard deviation over the ensemble; raw scores."""

    def __init__(self, models: Sequence[RewardModel], conservatism: float) -> None:
        self._models = tuple(models)
        self._conservatism = conservatism

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
        return statistics.fmean(scores) - self._conservatism * statistics.pstdev(scores)
