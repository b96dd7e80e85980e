"""`cai monitor`: production prompts and responses beside what a model was evaluated on."""

from pathlib import Path

import click

from cai.cli.run import home_option


@click.command(
    epilog="\b\nExamples:\n  cai monitor traffic.jsonl --against production\n"
    "  tail -n 5000 traffic.jsonl | cai monitor - --no-judge\n"
    "  cai monitor today.jsonl --baseline last-week.jsonl"
)
@click.argument("file")
@home_option
@click.option("--against", default="production", show_default=True, help="A model: its channel, name or digest.")
@click.option("--baseline", default="", help="A file of earlier traffic, in place of the model's evaluation.")
@click.option("--profile", default="", help="Whose judge scores; none: that of the run that made the model.")
@click.option(
    "--sample", type=click.IntRange(20, 20_000), default=2_000, show_default=True, help="Score at most so many."
)
@click.option("--judge/--no-judge", default=True, help="Let the judge score too; the reward model and the rules do.")
def monitor(file: str, home: Path, against: str, baseline: str, profile: str, sample: int, judge: bool) -> None:
    """Score a file of production traffic, and say whether its prompts have shifted or its scores have drifted.

    FILE has rows of `prompt` (or `messages`) and `response`; `-` is JSON lines on standard input. Exits with 3 on an
    alarm. Of the texts digests are stored; tags, and words that many prompts have, stand in the findings, with
    placeholders for e-mail addresses, phone numbers, keys and the like. What cannot be read is a reject, with a reason.
    """
    from cai.cli.tables import checked_home
    from cai.monitoring.text import summary
    from flows.monitoring import Wish
    from flows.monitoring import monitor as compared

    wish = Wish(
        home=checked_home(home), file=file, against=against, baseline=baseline, profile=profile, sample=sample,
        judge=judge,
    )  # fmt: skip
    made = compared(wish, lambda line: click.echo(line, err=True))
    click.echo(summary(made.compared, made.what(file)))
    if made.n_unscored:
        click.echo(f"{made.n_unscored} could not be scored; `cai sql rejects --home {home}` says why", err=True)
    if made.compared.alarms:
        raise SystemExit(3)
