"""`cai labels explain`: which principles explain a set of preference pairs."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from cai.cli.tables import checked_home, format_table, home_option
from cai.errors import DataError

if TYPE_CHECKING:
    from cai.config import Profile
    from cai.feedback import ResponsePair
    from cai.intervals import Rate
    from cai.labels.explain import Explanation
    from cai.records import Annotation, Prompt, Response
    from storage.store import Store

GOLD = "gold"


class Pairs(NamedTuple):
    """What somebody prefers: P(a is better) by pair, and the texts that it is about."""

    labels: "dict[str, float]"
    prompts: "dict[str, Prompt]"
    responses: "dict[str, Response]"
    prompt_of: "dict[str, str]"

    def asked(self) -> "list[ResponsePair]":
        """The pairs that are no ties, in the order of their names; a tie explains nothing."""
        from cai.feedback import ResponsePair

        found = []
        for pair in sorted(pair for pair, p in self.labels.items() if p != 0.5):
            a, b = pair.split("/")
            found.append(ResponsePair.of(self.prompts[self.prompt_of[pair]], self.responses[a], self.responses[b]))
        return found


@click.command(
    epilog="\b\nExamples:\n  cai labels explain team.csv --profile deployments/profiles/laptop.yaml\n"
    "  cai labels explain helpful.jsonl --judge 1f2e --format json\n  cai labels explain gold"
)
@click.argument("pairs", metavar="FILE_OR_SOURCE")
@home_option()
@click.option(
    "--profile", type=click.Path(path_type=Path), help="Ask its judge first, under all principles of its constitution."
)
@click.option("--judge", help="Digest of the judge, or how it begins; needed where several compared these pairs.")
@click.option("--objective", help="Only annotations of this objective, such as harmlessness.")
@click.option("--examples", "n_examples", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def explain(
    pairs: str,
    home: Path,
    profile: Path | None,
    judge: str | None,
    objective: str | None,
    n_examples: int,
    style: Literal["text", "json"],
) -> None:
    """Say which principles explain what somebody prefers, and what none of them does.

    FILE_OR_SOURCE is a file that `cai labels import` reads, a source that `cai sql people` names, or `gold`. What
    counts are the stored comparisons of these pairs under each principle; with --profile they are made first, where
    they are missing. A file is compared with what is stored; its own labels are not.

    Each principle's votes are held against the labels: 0.5 is no relation, and below it the data prefers the
    opposite. Then a list of few principles, the first that leans deciding, that together explain the most. Pairs that
    the list leaves open are where a principle may be missing; they are shown.
    """
    from cai.cli.labels.calibrate import chosen_judge
    from cai.cli.labels.report import as_json
    from cai.config import PreferencesConfig, load_profile
    from cai.labels.explain import explain as explained
    from storage.store import Store
    from storage.verdicts import read_labels

    settings = None if profile is None else load_profile(profile)
    store = Store(home if settings is not None else checked_home(home))
    said = _of_file(Path(pairs), objective) if Path(pairs).is_file() else _of_source(store, pairs, objective)
    asked = None if settings is None else asyncio.run(_ask(store, settings, said))
    preferences = PreferencesConfig() if settings is None else settings.preferences
    verdicts = read_labels(store, prompts=list(said.prompts), max_mass_outside=preferences.max_mass_outside).verdicts
    found = explained(verdicts, said.labels, asked or chosen_judge(verdicts.judges, judge), n_examples=n_examples)
    click.echo(json.dumps(as_json(found), indent=1, allow_nan=False) if style == "json" else _text(found, said))


def _of_file(path: Path, objective: str | None) -> Pairs:
    from storage.annotations import Import, Said, read_annotations

    rows = [row for row in read_annotations(path, Import(path.name, b"")) if isinstance(row, Said)]
    annotations = [each for row in rows for each in row.annotations]
    prompts = {row.prompt.prompt_id: row.prompt for row in rows}
    responses = {response.response_id: response for row in rows for response in row.responses}
    return _pairs(annotations, prompts, responses, objective, str(path))


def _of_source(store: "Store", source: str, objective: str | None) -> Pairs:
    from cai.records import Annotation, Prompt, Response

    annotations = [
        row
        for row in store.read(Annotation)
        if (row.is_gold if source == GOLD else not row.is_gold and row.source == source)
    ]
    prompts = store.find_all(Prompt, {row.prompt_id for row in annotations})
    responses = store.find_all(Response, {key for row in annotations for key in (row.response_a, row.response_b)})
    return _pairs(annotations, prompts, responses, objective, source)


def _pairs(
    annotations: "Sequence[Annotation]",
    prompts: "dict[str, Prompt]",
    responses: "dict[str, Response]",
    objective: str | None,
    name: str,
) -> Pairs:
    """The mean P(a better) of each pair."""
    said: dict[str, list[float]] = {}
    prompt_of: dict[str, str] = {}
    for row in annotations:
        if objective is None or row.objective == objective:
            pair = f"{row.response_a}/{row.response_b}"
            said.setdefault(pair, []).append(row.p_a)
            prompt_of[pair] = row.prompt_id
    if not said:
        raise DataError(
            f"{name!r} is no file, and nothing is stored of such a source"
            + (f" under the objective {objective!r}" if objective else "")
            + "; `cai sql people` and `cai gold list` name the sources"
        )
    return Pairs({pair: sum(p) / len(p) for pair, p in said.items()}, prompts, responses, prompt_of)


async def _ask(store: "Store", profile: "Profile", said: Pairs) -> str:
    """Have the profile's judge compare the pairs under every principle, but for what is stored; its digest."""
    from cai.constitution import load_constitution
    from cai.engines import open_engine
    from cai.feedback import label
    from cai.records import Comparison, Reject
    from storage.ledger import TableLedger

    every = profile.feedback.model_copy(update={"principles": "all"})
    store.append([*said.prompts.values(), *said.responses.values()])
    engine = await open_engine(profile.judge)
    try:
        with TableLedger(store, list(said.prompts), (Comparison, Reject)) as ledger:
            result = await label(
                said.asked(),
                constitution=load_constitution(profile.constitution),
                engine=engine,
                ledger=ledger,
                config=every,
                seed=profile.seed,
                max_concurrency=profile.judge.max_concurrency,
            )
        click.echo(f"{result.n_requests} asked, {result.n_reused} found, {result.n_rejected} rejected", err=True)
        return engine.model_digest
    finally:
        await engine.close()


