"""The labels of one run as columns: its judges, on its prompts. What is measured of them is in `cai.labels`."""

from cai.errors import ConfigError
from cai.labels.drift import drift
from cai.labels.report import LabelReport, label_report
from cai.records import Recalibration
from flows.rounds import at_round
from flows.runs import RunFolder
from storage.store import Store
from storage.verdicts import Labels, read_labels


def labels_of(store: Store, run: RunFolder, objective: str | None = None) -> Labels:
    """Those made so far; every round's, and gold and people's on the same prompts."""
    return read_labels(
        store,
        max_mass_outside=run.profile.preferences.max_mass_outside,
        judges=_judges_of(run),
        prompts=run.ids("prompts"),
        objective=objective,
    )


def _judges_of(run: RunFolder) -> list[str]:
    prompts = run.result("prompts")
    assert prompts is not None, "prompts are imported before they are labelled"
    steps = [
        f"{at_round('labels', n)}-{shard}" for n in range(run.profile.rounds) for shard in range(prompts["n_shards"])
    ]
    results = [result for step in steps if (result := run.result(step)) is not None]
    return sorted({judge for result in results for judge in result["judge_digests"]})


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
