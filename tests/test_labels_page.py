"""The labelling page without a browser: what comes when, what is stored, and who is let in."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import page_home as home
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cai.cli.labels.page import page as command
from cai.cli.labels.page import pairs_to_label
from cai.config import Profile
from cai.errors import DataError, StorageError
from cai.intervals import wilson
from cai.labels.page.queue import Pair, choice_of, gold_agreement, make_queue, p_a, shown_first
from cai.labels.pseudonym import load_salt, pseudonym
from cai.records import Annotation, Message, PreferencePair, Reject
from flows.runs import create_run
from storage import labelling
from storage.store import Store

ROOT = Path(__file__).parents[1]
PAIRS = [Pair(f"p{i}", f"a{i}", f"b{i}") for i in range(900)]
GOLD = [Pair(f"g{i}", f"a{i}", f"b{i}") for i in range(200)]


@pytest.fixture
def store(tmp_path):
    return home.home_with(tmp_path / "home", *map(home.rows_of, range(5)), *(home.rows_of(i, 1.0) for i in (8, 9)))


@pytest.fixture
def page(store):
    with home.served(home.sitting_over(store)) as page:
        yield page


@pytest.fixture(scope="module")
def shut(tmp_path_factory):
    """A page that is refused to everyone who asks, and so can be shared."""
    with home.served(home.sitting_over(home.home_with(tmp_path_factory.mktemp("home"), home.rows_of(1)))) as page:
        yield page
        assert page.sitting.next_number() == 1, "something was let in"


def post(page, number, **form):
    headers = {"origin": f"http://127.0.0.1:{page.port}"}
    return httpx.post(f"{page.url}pair/{number}", data=form, headers=headers)


# The queue


def test_everyone_has_an_order_of_their_own_and_finds_it_again():
    ada, again, eve = (make_queue(PAIRS, GOLD, annotator=name) for name in ("ada", "ada", "eve"))
    assert ada == again != eve
    assert ada != make_queue(PAIRS, GOLD, annotator="ada", seed=1)
    assert ada == make_queue(PAIRS[::-1], GOLD[::-1], annotator="ada"), "the order of reading counts"


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.75])
def test_each_stretch_holds_one_gold_pair_at_a_place_that_cannot_be_counted(share):
    queue = make_queue(PAIRS, GOLD, annotator="ada", gold_share=share, limit=200)
    places = [i for i, pair in enumerate(queue) if pair in set(GOLD)]
    assert len(queue) == 200 and len(places) == pytest.approx(200 * share, abs=1)
    assert len({after - before for before, after in zip(places, places[1:], strict=False)}) > 1
    if share <= 0.1:
        assert Counter(int(place * share) for place in places).most_common(1)[0][1] == 1


def test_every_pair_comes_once_also_where_gold_is_among_them():
    queue = make_queue(PAIRS + GOLD[:50], GOLD, annotator="ada")
    assert len(queue) == len(set(queue)) and set(PAIRS + GOLD[:50]) <= set(queue)
    assert sum(pair in set(GOLD) for pair in queue[:900]) == pytest.approx(90 + 50 * 0.4, abs=15)


def test_without_gold_without_a_share_and_with_gold_alone():
    assert set(make_queue(PAIRS, [], annotator="ada")) == set(PAIRS)
    assert set(make_queue(PAIRS, GOLD, annotator="ada", gold_share=0)) == set(PAIRS)
    assert set(make_queue(PAIRS, GOLD, annotator="ada", gold_share=1, limit=30)) < set(GOLD)
    assert set(make_queue([], GOLD, annotator="ada")) < set(GOLD)
    assert make_queue([], [], annotator="ada") == []


def test_either_response_comes_first_half_of_the_time():
    first = [shown_first(pair, "ada") for pair in PAIRS]
    assert first == [shown_first(pair, "ada") for pair in PAIRS]
    for one, other in ((first, "a"), ([x == shown_first(p, "eve") for x, p in zip(first, PAIRS, strict=True)], True)):
        assert sum(x == other for x in one) == pytest.approx(450, abs=60), "four standard deviations"


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("choice", ["first", "second", "tie"])
def test_a_choice_by_place_is_a_statement_about_the_pair(choice, first):
    expected = {("first", "a"): 1.0, ("second", "b"): 1.0, ("first", "b"): 0.0, ("second", "a"): 0.0}
    assert p_a(choice, first) == expected.get((choice, first), 0.5)
    assert choice_of(p_a(choice, first), first) == choice


def test_agreement_with_gold_counts_the_side_and_names_ties():
    gold = dict(zip(GOLD[:5], [1.0, 0.75, 0.0, 0.5, 1.0], strict=True))
    said = dict(zip([*GOLD[:5], *PAIRS[:9]], [1.0, 1.0, 1.0, 0.5, 0.5, *[1.0] * 9], strict=True))
    same, n_ties = gold_agreement(said, gold)
    assert (same.value, same.n, n_ties) == (3 / 5, 5, 1)
    assert (same.low, same.high) == wilson(3 / 5, 5)


# What is stored


def test_a_choice_is_a_row_at_once_and_says_who_what_and_which_stood_first(store, page):
    assert post(page, 1, choice="first").headers["location"] == "../pair/2"
    (row,) = [row for row in Store(store.home).read(Annotation) if not row.is_gold]
    pair = page.sitting.queue[0]
    assert (row.prompt_id, row.response_a, row.response_b) == pair
    assert (row.source, row.annotator, row.is_gold) == ("page", home.WHO, False)
    assert row.shown_first == shown_first(pair, home.WHO) and row.p_a == (row.shown_first == "a")
    assert row.annotated_at == "2025-01-02T03:04:05+00:00"


def test_a_double_click_and_a_request_that_comes_twice_are_one_row(store, page):
    with ThreadPoolExecutor(8) as pool:
        codes = [answer.status_code for answer in pool.map(lambda _: post(page, 1, choice="tie"), range(8))]
    assert codes == [303] * 8
    assert sum(not row.is_gold for row in store.read(Annotation)) == 1
    assert store.version(Annotation) == 2, "the gold, the table, and one label"


def test_who_decides_again_replaces_and_the_last_word_counts(store, page):
    """A label after a skip withdraws it, and a skip after a label withdraws that: nothing is said twice."""

    def kept():
        rows = [row.p_a for row in store.read(Annotation) if not row.is_gold]
        return rows, [(row.stage, row.reason, row.detail) for row in store.read(Reject)]

    post(page, 1, choice="first")
    post(page, 1, choice="second")
    (second,), no_skips = kept()
    assert no_skips == [] and choice_of(second, shown_first(page.sitting.queue[0], home.WHO)) == "second"
    post(page, 1, choice="skip", reason="expertise")
    assert kept() == ([], [("annotation", "skipped", "expertise")])
    post(page, 1, choice="skip", reason="broken")
    assert kept() == ([], [("annotation", "skipped", "broken")])
    post(page, 1, choice="tie")
    assert kept() == ([0.5], [])
    assert store.verify() == []


def test_another_sitting_goes_on_where_this_one_was(store, page):
    post(page, 1, choice="first")
    post(page, 2, choice="skip", reason="unclear")
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
        post(page, number, choice=choice_of(1.0, shown_first(pair, home.WHO)))
        if number < len(sitting.queue):
            assert httpx.post(f"{page.url}end", headers=origin).headers["location"] == f"pair/{number + 1}"
            assert "gold" not in httpx.get(f"{page.url}pair/{number + 1}").text.lower()
    assert "100<small>%" not in httpx.get(f"{page.url}end").text
    assert httpx.post(f"{page.url}end", headers=origin).headers["location"] == "end"
    assert "100<small>%" in httpx.get(f"{page.url}end").text
    assert post(page, 1, choice="tie").headers["location"] == "../end"
    assert sitting.said(1) != "tie"


def test_a_full_disk_is_said_and_the_pair_comes_again(store):
    class Full(labelling.TableShelf):
        def label(self, row, withdrawn):
            raise StorageError("no space left <b>here</b>")

    with home.served(home.sitting_over(store, Full(store))) as page:
        answer = post(page, 1, choice="first")
        assert answer.status_code == 500 and "no space left &lt;b&gt;here" in answer.text
        assert page.sitting.next_number() == 1


def test_many_choices_leave_few_files(store):
    shelf = labelling.TableShelf(store)
    for i in range(labelling.MANY_FILES):
        shelf.label(replace(home.rows_of(100 + i, 1.0)[-1], is_gold=False), Reject.make("annotation", "skipped"))
    shelf.tidy()
    assert store.files()["annotations"][0] == 1
    assert store.counts()["annotations"] >= labelling.MANY_FILES


# What is shown, and to whom


def test_nothing_on_the_page_tells_where_a_response_comes_from(page, store):
    secret = {"judge-model", "expert.csv", "gold", home.WHO}
    for number, pair in enumerate(page.sitting.queue, 1):
        body = httpx.get(f"{page.url}pair/{number}").text
        assert not [word for word in {*secret, *pair} if word in body]


def test_what_a_model_wrote_is_text(tmp_path):
    hostile = "</div><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"
    store = home.home_with(tmp_path, home.rows_of(1, text=hostile, turns=(Message("assistant", hostile),)))
    with home.served(home.sitting_over(store)) as page:
        answer = httpx.get(f"{page.url}pair/1")
    assert answer.text.count("&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror") == 3
    assert "{{ 7 * 7 }}" in answer.text and "<img" not in answer.text
    assert re.findall("<script[^>]*>", answer.text) == ['<script src="../static/page.js">']
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["", "pair/1", "end", "static/page.js"])
def test_without_the_token_nothing_is_shown(shut, path):
    base = f"http://127.0.0.1:{shut.port}/"
    for token in ("", shut.token[:-1] + "~/", "x" * 32 + "/", "é/"):
        answer = httpx.get(base + token + path)
        assert (answer.status_code, "question" in answer.text) == (403, False)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", ""])
def test_a_foreign_host_is_refused(shut, host):
    """A site whose name was made to lead to 127.0.0.1 after it was loaded sends that name, and gets nothing."""
    answer = httpx.get(f"{shut.url}pair/1", headers={"host": host.format(port=shut.port)})
    assert (answer.status_code, "question" in answer.text) == (403, False)


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1:{port}"]
)
def test_a_post_from_elsewhere_is_refused(shut, origin):
    headers = {} if origin is None else {"origin": origin.format(port=shut.port)}
    assert httpx.post(f"{shut.url}pair/1", data={"choice": "first"}, headers=headers).status_code == 403
    assert shut.sitting.next_number() == 1


@pytest.mark.parametrize(
    ("path", "form", "code"),
    [
        ("pair/0", {"choice": "tie"}, 404),
        ("pair/99", {"choice": "tie"}, 404),
        ("pair/x", {"choice": "tie"}, 400),
        ("pair/1", {}, 400),
        ("pair/1", {"choice": "a"}, 400),
        ("pair/1", {"choice": "skip", "reason": "<b>"}, 400),
        ("pair/1", {"choice": "tie", "p_a": "1"}, 400),
        ("pair/1", {"choice": "x" * 100_000}, 400),
    ],
)
def test_what_the_page_does_not_offer_is_refused(shut, path, form, code):
    answer = httpx.post(shut.url + path, data=form, headers={"origin": f"http://127.0.0.1:{shut.port}"})
    assert answer.status_code == code and shut.sitting.next_number() == 1


# Which pairs


def test_pairs_come_from_every_table_that_knows_some_and_those_without_text_are_counted(store):
    prompt, a, b, _ = home.rows_of(20)
    liked = PreferencePair(
        "pair20", prompt.prompt_id, (), b.response_id, a.response_id, "", "", 0.9, False, 2, 1.0, 0.0
    )
    said = replace(home.rows_of(21, 0.0)[-1], is_gold=False, annotation_id="said")
    lost = home.rows_of(22)[-1]
    store.append([prompt, a, b, liked, *home.rows_of(21)[:3], said, lost])
    found = labelling.stored_pairs(store)
    assert set(found.pairs) == {home.pair_of(n) for n in (*range(5), 20, 21)}
    assert found.n_without_text == 1
    assert labelling.stored_pairs(store, [a.response_id, b.response_id]).pairs == [home.pair_of(20)]


def test_an_export_names_pairs_and_one_that_is_not_stored_is_an_error(store, tmp_path):
    prompt, a, b, _ = home.rows_of(3)
    liked = PreferencePair("pair3", prompt.prompt_id, (), b.response_id, a.response_id, "", "", 0.9, False, 2, 1.0, 0.0)
    store.append([liked])
    pq.write_table(pa.table({"pair_id": ["pair3"]}), tmp_path / "some.parquet")
    assert labelling.pairs_in_file(store, tmp_path / "some.parquet").pairs == [home.pair_of(3)]
    pq.write_table(pa.table({"pair_id": ["pair3", "other"]}), tmp_path / "some.parquet")
    with pytest.raises(DataError, match="1 of 2 pairs .* such as 'other'"):
        labelling.pairs_in_file(store, tmp_path / "some.parquet")
    pq.write_table(pa.table({"id": ["pair3"]}), tmp_path / "some.parquet")
    with pytest.raises(DataError, match="with a column pair_id"):
        labelling.pairs_in_file(store, tmp_path / "some.parquet")


def test_gold_of_another_objective_is_left_out(store):
    other = replace(home.rows_of(8, 0.0)[-1], annotation_id="other", objective="helpfulness")
    store.append([other])
    assert labelling.gold(store, "harmlessness") == {home.pair_of(8): 1.0, home.pair_of(9): 1.0}
    assert labelling.gold(store, "helpfulness")[home.pair_of(8)] == 0.5


# The command


@pytest.fixture
def start(store):
    """The command in a process of its own, with its address; stopped by Ctrl-C."""
    started = []

    def run(*arguments):
        words = ["labels", "page", "--home", store.home, "--annotator", "Ada L.", "--no-browser", *arguments]
        code = [sys.executable, "-c", "from cai.cli import main; main()", *map(str, words)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            code,
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell without job control starts what runs in the background with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process, process.stdout.readline(), process.stdout.readline().strip()

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_beside_a_run_ctrl_c_and_the_same_command_goes_on_and_the_name_is_stored_nowhere(start, store):
    run_at_work = (store.home / ".lock").open("w")
    fcntl.flock(run_at_work, fcntl.LOCK_EX)
    process, line, url = start("--gold-share", "0")
    assert line == "0 of 5 pairs are done; Ctrl-C stops\n"
    origin = {"origin": url.rsplit("/", 2)[0]}
    assert httpx.post(f"{url}pair/1", data={"choice": "tie"}, headers=origin).status_code == 303
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    run_at_work.close()
    assert process.returncode == 130 and "Traceback" not in stderr and url.split("/")[3] not in stderr
    process, line, _ = start("--gold-share", "0", "--port", url.split(":")[2].split("/")[0])
    assert line == "1 of 5 pairs are done; Ctrl-C stops\n"
    (row,) = [row for row in store.read(Annotation) if not row.is_gold]
    assert row.annotator == pseudonym("Ada L.", load_salt(store.home))
    files = [path for path in store.home.rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if b"Ada L." in path.read_bytes()]


def test_the_pairs_of_a_run_are_those_of_its_candidates_that_were_compared(store, tmp_path):
    (tmp_path / "prompts.txt").write_text("how do i bake bread?\n")
    engine, constitution = {"kind": "scripted"}, ROOT / "constitution" / "harmlessness.yaml"
    profile = Profile(
        name="tried", constitution=constitution, engine=engine, prompts=[{"path": str(tmp_path / "prompts.txt")}]
    )
    run = create_run(profile, store.home)
    for shard, n in (("candidates-0", 1), ("candidates-r1-0", 3)):
        run.save_ids(shard, home.pair_of(n)[1:])
    assert pairs_to_label(store, run.run_id, None).pairs == sorted([home.pair_of(1), home.pair_of(3)])


def test_the_summary_shows_how_each_annotator_agrees_with_gold(store, page):
    assert "nobody has labelled" in CliRunner().invoke(command, ["--home", str(store.home), "--summary"]).output
    for number, pair in enumerate(page.sitting.queue, 1):
        post(page, number, choice=choice_of(1.0, shown_first(pair, home.WHO)))
    lines = CliRunner().invoke(command, ["--home", str(store.home), "--summary"]).output.splitlines()
    low, high = wilson(1.0, 2)
    assert lines[-1].split() == ["55555555", "–", "7", "0", "2", "100", "%", f"{100 * low:.0f}", "%", "100", "%", "0"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--annotator", " "], "--annotator is empty"),
        (["--run", "r", "--pairs", "f"], "give one of them"),
        (["--run", "nothing"], "no run 'nothing'"),
        (["--gold-share", "1.5"], "gold-share"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(store, arguments, problem):
    done = CliRunner().invoke(command, ["--home", str(store.home), *arguments])
    assert done.exit_code and problem in f"{done.output}{done.exception}"


def test_a_home_without_pairs_says_how_to_make_some(tmp_path):
    Store(tmp_path).append(home.rows_of(1)[:1])
    done = CliRunner().invoke(command, ["--home", str(tmp_path), "--no-browser"])
    assert isinstance(done.exception, DataError) and "no pairs to label" in str(done.exception)
