"""The prompts of an RL run: read, measured against the model's context, and put in the order they are used."""

from typing import Any, NamedTuple

from cai.chat_template import as_dicts
from cai.errors import TrainingError
from cai.models import resolve_model
from cai.records import Reject
from cai.training.batches import prompt_order
from cai.training.chat import context_length, load_tokenizer, render
from cai.training.guard import hold_aside
from cai.training.jobs import PolicyJob
from cai.training.rows import PromptRow, read_prompts


class Prepared(NamedTuple):
    tokenizer: Any
    prompts: list[PromptRow]
    held_aside: list[PromptRow]
    """For the guard: never trained on."""
    rejects: list[Reject]
    facts: dict[str, Any]


def prepare_prompts(job: PolicyJob) -> Prepared:
    """Read the prompts; those that are too long become rejects, and some are held aside for the guard.

    Raises:
        DataError: no rows or wrong columns.
        TrainingError: no prompt is left.
        ConfigError: the guard would leave none.
    """
    rows = read_prompts(job.data)
    limit = min(job.config.max_prompt_tokens, context_length(job.model) - job.config.max_tokens)
    tokenizer = load_tokenizer(job.model)
    texts = render(tokenizer, [row.prompt for row in rows], ask=True)
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    prompts = [row for row, length in zip(rows, lengths, strict=True) if length <= limit]
    rejects = [
        Reject.make(
            job.stage,
            "prompt_too_long",
            prompt_id=row.prompt_id,
            parents=[row.prompt_id],
            detail=f"{length} tokens, at most {limit} fit",
        )
        for row, length in zip(rows, lengths, strict=True)
        if length > limit
    ]
    if not prompts:
        raise TrainingError(
            f"all {len(rows)} prompts of {job.data} are longer than {limit} tokens, the lesser of "
            "max_prompt_tokens and the model's context without max_tokens; raise one or lower the other"
        )
    training, held_aside = hold_aside(prompts, job.config.guard)
    facts = {
        "n_rows": len(training),
        "n_held_aside": len(prompts) - len(training),
        "n_rejected": len(rejects),
        "n_truncated": 0,
        "n_prompt_tokens": sum(length for length in lengths if length <= limit),
        "n_samples": job.config.steps * job.config.prompts_per_step * job.config.samples_per_prompt,
    }
    return Prepared(tokenizer, training, held_aside, rejects, facts)


def as_dataset(job: PolicyJob, prompts: list[PromptRow]) -> Any:
    """The prompts of the whole run in the order they are used: one pass, so that a resumed run finds its place.

    (TRL's own shuffling restarts from the first permutation when it resumes in a later epoch.)
    """
    from datasets import Dataset

    order = prompt_order(len(prompts), job.config.prompts_per_step, job.config.steps, job.seed)
    rows = Dataset.from_dict(
        {
            "prompt": [as_dicts(p.prompt) for p in prompts],
            "prompt_id": [p.prompt_id for p in prompts],
            "expected": [p.expected for p in prompts],
        }
    )
    return rows.select(order)


def plan(job: PolicyJob) -> dict[str, Any]:
    """What a run would do; whatever scores is looked for."""
    for path in job.models().values():
        resolve_model(path)
    return {**prepare_prompts(job).facts, "n_steps": job.config.steps}
