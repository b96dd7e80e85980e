"""What each training command is asked to do: a JSON or YAML file of one of these models. Imports no torch, so that a
flow can build a job and compute its digest. The commands: `python -m cai.training.{sft,reward_model,grpo} --job JOB`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import yaml
from pydantic import ValidationError

from cai.config import Config, RewardModelConfig, RLConfig, SFTConfig
from cai.errors import ConfigError, DataError
from cai.models import model_digest, resolve_model
from cai.records import digest

Stage = Literal["sft", "reward_model", "grpo"]


class Job(Config):
    """What every training job has: a model to start from, one Parquet file, and a directory for the result."""

    stage: ClassVar[Stage]
    model: Path
    data: Path
    out: Path
    seed: int = 0

    def models(self) -> dict[str, Path]:
        return {"model": self.model}


class SFTJob(Job):
    """Teach `model` the replies in `data` (columns `prompt`, `completion`)."""

    stage: ClassVar[Stage] = "sft"
    config: SFTConfig = SFTConfig()


class RewardModelJob(Job):
    """Turn `model` into a reward model with the pairs in `data` (`prompt`, `chosen`, `rejected`, `soft_label`, …)."""

    stage: ClassVar[Stage] = "reward_model"
    config: RewardModelConfig = RewardModelConfig()


class GRPOJob(Job):
    """Train the policy `model`, which is also the reference, on the prompts in `data` against `reward_model`."""

    stage: ClassVar[Stage] = "grpo"
    reward_model: Path
    config: RLConfig = RLConfig()

    def models(self) -> dict[str, Path]:
        return {"model": self.model, "reward_model": self.reward_model}


AnyJob = SFTJob | RewardModelJob | GRPOJob
J = TypeVar("J", SFTJob, RewardModelJob, GRPOJob)


def load_job(path: Path, kind: type[J]) -> J:
    """Read a job file.

    Raises:
        ConfigError: the file is missing, is neither JSON nor YAML, or has an unknown key or a wrong value.
    """
    if not path.is_file():
        raise ConfigError(f"no job file at {path}; write one with the keys {sorted(kind.model_fields)}")
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ConfigError(f"job {path} is neither JSON nor YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}, got {e['input']!r}"[:300]
            for e in error.errors()
        )
        raise ConfigError(f"job {path} cannot be run: {problems}") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"no data file at {path}; expected a Parquet file written by `cai export` or a flow")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        if scores != (name == "reward_model"):
            wanted = "a reward model" if name == "reward_model" else "a language model"
            raise ConfigError(f"`{name}` must be {wanted}; {path} is {', '.join(kinds) or 'of no named kind'}")


def input_digests(job: AnyJob) -> dict[str, str]:
    """The digest of everything the job reads: its data file and its models."""
    models = {name: model_digest(resolve_model(path)) for name, path in job.models().items()}
    return {"data": file_digest(job.data), **models}


def job_digest(job: AnyJob, inputs: Mapping[str, str]) -> str:
    """Identity of the work: stage, settings, seed and the content read. Paths are not in it: a moved run is found."""
    return digest("training-job", job.stage, job.config.model_dump(mode="json"), job.seed, dict(inputs))
