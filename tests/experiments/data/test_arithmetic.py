"""Parity and modular addition, checked in plain Python."""

import pytest
import torch

from qa_lab.experiments.data.arithmetic import ZERO, modular_addition, parity, running_parity
from qa_lab.experiments.data.tasks import PAD, generator
from tests.comparing import assert_differs, assert_identical


@pytest.mark.parametrize("lengths", [4, range(1, 8, 3)])
def test_parity_counts_ones(lengths):
    assert ZERO == 3
    whole = parity(generator(0), batch=203, lengths=lengths)
    prefixes = running_parity(generator(0), batch=203, lengths=lengths)
    assert_identical(whole.ids, prefixes.ids)
    assert_identical(whole.real, prefixes.real)
    seen = set()
    for ids, keep, label, labels in zip(
        *(t.tolist() for t in whole), prefixes.labels.tolist(), strict=True
    ):
        n = sum(keep)
        seen.add(n)
        assert keep == [True] * n + [False] * (len(ids) - n)
        assert set(ids[:n]) <= {3, 4} and ids[n:] == [PAD] * (len(ids) - n)
        assert label == 3 + ids[:n].count(4) % 2
        assert labels == [3 + ids[: i + 1].count(4) % 2 for i in range(n)] + ids[n:]
    assert seen == ({4} if lengths == 4 else {1, 4, 7})


def test_both_parities_are_equally_likely():
    label = parity(generator(0), batch=10_000, lengths=5).label
    assert abs((label == 4).double().mean() - 0.5) < 5 * 0.5 / 100


@pytest.mark.parametrize("make", [parity, running_parity])
def test_the_seed_decides_the_bits(make):
    a, b, c = (make(generator(seed), batch=9, lengths=8).ids for seed in (1, 1, 2))
    assert_identical(a, b)
    assert_differs(a, c)
    with pytest.raises(ValueError, match="batch must be 1 or more; got 0"):
        make(generator(0), batch=0, lengths=3)


@pytest.mark.parametrize("modulus", [2, 7])
def test_modular_addition_has_each_sum_once(modulus):
    train, held_out = modular_addition(generator(0), modulus=modulus, train_fraction=0.3)
    assert len(train.ids) == round(0.3 * modulus**2)
    assert train.real.all() and held_out.real.all() and train.real.shape == train.ids.shape
    seen = set()
    for part in (train, held_out):
        for (a, plus, b, equals), c in zip(part.ids.tolist(), part.label.tolist(), strict=True):
            assert (plus, equals) == (3 + modulus, 4 + modulus)
            assert c - 3 == (a - 3 + b - 3) % modulus
            seen.add((a - 3, b - 3))
    assert seen == {(a, b) for a in range(modulus) for b in range(modulus)}
    assert len(train.ids) + len(held_out.ids) == modulus**2


def test_every_answer_is_equally_common():
    parts = modular_addition(generator(0), modulus=5, train_fraction=0.5)
    counts = torch.bincount(torch.cat([part.label for part in parts]))
    assert counts.tolist() == [0, 0, 0, 5, 5, 5, 5, 5]


def test_the_seed_decides_the_split():
    def train(seed):
        return modular_addition(generator(seed), modulus=5, train_fraction=0.5)[0].ids

    assert_identical(train(1), train(1))
    assert_differs(train(1), train(2))


def test_sums_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="modulus must be 2 or more; got 1"):
        modular_addition(generator(0), modulus=1, train_fraction=0.5)
    with pytest.raises(ValueError, match=r"train_fraction 1\.0 of 9 examples leaves 9 to train on"):
        modular_addition(generator(0), modulus=3, train_fraction=1.0)
