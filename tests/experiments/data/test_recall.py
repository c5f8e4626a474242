"""The recall head can be solved by hand, and its training repeats."""

import pytest
import torch

from qa_lab.experiments.data.recall import PAIRS, SYMBOLS, RecallHead, train_recall, twin_losses
from qa_lab.experiments.data.tasks import associative_recall, generator
from tests.comparing import assert_differs, assert_identical, assert_same


def test_a_head_set_by_hand_answers_every_query():
    lists = associative_recall(
        generator(1), batch=50, n_keys=SYMBOLS, n_values=SYMBOLS, n_pairs=PAIRS
    )
    head = RecallHead(d_k := 43)
    identity = torch.eye(d_k)
    with torch.no_grad():
        for embedding in (head.query, head.key, head.value):
            embedding.weight.copy_(identity)
        for projection in (head.W_Q, head.W_K, head.W_V, head.readout):
            projection.weight.copy_(identity)
        head.W_Q.weight.mul_(1000)  # sharp enough to pick one key
        assert_identical(head(lists.ids).argmax(-1), lists.label)


def test_training_repeats_and_depends_on_the_seed():
    once, again, other = (train_recall(seed, 8, steps=3).losses for seed in (0, 0, 1))
    assert_same(once, again, within=1e-5)
    assert_differs(once, other)


def test_the_twin_keeps_step_only_with_its_own_learning_rate():
    assert twin_losses(0, 9, steps=5) < 1e-9
    assert twin_losses(0, 9, steps=5, fold_step=False) > 1e-4


@pytest.mark.parametrize("d_k", [8, 128])
def test_scores_start_with_unit_variance(d_k):
    assert 0.6 < train_recall(0, d_k, steps=1).score_std[0] < 1.5
