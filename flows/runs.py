"""A run's folder: what was asked for (`run.json`), which rows it is about, what each step reported when it was done.

The same profile, constitution, prompts and code of ids give the same run id, so the same command goes on with the same
run; any edit gives another run, which finds the rows it shares with earlier ones in the tables.
"""

import datetime
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from cai import __version__
from cai.config import AnySource, EngineConfig, Profile, PromptSource, found, load_profile, problems, replace_sources
from cai.config.prompts import GENERATED
from cai.constitution import Constitution, load_constitution
from cai.errors import ConfigError, ConstitutionError, DataError
from cai.files import file_digest
from cai.models import look_up, model_digest, read_meta, resolve_model
from cai.records import Prompt, Run, RunStatus, digest
from cai.smallworld import world
from cai.source import code_version
from cai.splits import Split
from flows.people import ANNOTATIONS, keep_annotations, people_digest
from flows.rounds import at_round
from storage.generated import generated_prompts
from storage.hub import HUB, is_dataset
from storage.place import has_tables
from storage.store import Store

logger = logging.getLogger(__name__)
_IDS, _IDS_AT_A_TIME = pa.schema({"id": pa.string()}), 100_000


@dataclass(frozen=True)
class RunFolder:
    """One run under a home directory."""

    home: Path
    run_id: str
    profile: Profile
    constitution: Constitution
    without: str
    sources: tuple[str, ...] = ()
    """Digests of what the profile names under `prompts`, as it was when the run began; none where nobody noted them."""

    @property
    def path(self) -> Path:
        return self.home / "runs" / self.run_id

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def result(self, step: str) -> dict[str, Any] | None:
        """What a finished step reported; None means that it is not finished."""
        path = self.path / "steps" / f"{step}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def finish(self, step: str, result: dict[str, Any]) -> None:
        write_atomically(self.path / "steps" / f"{step}.json", json.dumps(result, indent=1))

    def ids(self, name: str) -> list[str]:
        """A list of row ids that a step left for the next ones."""
        column: list[str] = pq.read_table(self.path / "ids" / f"{name}.parquet")["id"].to_pylist()
        return column

    def n_ids(self, name: str) -> int:
        return int(pq.read_metadata(self.path / "ids" / f"{name}.parquet").num_rows)

    def ids_of(self, name: str) -> list[str]:
        """The row ids that a step left, one shard after the other where it worked in shards.

        Raises:
            DataError: the step is not finished.
        """
        if (self.path / "ids" / f"{name}.parquet").is_file():
            return self.ids(name)
        prompts = self.result("prompts")
        shards = [f"{name}-{i}" for i in range(0 if prompts is None else int(prompts["n_shards"]))]
        if not shards or not all((self.path / "ids" / f"{shard}.parquet").is_file() for shard in shards):
            raise DataError(f"run {self.run_id} has not made all its {name} yet; start it again to go on with it")
        return [row_id for shard in shards for row_id in self.ids(shard)]

    def trained_on(self) -> list[str]:
        """The prompts that this run's models learn from, so far: none of them is fit to measure with."""
        people = [at_round("people-prompts", number) for number in range(self.profile.rounds)]
        names = ("prompts", "helpful-prompts", *people)
        return [row_id for n in names if (self.path / "ids" / f"{n}.parquet").is_file() for row_id in self.ids(n)]

    def save_ids(self, name: str, ids: Iterable[str]) -> None:
        def write(path: Path) -> None:
            rows = iter(ids)
            with pq.ParquetWriter(path, _IDS) as file:
                while group := list(islice(rows, _IDS_AT_A_TIME)):
                    file.write_table(pa.table({"id": group}, schema=_IDS))

        replace_with(self.path / "ids" / f"{name}.parquet", write)


def plan_run(profile: Profile, home: Path, *, without: str = "", fetch: bool = True) -> RunFolder:
    """The folder this profile's run has; writes nothing. `without` drops every principle that bears the tag.

    Weights that only the hub has are fetched, for the run's id is of their bytes too; without `fetch` it is of their
    name until they are here.
    """
    constitution = load_constitution(profile.constitution)
    if without:
        constitution = constitution.without(without)
    helpful = () if profile.helpful is None else profile.helpful.prompts
    sources = [source_digest(source, "train", profile.seed, home) for source in profile.prompts]
    asked_for = {
        "profile": {**profile.model_dump(mode="json", exclude={"generate"}), "constitution": constitution.name},
        "constitution_digest": constitution.digest(),
        "self_test": [asdict(pair) for pair in constitution.self_test],
        "models": [engine_digest(engine, fetch=fetch) for engine in (profile.engine, *profile.judges)],
        "prompts": sources,
        "helpful": [source_digest(source, "train", profile.seed, home) for source in helpful],
        "held_out": [source_digest(source, "eval", profile.seed, home) for source in profile.evaluation.prompts],
        "people": people_digest(profile, home),
        "without": without,
    }
    run_id = f"{profile.name}{f'-without-{without}' if without else ''}-{digest('run', asked_for)[:10]}"
    return RunFolder(home, run_id, profile, constitution, without, tuple(sources))


def create_run(profile: Profile, home: Path, *, without: str = "") -> RunFolder:
    """Make the run's folder, or find it."""
    run = plan_run(profile, home, without=without)
    if not (run.path / "run.json").is_file():
        text = profile.constitution.read_text(encoding="utf-8")
        write_atomically(run.path / "constitution.yaml", text)
        if (people := profile.people) is not None:
            replace_with(run.path / ANNOTATIONS, lambda path: keep_annotations(path, people, home))
        if any(source.path == GENERATED for source in profile.prompts):
            run.save_ids(GENERATED, [prompt.prompt_id for prompt in generated_now(profile, home)])
        asked_for = {"profile": profile.model_dump(mode="json"), "without": without, "sources": run.sources}
        body = {**asked_for, "started_at": now(), "code": code_version()}
        write_atomically(run.path / "run.json", json.dumps(body, indent=1))
    return run


