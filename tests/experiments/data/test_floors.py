"""Floors and ceilings by listing everything in plain Python."""

import itertools
import math
from collections import Counter, defaultdict
from inspect import unwrap

import pytest
import torch

from qa_lab.experiments.data import floors
from qa_lab.experiments.data.tasks import Sentences


def test_all_sequences_are_listed_in_order():
    ids = floors.all_sequences(3, 4)
    assert ids.tolist() == [list(s) for s in itertools.product((3, 4, 5), repeat=4)]
    assert floors.all_sequences(1, 1).tolist() == [[3]]


def test_lists_that_are_empty_or_too_long_are_refused(monkeypatch):
    for counts in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match="must be 1 or more; got 0"):
            floors.all_sequences(*counts)
    assert floors.MOST_SEQUENCES == 16_777_216
    monkeypatch.setattr(floors, "MOST_SEQUENCES", 81)
    assert len(floors.all_sequences(3, 4)) == 81
    with pytest.raises(ValueError, match=r"3\^5 sequences are too many to list; 81 at most"):
        floors.all_sequences(3, 5)


ANSWERS = {
    "first": lambda s: s[0],
    "argmax": lambda s: s.index(max(s)),
    "sorted": lambda s: 9 * (s == sorted(s)),
    "sum": lambda s: s[1] + s[3],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_order_blind_accuracy_is_the_best_guess_for_each_bag(answer):
    ids = floors.all_sequences(3, 4)
    label = torch.tensor([answer(row) for row in ids.tolist()])
    bags = defaultdict(Counter)
    for row, name in zip(ids.tolist(), label.tolist(), strict=True):
        bags[tuple(sorted(row))][name] += 1
    best = sum(max(counts.values()) for counts in bags.values()) / 81
    assert floors.order_blind_accuracy(ids, label) == pytest.approx(best, rel=1e-12) and best < 1


def test_where_order_does_not_matter_nothing_is_lost():
    ids = floors.all_sequences(2, 5)
    assert floors.order_blind_accuracy(ids, ids.sum(1) % 2) == 1
    assert floors.order_blind_accuracy(ids, ids[:, 0]) == pytest.approx(0.6875)  # hand: 22 of 32


def test_labels_must_fit_the_sequences():
    blind = unwrap(floors.order_blind_accuracy)
    ids = floors.all_sequences(2, 2)
    with pytest.raises(ValueError, match="got 4 sequences and 3 labels"):
        blind(ids, ids[:3, 0])
    with pytest.raises(ValueError, match="got 0 sequences and 0 labels"):
        blind(ids[:0], ids[:0, 0])
    assert floors.order_blind_accuracy(ids[:1], ids[:1, 0]) == 1


def test_surprisal_is_the_loss_of_what_came():
    ids = torch.tensor([[1, 3, 4, 2], [1, 4, 2, 0]])
    sentences = Sentences(ids, ids != 0)
    probabilities = torch.rand(2, 3, 5, dtype=torch.float64)
    losses = floors.surprisal(probabilities, sentences)
    for b, t in itertools.product(range(2), range(3)):
        name = ids[b, t + 1]
        expected = -math.log(probabilities[b, t, name]) if name else 0
        assert losses[b, t].item() == pytest.approx(expected, rel=1e-12, abs=0)
    with pytest.raises(ValueError, match=r"need probabilities \[2 3 vocab\]; got \[2, 4, 5\]"):
        floors.surprisal(torch.rand(2, 4, 5), sentences)
