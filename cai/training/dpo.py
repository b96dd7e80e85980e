"""Direct preference optimisation (Rafailov et al. 2023) on soft labels, on TRL: the SL-CAI model learns from the pairs
themselves, without a reward model.

Alone: `python -m cai.training.dpo --job job.json`
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import TrainingError
from cai.records import Reject
from cai.training.batches import n_steps
from cai.training.chat import IGNORED, Example, check_end_of_turn, context_length, encode_replies, load_tokenizer
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import DPOJob
from cai.training.libraries import without_vllm
from cai.training.progress import Progress
from cai.training.rollouts import METRICS, append
from cai.training.rows import PairRow, read_pairs, write_rejects
from cai.training.workspace import Workspace

HELP = """Train a policy on preference pairs with soft labels: P(chosen is better) against σ(β·Δ), where Δ is how much
more likely than the reference the policy finds the chosen response, less the same of the rejected one. The reference is
the model it starts from.

\b
job.json:
  {"model": "models/sl-cai", "data": "preferences.parquet", "out": "models/dpo", "seed": 0,
   "config": {"epochs": 1, "learning_rate": 1e-4, "batch_size": 32, "max_length": 256, "beta": 0.1}}

preferences.parquet has the columns `prompt`, `chosen`, `rejected` (lists of {role, content}), `soft_label` in [0, 1],
`is_tie`, `pair_id`, `prompt_id`. Ties are trained on: a label of 0.5 keeps Δ at 0, where it begins, and so holds the
policy to the reference. A label below 0.5 prefers the rejected response. Pairs that cannot be used are listed with
their reason in out/rejects.jsonl, and so are those longer than max_length: half a response has no likelihood.

The policy stops moving where β·Δ is the label's log-odds, so beta and the labels together say how far it goes: for a
label of 0.55 (log-odds 0.2) the chosen response becomes e^2 times likelier against the rejected one at beta 0.1, and
e^10 times at beta 0.02, which can cost it words.

`out` appears once it is complete, with meta.json and metrics.jsonl (loss, implicit rewards, margins, agreement with the
labels, drift of every step). Run the same command again after a kill: it goes on from the last whole checkpoint and
ends with the same weights. For another round, sample from `out`, label, and start again with `out` as the model.

\b
  python -m cai.training.dpo --job job.json --dry-run     pairs, tokens and steps, without training
  python -m cai.training.dpo --job job.json
