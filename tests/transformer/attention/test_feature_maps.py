"""Feature maps against F.elu, the written formula, and closed forms of their mean and variance."""

import math
from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F

from qa_lab.transformer.attention import (
    elu_plus_one,
    orthogonal_directions,
    positive_random_features,
)
from tests.comparing import assert_differs, assert_same


def test_elu_plus_one_is_elu_plus_one_also_in_its_gradient(oracle, twins):
    x, x2 = twins(3, 7, 11)
    oracle.agree(elu_plus_one(x), F.elu(x2) + 1, ..., [], [x], [x2])
    zero, zero2 = (torch.zeros(1, requires_grad=True) for _ in range(2))
    oracle.agree(elu_plus_one(zero), F.elu(zero2) + 1, ..., [], [zero], [zero2])


def test_elu_plus_one_stays_positive_where_elu_rounds_to_minus_one():
    x = torch.tensor([-40.0, -700.0])
    assert (F.elu(x) + 1 == 0).all()
    assert torch.allclose(elu_plus_one(x), x.exp(), atol=0) and (elu_plus_one(x) > 0).all()


def test_positive_random_features_are_the_written_formula(oracle):
    x, directions = torch.randn(3, 5), torch.randn(7, 5)
    expected = torch.zeros(3, 7)
    for t in range(3):
        y = [entry / 5**0.25 for entry in x[t].tolist()]
        for i in range(7):
            dot = sum(w * entry for w, entry in zip(directions[i].tolist(), y, strict=True))
            expected[t, i] = math.exp(dot - sum(e * e for e in y) / 2) / math.sqrt(7)
    oracle.close(positive_random_features(x, directions), expected)


def pair(d_k):
    q, k = 0.3 * torch.randn(2, d_k)  # short: the variance grows as exp |q + k|^2
    return q, k, math.exp(q @ k / d_k**0.5)


def test_independent_directions_estimate_the_softmax_kernel_without_bias():
    """Mean and variance in closed form: Choromanski et al. 2021, lemmas 1 and 2."""
    m, d_k = 100_000, 6
    q, k, kernel = pair(d_k)
    directions = torch.randn(m, d_k)
    estimate = positive_random_features(q, directions) @ positive_random_features(k, directions)
    z = (q + k).square().sum() / d_k**0.5
    variance = math.exp(z) * kernel**2 * (1 - math.exp(-z)) / m
    assert abs(estimate - kernel) < 4.5 * math.sqrt(variance)
    assert 4.5 * math.sqrt(variance) < 0.1 * kernel, "the bound would let a bias of 10 % pass"


def test_orthogonal_directions_estimate_it_without_bias_and_with_a_smaller_error():
    d_k, repeats = 3, 1000
    q, k, kernel = pair(d_k)

    def estimates(draw):
        return torch.stack(
            [
                positive_random_features(q, directions) @ positive_random_features(k, directions)
                for directions in (draw() for _ in range(repeats))
            ]
        )

    ours = estimates(lambda: orthogonal_directions(d_k, d_k))
    independent = estimates(lambda: torch.randn(d_k, d_k))
    assert (ours.mean() - kernel).abs() < 4.5 * ours.std() / math.sqrt(repeats)
    assert (ours - kernel).square().mean() < 0.85 * (independent - kernel).square().mean()


def test_directions_are_orthogonal_within_a_block_and_only_there():
    directions = orthogonal_directions(8, 5)
    assert directions.shape == (8, 5)
    gram = directions @ directions.T
    block = torch.arange(8) // 5
    other = ~torch.eye(8, dtype=torch.bool)
    within = (block == block[:, None]) & other
    assert gram[within].abs().max() < 1e-12
    assert gram[(block != block[:, None])].abs().min() > 1e-3


def test_each_entry_of_a_direction_is_standard_normal():
    """Also its sign, which a plain QR decomposition would fix."""
    n, d_k = 2000, 3
    many = torch.stack([orthogonal_directions(d_k, d_k) for _ in range(n)])
    assert many.mean(0).abs().max() < 4.5 / math.sqrt(n)
    assert (many.square().mean(0) - 1).abs().max() < 4.5 * math.sqrt(2 / n)
    assert (many.pow(4).mean(0) - 3).abs().max() < 4.5 * math.sqrt(96 / n)
    products = many[:, 0, :, None] * many[:, 0, None, :]
    assert (products.mean(0) - torch.eye(d_k)).abs().max() < 4.5 * math.sqrt(2 / n)


def test_directions_come_from_the_generator():
    first = orthogonal_directions(5, 3, torch.Generator().manual_seed(7))
    torch.randn(1)
    again = orthogonal_directions(5, 3, torch.Generator().manual_seed(7))
    assert_same(first, again)
    assert_differs(first, orthogonal_directions(5, 3, torch.Generator().manual_seed(8)))


@pytest.mark.parametrize(("features", "d_k"), [(0, 3), (3, 0)])
def test_sizes_less_than_one_are_refused(features, d_k):
    with pytest.raises(ValueError, match=f"at least 1; got {features} and {d_k}"):
        unwrap(orthogonal_directions)(features, d_k)
    assert orthogonal_directions(1, 1).shape == (1, 1)
