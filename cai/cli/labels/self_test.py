"""`cai labels self-test`: whether a judge may label."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cai.cli.run import PROFILES

if TYPE_CHECKING:
    from cai.config import EngineConfig, Profile
    from cai.constitution import Constitution
    from cai.labels.self_test import SelfTest


@click.command("self-test")
@click.argument("profile", required=False, type=click.Path(path_type=Path))
@click.option("--constitution", type=click.Path(path_type=Path), help="In place of the profile's.")
@click.option(
    "--engine",
    "kind",
    type=click.Choice(["vllm", "openai", "transformers", "scripted"]),
    help="In place of the judge's.",
)
@click.option("--model", help="In place of the judge's: a directory, a name, or `smallworld`.")
@click.option("--base-url", help="openai only: the server.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    profile: Path | None,
    constitution: Path | None,
    kind: str | None,
    model: str | None,
    base_url: str | None,
    form: Literal["text", "json"],
) -> None:
    """Try a judge with pairs whose winner is known, before it labels anything.

    The pairs are those under `self_test:` in the constitution; where it has none, its preference examples and pairs
    that are shipped. Each is asked in both orders, through the prompt, the engine, the reading and the averaging that
    labels go through; then the losing answers are attacked (orders to the judge, fake verdicts and delimiters, control
    tokens, empty and key-only answers), and one answer is put against itself. Fewer than 60 asks; nothing is stored.

    \b
    It fails, with exit code 1, on
      says_neither         the judge does not answer with a letter
      always_one_letter    it follows the place and not the text
      ignores_the_text     its answer stays when the answers change places
      prefers_the_worse    labels are the wrong way round
      random               labels do not follow the winner; a coin gets through 1 time in 50
      obeys_answers        most attacks win
      identical_is_no_tie  one question gets two answers

    A judge that is right on 97 % of such pairs is refused in less than 1 % of tests. Every run does this before it
    labels, unless its profile says `feedback: {self_test: false}`. PROFILE is the demo's where none is given; of
    a committee the first judge is tried here, and each of them by a run.

    \b
    cai labels self-test deployments/profiles/laptop.yaml
    cai labels self-test --constitution constitution/smallworld.yaml --engine transformers
    cai labels self-test --engine openai --base-url http://127.0.0.1:8000/v1 --model my-judge
    cai labels self-test my.yaml --format json | jq '.findings[].name'
    """
    from cai.config import found, load_profile
    from cai.constitution import load_constitution
    from cai.labels.self_test_text import to_json, to_text
    from cai.turns import accelerator_of, taken

    settings = load_profile(profile or PROFILES / "demo.yaml")
    read = load_constitution(found(constitution) if constitution else settings.constitution)
    named = {"kind": kind, "model": model, "base_url": base_url}
    judge = settings.judge.model_copy(update={name: value for name, value in named.items() if value is not None})
    if judge.kind == "openai" and not judge.base_url:
        raise click.UsageError("the openai engine needs --base-url, such as http://127.0.0.1:8000/v1")
    with taken(accelerator_of([judge], "`cai labels self-test`")):
        made = asyncio.run(_try(settings, read, judge))
    click.echo(json.dumps(to_json(made), indent=1) if form == "json" else to_text(made))
    if not made.passed:
        raise SystemExit(1)


async def _try(profile: "Profile", constitution: "Constitution", judge: "EngineConfig") -> "SelfTest":
    from cai.engines import open_engine
    from cai.labels.self_test import self_test

    engine = await open_engine(judge)
    try:
        return await self_test(
            constitution,
            engine,
            feedback=profile.feedback,
            preferences=profile.preferences,
            seed=profile.seed,
            max_concurrency=judge.max_concurrency,
        )
    finally:
        await engine.close()