def _text(found: "Explanation", said: Pairs) -> str:
    counts = f"{found.n_pairs} pairs, compared by judge {found.judge_digest[:12]}"
    left = f"{found.n_ties} ties and {found.n_unasked} that it was not asked about are left out"
    votes = [[vote.principle_id, *_shown(vote.agreement), *_shown(vote.coverage)[:1]] for vote in found.votes]
    steps = [
        [step.principle_id, *_shown(step.agreement), *_shown(step.adds)[:1], *_shown(step.explained)[:1]]
        for step in found.steps
    ]
    shares = [
        [name, *_shown(rate)]
        for name, rate in (
            ("explained by the list", found.explained),
            ("decided against the label", found.contradicted),
            ("left open", found.silent),
            ("some principle agrees", found.by_any),
        )
    ]
    return "\n\n".join(
        [
            f"{counts}; {left}.",
            format_table(["principle", "agrees", "95 %", "leans on"], votes),
            format_table(["the list", "agrees", "95 %", "of those open, decides", "explained so far"], steps),
            format_table(["of all pairs", "share", "95 %"], shares)
            + "\n(each half of the prompts by the list that the other half chooses)",
            *_examples(found, said),
        ]
    )


def _examples(found: "Explanation", said: Pairs) -> list[str]:
    shown = []
    for each in found.examples:
        a, b = each.pair.split("/")
        other = b if each.prefers == a else a
        why = "no principle leans" if each.is_silent else f"{each.principle_id} says {each.p_preferred:.2f}"
        lines = [
            ["asked", said.prompts[said.prompt_of[each.pair]].messages[-1].content],
            ["preferred", said.responses[each.prefers].text],
            ["other", said.responses[other].text],
        ]
        shown.append(format_table([why, "text"], lines, width=100))
    return ["Unexplained, where a principle may be missing:", *shown] if shown else []


def _shown(rate: "Rate") -> tuple[str, str]:
    if not rate.n:
        return "unknown", ""
    return f"{rate.value:.1%}", f"{rate.low:.1%} to {rate.high:.1%}"
