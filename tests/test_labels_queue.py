"""What is labelled when: an order of one's own, gold where it cannot be counted, and either response first."""

from collections import Counter

import pytest

from cai.intervals import wilson
from cai.labels.page.queue import Pair, choice_of, gold_agreement, make_queue, p_a, shown_first

PAIRS = [Pair(f"p{i}", f"a{i}", f"b{i}") for i in range(900)]
GOLD = [Pair(f"g{i}", f"a{i}", f"b{i}") for i in range(200)]


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
