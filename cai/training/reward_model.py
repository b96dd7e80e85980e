"""The reward model: a scalar head on the SL-CAI model, trained on soft preference labels. Ours, on torch and
accelerate: TRL's reward trainer has no per-row soft targets.

Alone: `python -m cai.training.reward_model --job job.json`
"""

from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import TrainingError
from cai.records import Reject
from cai.training.batches import batches, n_steps
from cai.training.chat import context_length, encode_texts, load_tokenizer, render, save_tokenizer
from cai.training.checkpoints import checkpoint_step, new_checkpoint
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import RewardModelJob
from cai.training.progress import Progress
from cai.training.reward_metrics import HeldOut, measure, reliability
from cai.training.rollouts import METRICS, append
from cai.training.rows import PairRow, in_held_out, read_pairs, write_rejects
from cai.training.workspace import Workspace

HELP = """Train a reward model on preference pairs with soft labels: cross-entropy of σ(score difference) against
P(chosen is better), pair by pair (Bai et al. 2022b, §4.1). Ties stay in, near 0.5.

\b
job.json:
  {"model": "models/sl-cai", "data": "preferences.parquet", "out": "models/reward", "seed": 0,
   "config": {"epochs": 3, "learning_rate": 1e-4, "batch_size": 32, "max_length": 256, "held_out": 0.1}}

preferences.parquet has the columns `prompt`, `chosen`, `rejected` (lists of {role, content}), `soft_label` in [0, 1],
`is_tie`, `pair_id`, `prompt_id`. Prompts, not pairs, are held out for measuring. Pairs that cannot be used are listed
with their reason in out/rejects.jsonl.

`out` appears once it is complete, with meta.json. Run the same command again after a kill: it goes on from the last
whole checkpoint and ends with the same weights.

\b
  python -m cai.training.reward_model --job job.json --dry-run     pairs, tokens and steps, without training
  python -m cai.training.reward_model --job job.json
"""


class Pairs(NamedTuple):
    """Tokenised pairs: `chosen[i]` against `rejected[i]`."""

    rows: list[PairRow]
    chosen: list[list[int]]
    rejected: list[list[int]]

    def lengths(self) -> list[int]:
        return [max(len(a), len(b)) for a, b in zip(self.chosen, self.rejected, strict=True)]


class Prepared(NamedTuple):
    tokenizer: Any
    training: Pairs
    held_out: Pairs
    rejects: list[Reject]
    facts: dict[str, Any]


def prepare_rows(job: RewardModelJob) -> Prepared:
    """Read, check, tokenise and split by prompt.

    Raises:
        DataError: no rows or wrong columns.
        TrainingError: no pair is left to train on.
    """
    rows, rejects = read_pairs(job.data)
    tokenizer = load_tokenizer(job.model)
    held = [row for row in rows if in_held_out(row.prompt_id, job.config.held_out)]
    kept = [row for row in rows if not in_held_out(row.prompt_id, job.config.held_out)]
    if not kept:
        raise TrainingError(
            f"no pair of {job.data} is left to train on: {len(rejects)} of {len(rows) + len(rejects)} were rejected "
            f"and {len(held)} are held out (held_out={job.config.held_out}); add pairs or hold out fewer prompts"
        )
    limit = min(job.config.max_length, context_length(job.model))
    training, cut = _encode(tokenizer, kept, limit)
    held_out, cut_held_out = _encode(tokenizer, held, limit)
    facts = {
        "n_rows": len(kept),
        "n_held_out": len(held),
        "n_ties": sum(row.is_tie for row in kept),
        "n_rejected": len(rejects),
        "n_truncated": cut + cut_held_out,
        "n_tokens": sum(map(len, training.chosen)) + sum(map(len, training.rejected)),
    }
    return Prepared(tokenizer, training, held_out, rejects, facts)


def _encode(tokenizer: Any, rows: list[PairRow], max_length: int) -> tuple[Pairs, int]:
    if not rows:
        return Pairs([], [], []), 0
    chosen = encode_texts(tokenizer, render(tokenizer, [r.prompt + r.chosen for r in rows]), max_length)
    rejected = encode_texts(tokenizer, render(tokenizer, [r.prompt + r.rejected for r in rows]), max_length)
    return Pairs(rows, chosen.ids, rejected.ids), chosen.n_truncated + rejected.n_truncated


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

    held_out = run.held_out()
    metrics = {**run.loss_summary(), **measure(held_out)}
    bins = reliability(held_out.probability, held_out.soft_label) if prepared.held_out.rows else []
    facts = {**prepared.facts, "reliability": [b._asdict() for b in bins]}
    return Trained(fill, {**facts, "n_steps": run.n_steps, "metrics": metrics})


