"""The reward model: a scalar head on the SL-CAI model, trained on soft preference labels. Ours, on torch and
accelerate: TRL's reward trainer has no per-row soft targets.

Alone: `python -m cai.training.reward_model --job job.json`
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cai.errors import ConfigError
from cai.labels.calibration import reliability
from cai.training import processes
from cai.training.batches import batches, n_steps
from cai.training.chat import save_tokenizer
from cai.training.checkpoints import checkpoint_step, new_checkpoint
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import RewardModelJob
from cai.training.progress import Progress
from cai.training.reward_metrics import HeldOut, intervals, measure
from cai.training.reward_pairs import HELD_OUT, Pairs, Prepared, prepare_rows, scored, write_held_out
from cai.training.rollouts import METRICS, append
from cai.training.rows import write_rejects
from cai.training.workspace import Workspace

HELP = """Train a reward model on preference pairs with soft labels: cross-entropy of σ(score difference) against
P(chosen is better), pair by pair (Bai et al. 2022b, §4.1). Ties stay in, near 0.5.

\b
job.json:
  {"model": "models/sl-cai", "data": "preferences.parquet", "out": "models/reward", "seed": 0,
   "config": {"epochs": 3, "learning_rate": 1e-4, "batch_size": 32, "max_length": 256, "held_out": 0.1}}

preferences.parquet has the columns `prompt`, `chosen`, `rejected` (lists of {role, content}), `soft_label` in [0, 1],
`is_tie`, `pair_id`, `prompt_id`, and may have `weight` (of the row in the loss, which is a weighted mean; 1 where it is
absent) and `source` (`ai`, `human`, `verifier`; held-out metrics are then given for each). Prompts, not pairs, are held
out for measuring. Pairs that cannot be used are listed with their reason in out/rejects.jsonl.

Settings: "labels": "hard" rounds the labels and leaves ties out; "shared_prefix": false computes both conversations of
a pair in full; beside "config", "micro_batch": N puts N pairs through the model at once, to the same end.

`out` appears once it is complete, with meta.json: held-out metrics, their 95 % intervals, the reliability diagram. Run
the same command again after a kill: it goes on from the last whole checkpoint and ends with the same weights.

An ensemble is one job a seed, and several objectives (harmlessness, helpfulness) are one file of pairs and one job
each. The reward of RL combines them, in its job or profile:

\b
  "rewards": [{"kind": "reward_model", "name": "harmless", "weight": 1.0, "conservatism": 0.5,
               "models": ["models/harmless-0", "models/harmless-1"]},
              {"kind": "reward_model", "name": "helpful", "weight": 0.5, "models": ["models/helpful"]}]

\b
  python -m cai.training.reward_model --job job.json --dry-run     pairs, tokens and steps, without training
  python -m cai.training.reward_model --job job.json
  python -m cai.training.reward_ensemble --help                    how good an ensemble is on held-out pairs
"""


N_FOR_MEAN = 256
"""Training pairs whose scores give `mean_score` where none is held out; the file's first, so the same for all seeds."""


def plan(job: RewardModelJob) -> dict[str, Any]:
    facts = prepare_rows(job).facts
    return {**facts, "n_steps": n_steps(facts["n_rows"], job.config.batch_size, job.config.epochs)}


def train(job: RewardModelJob, workspace: Workspace, progress: Progress) -> Trained:
    prepared = prepare_rows(job)
    if prepared.rejects or prepared.facts["n_truncated"]:
        progress.note("rows cut", n_rejected=len(prepared.rejects), n_truncated=prepared.facts["n_truncated"])
    checkpoint = workspace.open(progress)
    run = Run(job, prepared, workspace.folder, progress)
    if checkpoint is not None:
        run.resume(checkpoint)
    run.to_the_end()

    def fill(out: Path) -> None:
        run.unwrapped().save_pretrained(str(out))
        save_tokenizer(prepared.tokenizer, job.model, out)
        write_rejects(out / "rejects.jsonl", prepared.rejects)
        append(out / METRICS, run.curve())
        write_held_out(out / HELD_OUT, prepared.held_out.rows, held_out)

    held_out = run.held_out()
    metrics = {**run.loss_summary(), **measure(held_out)}
    bins = reliability(held_out.probability, held_out.soft_label) if prepared.held_out.rows else []
    facts = {
        **prepared.facts,
        "mean_score": run.mean_score(held_out),
        "intervals": {name: asdict(found) for name, found in intervals(held_out).items()},
        "reliability": [b._asdict() for b in bins],
    }
    return Trained(fill, {**facts, "n_steps": run.n_steps, "metrics": metrics})


