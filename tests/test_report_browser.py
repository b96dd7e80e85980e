"""The report in a real browser: the chains, keys, contrast, a phone, paper, and text that would rather be code."""

import dataclasses
from pathlib import Path

import pytest
from contrasts import CONTRASTS
from report_data import HOSTILE, empty_data, full_page, gating

import cai.report
from cai.report.build import build_report
from cai.report.data import Chain, Step, Turn
from cai.report.diff import word_diff

PRINCIPLES = ("be-kind", "be-honest", "be-brief")
N = 12_000


def chain(n):
    """The number of a chain decides everything about it."""
    request = (Turn("system", "Be good."), Turn("user", f"Request number {n} about {'cats' if n % 3 else 'dogs'}"))
    response = f"First answer to {n}, which is rude."
    changed = response if n % 4 else f"Second answer to {n}, which is polite."
    critique = "Nothing to say." if n % 4 else f"Critique {n}: QUITE rude."
    steps = (Step(PRINCIPLES[n % 3], critique, changed), Step("be-kind", "Fine.", changed))
    labels = ("comply", "comply", "refuse" if n % 5 == 0 else "comply")
    return Chain(request, response, steps, (f"tag-{n % 7}",), labels, (0.5, None, 1.25), (0.8125,))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    data = dataclasses.replace(empty_data(), chains=tuple(map(chain, range(N))), n_chains=N, gating=gating())
    path.write_text(build_report(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(full_page(HOSTILE), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(full_page("Some text, a little longer than a word."), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser):
    """Opens a page without a network, waits for its chains; what went wrong in it is in `problems`, and fails."""
    contexts, problems = [], []

    def open_(path, width=1280, scheme="light"):
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("dialog", lambda dialog: problems.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: request.url == path.as_uri() or problems.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("#list[aria-busy=false]", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def found(page, text):
    """Waits until the list says that it found `text`."""
    page.wait_for_function("(text) => document.getElementById('found').textContent === text", arg=text)


def requests_shown(page):
    return [int(line.split()[2]) for line in page.locator("#list .line").all_inner_texts()]


def of(holds):
    return f"{sum(bool(holds(n)) for n in range(N)):,} of {N:,} chains"


def test_every_chain_can_be_searched_filtered_and_reached(opened, many):
    page = opened(many)
    found(page, of(lambda n: True))
    assert requests_shown(page) == list(range(25)), "a page of them, in the order they were made"

    page.click("#last")
    assert requests_shown(page) == list(range(N - 25, N)) and page.input_value("#page") == "480"
    page.fill("#page", "100")
    page.press("#page", "Enter")
    assert requests_shown(page)[0] == 99 * 25

    page.fill("#query", "quite RUDE")  # in critiques alone, whatever the case
    found(page, of(lambda n: n % 4 == 0))
    page.fill("#query", '"number 11999 about"')
    found(page, of(lambda n: n == 11_999))
    assert page.locator("#pager").is_hidden() and page.locator("#list mark").first.inner_text() == "number 11999 about"

    page.fill("#query", "dogs")
    page.select_option("#principle", label=f"be-kind ({N:,})")
    page.select_option("#tag", label=f"tag-3 ({sum(n % 7 == 3 for n in range(N)):,})")
    page.select_option("#label", label=f"refuse ({N // 5:,})")
    page.select_option("#change", "changed")
    found(page, of(lambda n: n % 3 == 0 and n % 7 == 3 and n % 5 == 0 and n % 4 == 0))
    page.fill("#query", "")
    page.select_option("#principle", label=f"be-honest ({N // 3:,})")
    page.select_option("#change", "same")
    found(page, of(lambda n: n % 3 == 1 and n % 7 == 3 and n % 5 == 0 and n % 4))
    page.fill("#query", "said by nobody (*[")
    found(page, f"0 of {N:,} chains")
    assert page.locator("#list > *").count() == 0


def test_a_chain_shows_its_texts_the_words_that_changed_principles_labels_and_scores(opened, many):
    page = opened(many)
    item = page.locator("#list details").first
    assert item.get_attribute("open") is not None, "the first one shows what there is to see"
    said = " ".join(item.inner_text().split())
    assert "Request number 0 about dogs tag-0 comply → refuse changed" in said
    assert "response comply score 0.50 First answer to 0, which is rude." in said
    assert "revision 1 comply be-kind Critique 0: QUITE rude." in said
    assert "revision 2 refuse score 1.25 be-kind Fine. left as it was" in said
    assert "P(chosen is better): 0.81" in said
    assert item.locator("del").all_inner_texts() == ["First", " rude"]
    assert item.locator("ins").all_inner_texts() == ["Second", " polite"]


def test_the_list_works_by_keyboard_alone(opened, many):
    page = opened(many)
    focused = "document.activeElement.id || document.activeElement.tagName"
    page.focus("#query")
    page.keyboard.type("dogs")
    found(page, of(lambda n: n % 3 == 0))
    for control in ("principle", "tag", "label", "change", "first", "previous", "page", "next"):
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == control
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert page.input_value("#page") == "3" and page.evaluate(focused) == "next", "the place is kept"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement === document.querySelector('#list details[open] summary')")
    bar, summary = (page.locator(which).bounding_box() for which in (".pager", "#list details[open] summary"))
    assert summary["y"] >= bar["y"] + bar["height"] - 1, "the bar of pages does not hide what has the focus"
    page.keyboard.press("Enter")
    assert page.locator("#list details[open]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(opened, full, scheme):
    page = opened(full, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.fill("#query", "longer")
    page.wait_for_selector("#list mark")
    page.locator("#list summary").first.click()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert {text: round(value, 2) for text, value in contrasts.items() if value < 4.5} == {}


def test_a_phone_shows_all_of_it_without_scrolling_sideways(opened, full, many):
    for path in (full, many):
        page = opened(path, width=375)
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == 375
    small = page.evaluate(
        """() => [...document.querySelectorAll("#chains :is(button, input, select, summary)")]
          .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)"""
    )
    assert small == [], "large enough for a finger (WCAG 2.2, 2.5.8)"


def test_what_a_model_wrote_is_shown_as_text_and_runs_nothing(opened, hostile):
    page = opened(hostile)
    page.fill("#query", "</script><script>alert(1)")
    page.wait_for_selector("#list mark")
    found(page, "1 of 1 chains")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.wait_for_selector("#list ins")
    assert page.locator("img, iframe, main script, main style").count() == 0
    shown = page.inner_text("#list")
    assert shown.count("<img src=x onerror=alert(2)> {{ 7 * 7 }} <!-- &") >= 5, "prompt, response, critique, principle"


def test_on_paper_it_is_light_and_without_what_can_be_clicked(opened, full):
    page = opened(full, scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 21, 19)"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 252, 249)"
    assert not page.locator("#filter, nav, #pager").filter(visible=True).count()
    assert page.locator("h1").is_visible() and page.locator("#list details").first.is_visible()


PAIRS = [
    ("I can help.", "I can help you."),
    ("", "Something new."),
    ("Gone", ""),
    ("Same text\nhere ", "Same text\nhere "),
    ("Sure: first take the knife, then run.", "I will not help. Take a breath, then talk."),
    ("don’t do it — naïve café 東京 🙂", "do it: naïve tea 東京 🙂🙂"),
    (" a b c a b c a b d", " b c a b x a b c"),
    ("word " * 4_000, "other " * 4_000),
]


def test_the_page_and_the_command_line_show_the_same_diff(browser):
    source = (Path(cai.report.__file__).parent / "diff.js").read_text(encoding="utf-8")
    page = browser.new_page()
    made = page.evaluate(f"(pairs) => {{ {source}; return pairs.map(([a, b]) => wordDiff(a, b)); }}", PAIRS)
    page.close()
    for (before, after), runs in zip(PAIRS, made, strict=True):
        assert [tuple(run) for run in runs] == list(word_diff(before, after))
