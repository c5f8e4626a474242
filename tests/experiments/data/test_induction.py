"""Induction, checked row by row and by listing everything."""

import itertools
import math
from collections import Counter
from inspect import unwrap

import pytest
import torch

from qa_lab.experiments.data import induction as task
from qa_lab.experiments.data.tasks import generator
from tests.comparing import assert_differs, assert_identical


def test_the_answer_is_what_followed_the_last_token_before():
    batch = task.induction(generator(0), batch=2003, n_symbols=5, length=6)
    assert batch.ids.shape == batch.real.shape == (2003, 6) and batch.real.all()
    places, pairs = Counter(), Counter()
    for ids, label in zip(batch.ids.tolist(), batch.label.tolist(), strict=True):
        assert set(ids) <= set(range(3, 8)) and ids.count(ids[-1]) == 2
        place = ids.index(ids[-1])
        assert label == ids[place + 1] != ids[-1]
        places[place] += 1
        pairs[ids[-1], label] += 1
    assert set(places) == {0, 1, 2, 3} and min(places.values()) > 500 - 5 * 20
    assert len(pairs) == 20  # any A with any other B
    assert min(pairs.values()) > 100 - 5 * 10 and max(pairs.values()) < 100 + 5 * 10


def test_the_smallest_induction_task():
    batch = task.induction(generator(0), batch=3, n_symbols=2, length=3)
    for (a, b, again), label in zip(batch.ids.tolist(), batch.label.tolist(), strict=True):
        assert a == again and b == label == 7 - a


@pytest.mark.parametrize(
    "broken, needed",
    [({"batch": 0}, "batch must be 1"), ({"n_symbols": 1}, "n_symbols must be 2"),
     ({"length": 2}, "length must be 3")],
)  # fmt: skip
def test_induction_that_cannot_be_is_refused(broken, needed):
    with pytest.raises(ValueError, match=needed):
        task.induction(generator(0), **({"batch": 2, "n_symbols": 4, "length": 5} | broken))
    if "batch" not in broken:
        with pytest.raises(ValueError, match=needed):
            task.bag_chance(**({"n_symbols": 4, "length": 5} | broken))


@pytest.mark.parametrize("n_symbols, length", [(2, 3), (2, 7), (4, 3), (4, 7), (6, 6)])
def test_bag_chance_is_the_expected_share_of_the_commonest_token(n_symbols, length):
    others = list(itertools.product(range(n_symbols - 1), repeat=length - 2))
    best = [max(Counter(o).values()) / (length - 2) for o in others]
    assert math.isclose(task.bag_chance(n_symbols, length), sum(best) / len(best), rel_tol=1e-12)


def test_nobody_beats_bag_chance_without_order():
    batch = task.induction(generator(1), batch=20_000, n_symbols=5, length=8)
    right = 0
    for ids, label in zip(batch.ids.tolist(), batch.label.tolist(), strict=True):
        right += Counter(i for i in ids if i != ids[-1]).most_common(1)[0][0] == label
    chance = task.bag_chance(5, 8)
    assert abs(right / 20_000 - chance) < 5 * (chance * (1 - chance) / 20_000) ** 0.5


def test_a_repeated_sequence_says_its_tokens_again():
    ids = task.repeated_sequence(generator(0), batch=301, n_symbols=4, length=5, copies=3)
    assert ids.shape == (301, 15) and set(ids.flatten().tolist()) == {3, 4, 5, 6}
    assert_identical(ids[:, :5], ids[:, 5:10])
    assert_identical(ids[:, :5], ids[:, 10:])
    counts = torch.bincount(ids[:, :5].flatten(), minlength=7)[3:]
    assert ((counts - 376.25).abs() < 5 * (1505 * 0.25 * 0.75) ** 0.5).all()
    assert task.repeated_sequence(generator(0), batch=2, n_symbols=4, length=5).shape == (2, 10)


def test_the_repeated_floor_is_the_entropy_of_what_is_new():
    assert task.repeated_floor(7, 5, 3) == pytest.approx(4 * math.log(7) / 14, rel=1e-12)
    assert task.repeated_floor(7, 5) == pytest.approx(4 * math.log(7) / 9, rel=1e-12)
    assert task.repeated_floor(7, 4, 1) == pytest.approx(math.log(7), rel=1e-12)
    assert task.repeated_floor(7, 1, 2) == 0


@pytest.mark.parametrize("name", ["n_symbols", "length", "copies"])
def test_repeats_of_nothing_are_refused(name):
    right = {"n_symbols": 3, "length": 4, "copies": 2}
    with pytest.raises(ValueError, match=f"{name} must be 1 or more; got 0"):
        task.repeated_floor(**(right | {name: 0}))
    with pytest.raises(ValueError, match=f"{name} must be 1 or more; got 0"):
        task.repeated_sequence(generator(0), batch=2, **(right | {name: 0}))
    with pytest.raises(ValueError, match="batch must be 1 or more; got 0"):
        task.repeated_sequence(generator(0), batch=0, **right)
    with pytest.raises(ValueError, match="tokens must be 2 or more; got 1"):
        task.repeated_floor(3, 1, 1)


def test_counts_of_one_make_sense():
    assert task.repeated_sequence(
        generator(0), batch=1, n_symbols=1, length=1, copies=1
    ).tolist() == [[3]]
    assert task.repeated_floor(1, 2, 1) == 0


def test_induction_keys_follow_an_earlier_copy_of_the_token():
    ids = task.repeated_sequence(generator(3), batch=5, n_symbols=3, length=4)
    keys = task.induction_keys(ids)
    for b, q, k in itertools.product(range(5), range(8), range(8)):
        expected = any(ids[b, j] == ids[b, q] and j + 1 == k for j in range(q))
        assert keys[b, q, k] == expected, (b, q, k)


def test_the_score_of_a_perfect_head_is_one_and_of_others_their_share():
    ids = torch.tensor([[3, 4, 5, 3, 4, 5], [6, 5, 5, 4, 3, 7]])
    weights = torch.zeros(2, 3, 6, 6)
    for b, q, k in ((0, 3, 1), (0, 4, 2), (0, 5, 3), (1, 2, 2)):
        weights[b, 0, q, k] = 1.0
    weights[:, 1] = torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None]
    weights[:, 2] = torch.eye(6)
    score = task.prefix_matching_score(weights, ids)
    # uniform: one key of 4, 5, 6 and 3; itself: right only for the 5 after a 5
    assert score.tolist() == pytest.approx([1.0, (1 / 4 + 1 / 5 + 1 / 6 + 1 / 3) / 4, 1 / 4])


def test_the_score_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="no token comes twice"):
        task.prefix_matching_score(torch.ones(1, 2, 3, 3), torch.tensor([[3, 4, 5]]))
    for shape in ((1, 2, 3, 4), (1, 2, 4, 3), (2, 2, 3, 3)):
        with pytest.raises(ValueError, match=r"must be \[1 head 3 3\]"):
            unwrap(task.prefix_matching_score)(torch.ones(shape), torch.tensor([[3, 4, 3]]))


@pytest.mark.parametrize("make", [task.induction, task.repeated_sequence])
def test_the_seed_decides(make):
    def draw(seed):
        drawn = make(generator(seed), batch=7, n_symbols=5, length=6)
        return drawn if isinstance(drawn, torch.Tensor) else drawn.ids

    assert_identical(draw(3), draw(3))
    assert_differs(draw(3), draw(4))