class Run:
    """One training run: model, optimiser, schedule, and the number of steps done. The rest follows from these."""

    def __init__(self, job: RewardModelJob, prepared: Prepared, folder: Path, progress: Progress) -> None:
        import torch
        from accelerate import Accelerator

        from cai.training.scoring import PairScorer

        self._job, self._pairs, self._prepared = job, prepared.training, prepared
        self._folder, self._progress = folder, progress
        self._pad = prepared.tokenizer.pad_token_id
        self.n_steps = n_steps(len(self._pairs.rows), job.config.batch_size, job.config.epochs)
        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="bf16" if torch.cuda.is_available() else "no"
        )
        torch.manual_seed(job.seed)  # the head is new, and random
        scorer = PairScorer(new_reward_model(job.model, published_pad(prepared.tokenizer)), self._pad)
        # Not wrapped for several processes: their gradients are added up by `processes.add_gradients`.
        self._scorer = self._accelerator.prepare_model(scorer, evaluation_mode=True)
        self._optimizer = torch.optim.AdamW(scorer.parameters(), lr=job.config.learning_rate, weight_decay=0.0)
        self._losses: list[float] = []
        if job.config.shared_prefix:
            check_shared_prefix(self._accelerator.unwrap_model(self._scorer), self._pairs)

    def unwrapped(self) -> Any:
        """The reward model itself."""
        return self._accelerator.unwrap_model(self._scorer).model

    def resume(self, checkpoint: Path) -> None:
        """Take over weights, optimiser and losses from a whole checkpoint; the step number is the rest of the state."""
        import torch
        from safetensors.torch import load_file

        self.unwrapped().load_state_dict(load_file(checkpoint / "model.safetensors"))
        state = torch.load(checkpoint / "state.pt", weights_only=True, map_location="cpu")
        self._optimizer.load_state_dict(state["optimizer"])
        self._losses = state["losses"]
        assert len(self._losses) == checkpoint_step(checkpoint)

    def to_the_end(self) -> None:
        lengths, config = self._pairs.lengths(), self._job.config
        self._scorer.train()
        while len(self._losses) < self.n_steps:
            epoch, first = divmod(len(self._losses), len(batches(lengths, config.batch_size, self._job.seed, 0)))
            for batch in batches(lengths, config.batch_size, self._job.seed, epoch)[first:]:
                self._step(batch)
                if len(self._losses) % config.save_steps == 0 and len(self._losses) < self.n_steps:
                    self._save()
                if len(self._losses) == self.n_steps:
                    return

    def _step(self, batch: list[int]) -> None:
        """One optimiser step on the weighted mean loss of `batch`, with a learning rate that falls in a line to 0."""
        import torch

        from cai.training.guard import require_finite

        step = len(self._losses)
        torch.manual_seed(self._job.seed * 1_000_003 + step)  # dropout, where the model has any
        weight = math.fsum(self._pairs.rows[i].weight for i in batch)
        mine, size = processes.mine(batch), self._job.micro_batch or len(batch)
        parts = [self._backward(mine[start : start + size], weight) for start in range(0, len(mine), size)]
        totals = [sum(column) for column in zip(*parts, strict=True)] or [0.0, 0.0]
        loss, margin = processes.added_up(totals)
        processes.add_gradients(self._scorer.parameters())
        norm = float(self._accelerator.clip_grad_norm_(self._scorer.parameters(), 1.0))
        require_finite(loss, norm, step + 1, self._folder)
        for group in self._optimizer.param_groups:
            group["lr"] = self._job.config.learning_rate * (1 - step / self.n_steps)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._losses.append(loss)
        self._progress.report(step + 1, self.n_steps, loss=loss, grad_norm=norm, margin=margin / len(batch))

    def _backward(self, part: Sequence[int], weight: float) -> tuple[float, float]:
        """Add the gradients of Σ w·L / `weight` over the pairs `part`; that sum, and the sum of their margins.

        `weight` is the whole batch's, so that its parts add up to the batch's weighted mean.
        """
        import torch

        from cai.training.losses import soft_preference_loss

        pairs, rows = self._pairs, [self._pairs.rows[i] for i in part]
        chosen_ids, rejected_ids = [pairs.chosen[i] for i in part], [pairs.rejected[i] for i in part]
        with self._accelerator.autocast():
            chosen, rejected = self._scorer(chosen_ids, rejected_ids, self._job.config.shared_prefix)
        labels = torch.tensor([row.soft_label for row in rows], device=chosen.device)
        weights = torch.tensor([row.weight / weight for row in rows], device=chosen.device)
        loss = (weights * soft_preference_loss(chosen, rejected, labels)).sum()
        self._accelerator.backward(loss)
        return float(loss.detach()), float((chosen - rejected).detach().sum())

    def _save(self) -> None:
        if not processes.is_main():
            return
        import torch
        from safetensors.torch import save_file

        weights = {name: tensor.contiguous() for name, tensor in self.unwrapped().state_dict().items()}
        with new_checkpoint(self._folder, len(self._losses)) as folder:
            save_file(weights, folder / "model.safetensors")
            torch.save({"optimizer": self._optimizer.state_dict(), "losses": self._losses}, folder / "state.pt")

    def loss_summary(self) -> dict[str, float]:
        return {"loss/first": self._losses[0], "loss/last": self._losses[-1]}

    def curve(self) -> list[dict[str, float]]:
        return [{"step": step, "loss": loss} for step, loss in enumerate(self._losses, start=1)]

    def held_out(self) -> HeldOut:
        """Scores of the pairs whose prompts were never trained on."""
        from cai.training.scoring import score_ids

        held, model = self._prepared.held_out, self.unwrapped()
        with self._accelerator.autocast():
            chosen, rejected = (score_ids(model, side, self._pad) for side in (held.chosen, held.rejected))
        lengths = [[len(ids) for ids in side] for side in (held.chosen, held.rejected)]
        return scored(held.rows, chosen, rejected, lengths)

    def mean_score(self, held_out: HeldOut) -> float:
        """Where the model's scores lie: the mean over both sides of the held-out pairs, or of the first training pairs
        where none is held out. The labels fix only differences, so each model of an ensemble lies elsewhere.
        """
        from cai.training.scoring import score_ids

        scores = [*held_out.chosen, *held_out.rejected]
        if not scores:
            some = [*self._pairs.chosen[:N_FOR_MEAN], *self._pairs.rejected[:N_FOR_MEAN]]
            with self._accelerator.autocast():
                scores = score_ids(self.unwrapped(), some, self._pad)
        return math.fsum(scores) / len(scores)


