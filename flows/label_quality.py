"""The labels of one run as columns: its judges, on its prompts. What is measured of them is in `cai.labels`."""

from cai.errors import ConfigError
from cai.labels.drift import drift
from cai.labels.report import LabelReport, label_report
from cai.records import Recalibration
from flows.judges import labellings_of, read_gold
from flows.rejected import made_by
from flows.runs import RunFolder
from storage.store import Store
from storage.verdicts import Labels, read_labels


def labels_of(store: Store, run: RunFolder, objective: str | None = None) -> Labels:
    """What the run's judges were asked so far, in every round, and what gold and people say of the same prompts.

    Another constitution over the same home may have asked the same judges about the same pairs: that is not read.
    """
    return read_labels(
        store,
        max_mass_outside=run.profile.preferences.max_mass_outside,
        prompts=run.ids("prompts"),
        asks=_asks_of(store, run),
        objective=objective,
    )


def _asks_of(store: Store, run: RunFolder) -> set[str]:
    """Of the run's pairs and, where gold weighs the judges, of the gold pairs."""
    made = made_by(run, store)
    if run.profile.feedback.weights != "gold" or not made.judges:
        return made.asks
    gold = read_gold(store).pairs
    return made.asks.union(
        ask.comparison_id
        for labelling in labellings_of(run, made.judges)
        for pair in gold
        for ask in labelling.asks(pair)
    )


def report_of(
    store: Store, run: RunFolder, *, since: RunFolder | None = None, objective: str | None = None
) -> LabelReport:
    """Everything measured of the labels made so far, and what has drifted since an earlier run."""
    labels = labels_of(store, run, objective)
    changes = []
    if since is not None:
        gold = read_labels(store, judges=[], objective=objective).annotated  # of the earlier run's prompts too
        changes = drift(labels_of(store, since, objective).verdicts, labels.verdicts, gold)
    return label_report(labels.verdicts, labels.annotated, changes, tie_band=run.profile.preferences.tie_band)


def stored_recalibration(store: Store, recalibration_id: str | None) -> Recalibration | None:
    """What `preferences.recalibration` names.

    Raises:
        ConfigError: there is no such record in this home.
    """
    if recalibration_id is None:
        return None
    found = store.find_all(Recalibration, [recalibration_id]).get(recalibration_id)
    if found is None:
        raise ConfigError(
            f"`preferences.recalibration` is {recalibration_id!r}, and {store.home} has no such record; "
            "`cai labels calibrate` makes one and prints its id"
        )
    return found
