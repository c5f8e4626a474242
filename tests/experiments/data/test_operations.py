"""Counts against closed forms."""

import pytest
import torch

from qa_lab.experiments.data.operations import operations
from qa_lab.transformer.attention import additive_scores, dot_product_scores


def test_a_dot_product_is_one_product_and_one_scaling():
    q, k = torch.randn(7, 5), torch.randn(3, 5)
    assert operations(lambda: dot_product_scores(q, k)) == {"mm": 2 * 7 * 5 * 3, "mul": 7 * 3}


def test_batched_products_count_every_batch():
    q, k = torch.randn(2, 7, 5), torch.randn(2, 3, 5)
    assert operations(lambda: q @ k.transpose(1, 2)) == {"bmm": 2 * 2 * 7 * 5 * 3}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_additive_scores_add_bend_and_sum_every_pair_and_feature(device):
    q, k = torch.randn(7, 5, device=device), torch.randn(3, 5, device=device)
    v_a = torch.randn(5, device=device)
    pairs = 7 * 3 * 5
    assert operations(lambda: additive_scores(q, k, v_a)) == {
        "add": pairs,
        "tanh": pairs,
        "mv": 2 * pairs,
    }


def test_views_and_copies_are_free():
    x = torch.randn(7, 5)
    assert not operations(lambda: torch.cat([x.T.expand(5, 7), x.T.clone()]).unsqueeze(0))


def test_what_cannot_be_counted_is_an_error():
    x = torch.randn(7, 5)
    with pytest.raises(ValueError, match="nobody knows what _softmax costs"):
        operations(lambda: x.softmax(-1))