"""

NAMES = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "drift/k3",
    "grad_norm",
    "learning_rate",
)
"""The numbers of a step. `drift/k3` estimates KL(reference ‖ policy), nats per token of the pairs' responses, as far as
they were sampled from the reference; `logps` are nats per response.
"""


class Pair(NamedTuple):
    row: PairRow
    chosen: Example
    rejected: Example

    @property
    def is_whole(self) -> bool:
        return not (self.chosen.is_truncated or self.rejected.is_truncated)


class Prepared(NamedTuple):
    tokenizer: Any
    pairs: list[Pair]
    rejects: list[Reject]
    facts: dict[str, Any]


def prepare_pairs(job: DPOJob) -> Prepared:
    """Read, check and tokenise. A pair with a response that does not fit becomes a `Reject`: nothing is cut.

    Raises:
        DataError: no rows, wrong columns, or a template that cannot be trained on.
        TrainingError: no pair is left.
    """
    rows, rejects = read_pairs(job.data, job.stage)
    tokenizer = load_tokenizer(job.model)
    limit = min(job.config.max_length, context_length(job.model))
    encoded = encode(tokenizer, rows, limit)
    pairs = [p for p in encoded if p.is_whole]
    too_long = [_reject(p.row, limit) for p in encoded if not p.is_whole]
    if not pairs:
        raise TrainingError(
            f"no pair of {job.data} is left to train on: {len(rejects)} of {len(rows) + len(rejects)} cannot be used, "
            f"and {len(too_long)} are longer than {limit} tokens, the lesser of max_length and the model's context; "
            "add pairs or raise max_length"
        )
    check_end_of_turn(tokenizer, job.model, [example for p in pairs for example in (p.chosen, p.rejected)])
    facts = {
        "n_rows": len(pairs),
        "n_ties": sum(p.row.is_tie for p in pairs),
        "n_rejected": len(rejects) + len(too_long),
        "n_truncated": 0,
        "n_tokens": sum(len(p.chosen.input_ids) + len(p.rejected.input_ids) for p in pairs),
    }
    return Prepared(tokenizer, pairs, [*rejects, *too_long], facts)


def encode(tokenizer: Any, rows: list[PairRow], limit: int) -> list[Pair]:
    if not rows:
        return []
    prompts = [row.prompt for row in rows]
    chosen = encode_replies(tokenizer, prompts, [row.chosen for row in rows], limit)
    rejected = encode_replies(tokenizer, prompts, [row.rejected for row in rows], limit)
    return [Pair(*each) for each in zip(rows, chosen, rejected, strict=True)]


def _reject(row: PairRow, limit: int) -> Reject:
    detail = f"a response does not fit into {limit} tokens with its prompt"
    return Reject.make("dpo", "pair_too_long", prompt_id=row.prompt_id, parents=[row.pair_id], detail=detail)


def plan(job: DPOJob) -> dict[str, Any]:
    facts = prepare_pairs(job).facts
    return {**facts, "n_steps": n_steps(facts["n_rows"], job.config.batch_size, job.config.epochs)}


def as_dataset(pairs: list[Pair]) -> Any:
    """What `Collator` reads: tokens and labels of both responses, and what the loss wants to know of the pair."""
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "chosen_ids": [p.chosen.input_ids for p in pairs],
            "chosen_labels": [p.chosen.labels for p in pairs],
            "rejected_ids": [p.rejected.input_ids for p in pairs],
            "rejected_labels": [p.rejected.labels for p in pairs],
            "soft_label": [p.row.soft_label for p in pairs],
            "is_tie": [p.row.is_tie for p in pairs],
            "weight": [p.row.weight for p in pairs],
        }
    )


def evened(dataset: Any, pad_token_id: int, rows: int) -> Any:
    """`dataset` with pairs of weight 0 at its end, up to a multiple of `rows`, so that every batch is whole, in however
    many parts and processes it is done; accelerate would train on some pairs twice.

    Weights are scaled to a mean of 1 over all of it, so that a batch, whole or in parts, needs to know of no other.
    """
    from datasets import Dataset, concatenate_datasets

    empty = {"chosen_ids": [pad_token_id] * 2, "chosen_labels": [IGNORED] * 2, "soft_label": 0.5, "is_tie": True}
    empty |= {"rejected_ids": [pad_token_id] * 2, "rejected_labels": [IGNORED] * 2, "weight": 0.0}
    missing = -len(dataset) % rows
    columns = {name: [empty[name]] * missing for name in dataset.column_names}
    whole = concatenate_datasets([dataset, Dataset.from_dict(columns, features=dataset.features)])
    mean_weight = math.fsum(whole["weight"]) / len(whole)
    scaled = [weight / mean_weight for weight in whole["weight"]]
    return whole.remove_columns("weight").add_column("weight", scaled)


def build_trainer(job: DPOJob, prepared: Prepared, folder: Path) -> Any:
    with without_vllm():
        from trl.trainer.dpo_config import DPOConfig as TrainerConfig

        from cai.training.dpo_trainer import Collator, SoftDPOTrainer
    from cai.training.trainer import arguments, batching, load_policy, sealed

    config = job.config
    dataset = evened(as_dataset(prepared.pairs), prepared.tokenizer.pad_token_id, job.step_rows)
    return sealed(SoftDPOTrainer)(
        model=load_policy(job.model),
        ref_model=load_policy(job.model).requires_grad_(False),
        args=TrainerConfig(
            **arguments(folder, job.seed, config.learning_rate, config.save_steps),
            num_train_epochs=config.epochs,
            **batching(job),
            beta=config.beta,
            disable_dropout=True,
            remove_unused_columns=False,
            lr_scheduler_type="linear",
            warmup_steps=0.03,  # a share of all steps
        ),
        train_dataset=dataset,
        data_collator=Collator(prepared.tokenizer.pad_token_id),
        processing_class=prepared.tokenizer,
    )


def train(job: DPOJob, workspace: Workspace, progress: Progress) -> Trained:
    prepared = prepare_pairs(job)
    if prepared.rejects:
        progress.note("pairs left out", n_rejected=len(prepared.rejects))
    from cai.training.trainer import Watch, run, save_policy

    checkpoint = workspace.open(progress)
    trainer = build_trainer(job, prepared, workspace.folder)
    trainer.add_callback(Watch(workspace.folder, progress, lambda _, numbers: reported(numbers)))
    steps = run(trainer, checkpoint)
    model = trainer.accelerator.unwrap_model(trainer.model)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    numbers = [{"step": entry["step"], **reported(entry)} for entry in logged]

    def fill(out: Path) -> None:
        save_policy(model, prepared.tokenizer, job.model, out)
        write_rejects(out / "rejects.jsonl", prepared.rejects)
        append(out / METRICS, numbers)

    return Trained(fill, {**prepared.facts, "n_steps": steps, "metrics": summary(numbers)})


def reported(numbers: dict[str, float]) -> dict[str, float]:
    return {name: numbers[name] for name in NAMES if math.isfinite(numbers.get(name, math.nan))}


def summary(numbers: list[dict[str, Any]]) -> dict[str, float]:
    """The first and last value of every number that a run is judged by."""
    named = ("loss", "rewards/margins", "rewards/accuracies", "drift/k3")
    ends = {"first": numbers[0], "last": numbers[-1]}
    return {f"{name}/{end}": row[name] for name in named for end, row in ends.items() if name in row}


STAGE = Stage(DPOJob, plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
