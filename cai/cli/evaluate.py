"""`cai evaluate`: any models on any prompts. Rates by the oracle where the truth is known, win rates by the judge."""

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai.cli.run import PROFILES, home_option
from cai.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cai.asks import OnProgress, Progress
    from cai.config import EngineConfig, Profile
    from cai.constitution import Constitution
    from cai.evaluation import Measured
    from cai.records import Prompt
    from storage.store import Store

STAGES = ("sl_cai", "rl_cai")
Models = dict[str, Path | str]


@click.command()
@click.option("--model", "named", multiple=True, metavar="NAME=MODEL", help="A model to measure; may be repeated.")
@click.option(
    "--profile", type=click.Path(path_type=Path), help="Engine, judge, constitution, prompts; else the demo's."
)
@home_option
@click.option("--prompts", "files", multiple=True, metavar="FILE", help="In place of the profile's; may be repeated.")
@click.option("--n", type=click.IntRange(min=1), help="Take so many prompts of each source.")
@click.option(
    "--win-rate-prompts",
    type=click.IntRange(min=0),
    metavar="N",
    help="Have the judge compare on so many prompts; 0: not at all. The profile's number otherwise.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write what was measured here.")
@click.option("--engine", "kind", type=click.Choice(["vllm", "transformers"]), help="In place of the profile's engine.")
def evaluate(
    named: tuple[str, ...],
    profile: Path | None,
    home: Path,
    files: tuple[str, ...],
    n: int | None,
    win_rate_prompts: int | None,
    json_file: Path | None,
    kind: str | None,
) -> None:
    """Measure models on held-out prompts.

    On prompts of the small world: rates per kind of harm, by its oracle. On any prompts: how often the profile's judge
    prefers each model to every one before it, under the profile's constitution, as it is and if responses were as
    long; of three models or more their Elo ratings. All with 95 % intervals.

    Without --model: the profile's own model as `seed`, and the latest `sl_cai` and `rl_cai` under --home. Without
    --prompts: those under `evaluation` in the profile. Prompts that a model's run trained on are left out.
    Responses and comparisons are stored, and not asked for again.

    \b
    cai evaluate
    cai evaluate --model mine=cai-home/models/mine --n 1000 --win-rate-prompts 0 --json rates.json
    cai evaluate --profile my.yaml --model old=models/old --model new=models/new --prompts held-out.jsonl
    """
    from cai.constitution import load_constitution
    from cai.evaluation import to_json
    from cai.report.text import results_text
    from cai.turns import accelerator_of, taken
    from storage.store import Store

    settings = _settings(profile or PROFILES / "demo.yaml", files, n, win_rate_prompts, kind)
    constitution = load_constitution(settings.constitution)
    store = Store(home)
    models = _named(named, settings.engine) or _latest(store, settings)
    prompts = _prompts(models, store, settings)
    for name, model in models.items():
        click.echo(f"{name}: {model}", err=True)
    with taken(accelerator_of((settings.engine, *settings.judges), "`cai evaluate`")):
        measured = asyncio.run(_measure(models, prompts, store, settings, constitution))
    click.echo(results_text(measured.rates, measured.win_rates, elo=measured.elo))
    if json_file is not None:
        json_file.write_text(json.dumps(to_json(measured.metrics()), indent=1), encoding="utf-8")


def _settings(
    path: Path, files: tuple[str, ...], n: int | None, win_rate_prompts: int | None, kind: str | None
) -> "Profile":
    """The profile with what the command line overrides."""
    from cai.config import load_profile, replace_sources

    profile = load_profile(path)
    sources = replace_sources(profile.evaluation.prompts, files, n)
    if not sources:
        raise ConfigError(f"profile {path} names no prompts under `evaluation`; give some with --prompts FILE")
    change: dict[str, Any] = {"prompts": sources}
    if win_rate_prompts is not None:
        change["win_rate_prompts"] = win_rate_prompts
    evaluation = profile.evaluation.model_copy(update=change)
    engine = profile.engine if kind is None else profile.engine.model_copy(update={"kind": kind})
    return profile.model_copy(update={"engine": engine, "evaluation": evaluation})


def _named(named: tuple[str, ...], engine: "EngineConfig") -> Models:
    models: Models = {}
    for entry in named:
        name, separator, model = entry.partition("=")
        if not separator or not name or not model:
            raise ConfigError(f"--model {entry!r}: expected NAME=MODEL, such as mine=cai-home/models/mine")
        if name in models:
            raise ConfigError(f"--model {name!r} is given twice; give each model a name of its own")
        models[name] = _found(model, engine)
    return models


