"""What the labelling page stores: a choice at once and once, the last word, and each annotator's own."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import page_home as home

from cai.errors import StorageError
from cai.labels.page.queue import choice_of, shown_first
from cai.records import Annotation, Reject
from storage import labelling
from storage.store import Store


def test_a_choice_is_a_row_at_once_and_says_who_what_and_which_stood_first(store, page):
    assert home.post(page, 1, choice="first").headers["location"] == "../pair/2"
    (row,) = [row for row in Store(store.home).read(Annotation) if not row.is_gold]
    pair = page.sitting.queue[0]
    assert (row.prompt_id, row.response_a, row.response_b) == pair
    assert (row.source, row.annotator, row.is_gold) == ("page", home.WHO, False)
    assert row.shown_first == shown_first(pair, home.WHO) and row.p_a == (row.shown_first == "a")
    assert row.annotated_at == "2025-01-02T03:04:05+00:00"


def test_a_double_click_and_a_request_that_comes_twice_are_one_row(store, page):
    with ThreadPoolExecutor(8) as pool:
        codes = [answer.status_code for answer in pool.map(lambda _: home.post(page, 1, choice="tie"), range(8))]
    assert codes == [303] * 8
    assert sum(not row.is_gold for row in store.read(Annotation)) == 1
    assert store.version(Annotation) == 2, "the gold, the table, and one label"


def test_who_decides_again_replaces_and_the_last_word_counts(store, page):
    """A label after a skip withdraws it, and a skip after a label withdraws that: nothing is said twice."""

    def kept():
        rows = [row.p_a for row in store.read(Annotation) if not row.is_gold]
        return rows, [(row.stage, row.reason, row.detail) for row in store.read(Reject)]

    home.post(page, 1, choice="first")
    home.post(page, 1, choice="second")
    (second,), no_skips = kept()
    assert no_skips == [] and choice_of(second, shown_first(page.sitting.queue[0], home.WHO)) == "second"
    home.post(page, 1, choice="skip", reason="expertise")
    assert kept() == ([], [("annotation", "skipped", "expertise")])
    home.post(page, 1, choice="skip", reason="broken")
    assert kept() == ([], [("annotation", "skipped", "broken")])
    home.post(page, 1, choice="tie")
    assert kept() == ([0.5], [])
    assert store.verify() == []


def test_another_sitting_goes_on_where_this_one_was(store, page):
    home.post(page, 1, choice="first")
    home.post(page, 2, choice="skip", reason="unclear")
    again = home.sitting_over(Store(store.home))
    assert again.queue == page.sitting.queue
    assert (again.next_number(), again.said(1), again.said(2)) == (3, "first", "skipped")
    assert home.sitting_over(store, objective="helpfulness").next_number() == 1, "asked for something else"


def test_two_annotators_at_once_lose_nothing_and_stay_apart(store):
    sittings = [home.sitting_over(Store(store.home), who=who) for who in ("a" * 32, "b" * 32)]

    def work(sitting):
        while (number := sitting.next_number()) is not None:
            sitting.label(number, "tie")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, sittings))
    said = Counter(row.annotator for row in store.read(Annotation) if not row.is_gold)
    assert said == {sitting.person.name: len(sitting.queue) for sitting in sittings}


def test_agreement_with_gold_is_shown_at_the_end_and_then_nothing_can_be_changed(store, page):
    sitting, origin = page.sitting, {"origin": f"http://127.0.0.1:{page.port}"}
    assert sum(pair in labelling.gold(store, "") for pair in sitting.queue) == 2
    for number, pair in enumerate(sitting.queue, 1):
        home.post(page, number, choice=choice_of(1.0, shown_first(pair, home.WHO)))
        if number < len(sitting.queue):
            assert httpx.post(f"{page.url}end", headers=origin).headers["location"] == f"pair/{number + 1}"
            assert "gold" not in httpx.get(f"{page.url}pair/{number + 1}").text.lower()
    assert "100<small>%" not in httpx.get(f"{page.url}end").text
    assert httpx.post(f"{page.url}end", headers=origin).headers["location"] == "end"
    assert "100<small>%" in httpx.get(f"{page.url}end").text
    assert home.post(page, 1, choice="tie").headers["location"] == "../end"
    assert sitting.said(1) != "tie"


def test_a_full_disk_is_said_and_the_pair_comes_again(store):
    class Full(labelling.TableShelf):
        def label(self, row, withdrawn):
            raise StorageError("no space left <b>here</b>")

    with home.served(home.sitting_over(store, Full(store))) as page:
        answer = home.post(page, 1, choice="first")
        assert answer.status_code == 500 and "no space left &lt;b&gt;here" in answer.text
        assert page.sitting.next_number() == 1


def test_many_choices_leave_few_files(store):
    shelf = labelling.TableShelf(store)
    for i in range(labelling.MANY_FILES):
        shelf.label(replace(home.rows_of(100 + i, 1.0)[-1], is_gold=False), Reject.make("annotation", "skipped"))
    shelf.tidy()
    assert store.files()["annotations"][0] == 1
    assert store.counts()["annotations"] >= labelling.MANY_FILES
