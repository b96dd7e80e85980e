"""Supervised fine-tuning on the assistant's replies (the SL stage of Constitutional AI), on TRL.

Alone: `python -m cai.training.sft --job job.json`
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import ConfigError, TrainingError
from cai.records import Reject
from cai.training import batches, processes
from cai.training.chat import IGNORED, Example, check_end_of_turn, context_length, encode_replies, load_tokenizer
from cai.training.command import Stage, Trained, run_command
from cai.training.jobs import SFTJob
from cai.training.libraries import without_vllm
from cai.training.progress import Progress
from cai.training.rollouts import METRICS, append
from cai.training.rows import SFTRow, read_sft, write_rejects
from cai.training.workspace import Workspace

HELP = """Supervised fine-tuning on the replies of a Parquet file: the loss is on the assistant's tokens alone.

\b
job.json:
  {"model": "smallworld", "data": "sft.parquet", "out": "models/sl-cai", "seed": 0,
   "config": {"epochs": 1, "learning_rate": 2e-4, "batch_size": 32, "max_length": 256}}

sft.parquet has the columns `prompt` and `completion`, lists of {role, content}, and perhaps `source`, by which tokens
are counted apart. Of a completion of several turns, those of the assistant are trained. More settings: packing (several
rows in one sequence; refused where the model would let them see each other), lora_rank (merged into the weights at the
end), save_steps.

`out` appears once it is complete, with meta.json. Run the same command again after a kill: it goes on from the last
whole checkpoint and ends with the same weights.

\b
  python -m cai.training.sft --job job.json --dry-run     rows, tokens and steps, without training
  python -m cai.training.sft --job job.json
