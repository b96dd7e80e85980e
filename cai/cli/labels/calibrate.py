"""`cai labels calibrate`: fit a map from a judge's probabilities to gold, and keep it as a record."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cai.cli.tables import checked_home, format_table, home_option
from cai.errors import DataError

if TYPE_CHECKING:
    from cai.labels.recalibration import Fitted


@click.command(epilog="\b\nExample:\n  cai labels calibrate my.yaml --method isotonic")
@click.argument("profile", type=click.Path(path_type=Path))
@home_option()
@click.option("--judge", help="Digest of the judge, or how it begins; needed where several have labelled gold pairs.")
@click.option("--method", type=click.Choice(["temperature", "isotonic"]), default="temperature", show_default=True)
@click.option("--objective", help="Only gold of this objective, such as harmlessness.")
def calibrate(
    profile: Path, home: Path, judge: str | None, method: Literal["temperature", "isotonic"], objective: str | None
) -> None:
    """Fit what a judge's probabilities mean on gold pairs; a profile then names the record.

    What is fitted is what labels are made of: the mean over the principles that PROFILE asks about, by their weight in
    its constitution. Nothing is asked: gold pairs that were never compared are left out, and `cai labels explain gold
    --profile PROFILE` compares them. Fit again when the principles, their weights or the way they are asked change.
    """
    from cai.config import load_profile
    from cai.constitution import load_constitution
    from cai.feedback import Labelling
    from cai.labels.recalibration import fit, sample_of
    from cai.preferences import raw_means
    from cai.records import Annotation, Comparison
    from flows.judges import read_gold
    from storage.store import Store

    settings = load_profile(profile)
    store = Store(checked_home(home))
    version = store.version(Annotation)
    gold = read_gold(store, objective)
    rows = store.of_prompts(Comparison, {pair.prompt.prompt_id for pair in gold.pairs})
    about_gold = [row for row in rows if (row.response_a, row.response_b) in gold.sides]
    digest = chosen_judge(sorted({row.judge_digest for row in about_gold}), judge)
    constitution = load_constitution(settings.constitution)
    labelling = Labelling(constitution, settings.feedback, seed=settings.seed, judge_digest=digest)
    means = raw_means(gold.pairs, about_gold, labelling=labelling, config=settings.preferences)
    fitted = fit(
        sample_of(gold.pairs, means, gold.sides),
        digest,
        method,
        gold_sources=gold.sources,
        gold_version=-1 if version is None else version,
    )
    store.append([fitted.record])
    click.echo(_text(fitted))


def chosen_judge(judges: list[str], beginning: str | None) -> str:
    """The one judge whose digest begins so."""
    found = [judge for judge in judges if judge.startswith(beginning or "")]
    if len(found) != 1:
        names = ", ".join(judge[:12] for judge in found or judges) or "none"
        raise DataError(
            f"one judge is expected, {beginning or 'any'!r} fits {len(found)}; give --judge, one of: {names}"
        )
    return found[0]


def _text(fitted: "Fitted") -> str:
    record = fitted.record
    rows = [
        [name, measured.ece.value, measured.floor.high, measured.brier.value]
        for name, measured in (("before", fitted.before), ("after, cross-validated", fitted.after))
    ]
    shape = f"temperature {record.xs[0]:.3f}" if record.method == "temperature" else f"{len(record.xs)} points"
    better = record.brier_after < record.brier_before
    advice = (
        f"To use it, put into the profile:\n  preferences:\n    recalibration: {record.recalibration_id}"
        if better
        else "The Brier score did not fall: the judge's own probabilities are as good; leave the profile as it is."
    )
    table = format_table(["", "ECE", "by chance, 95 %", "Brier"], rows)
    return (
        f"{record.method} on {record.n} gold pairs of judge {record.judge_digest[:12]}: {shape}\n\n{table}\n\n{advice}"
    )
