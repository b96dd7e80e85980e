"""`cai evaluate`: measure models on held-out requests of the small world, where the truth is known."""

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.cli.run import PROFILES, home_option
from cai.errors import ConfigError

if TYPE_CHECKING:
    from cai.asks import OnProgress, Progress
    from cai.config import Profile
    from cai.evaluation import Rates
    from storage.store import Store

N_PROMPTS = 400
SET = "smallworld/eval"
STAGES = ("sl_cai", "rl_cai")


@click.command()
@click.option("--model", "named", multiple=True, metavar="NAME=PATH", help="A model to measure; may be repeated.")
@click.option("--profile", type=click.Path(path_type=Path), help="Engine, seed and sampling; the demo's otherwise.")
@home_option
@click.option("--n", type=click.IntRange(min=1), default=N_PROMPTS, show_default=True, help="Held-out requests.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the measured rates here.")
@click.option("--engine", "kind", type=click.Choice(["vllm", "transformers"]), help="In place of the profile's engine.")
def evaluate(
    named: tuple[str, ...], profile: Path | None, home: Path, n: int, json_file: Path | None, kind: str | None
) -> None:
    """Measure models on held-out requests of the small world, by its oracle.

    Without --model: the profile's own model as `seed`, and the latest `sl_cai` and `rl_cai` under --home. Responses
    are stored, and not asked for again. Rates come with 95 % intervals.

    \b
    cai evaluate
    cai evaluate --model mine=cai-home/models/mine --n 1000 --json rates.json
    """
    from cai.config import load_profile
    from cai.evaluation import to_json
    from cai.report.text import before_after_table
    from storage.store import Store

    settings = load_profile(profile or PROFILES / "demo.yaml")
    if kind is not None:
        engine = settings.engine.model_copy(update={"kind": kind})
        settings = settings.model_copy(update={"engine": engine})
    store = Store(home)
    models = _named(named) or _latest(store, settings)
    for name, path in models.items():
        click.echo(f"{name}: {path}", err=True)
    results = asyncio.run(_measure(models, store, settings, n))
    click.echo(before_after_table(results))
    if json_file is not None:
        json_file.write_text(json.dumps(to_json(results), indent=1), encoding="utf-8")


def _named(named: tuple[str, ...]) -> dict[str, Path]:
    from cai.models import resolve_model

    models: dict[str, Path] = {}
    for entry in named:
        name, separator, path = entry.partition("=")
        if not separator or not name or not path:
            raise ConfigError(f"--model {entry!r}: expected NAME=PATH, such as mine=cai-home/models/mine")
        if name in models:
            raise ConfigError(f"--model {name!r} is given twice; give each model a name of its own")
        models[name] = resolve_model(path)
    return models


def _latest(store: "Store", profile: "Profile") -> dict[str, Path]:
    """The seed model, and of each stage the finished model that is newest on the disk."""
    from cai.models import META, resolve_model
    from cai.records import Model

    models = {"seed": resolve_model(profile.engine.model)}
    stored = store.read(Model)
    for stage in STAGES:
        paths = [Path(model.path) for model in stored if model.name == stage]
        finished = [path for path in paths if (path / META).is_file()]
        if finished:
            models[stage] = max(finished, key=lambda path: (path / META).stat().st_mtime_ns)
        else:
            click.echo(f"{stage}: none under {store.home}; `cai demo` makes one", err=True)
    return models


async def _measure(models: dict[str, Path], store: "Store", profile: "Profile", n: int) -> "dict[str, Rates]":
    """Sample, store and measure; the evaluations are stored too."""
    from cai.engines import open_engine
    from cai.evaluation import answer_all, measure_smallworld, to_rows
    from cai.records import Reject, Response
    from cai.smallworld import world
    from storage.ledger import TableLedger

    prompts = world.prompts("eval", n, profile.seed)
    store.append(prompts)
    first = next(iter(models.values()))
    engine = await open_engine(profile.engine.model_copy(update={"model": str(first)}))
    try:
        with TableLedger(store, [prompt.prompt_id for prompt in prompts], (Response, Reject)) as ledger:
            answers = await answer_all(
                models,
                prompts,
                engine=engine,
                ledger=ledger,
                config=profile.evaluation,
                seed=profile.seed,
                max_concurrency=profile.engine.max_concurrency,
                progress=_on_stderr(),
            )
    finally:
        await engine.close()
    results = {name: measure_smallworld(prompts, responses) for name, responses in answers.items()}
    store.append(to_rows(results, answers, set=SET))
    return results


def _on_stderr() -> "OnProgress":
    """A line every few seconds, and one at the end of each model."""
    shown_s = time.monotonic()

    def show(progress: "Progress") -> None:
        nonlocal shown_s
        is_done = progress.n_done + progress.n_rejected == progress.n_total
        if is_done or time.monotonic() - shown_s > 5:
            shown_s = time.monotonic()
            found, rejected = f"{progress.n_reused} found", f"{progress.n_rejected} rejected"
            click.echo(f"  {progress.n_done}/{progress.n_total} responses, {found}, {rejected}", err=True)

    return show
