"""Where a training job keeps unfinished work, and how its result appears: whole, by one rename, or not at all.

Unfinished work lies beside the result, in `OUT.unfinished`. `OUT` exists only once it is complete.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai.errors import ConfigError
from cai.files import fsync
from cai.models import META, content_digest, read_meta
from cai.training import processes
from cai.training.checkpoints import discard_torn, disk_errors, fsync_tree, last_whole_checkpoint, write_json
from cai.training.jobs import AnyJob, check_heads, input_digests, job_digest
from cai.training.progress import Progress

JOB = "job.json"


class Workspace:
    """The directories of one job. Reads the digests of its inputs once, when made.

    Raises:
        DataError, ModelNotFound: an input is missing.
        ConfigError: a model is of the wrong kind.
    """

    def __init__(self, job: AnyJob) -> None:
        check_heads(job)
        self.job = job
        self.inputs = input_digests(job)
        self.digest = job_digest(job, self.inputs)
        self.folder = job.out.with_name(f"{job.out.name}.unfinished")

    def finished(self) -> dict[str, Any] | None:
        """The `meta.json` of the result if this very job has been done, None if there is no result yet.

        Raises:
            ConfigError: `out` holds something else, which is never overwritten.
        """
        out = self.job.out
        if not out.exists():
            return None
        meta = read_meta(out)
        if meta is None:
            raise ConfigError(f"{out} exists and was not written by this command; choose another `out` or remove it")
        if meta.get("job_digest") != self.digest:
            raise ConfigError(
                f"{out} holds the result of another job ({meta.get('stage')} {meta.get('job_digest')}, this one is "
                f"{self.digest}): its data, model, settings or seed differ; choose another `out` or remove it"
            )
        return meta

    def open(self, progress: Progress) -> Path | None:
        """Make the folder ready to work in; returns the checkpoint to go on from, if there is one. Of several processes
        the main one does it, and all get the same checkpoint.
        """
        if processes.is_main():
            self._make_ready(progress)
        processes.wait()
        checkpoint = last_whole_checkpoint(self.folder)
        if checkpoint is not None:
            progress.note("resuming", checkpoint=checkpoint.name)
        return checkpoint

    def _make_ready(self, progress: Progress) -> None:
        with disk_errors(f"prepare {self.folder}"):
            if self.folder.exists() and self._owner() != self.digest:
                progress.note("discarded the unfinished work of another job", folder=str(self.folder))
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / JOB, {"job_digest": self.digest})
            if torn := discard_torn(self.folder):
                progress.note("discarded torn checkpoints", names=torn)

    def publish(self, fill: Callable[[Path], None], meta: dict[str, Any]) -> dict[str, Any]:
        """Let `fill` write the result into a temporary directory, add `meta.json`, rename it to `out`, tidy up."""
        temporary = self.job.out.with_name(f"tmp-{self.job.out.name}")
        with disk_errors(f"write the result {self.job.out}"):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            fill(temporary)
            fsync_tree(temporary)
            whole = {"model_digest": content_digest(temporary), **meta}
            write_json(temporary / META, whole)
            temporary.rename(self.job.out)
            fsync(self.job.out.parent)
            self.tidy()
        return whole

    def tidy(self) -> None:
        """Remove the unfinished work of a finished job; a kill right after the rename can leave it behind."""
        if self._owner() == self.digest:
            shutil.rmtree(self.folder)

    def _owner(self) -> object:
        try:
            return json.loads((self.folder / JOB).read_text(encoding="utf-8"))["job_digest"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
