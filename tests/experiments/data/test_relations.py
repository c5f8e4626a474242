"""Whom a token looks for, and what symmetric scores allow, counted by hand and by brute force."""

from itertools import permutations

import pytest
import torch

from qa_lab.experiments.data.relations import (
    SYMBOLS,
    RelationHead,
    ceiling,
    not_itself,
    partners,
    train_relation,
)
from tests.comparing import assert_differs, assert_identical, assert_same


def test_partners_go_round_in_cycles():
    assert partners(2).tolist() == [1, 0, 3, 2, 5, 4]
    assert partners(3).tolist() == [1, 2, 0, 4, 5, 3]
    assert partners(4, n_symbols=4).tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("cycle", [1, 4])
def test_cycles_must_fill_the_symbols(cycle):
    with pytest.raises(ValueError, match=f"6 symbols do not fall into cycles of {cycle}"):
        partners(cycle)


@pytest.mark.parametrize("cycle", [2, 3, 4])
def test_no_order_of_the_pairs_beats_the_ceiling(cycle):
    """Only the order of the symmetric scores counts, and a cycle has few enough to try them all."""
    pairs = [(a, b) for a in range(cycle) for b in range(a)]
    best = 0
    for order in permutations(range(len(pairs))):
        scores = torch.full((cycle, cycle), -1)
        for (a, b), rank in zip(pairs, order, strict=True):
            scores[a, b] = scores[b, a] = rank
        found = scores.argmax(-1) == partners(cycle, n_symbols=cycle)
        best = max(best, found.sum().item())
    assert best / cycle == ceiling(cycle)


def test_a_pair_that_sees_itself_has_a_loser():
    vectors = torch.randn(10_000, 2, 3, generator=torch.Generator().manual_seed(0))
    scores = vectors @ vectors.transpose(1, 2)
    found = (scores.argmax(-1) == torch.tensor([1, 0])).sum(-1)
    assert found.max() == 1 == 2 * ceiling(2, sees_itself=True)


def test_a_token_sees_all_but_itself():
    assert not_itself(4).tolist() == [[i != j for j in range(4)] for i in range(4)]


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_is_tied_only_if_asked(tied):
    attention = RelationHead(tied=tied, sees_itself=False).attention
    assert (attention.W_Q is attention.W_K) == tied


def test_a_head_looks_where_it_may():
    values = torch.zeros(2, SYMBOLS, dtype=torch.long)
    for sees_itself in (False, True):
        _, weights = RelationHead(tied=True, sees_itself=sees_itself)(values)
        own = weights.diagonal(dim1=1, dim2=2)
        assert own.min() > 0.01 if sees_itself else own.max() == 0  # a mask's zero is exact


def test_training_repeats_and_depends_on_the_seed():
    def weights(seed):
        train_relation.cache_clear()
        return train_relation(seed, cycle=3, tied=False, steps=3).weights

    once = weights(0)
    assert_same(once, weights(0), within=1e-5)
    assert_differs(once, weights(1))


def test_separate_matrices_learn_a_directed_relation():
    learned = train_relation(0, cycle=3, tied=False)
    assert learned.accuracy > 0.95
    assert learned.found > 0.95
    assert_identical(learned.weights.argmax(-1), partners(3))