def open_run(home: Path, run_id: str) -> RunFolder:
    """The run as it was asked for, with the constitution as it stood then.

    Raises:
        ConfigError: there is no such run, or it is one of a version with other settings.
    """
    path = home / "runs" / run_id
    if not (path / "run.json").is_file():
        raise ConfigError(f"no run {run_id!r} under {home}; the runs there: {_newest_runs(home)}")
    body = json.loads((path / "run.json").read_text(encoding="utf-8"))
    try:
        profile, constitution = Profile.model_validate(body["profile"]), load_constitution(path / "constitution.yaml")
    except (ValidationError, ConstitutionError) as error:
        why = problems(error) if isinstance(error, ValidationError) else str(error)
        by = body.get("code", {})
        raise ConfigError(
            f"run {run_id!r} under {home} was started by cai-flows {by.get('version', 'of unknown version')} (commit "
            f"{by.get('commit') or 'unknown'}), and this one, {__version__}, cannot read it: {why}. Go on with it in "
            "that version; or start a profile that this one reads as a new run: rows that both have are in the tables "
            "and are not asked for again"
        ) from error
    without = body["without"]
    return RunFolder(
        home,
        run_id,
        profile,
        constitution.without(without) if without else constitution,
        without,
        tuple(body.get("sources", ())),
    )


def readable_runs(home: Path) -> Iterator[RunFolder]:
    """The runs of a home, the newest first; those of versions with other settings are passed over, and named."""
    for name in _names(home):
        try:
            yield open_run(home, name)
        except ConfigError:  # says why to who opens that run
            logger.warning("run %s is passed over: a version with other settings started it", name)


def _names(home: Path) -> list[str]:
    files = sorted(home.glob("runs/*/run.json"), key=lambda path: (path.stat().st_mtime_ns, path), reverse=True)
    return [path.parent.name for path in files]


def _newest_runs(home: Path, n: int = 10) -> str:
    """The runs of a home, the newest first."""
    names = _names(home)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return f"{', '.join(names[:n])}{more} (the newest first)" if names else "none yet"


def run_row(run: RunFolder, status: RunStatus) -> Run:
    """The run as the table `runs` has it."""
    body = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    return Run(
        run_id=run.run_id,
        profile=run.profile.name,
        started_at=body["started_at"],
        constitution_digest=run.constitution.digest(),
        config=json.dumps(body["profile"], sort_keys=True),
        status=status,
        base_digest=base_digest(run),
        ended_at="" if status in ("running", "waiting") else now(),
    )


def base_digest(run: RunFolder) -> str:
    """The model that the reward model and the policy of this run start from; "" until one is trained or trained from.

    It is read from what training reported, not from the profile: a path there may lead to other weights by now.
    """
    if (sft := run.result("sft")) is not None:
        return str(sft["model_digest"])
    if run.profile.sft is not None:
        return ""
    trained = [result for step in ("reward_model", "rl") if (result := run.result(step)) is not None]
    metas = [meta for result in trained if (meta := read_meta(Path(result["path"]))) is not None]
    return str(metas[0]["parent_digest"]) if metas else ""


def profile_with(
    path: Path, *, prompts: Sequence[str] = (), limit: int | None = None, constitution: Path | None = None
) -> Profile:
    """A profile with what the command line overrides; every override is in the run's id."""
    profile = load_profile(path)
    update: dict[str, Any] = {"prompts": replace_sources(profile.prompts, prompts, limit, PromptSource)}
    if constitution is not None:
        update["constitution"] = found(constitution)
    return profile.model_copy(update=update)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_atomically(path: Path, text: str) -> None:
    replace_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def engine_digest(engine: EngineConfig, *, fetch: bool = True) -> str:
    """Weights of our own are known by their bytes; a server's model by its name alone, and so, without `fetch`, is one
    that only the hub has.
    """
    if not engine.has_weights:
        return engine.model
    path = resolve_model(engine.model) if fetch else look_up(engine.model)
    return engine.model if path is None else model_digest(path)


def generated_now(profile: Profile, home: Path) -> list[Prompt]:
    """What the source `generated` has, where the profile names it; a run keeps to what it was when it began."""
    source = next((source for source in profile.prompts if source.path == GENERATED), None)
    return [] if source is None else _generated(source, profile.seed, home)


def _generated(source: AnySource, seed: int, home: Path) -> list[Prompt]:
    kind = source.kind if isinstance(source, PromptSource) else ""
    return generated_prompts(Store(home), source.limit, seed, kind) if has_tables(home) else []


def source_digest(source: AnySource, split: Split, seed: int, home: Path | None = None) -> str:
    """Of a file its bytes, of a saved dataset all its files; of one on the hub its name alone; of `generated` the ids
    of what a model wrote into `home`.

    Raises:
        DataError: it is not there.
    """
    if source.path == GENERATED and home is not None:
        return digest(GENERATED, [prompt.prompt_id for prompt in _generated(source, seed, home)])
    if source.path == "smallworld":
        return digest("smallworld", [p.prompt_id for p in world.prompts(split, source.n_made(), seed)])
    path = Path(source.path)
    if source.path.startswith(HUB):
        return source.path
    if is_dataset(source.path):
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest("dataset", [[file.relative_to(path).as_posix(), file_digest(file)] for file in files])
    if not path.is_file():
        raise DataError(
            f"no prompts at {source.path!r}; expected a file, a saved dataset, hf:OWNER/NAME or `smallworld`"
        )
    return file_digest(path)
