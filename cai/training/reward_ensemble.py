"""How good reward models are on held-out pairs, one by one and combined as the reward combines them. Trains nothing.

Alone: `python -m cai.training.reward_ensemble --data preferences.parquet MODEL MODEL …`
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from cai.errors import CAIError, ConfigError
from cai.models import read_meta, resolve_model
from cai.training.reward_metrics import quality
from cai.training.reward_pairs import scored, split_rows
from cai.training.rows import read_pairs


def measure_ensemble(models: Sequence[Path], data: Path, conservatism: float) -> dict[str, Any]:
    """Held-out loss, Brier score, calibration error and accuracy of each model and of mean − c·std of their scores,
    each less its model's `mean_score`, as the reward has it.

    `disagreement` is the standard deviation of these scores of one response, mean over responses.

    Raises:
        ConfigError: the models held out different prompts, so that none is new to all of them.
        DataError, ModelNotFound: an input is missing or is not what it should be.
    """
    from cai.training.scoring import RewardModel

    rows = split_rows(read_pairs(data)[0], held_out_share(models)).held_out
    if not rows:
        raise ConfigError(f"no pair of {data} is held out by these models; train with `held_out` above 0, or add pairs")
    members = [RewardModel.load(path) for path in models]
    chosen = np.array([model.score([row.prompt + row.chosen for row in rows]) for model in members])
    rejected = np.array([model.score([row.prompt + row.rejected for row in rows]) for model in members])
    each = {str(path): quality(scored(rows, a, b)) for path, a, b in zip(models, chosen, rejected, strict=True)}
    offsets = np.array([[model.mean_score] for model in members])
    chosen, rejected = chosen - offsets, rejected - offsets
    combined = scored(rows, conservative(chosen, conservatism), conservative(rejected, conservatism))
    disagreement = float(np.concatenate([chosen, rejected], axis=1).std(axis=0).mean())
    return {
        "conservatism": conservatism,
        "models": each,
        "ensemble": {**quality(combined), "disagreement": disagreement},
    }


def conservative(scores: np.ndarray[Any, np.dtype[np.float64]], conservatism: float) -> list[float]:
    """Mean − c·std over the models; `scores` is `(models, responses)`."""
    combined: list[float] = (scores.mean(axis=0) - conservatism * scores.std(axis=0)).tolist()
    return combined


def held_out_share(models: Sequence[Path]) -> float:
    """The share of prompts that all the models held out: the split depends on the prompt alone, so it is the same."""
    found = {path: (read_meta(resolve_model(path)) or {}).get("config", {}).get("held_out") for path in models}
    shares = set(found.values())
    if len(shares) != 1 or None in shares:
        raise ConfigError(
            f"an ensemble is measured on prompts that every model held out, so `held_out` must be the same in all of "
            f"them; it is { ({str(path): share for path, share in found.items()}) }"
        )
    return float(shares.pop())


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Pairs, as for training.")
@click.option("--conservatism", type=click.FloatRange(min=0), default=0.0, show_default=True, help="c of mean − c·std.")
@click.argument("models", type=click.Path(path_type=Path), nargs=-1, required=True)
def main(data: Path, conservatism: float, models: tuple[Path, ...]) -> None:
    try:
        found = measure_ensemble(models, data, conservatism)
    except CAIError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(prog_name="python -m cai.training.reward_ensemble")
