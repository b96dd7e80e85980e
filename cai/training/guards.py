"""When a run must stop: so far, at a loss or a gradient that is no number."""

import math
from pathlib import Path

from cai.errors import TrainingError
from cai.training.checkpoints import last_whole_checkpoint


def require_finite(loss: float, grad_norm: float, step: int, folder: Path) -> None:
    """Raise `TrainingError` where a step's loss or gradient is NaN or infinite; nothing is saved after it."""
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    last = last_whole_checkpoint(folder)
    where = "there is no checkpoint yet" if last is None else f"the last good checkpoint is {last}"
    raise TrainingError(
        f"step {step}: loss {loss!r}, gradient norm {grad_norm!r}; expected finite numbers, {where}; "
        "lower the learning rate or look for broken rows"
    )
