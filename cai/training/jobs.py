"""What each training command is asked to do: a JSON or YAML file of one of these models. Imports no torch, so that a
flow can build a job and compute its digest. The command of a stage: `python -m cai.training.STAGE --job JOB`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import ValidationError, model_validator

from cai.config import (
    Config,
    DPOConfig,
    GRPOConfig,
    Positive,
    PPOConfig,
    RewardModelConfig,
    RewardModelTerm,
    RLOOConfig,
    SFTConfig,
    problems,
)
from cai.errors import ConfigError, DataError
from cai.files import file_digest
from cai.models import model_digest, resolve_model
from cai.records import digest
from cai.yaml_files import read_document

Stage = Literal["sft", "reward_model", "grpo", "rloo", "ppo", "dpo"]


class Job(Config):
    """What every training job has: a model to start from, one Parquet file, and a directory for the result."""

    stage: ClassVar[Stage]
    model: Path
    data: Path
    out: Path
    seed: int = 0
    micro_batch: Positive | None = None
    """Rows that go through the model at once; None: a whole batch. Gradients add up, so it is no part of the job's
    identity: lower it where memory runs out.
    """

    def models(self) -> dict[str, Path]:
        return {"model": self.model}

    @property
    def is_splittable(self) -> bool:
        """Whether it can do with a part of the model in each process, as under FSDP and DeepSpeed."""
        return False


class SFTJob(Job):
    """Teach `model` the replies in `data` (columns `prompt`, `completion`)."""

    stage: ClassVar[Stage] = "sft"
    config: SFTConfig = SFTConfig()

    @property
    def is_splittable(self) -> bool:
        return True

    @property
    def step_rows(self) -> int:
        """Rows that make one optimiser step, however many go through the model at once."""
        return self.config.batch_size


class RewardModelJob(Job):
    """Turn `model` into a reward model with the pairs in `data` (`prompt`, `chosen`, `rejected`, `soft_label`, …)."""

    stage: ClassVar[Stage] = "reward_model"
    config: RewardModelConfig = RewardModelConfig()

    @property
    def step_rows(self) -> int:
        return self.config.batch_size


class PolicyJob(Job):
    """Train the policy `model`, which is also the reference, on the prompts in `data` (`prompt`, `prompt_id`, and
    `expected` where a verifier wants one).
    """

    reward_models: tuple[Path, ...] = ()
    """What a term without `models` of its own scores with; more than one is an ensemble."""
    config: GRPOConfig | RLOOConfig | PPOConfig

    @model_validator(mode="after")
    def _has_what_scores(self) -> "PolicyJob":
        for term in self._reward_model_terms():
            if not (term.models or self.reward_models):
                raise ValueError(f"`reward_models` is empty and the reward {term.name!r} names no `models`; name one")
        return self

    def _reward_model_terms(self) -> list[RewardModelTerm]:
        guard = self.config.guard
        terms = (*self.config.rewards, *(guard.gold if guard else ()))
        return [term for term in terms if isinstance(term, RewardModelTerm)]

    def models(self) -> dict[str, Path]:
        """`model`, and under names that begin with `reward_model` everything that scores, the guard's included."""
        found = {"model": self.model}
        found |= {f"reward_model/{i}": path for i, path in enumerate(self.reward_models)}
        for term in self._reward_model_terms():
            found |= {f"reward_model/{term.name}/{i}": path for i, path in enumerate(term.models)}
        return found

    @property
    def step_rows(self) -> int:
        return self.config.prompts_per_step * self.config.samples_per_prompt


class GRPOJob(PolicyJob):
    stage: ClassVar[Stage] = "grpo"
    config: GRPOConfig = GRPOConfig()

    @property
    def is_splittable(self) -> bool:
        return self.config.guard is None


class RLOOJob(PolicyJob):
    stage: ClassVar[Stage] = "rloo"
    config: RLOOConfig = RLOOConfig()


class PPOJob(PolicyJob):
    stage: ClassVar[Stage] = "ppo"
    config: PPOConfig = PPOConfig()

    @property
    def step_rows(self) -> int:
        return self.config.minibatch_size


class DPOJob(Job):
    """Train the policy `model`, which is also the reference, on the pairs in `data` (as `RewardModelJob`)."""

    stage: ClassVar[Stage] = "dpo"
    config: DPOConfig = DPOConfig()

    @property
    def step_rows(self) -> int:
        return self.config.batch_size


AnyJob = SFTJob | RewardModelJob | GRPOJob | RLOOJob | PPOJob | DPOJob
J = TypeVar("J", SFTJob, RewardModelJob, GRPOJob, RLOOJob, PPOJob, DPOJob)


def halved(job: AnyJob, n_processes: int = 1) -> AnyJob | None:
    """The same work with at most half as many rows at once, or None where it is one row already."""
    rows = job.step_rows // n_processes
    now = min(job.micro_batch or rows, rows)
    smaller = next((n for n in range(now // 2, 0, -1) if rows % n == 0), None)
    return None if smaller is None else job.model_copy(update={"micro_batch": smaller})


def load_job(path: Path, kind: type[J]) -> J:
    """Read a job file.

    Raises:
        ConfigError: the file is missing, is neither JSON nor YAML, or has an unknown key or a wrong value.
    """
    if not path.is_file():
        raise ConfigError(f"no job file at {path}; write one with the keys {sorted(kind.model_fields)}")
    document = read_document(path)
    try:
        return kind.model_validate(document.body)
    except ValidationError as error:
        raise ConfigError(f"job {path} cannot be run: {problems(error, kind, document)}") from error


def data_digest(path: Path) -> str:
    """SHA-256 of the bytes of what a job learns from.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"no data file at {path}; expected a Parquet file written by `cai export` or a flow")
    return file_digest(path)


def check_heads(job: AnyJob) -> None:
    """Refuse a reward model where a language model belongs, and the other way round: its head would be random.

    Raises:
        ConfigError: a model is of the wrong kind.
        ModelNotFound: a model is missing.
    """
    for name, path in job.models().items():
        config = json.loads((resolve_model(path) / "config.json").read_text(encoding="utf-8"))
        kinds = config.get("architectures") or []
        scores = any(kind.endswith("ForSequenceClassification") for kind in kinds)
        if scores != name.startswith("reward_model"):
            wanted = "a reward model" if name.startswith("reward_model") else "a language model"
            raise ConfigError(f"`{name}` must be {wanted}; {path} is {', '.join(kinds) or 'of no named kind'}")


def input_digests(job: AnyJob) -> dict[str, str]:
    """The digest of everything the job reads: its data file and its models."""
    models = {name: model_digest(resolve_model(path)) for name, path in job.models().items()}
    return {"data": data_digest(job.data), **models}


def job_digest(job: AnyJob, inputs: Mapping[str, str]) -> str:
    """Identity of the work: stage, settings, seed and the content read. Paths are not in it: a moved run is found."""
    settings = job.config.model_dump(mode="json")
    for term in (*settings.get("rewards", ()), *((settings.get("guard") or {}).get("gold", ()))):
        term.pop("models", None)  # their digests are among the inputs
    return digest("training-job", job.stage, settings, job.seed, dict(inputs))
