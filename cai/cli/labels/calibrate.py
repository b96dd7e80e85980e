"""`cai labels calibrate`: fit a map from a judge's probabilities to gold, and keep it as a record."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cai.cli.tables import checked_home, format_table, home_option
from cai.errors import DataError

if TYPE_CHECKING:
    from cai.labels.recalibration import Fitted


@click.command(epilog="\b\nExample:\n  cai labels calibrate --method isotonic")
@home_option()
@click.option("--judge", help="Digest of the judge, or how it begins; needed where several have labelled gold pairs.")
@click.option("--method", type=click.Choice(["temperature", "isotonic"]), default="temperature", show_default=True)
@click.option("--objective", help="Only gold of this objective, such as harmlessness.")
def calibrate(home: Path, judge: str | None, method: Literal["temperature", "isotonic"], objective: str | None) -> None:
    """Fit what a judge's probabilities mean on gold pairs; a profile then names the record."""
    from cai.labels.opinions import opinions_of
    from cai.labels.recalibration import fit
    from cai.records import Annotation
    from storage.store import Store
    from storage.verdicts import read_labels

    store = Store(checked_home(home))
    version = store.version(Annotation)
    labels = read_labels(store, objective=objective)
    said = labels.annotated
    sources = {source for source, is_gold in zip(said.source, said.is_gold, strict=True) if is_gold}
    if not sources:
        about = f" of the objective {objective!r}" if objective else ""
        raise DataError(f"no gold pairs{about} under {home} to fit to; `cai gold import` brings them in")
    fitted = fit(
        opinions_of(labels.verdicts, said),
        chosen_judge(labels.verdicts.judges, judge),
        method,
        gold_sources=sorted(sources),
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
