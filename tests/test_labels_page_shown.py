"""What the labelling page shows, as text and to whom: nothing without the token, nor for another site."""

import re

import httpx
import page_home as home
import pytest

from cai.records import Message


@pytest.fixture(scope="module")
def shut(tmp_path_factory):
    """A page that is refused to everyone who asks, and so can be shared."""
    with home.served(home.sitting_over(home.home_with(tmp_path_factory.mktemp("home"), home.rows_of(1)))) as page:
        yield page
        assert page.sitting.next_number() == 1, "something was let in"


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
