"""What the stages on TRL share of the Hugging Face trainer: arguments, whole checkpoints, progress, and stopping.

TRL is imported by the stages, not here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar

from cai.models import resolve_model
from cai.training.chat import save_tokenizer
from cai.training.checkpoints import checkpoint_step, disk_errors, put_in_place
from cai.training.guard import Guard, require_finite
from cai.training.jobs import AnyJob
from cai.training.processes import is_split, share, wait
from cai.training.progress import Progress


def arguments(folder: Path, seed: int, learning_rate: float, save_steps: int) -> dict[str, Any]:
    """Trainer arguments that both stages want: every step logged, nothing sent anywhere, bf16 only on a GPU."""
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "learning_rate": learning_rate,
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": None,  # ours are counted after they are sealed
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide what `Watch` stops at
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": on_gpu,
        "dataloader_pin_memory": on_gpu,
        "ddp_find_unused_parameters": False,  # every parameter is used; looking for others costs a pass a step
    }


def batching(job: AnyJob) -> dict[str, int]:
    """Trainer arguments that give every optimiser step the rows the config asks for, on any number of processes."""
    micro_batch, accumulation = share(job)
    return {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": accumulation}


def load_policy(model: Path) -> Any:
    """A causal language model in float32, the precision its optimiser keeps."""
    import torch

    disable_progress_bar()  # stderr belongs to progress lines
    return AutoModelForCausalLM.from_pretrained(
        str(resolve_model(model)), dtype=torch.float32, local_files_only=True, use_safetensors=True
    )


def gathered_weights(trainer: Any) -> dict[str, Any] | None:
    """The whole weights of a model that is split over the processes, None where it is not. Every process must call it;
    only the main one gets them all.
    """
    if not is_split():
        return None
    weights: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return weights


def save_policy(model: Any, tokenizer: Any, parent: Path, out: Path, weights: dict[str, Any] | None = None) -> None:
    """Write `model` as its parent was written: same precision, tokenizer, chat template and generation settings.
    `weights` are those to write where `model` has but a part of them.
    """
    source = resolve_model(parent)
    config = AutoConfig.from_pretrained(str(source), local_files_only=True)
    if weights is not None:
        model.save_pretrained(str(out), state_dict={name: w.to(config.dtype or w.dtype) for name, w in weights.items()})
        (out / "config.json").write_bytes((source / "config.json").read_bytes())
    else:
        _save_whole(model, config, out)
    save_tokenizer(tokenizer, parent, out)
    settings = source / "generation_config.json"
    if settings.is_file():
        (out / settings.name).write_bytes(settings.read_bytes())


def _save_whole(model: Any, config: Any, out: Path) -> None:
    if config.dtype is not None:
        model.to(config.dtype)
    # A model's digest must depend neither on where its parent lay nor on what the trainer set for its own use.
    model.config._name_or_path = ""
    model.config.pad_token_id = config.pad_token_id
    model.config.use_cache = config.use_cache
    model.save_pretrained(str(out))


class Watch(TrainerCallback):
    """Hears every step: reports what `select` makes of its numbers, and stops the run where it must.

    Without a guard a loss that is no number is an error; a guard has it among its reasons to stop, asks for a
    checkpoint of each step it has scored, and never for one of broken weights.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        select: Callable[[int, dict[str, float]], dict[str, float]],
        guard: Guard | None = None,
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._select = select
        self._guard = guard

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        step = state.global_step
        numbers = {k: float(v) for k, v in logs.items() if isinstance(v, int | float)}
        if self._guard is None:
            require_finite(numbers["loss"], numbers.get("grad_norm", 0.0), step, self._folder)
        self._progress.report(step, state.max_steps, **self._select(step, numbers))
        if self._guard is not None:
            wanted = control.should_save or self._guard.is_due(step)
            control.should_save = wanted and not self._guard.is_broken
            decision = self._guard.decision()
            if decision.must_stop:
                control.should_training_stop = True
                self._progress.note("stopped by the guard", **decision._asdict())


def sealed(trainer: type[Any]) -> type[Any]:
    """The trainer class, with checkpoints that are whole or do not count, and no model card written beside them.

    A checkpoint is filled in a temporary run directory and then renamed into the real one. Set `best_step` to the step
    whose checkpoint outlives newer ones.
    """

    class Sealed(trainer):
        best_step: int | None = None
        _saving_in: Path | None = None

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            return None

        def _get_output_dir(self, trial: Any) -> str:
            return str(self._saving_in or super()._get_output_dir(trial))

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder, step = Path(self.args.output_dir), self.state.global_step
            temporary = folder / f"tmp-{step}"
            with disk_errors(f"write checkpoint-{step} in {folder}"):
                self._saving_in = temporary
                try:
                    super()._save_checkpoint(model, trial)
                finally:
                    self._saving_in = None
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    put_in_place(temporary / f"checkpoint-{step}", folder, step, self.best_step)
                    temporary.rmdir()

    return Sealed


def run(trainer: Any, checkpoint: Path | None) -> int:
    """Train to the end, from `checkpoint` if there is one; returns the number of steps the whole run has."""
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only the summary belongs
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    steps = int(trainer.state.global_step)
    assert checkpoint is None or steps >= checkpoint_step(checkpoint)
    wait()  # what the main process wrote about the last step is there for all
    return steps
