"""Splits and draws from listed data."""

import pytest
import torch

from qa_lab.experiments.data.data_sets import draw_rows, split
from qa_lab.experiments.data.tasks import Labelled, generator
from tests.comparing import assert_differs, assert_identical


def test_a_split_deals_out_everything_once():
    train, held_out = split(generator(0), 101, 0.3)
    assert len(train) == 30 and len(held_out) == 71
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(101))
    assert_differs(train, train.sort().values)


def test_the_seed_decides_the_split():
    def train(seed):
        return split(generator(seed), 50, 0.5)[0]

    assert_identical(train(1), train(1))
    assert_differs(train(1), train(2))


@pytest.mark.parametrize(
    "size, share, train", [(1, 0.5, 0), (3, 0.1, 0), (3, 0.9, 3), (4, 1.5, 6), (5, -1, -5)]
)
def test_both_parts_of_a_split_need_something(size, share, train):
    with pytest.raises(ValueError, match=rf"of {size} examples leaves {train} to train on and"):
        split(generator(0), size, float(share))


def test_the_smallest_parts_have_one():
    assert [len(part) for part in split(generator(0), 2, 0.5)] == [1, 1]
    assert [len(part) for part in split(generator(0), 3, 0.67)] == [2, 1]


def test_rows_are_drawn_whole_and_evenly():
    n = torch.arange(5)
    data = Labelled(n[:, None].repeat(1, 3), n[:, None].repeat(1, 3) > 1, n * 10)
    drawn = draw_rows(generator(0), data, batch=5000)
    assert isinstance(drawn, Labelled) and drawn.ids.shape == (5000, 3)
    assert_identical(drawn.label, drawn.ids[:, 0] * 10)
    assert_identical(drawn.real, drawn.ids > 1)
    counts = torch.bincount(drawn.label // 10, minlength=5)
    assert ((counts - 1000).abs() < 5 * (5000 * 0.2 * 0.8) ** 0.5).all()  # 5 standard errors


def test_nothing_cannot_be_drawn():
    data = Labelled(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 3) > 0, torch.arange(0))
    with pytest.raises(ValueError, match="rows must be 1 or more; got 0"):
        draw_rows(generator(0), data, batch=2)
    full = Labelled(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3) > 0, torch.arange(2))
    with pytest.raises(ValueError, match="batch must be 1 or more; got 0"):
        draw_rows(generator(0), full, batch=0)
    assert len(draw_rows(generator(0), full, batch=1).ids) == 1