def _found(model: str, engine: "EngineConfig") -> Path | str:
    """Where a model's weights are; for a server, what it calls the model."""
    from cai.models import resolve_model

    return model if engine.kind == "openai" else resolve_model(model)


def _latest(store: "Store", profile: "Profile") -> Models:
    """The seed model, and of each stage the finished model that is newest on the disk."""
    from cai.models import META
    from cai.records import Model

    models: Models = {"seed": _found(profile.engine.model, profile.engine)}
    if profile.engine.kind == "openai":
        click.echo("only the seed model: name others that the server serves with --model", err=True)
        return models
    stored = store.read(Model)
    for stage in STAGES:
        paths = [Path(model.path) for model in stored if model.name == stage]
        finished = [path for path in paths if (path / META).is_file()]
        if finished:
            models[stage] = max(finished, key=lambda path: (path / META).stat().st_mtime_ns)
        else:
            click.echo(f"{stage}: none under {store.home}; `cai demo` makes one", err=True)
    return models


def _prompts(models: Models, store: "Store", profile: "Profile") -> "list[Prompt]":
    """The held-out prompts, stored with what was rejected.

    Raises:
        DataError: there are none.
        ConfigError: nothing could be measured with them.
    """
    from cai.evaluation import held_out, is_smallworld
    from cai.privacy import Guard
    from cai.records import Prompt
    from storage.imports import read_sources

    config = profile.evaluation
    rows = list(read_sources(config.prompts, "eval", profile.seed, Guard(profile.privacy)))
    prompts, rejects = held_out(rows, _trained_on(models, store, [row for row in rows if isinstance(row, Prompt)]))
    store.append([*prompts, *rejects])
    if rejects:
        click.echo(f"{len(rejects)} prompts rejected; `cai sql rejects --home {store.home}` says why", err=True)
    if not prompts:
        raise DataError(f"none of the rows in {[source.path for source in config.prompts]} can be measured with")
    if not is_smallworld(prompts) and (len(models) < 2 or not config.win_rate_prompts):
        raise ConfigError(
            "on prompts whose truth is not known only win rates can be measured: give two models or more, "
            "and --win-rate-prompts above 0"
        )
    return prompts


def _trained_on(models: Models, store: "Store", prompts: "list[Prompt]") -> dict[str, str]:
    """Prompt id → run, for the prompts of every run that made one of the models and still has its folder, and for
    those of `prompts` that one of them repeats.
    """
    from cai.held_out import Repeats
    from cai.models import read_meta
    from cai.records import Model, Prompt
    from flows.runs import open_run

    made = [read_meta(model) for model in models.values() if isinstance(model, Path)]
    digests = {meta["model_digest"] for meta in made if meta}
    run_ids = sorted({model.run_id for model in store.read(Model) if model.model_digest in digests})
    runs = [open_run(store.home, i) for i in run_ids if (store.home / "runs" / i / "run.json").is_file()]
    trained = {prompt_id: run.run_id for run in runs for prompt_id in run.trained_on()}
    repeats, read = Repeats(prompts), store.find_all(Prompt, list(trained))
    near = {held: trained[prompt_id] for prompt_id, prompt in read.items() for held in repeats.found(prompt)}
    return near | trained


async def _measure(
    models: Models, prompts: "list[Prompt]", store: "Store", profile: "Profile", constitution: "Constitution"
) -> "Measured":
    """Sample, judge and store."""
    from cai.engines.slot import EngineSlot
    from cai.evaluation import SMALLWORLD_SET, evaluate_models, to_rows
    from cai.records import Comparison, Reject, Response
    from storage.ledger import TableLedger

    engines = EngineSlot()
    try:
        with TableLedger(store, [prompt.prompt_id for prompt in prompts], (Response, Comparison, Reject)) as ledger:
            measured = await evaluate_models(
                models,
                prompts,
                profile=profile,
                constitution=constitution,
                engines=engines,
                ledger=ledger,
                progress=_on_stderr(),
            )
    finally:
        await engines.close()
    store.append(to_rows(measured.rates, measured.answers, set=SMALLWORLD_SET))
    return measured


def _on_stderr() -> "OnProgress":
    """A line every few seconds, and one at the end of each model and each comparison of two."""
    shown_s = time.monotonic()

    def show(progress: "Progress") -> None:
        nonlocal shown_s
        is_done = progress.n_done + progress.n_rejected == progress.n_total
        if is_done or time.monotonic() - shown_s > 5:
            shown_s = time.monotonic()
            what = "comparisons" if progress.stage == "labels" else "responses"
            found, rejected = f"{progress.n_reused} found", f"{progress.n_rejected} rejected"
            click.echo(f"  {progress.n_done}/{progress.n_total} {what}, {found}, {rejected}", err=True)

    return show
