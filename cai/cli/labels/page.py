"""`cai labels page`: label pairs in the browser, by keyboard."""

import datetime
import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai.cli.tables import checked_home, format_table, home_option
from cai.errors import DataError

if TYPE_CHECKING:
    from cai.labels.page.sitting import Person, Sitting
    from storage.labelling import Found, TableShelf
    from storage.store import Store


@click.command()
@home_option()
@click.option("--run", "run_id", metavar="RUN", help="The pairs of this run.  [default: every stored pair]")
@click.option("--pairs", "file", type=click.Path(path_type=Path, dir_okay=False), help="The pairs of this export.")
@click.option("--annotator", metavar="NAME", help="Who labels; stored as a salted hash.  [default: the login name]")
@click.option("--group", default="", metavar="NAME", help="What the annotator belongs to; kept with each label.")
@click.option("--objective", default="", metavar="NAME", help="What to judge by, such as harmlessness or helpfulness.")
@click.option("--gold-share", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Gold pairs mixed in.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many pairs, gold included.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another order of the same pairs.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
@click.option("--summary", is_flag=True, help="Print how annotators agree with gold; label nothing.")
def page(
    home: Path,
    run_id: str | None,
    file: Path | None,
    annotator: str | None,
    group: str,
    objective: str,
    gold_share: float,
    limit: int | None,
    seed: int,
    port: int,
    no_browser: bool,
    summary: bool,
) -> None:
    """Label pairs in the browser: by keyboard, and blind to where the responses come from.

    Each annotator gets an order of their own. Every choice is stored at once in the table `annotations` (what is
    skipped, in `rejects`), beside runs that are at work. Ctrl-C stops; the same command goes on from there.

    \b
    cai labels page --run demo-3f8a01c2d4 --annotator ada --objective harmlessness
    cai labels page --limit 100
    cai labels page --summary
    """
    from storage.store import Store

    store = Store(checked_home(home))
    if summary:
        _print_summary(store)
        return
    if run_id is not None and file is not None:
        raise click.UsageError("--run and --pairs both say which pairs; give one of them")
    person = _person(home, annotator, group, objective)
    found = pairs_to_label(store, run_id, file)
    with _shelf(store) as shelf:
        _serve(_sitting(store, shelf, person, found, gold_share, limit, seed), shelf, port, not no_browser)


def _person(home: Path, annotator: str | None, group: str, objective: str) -> "Person":
    from cai.labels.page.sitting import Person
    from cai.labels.pseudonym import load_salt, pseudonym

    name = pseudonym(getpass.getuser() if annotator is None else annotator, load_salt(home))
    if not name:
        raise click.UsageError("--annotator is empty; name whoever labels")
    return Person(name, group, objective)


def pairs_to_label(store: "Store", run_id: str | None, file: Path | None) -> "Found":
    """The compared pairs of a run's candidates, the pairs an export names, or all that are stored."""
    from flows.runs import open_run
    from storage import labelling

    if file is not None:
        found = labelling.pairs_in_file(store, file)
    elif run_id is not None:
        run = open_run(store.home, run_id)
        shards = sorted(path.stem for path in (run.path / "ids").glob("candidates-*.parquet"))
        found = labelling.stored_pairs(store, [row_id for shard in shards for row_id in run.ids(shard)])
    else:
        found = labelling.stored_pairs(store)
    if found.n_without_text:
        click.echo(f"{found.n_without_text} pairs are left out: their prompt or responses are not stored", err=True)
    return found


def _sitting(
    store: "Store",
    shelf: "TableShelf",
    person: "Person",
    found: "Found",
    gold_share: float,
    limit: int | None,
    seed: int,
) -> "Sitting":
    from cai.labels.page.queue import make_queue
    from cai.labels.page.sitting import Sitting
    from storage import labelling

    gold = labelling.gold(store, person.objective)
    queue = make_queue(
        found.pairs, gold if gold_share else (), annotator=person.name, seed=seed, gold_share=gold_share, limit=limit
    )
    if not queue:
        raise DataError(
            f"no pairs to label in {store.home}: `cai run --until preferences` makes some, and `cai tables` shows what "
            "is stored"
        )
    if gold_share and not gold:
        click.echo("no gold pairs are stored for this objective, so none are mixed in", err=True)
    return Sitting(
        queue,
        person,
        shelf,
        gold=gold,
        labels=labelling.labels(store, person.objective, person.name),
        skips=labelling.skips(store, queue, person.objective, person.name),
        now=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        clock=time.monotonic,
    )


@contextmanager
def _shelf(store: "Store") -> Iterator["TableShelf"]:
    from storage.labelling import TableShelf

    shelf = TableShelf(store)
    try:
        yield shelf
    finally:
        shelf.tidy()


def _serve(sitting: "Sitting", shelf: "TableShelf", port: int, opens_browser: bool) -> None:
    from starlette.background import BackgroundTask

    from cai.labels.page import app, serve

    with serve.open_port(port) as opened:
        port, token = opened.getsockname()[1], serve.new_token()
        url = f"http://{serve.HOST}:{port}/{token}/"
        click.echo(f"{sitting.n_done()} of {len(sitting.queue)} pairs are done; Ctrl-C stops\n{url}")
        if opens_browser:
            serve.show(url)
        page = app.create_app(sitting, token=token, port=port, tidy=BackgroundTask(shelf.tidy))
        serve.server(page).run(sockets=[opened])


def _print_summary(store: "Store") -> None:
    from cai.labels.page.queue import gold_agreement
    from storage import labelling

    rows = []
    for annotator, objective in labelling.annotators(store):
        said = labelling.labels(store, objective, annotator)
        same, n_ties = gold_agreement(said, labelling.gold(store, objective))
        measured = [f"{100 * share:.0f} %" for share in (same.value, same.low, same.high)] if same.n else ["–"] * 3
        n_said_ties = sum(p == 0.5 for p in said.values())
        rows.append([annotator[:8], objective or "–", len(said), n_said_ties, same.n, *measured, n_ties])
    if not rows:
        click.echo("nobody has labelled pairs on the page yet")
        return
    names = ["annotator", "objective", "labelled", "ties", "gold", "agreement", "low", "high", "ties on gold"]
    click.echo(format_table(names, rows))