def check_shared_prefix(scorer: Any, pairs: Pairs) -> None:
    """Score the longest pairs both ways.

    Raises:
        ConfigError: the model's layers see more, or less, than all that comes before; the scores would be wrong.
    """
    import torch

    from cai.training.scoring import PairScorer

    lengths = pairs.lengths()
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[:2]
    sides = [pairs.chosen[i] for i in longest], [pairs.rejected[i] for i in longest]
    scorer.eval()
    with torch.no_grad():  # by the class: in mixed precision accelerate has replaced the object's own `forward`
        shared, full = (PairScorer.forward(scorer, *sides, shared_prefix) for shared_prefix in (True, False))
    if not torch.allclose(shared, full, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ConfigError(
            "`shared_prefix` wants a model whose every layer attends to all tokens before; scores of the longest pairs "
            f"are {shared.tolist()} with it and {full.tolist()} without; set `shared_prefix: false`"
        )


def new_reward_model(model: Path, pad_token_id: int | None) -> Any:
    """The body of a causal model with a fresh scalar head, in float32. `pad_token_id` is what its config will say."""
    from transformers.utils.logging import disable_progress_bar

    from cai.models import resolve_model
    from cai.training.scoring import read_scorer

    disable_progress_bar()
    made = read_scorer(resolve_model(model))
    made.config._name_or_path = ""
    made.config.pad_token_id = pad_token_id
    return made


def published_pad(tokenizer: Any) -> int | None:
    """The padding token for others to read in config.json: None where it also ends a turn.

    With it transformers would read the score before that end. Without it, it reads at the last token of one
    conversation, and refuses a batch of several.
    """
    pad: int = tokenizer.pad_token_id
    return None if pad == tokenizer.eos_token_id else pad


STAGE = Stage(RewardModelJob, plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
