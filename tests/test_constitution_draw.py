"""Drawing principles: reproducible without state, by weight, and moved by an edit only where it must be."""

import subprocess
import sys
from dataclasses import replace

import pytest

from cai.constitution import Principle, draw, draw_many, moved_share, principles_for_pair
from cai.errors import ConstitutionError

N = 8_000


def principle(id: str, weight: float = 1.0) -> Principle:
    return Principle(id, id, weight, (), ("critique", "preference"), "c?", "r.", "p?")


FOUR = (principle("a", 1.0), principle("b", 2.0), principle("c", 3.0), principle("d", 0.5))


def drawn(principles, n=N, seed=0) -> list[str]:
    return [draw(principles, seed=seed, prompt_id=f"p{i // 4}", round=i % 4).id for i in range(n)]


def chi_square(observed: dict[str, int], shares: dict[str, float]) -> float:
    n = sum(observed.values())
    return sum((observed[id] - n * share) ** 2 / (n * share) for id, share in shares.items())


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_frequencies_follow_the_weights(seed):
    ids = drawn(FOUR, seed=seed)
    shares = {p.id: p.weight / 6.5 for p in FOUR}
    # 99.9th percentile of chi-square with 3 degrees of freedom.
    assert chi_square({p.id: ids.count(p.id) for p in FOUR}, shares) < 16.27


def test_rounds_of_one_prompt_are_drawn_independently():
    pairs = [(drawn_a, drawn_b) for drawn_a, drawn_b in zip(drawn(FOUR)[0::4], drawn(FOUR)[1::4], strict=True)]
    same = sum(a == b for a, b in pairs) / len(pairs)
    assert same == pytest.approx(sum((p.weight / 6.5) ** 2 for p in FOUR), abs=0.03)


def test_the_same_question_has_the_same_answer_in_another_process():
    code = (
        "from cai.constitution import Principle, draw\n"
        "four = [Principle(i, i, w, (), ('critique',), 'c', 'r', '') for i, w in zip('abcd', (1, 2, 3, 0.5))]\n"
        "print(''.join(draw(four, seed=7, prompt_id=f'p{i}', round=1).id for i in range(50)))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == "".join(draw(FOUR, seed=7, prompt_id=f"p{i}", round=1).id for i in range(50))


def test_the_draw_is_pinned():
    """Changing the hash would move the principles of every stored chain."""
    assert "".join(drawn(FOUR, 24)) == "cccabbbdbbbdccacbcdbcccb"


def test_the_order_of_principles_and_their_texts_move_nothing():
    edited = tuple(replace(p, title="x", critique="other?", preference="other?", tags=("t",)) for p in FOUR[::-1])
    assert drawn(edited, 2000) == drawn(FOUR, 2000)


def test_seed_prompt_and_round_each_matter():
    base = drawn(FOUR, 400)
    assert drawn(FOUR, 400, seed=1) != base
    assert [draw(FOUR, seed=0, prompt_id=f"q{i}", round=1).id for i in range(400)] != [
        draw(FOUR, seed=0, prompt_id=f"q{i}", round=2).id for i in range(400)
    ]


def test_removing_a_principle_moves_only_the_draws_it_had_won():
    before, after = drawn(FOUR), drawn([p for p in FOUR if p.id != "c"])
    assert all(now == was for was, now in zip(before, after, strict=True) if was != "c")
    assert "c" in before and "c" not in after


def test_adding_a_principle_moves_only_the_draws_it_wins():
    before, after = drawn(FOUR), drawn([*FOUR, principle("e", 1.5)])
    assert all(now in (was, "e") for was, now in zip(before, after, strict=True))
    assert after.count("e") / N == pytest.approx(1.5 / 8, abs=0.01)


def test_raising_a_weight_moves_draws_only_towards_it():
    before, after = drawn(FOUR), drawn([replace(p, weight=4.0) if p.id == "a" else p for p in FOUR])
    assert all(now in (was, "a") for was, now in zip(before, after, strict=True))


def test_scaling_all_weights_moves_nothing():
    assert drawn([replace(p, weight=p.weight * 8) for p in FOUR], 2000) == drawn(FOUR, 2000)


@pytest.mark.parametrize(
    "new",
    [
        {"a": 1.0, "b": 2.0, "c": 3.0, "d": 0.5},
        {"a": 1.0, "b": 2.0, "d": 0.5},
        {"a": 1.0, "b": 2.0, "c": 3.0, "d": 0.5, "e": 1.5},
        {"a": 3.0, "b": 0.5, "c": 3.0, "d": 2.0},
        {"e": 1.0},
    ],
)
def test_the_expected_share_of_moved_draws_is_what_is_counted(new):
    old = {p.id: p.weight for p in FOUR}
    after = drawn([principle(id, weight) for id, weight in new.items()])
    counted = sum(was != now for was, now in zip(drawn(FOUR), after, strict=True)) / N
    assert moved_share(old, new) == pytest.approx(counted, abs=0.015)


def test_many_are_different_and_the_first_follows_the_weights():
    firsts = []
    for i in range(N):
        picked = draw_many(FOUR, 2, seed=0, pair_id=f"x{i}")
        assert len({p.id for p in picked}) == 2
        firsts.append(picked[0].id)
    shares = {p.id: p.weight / 6.5 for p in FOUR}
    assert chi_square({p.id: firsts.count(p.id) for p in FOUR}, shares) < 16.27


def test_more_than_there_are_means_all_of_them():
    assert {p.id for p in draw_many(FOUR, 9, seed=0, pair_id="x")} == set("abcd")
    assert {p.id for p in principles_for_pair(FOUR, "all", seed=0, response_a="1", response_b="2")} == set("abcd")


def test_a_pair_has_the_same_principles_whichever_response_comes_first():
    for i in range(200):
        one = principles_for_pair(FOUR, 2, seed=0, response_a=f"r{i}", response_b="s")
        assert one == principles_for_pair(FOUR, 2, seed=0, response_a="s", response_b=f"r{i}")


def test_drawing_from_nothing_or_too_few_is_an_error():
    with pytest.raises(ConstitutionError, match="stage `critique`"):
        draw((), seed=0, prompt_id="p", round=1)
    with pytest.raises(ConstitutionError, match="at least 1"):
        draw_many(FOUR, 0, seed=0, pair_id="x")
