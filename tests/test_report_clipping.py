"""What a report does where its chains do not fit: their longest texts are clipped, the page says so and says where the
whole is. What a browser makes of it stands here too.
"""

import dataclasses
import hashlib
import json
import random
import shlex

import pytest
from click.testing import CliRunner
from report_data import Page, decode, empty_data, unpacked

from cai.cli.tables import sql
from cai.records import Response, Revision
from cai.report.build import build_report
from cai.report.chains import WHOLE
from cai.report.coding import encode
from cai.report.data import Chain, Step, Turn
from cai.smallworld import world
from storage.store import Store

ROOM = 250_000


def words(key, n):
    """`n` words that do not compress well."""
    drawn = hashlib.shake_128(key.encode()).hexdigest(n * 3)
    return " ".join(drawn[start : start + 6] for start in range(0, len(drawn), 6))


def chain_of(n, length):
    response = words(f"response {n}", length)
    revision = f"{words(f'first {n}', 3)} {response}"
    return Chain((Turn("user", f"asked {n}"),), response, (Step("p", words(f"critique {n}", 20), revision),),
                 response_id=f"{n:032d}")  # fmt: skip


def page_of(chains, max_bytes=ROOM):
    page = build_report(dataclasses.replace(empty_data(), chains=chains, n_chains=len(chains)), max_bytes=max_bytes)
    index, rows = unpacked(Page(page))
    return page, index, rows, " ".join("".join(Page(page).text).split())


def test_every_chain_is_there_with_its_longest_texts_clipped_to_what_fits():
    chains = tuple(chain_of(n, 10 if n % 2 else 200) for n in range(500))
    page, index, rows, said = page_of(chains)
    assert 0.96 * ROOM < len(page.encode()) <= ROOM
    assert (index["n"], index["n_clipped"], len(rows)) == (500, 250, 500)
    limit = index["limit"]
    for chain, (_, response, ((_, critique, revision),), *_, changed, key) in zip(chains, rows, strict=True):
        assert changed == 1 and critique == chain.steps[0].critique
        if len(chain.response) <= limit:
            assert (response, revision, key) == (chain.response, chain.steps[0].revision, "")
            continue
        for (shown, length), whole in ((response, chain.response), (revision, chain.steps[0].revision)):
            assert limit - 8 <= len(shown) <= limit and length == len(whole)
            assert whole.startswith(f"{shown} "), "cut between words"
        assert chain.response_id.startswith(key) and len(key) == 12
    assert f"the texts of 250 chains are clipped after {limit} characters, and the search covers what is shown" in said
    assert "are clipped after" not in page_of(chains[:20])[3]


def test_chains_that_do_not_fit_at_their_shortest_are_left_out_evenly_and_the_page_says_so():
    chains = tuple(chain_of(n, 80) for n in range(4_000))
    page, index, rows, said = page_of(chains)
    assert 0.96 * ROOM < len(page.encode()) <= ROOM, "as many as fit"
    asked = [int(row[0][0][1].split()[1]) for row in rows]
    assert index["n"] == len(asked) and asked == sorted(set(asked))
    step = len(chains) / len(asked)
    assert max(abs(n - place * step) for place, n in enumerate(asked)) < 1, "evenly spread"
    assert (
        f"This page has {len(asked):,} of the run’s 4,000 chains, evenly spread: more would not fit its size." in said
    )


def test_a_page_that_is_too_large_without_chains_shows_none():
    _, index, rows, _ = page_of((chain_of(0, 5), chain_of(1, 5)), max_bytes=1_000)
    assert (index["n"], rows) == (0, [])


def test_bytes_of_every_length_come_back_and_none_means_anything_to_html():
    for n in [*range(20), 5_000]:
        data = random.Random(n).randbytes(n)
        text = encode(data)
        assert decode(text) == data
        assert not set(text) & set("<\0\r") and len(text) == -(-8 * n // 7)


def test_the_command_on_the_page_shows_the_whole_chain(tmp_path):
    (prompt,) = world.prompts("train", 1, 0)
    whole = "a long story " * 200
    ids = ("v1", prompt.prompt_id, "response-0123456789", "response-0123456789")
    revision = Revision(*ids, 0, "be-kind", "p", "c", "t", "m", 0, "rude", "stop", f"{whole}!", "stop", 1, 1)
    response = Response("response-0123456789", prompt.prompt_id, "m", "i", 0, 0, 1.0, 1.0, 8, whole, "stop", 1, 1)
    Store(tmp_path).append([prompt, response, revision])
    _, _, *arguments = shlex.split(WHOLE.replace("ID", "response-012"))
    made = CliRunner().invoke(sql, [*arguments, "--home", str(tmp_path)])
    assert made.exit_code == 0, made.output
    ((row),) = json.loads(made.stdout)
    assert (row["response"], row["revision"], row["critique"]) == (whole, f"{whole}!", "rude")
    assert row["messages"][-1]["content"] == prompt.messages[-1].content


@pytest.fixture
def clipped(browser, tmp_path):
    """A page of chains too long for it, opened: inserted at the start, changed only at the end, and a whole one."""
    text = words("a", 400)
    moved = Chain(
        (Turn("user", "moved"),), text, (Step("p", "c", text.replace(" ", " put in ", 1)),), response_id="m" * 32
    )
    ended = Chain((Turn("user", "ended"),), text, (Step("p", "c", f"{text} at the end"),), response_id="e" * 32)
    short = Chain((Turn("user", "short"),), text, (Step("p", "c", "Now short."),), response_id="s" * 32)
    path = tmp_path / "report.html"
    path.write_text(page_of((moved, ended, short, *(chain_of(n, 400) for n in range(300))))[0], encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#list[aria-busy=false]", state="attached")
    page.evaluate("document.querySelectorAll('#list details').forEach((each) => { each.open = true; })")
    page.wait_for_selector("#list .item:nth-child(3) .steps")
    yield page
    page.close()


def test_of_clipped_texts_nothing_is_called_removed_or_added_that_may_only_be_out_of_sight(clipped):
    moved, ended, short = (clipped.locator("#list .item").nth(place) for place in range(3))
    assert moved.locator("ins").all_inner_texts() == [" put in"] and moved.locator("del").count() == 0
    assert "more characters" in moved.inner_text()
    assert ended.locator("ins, del").count() == 0 and "(the change is in what is clipped)" in ended.inner_text()
    assert "changed" in ended.locator(".meta").inner_text()
    assert short.locator("ins").count() == 0, "the response goes on out of sight, and may say it"
    assert short.locator(".unknown").inner_text() == "Now short." and short.locator("del").count() == 1
    assert "SELECT" in moved.locator(".command").inner_text() and "'mmmmmmmmmmmm'" in moved.inner_text()
