"""A home with pairs to label, and the labelling page over it in a thread: what the tests of the page share."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cai.labels.page import app, serve
from cai.labels.page.queue import Pair, make_queue
from cai.labels.page.sitting import Person, Sitting
from cai.records import Annotation, Comparison, Message, Prompt, Record, Response
from storage import labelling
from storage.store import Store

WHO = "5" * 32


def rows_of(n: int, gold: float | None = None, text: str = "", turns: tuple[Message, ...] = ()) -> list[Record]:
    """One stored pair: compared by a judge, or, with `gold`, stated by a source of gold."""
    prompt = Prompt.make([*turns, Message("user", f"question {n}")], "test")
    a, b = sorted(
        (Response.given(prompt.prompt_id, f"{word} answer to {n}{text}", "judge-model") for word in ("one", "other")),
        key=lambda response: response.response_id,
    )
    ids = (prompt.prompt_id, a.response_id, b.response_id)
    if gold is None:
        decided = (*ids[1:], "ab", "kind", "pd", "cd", "td", "judge-model")
        stated = Comparison(f"comparison{n}", ids[0], *decided, -0.1, -2.4, 0.0, True)
    else:
        key = Annotation.make_id(*ids[1:], "expert.csv", "", "", True)
        stated = Annotation(key, *ids, p_a=gold, source="expert.csv", is_gold=True)
    return [prompt, a, b, stated]


def pair_of(n: int, **changes) -> Pair:
    _, a, b, _ = rows_of(n, **changes)
    return Pair(a.prompt_id, a.response_id, b.response_id)


def home_with(path: Path, *groups: list[Record]) -> Store:
    store = Store(path)
    store.append([row for group in groups for row in group])
    return store


def seven_pairs(path: Path) -> Store:
    """Five that a judge compared, and two of gold."""
    return home_with(path, *map(rows_of, range(5)), *(rows_of(n, 1.0) for n in (8, 9)))


def sitting_over(store: Store, shelf=None, share: float = 0.25, objective: str = "", who: str = WHO) -> Sitting:
    pairs, gold = labelling.stored_pairs(store).pairs, labelling.gold(store, objective)
    queue = make_queue(pairs, gold, annotator=who, gold_share=share)
    ticks = iter(range(0, 10_000, 7))
    return Sitting(
        queue,
        Person(who, "", objective),
        shelf or labelling.TableShelf(store),
        gold=gold,
        labels=labelling.labels(store, objective, who),
        skips=labelling.skips(store, queue, objective, who),
        now=lambda: "2025-01-02T03:04:05+00:00",
        clock=lambda: float(next(ticks)),
    )


@dataclass
class Served:
    sitting: Sitting
    port: int
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.token}/"


def post(page: Served, number: int, **form: str) -> httpx.Response:
    headers = {"origin": f"http://127.0.0.1:{page.port}"}
    return httpx.post(f"{page.url}pair/{number}", data=form, headers=headers)


@contextmanager
def served(sitting: Sitting):
    with serve.open_port(0) as opened:
        page = Served(sitting, opened.getsockname()[1], serve.new_token())
        server = serve.server(app.create_app(sitting, token=page.token, port=page.port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield page
        finally:
            server.should_exit = True
            thread.join()