"""


class Prepared(NamedTuple):
    tokenizer: Any
    examples: list[Example]
    rejects: list[Reject]
    facts: dict[str, Any]


def prepare_rows(job: SFTJob) -> Prepared:
    """Read and tokenise. A row whose reply lies wholly beyond `max_length` is left out, with a `Reject`.

    Raises:
        DataError: no rows, wrong columns, or a template that cannot be trained on.
        TrainingError: no row is left.
    """
    rows = read_sft(job.data)
    tokenizer = load_tokenizer(job.model)
    limit = min(job.config.max_length, context_length(job.model))
    encoded = encode_replies(tokenizer, [r.prompt for r in rows], [r.completion for r in rows], limit)
    check_end_of_turn(tokenizer, job.model, encoded)
    kept = [(row, e) for row, e in zip(rows, encoded, strict=True) if e.n_trained]
    rejects = [_reject(i, row, limit) for i, (row, e) in enumerate(zip(rows, encoded, strict=True)) if not e.n_trained]
    examples = [e for _, e in kept]
    if not examples:
        raise TrainingError(
            f"none of the {len(rows)} rows in {job.data} has a reply within {limit} tokens; raise max_length"
        )
    sources = sorted({row.source for row, _ in kept})
    facts = {
        **_budget(examples),
        "n_rejected": len(rejects),
        "by_source": {name: _budget([e for row, e in kept if row.source == name]) for name in sources},
    }
    return Prepared(tokenizer, examples, rejects, facts)


def _budget(examples: Sequence[Example]) -> dict[str, int]:
    """What one pass over the rows reads, and how much of it carries loss."""
    return {
        "n_rows": len(examples),
        "n_truncated": sum(e.is_truncated for e in examples),
        "n_tokens": sum(len(e.input_ids) for e in examples),
        "n_trained_tokens": sum(e.n_trained for e in examples),
    }


def _reject(number: int, row: SFTRow, limit: int) -> Reject:
    parents = [i for i in (row.response_id, row.revision_id) if i] or [f"row {number}"]
    reason, detail = "reply_beyond_max_length", f"row {number}: nothing of the reply is within {limit} tokens"
    if not any(message.role == "assistant" for message in row.completion):
        reason, detail = "no_reply", f"row {number}: the completion has no turn of the assistant"
    return Reject.make("sft", reason, prompt_id=row.prompt_id, parents=parents, detail=detail)


def plan(job: SFTJob) -> dict[str, Any]:
    prepared = prepare_rows(job)
    n_rows = len(as_dataset(job, prepared.examples))
    return {**prepared.facts, "n_sequences": n_rows, "n_steps": n_steps(job, n_rows)}


def n_steps(job: SFTJob, n_sequences: int) -> int:
    return batches.n_steps(n_sequences, job.config.batch_size, job.config.epochs)


def as_dataset(job: SFTJob, examples: list[Example]) -> Any:
    """What TRL reads: `input_ids` and `labels`; packed, each row also has the lengths of the sequences in it."""
    from datasets import Dataset

    dataset = Dataset.from_dict({"input_ids": [e.input_ids for e in examples], "labels": [e.labels for e in examples]})
    if not job.config.packing:
        return dataset
    with without_vllm():
        from trl.data_utils import pack_dataset
    return pack_dataset(dataset, job.config.max_length, "bfd")


def evened(dataset: Any, pad_token_id: int, rows: int) -> Any:
    """`dataset` with rows that carry no loss at its end, up to a multiple of `rows`: a whole batch, so that each of
    several processes has as many. Without them accelerate would train on some rows twice.
    """
    from datasets import Dataset, concatenate_datasets

    empty = {"input_ids": [pad_token_id], "labels": [IGNORED], "seq_lengths": [1]}
    missing = -len(dataset) % rows
    columns = {name: [empty[name]] * missing for name in dataset.column_names}
    return concatenate_datasets([dataset, Dataset.from_dict(columns, features=dataset.features)])


def check_packing(trainer: Any, examples: Sequence[Example]) -> None:
    """Refuse a model in which a packed row sees the one before it: its logits would change with the other's tokens.

    transformers keeps rows apart by their positions, in models that build their attention mask from them. Not all do.

    Raises:
        ConfigError: this one does not.
    """
    import torch

    if len(examples) < 2:
        return
    first, second = (e.input_ids for e in examples[:2])
    model = trainer.model
    n_tokens = model.get_input_embeddings().num_embeddings
    seen = []
    model.eval()
    for before in (first, [(i + 1) % n_tokens for i in first]):
        ids = [*before, *second]
        packed = {"input_ids": ids, "labels": ids, "seq_lengths": [len(before), len(second)]}
        batch = {k: v for k, v in trainer.data_collator([packed]).items() if k != "labels"}
        with torch.no_grad(), trainer.accelerator.autocast():
            logits = model(**trainer._prepare_inputs(batch), use_cache=False).logits
        seen.append(logits[0, len(before) :].float())
    model.train()
    if not torch.allclose(seen[0], seen[1], rtol=0, atol=1e-4):
        apart = float((seen[0] - seen[1]).abs().max())
        raise ConfigError(
            f"packing: in a {model.config.model_type} model packed rows see each other (logits of a row differ by up "
            f"to {apart:.2g} with what is packed before it); set `packing: false`"
        )


def build_trainer(job: SFTJob, prepared: Prepared, folder: Path) -> Any:
    """TRL's trainer over rows that we tokenised ourselves, so that labels and truncation are ours to count."""
    with without_vllm():
        from trl.trainer.sft_config import SFTConfig as TrainerConfig
        from trl.trainer.sft_trainer import SFTTrainer
    from cai.training.trainer import arguments, batching, load_policy, sealed

    config = job.config
    dataset = as_dataset(job, prepared.examples)
    if processes.count() > 1:
        dataset = evened(dataset, prepared.tokenizer.pad_token_id, job.step_rows)
    trainer = sealed(SFTTrainer)(
        model=load_policy(job.model),
        args=TrainerConfig(
            **arguments(folder, job.seed, config.learning_rate, config.save_steps),
            num_train_epochs=config.epochs,
            **batching(job),
            max_length=config.max_length,
            packing=config.packing,
            packing_strategy="bfd",
            lr_scheduler_type="linear",
            warmup_steps=0.03,  # a share of all steps
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=dataset,
        processing_class=prepared.tokenizer,
        peft_config=None if config.lora_rank is None else _lora(config.lora_rank),
    )
    if config.packing:
        check_packing(trainer, prepared.examples)
    return trainer


def _lora(rank: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _reported(numbers: dict[str, float]) -> dict[str, float]:
    named = ("loss", "grad_norm", "learning_rate", "mean_token_accuracy")
    return {name: numbers[name] for name in named if name in numbers}


def train(job: SFTJob, workspace: Workspace, progress: Progress) -> Trained:
    if job.config.lora_rank is not None and processes.is_split():
        raise ConfigError(
            f"lora_rank {job.config.lora_rank} was asked for under FSDP or DeepSpeed, which split the model so that "
            "the adapter cannot be merged; launch with deployments/accelerate/multi-gpu.yaml, or train without LoRA"
        )
    prepared = prepare_rows(job)
    if prepared.rejects or prepared.facts["n_truncated"]:
        progress.note("rows cut", n_rejected=len(prepared.rejects), n_truncated=prepared.facts["n_truncated"])
    from cai.training.trainer import Watch, gathered_weights, run, save_policy

    checkpoint = workspace.open(progress)
    trainer = build_trainer(job, prepared, workspace.folder)
    trainer.add_callback(Watch(workspace.folder, progress, lambda _, numbers: _reported(numbers)))
    steps = run(trainer, checkpoint)
    weights = gathered_weights(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if job.config.lora_rank is not None:
        model = model.merge_and_unload()

    def fill(out: Path) -> None:
        save_policy(model, load_tokenizer(job.model), job.model, out, weights)
        write_rejects(out / "rejects.jsonl", prepared.rejects)
        append(out / METRICS, ({"step": e["step"], **_reported(e)} for e in logged))

    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = [entry["loss"] for entry in logged]
    metrics = {"loss/first": losses[0], "loss/last": losses[-1], "loss/mean": sum(losses) / len(losses)}
    return Trained(fill, {**prepared.facts, "n_steps": steps, "metrics": metrics})


STAGE = Stage(SFTJob, plan, train)

if __name__ == "__main__":
    run_command(STAGE, HELP)