class Run:
    """One training run: model, optimiser, schedule, and the number of steps done. The rest follows from these."""

    def __init__(self, job: RewardModelJob, prepared: Prepared, folder: Path, progress: Progress) -> None:
        import torch
        from accelerate import Accelerator

        self._job, self._pairs, self._prepared = job, prepared.training, prepared
        self._folder, self._progress = folder, progress
        self._pad = prepared.tokenizer.pad_token_id
        self.n_steps = n_steps(len(self._pairs.rows), job.config.batch_size, job.config.epochs)
        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="bf16" if torch.cuda.is_available() else "no"
        )
        torch.manual_seed(job.seed)  # the head is new, and random
        model = new_reward_model(job.model, self._pad)
        optimizer = torch.optim.AdamW(model.parameters(), lr=job.config.learning_rate, weight_decay=0.0)
        self._model, self._optimizer = self._accelerator.prepare(model, optimizer)
        self._losses: list[float] = []

    def unwrapped(self) -> Any:
        return self._accelerator.unwrap_model(self._model)

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
        self._model.train()
        while len(self._losses) < self.n_steps:
            epoch, first = divmod(len(self._losses), len(batches(lengths, config.batch_size, self._job.seed, 0)))
            for batch in batches(lengths, config.batch_size, self._job.seed, epoch)[first:]:
                self._step(batch)
                if len(self._losses) % config.save_steps == 0 and len(self._losses) < self.n_steps:
                    self._save()
                if len(self._losses) == self.n_steps:
                    return

    def _step(self, batch: list[int]) -> None:
        """One optimiser step on the mean loss of `batch`, with a learning rate that falls in a line to 0."""
        import torch

        from cai.training.guard import require_finite
        from cai.training.losses import soft_preference_loss
        from cai.training.scoring import forward

        step = len(self._losses)
        torch.manual_seed(self._job.seed * 1_000_003 + step)  # dropout, where the model has any
        ids = [self._pairs.chosen[i] for i in batch] + [self._pairs.rejected[i] for i in batch]
        with self._accelerator.autocast():
            scores = forward(self._model, ids, self._pad)
        chosen, rejected = scores[: len(batch)], scores[len(batch) :]
        labels = torch.tensor([self._pairs.rows[i].soft_label for i in batch], device=scores.device)
        loss = soft_preference_loss(chosen, rejected, labels).mean()
        self._accelerator.backward(loss)
        norm = float(self._accelerator.clip_grad_norm_(self._model.parameters(), 1.0))
        value = float(loss.detach())
        require_finite(value, norm, step + 1, self._folder)
        for group in self._optimizer.param_groups:
            group["lr"] = self._job.config.learning_rate * (1 - step / self.n_steps)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._losses.append(value)
        self._progress.report(
            step + 1, self.n_steps, loss=value, grad_norm=norm, margin=float((chosen - rejected).detach().mean())
        )

    def _save(self) -> None:
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
        import numpy as np

        from cai.training.scoring import score_ids

        held = self._prepared.held_out
        model = self.unwrapped()
        return HeldOut(
            np.array(score_ids(model, held.chosen, self._pad)),
            np.array(score_ids(model, held.rejected, self._pad)),
            np.array([row.soft_label for row in held.rows]),
            np.array([row.is_tie for row in held.rows], dtype=bool),
            np.array([len(row) for row in held.chosen], dtype=float),
            np.array([len(row) for row in held.rejected], dtype=float),
        )


def new_reward_model(model: Path, pad_token_id: int) -> Any:
    """The body of a causal model with a fresh scalar head, in float32, that knows which token is padding."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    from cai.models import resolve_model

    disable_progress_bar()

    made = AutoModelForSequenceClassification.from_pretrained(
        str(resolve_model(model)), num_labels=1, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    made.config._name_or_path = ""
    made.config.pad_token_id = pad_token_id
    return made


STAGE = Stage(RewardModelJob, plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
